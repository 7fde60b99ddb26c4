"""Models that take pictures as they come: what they accept, in which shape it is looked at, by several threads."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import models
from models.formats import Metadata
from tests.golden_data import load_golden, shared_path
from utils.detect.autoshape import AutoShape, Network, common_shape
from utils.errors import UserError


@pytest.fixture
def rgb() -> np.ndarray:
    """Return an image of 40 x 60 px that is the same in no other order of channels or axes."""
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def seeing(boxes: torch.Tensor, channels: int = 3, input_hw: tuple[int, int] | None = None) -> tuple[AutoShape, list]:
    """Return a model that sees (n, 7) ``boxes`` in every image, and the inputs it will have got."""
    inputs: list[torch.Tensor] = []

    def predict(images: torch.Tensor) -> torch.Tensor:
        inputs.append(images)
        return boxes.expand(len(images), -1, -1).clone()

    meta = Metadata(32, {0: "dot", 1: "bar"}, input_hw, channels)
    return AutoShape(Network(predict, meta, torch.device("cpu"))), inputs


def rows(*values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


ONE_DOT = rows((30, 20, 20, 10, 0.9, 1.0, 0.0))


@pytest.mark.parametrize(
    ("sizes_hw", "size", "expected"),
    [
        ([(1080, 810)], 640, (640, 480)),  # exactly 480, however it is computed
        ([(1080, 810), (810, 1080)], 640, (640, 640)),
        ([(100, 200), (50, 200)], 320, (160, 320)),
        ([(480, 640)], 600, (480, 608)),  # 450 to 480, 600 to 608
        ([(1, 1000)], 640, (32, 640)),
    ],
)
def test_common_shape_holds_every_image(sizes_hw, size, expected):
    assert common_shape(sizes_hw, size, 32) == expected


def test_boxes_come_back_from_the_common_shape(rgb):
    model, inputs = seeing(ONE_DOT)
    wide, high = rgb, rgb.transpose(1, 0, 2)
    found = model([wide, high], size=64)
    assert found.s == (2, 3, 64, 64) and inputs[0].shape == (2, 3, 64, 64)
    ratio, pad_y = 64 / 60, (64 - 40 * 64 / 60) / 2
    expected = [20 / ratio, (15 - pad_y) / ratio, 40 / ratio, (25 - pad_y) / ratio]
    np.testing.assert_allclose(found.xyxy[0][0, :4], expected, rtol=1e-5)
    assert found.xyxy[1][0, 2] <= 40 and found.files == ["image0.jpg", "image1.jpg"]


def test_networks_get_rgb_and_models_of_one_size_get_that_size(rgb):
    model, inputs = seeing(ONE_DOT, input_hw=(64, 96))
    model(rgb, size=640)
    assert inputs[0].shape == (1, 3, 64, 96)
    np.testing.assert_allclose(inputs[0][0, :, 32, 48] * 255, rgb[19:21, 29:31].mean((0, 1)), atol=60)
    exact, inputs = seeing(ONE_DOT)
    exact(rgb[:32, :32], size=32)
    np.testing.assert_allclose(inputs[0][0].permute(1, 2, 0) * 255, rgb[:32, :32], atol=1e-4)


def test_settings_are_attributes(rgb):
    model, _ = seeing(
        rows(
            (30, 20, 20, 10, 0.9, 1.0, 0.3),
            (31, 20, 20, 10, 0.8, 0.1, 1.0),
            (30.5, 20, 20, 10, 0.7, 1.0, 0.0),
            (10, 20, 8, 8, 0.2, 1.0, 0.0),
        )
    )
    found = lambda: model(rgb, size=64).pred[0][:, 5].tolist()  # noqa: E731
    assert found() == [0, 1]
    model.conf = 0.1
    assert found() == [0, 1, 0]
    model.iou = 1
    assert found() == [0, 1, 0, 0]
    model.iou, model.agnostic = 0.45, True
    assert found() == [0, 0]
    model.agnostic, model.classes = False, [1]
    assert found() == [1]
    model.classes, model.max_det = None, 1
    assert found() == [0]
    model.max_det, model.conf, model.multi_label, model.iou = 1000, 0.25, True, 1
    assert sorted(found()) == [0, 0, 1, 1]
    assert AutoShape.conf == 0.25


def test_tensors_go_to_the_network_as_they_are():
    model, inputs = seeing(ONE_DOT)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(images), ONE_DOT.expand(2, -1, -1)) and torch.equal(inputs[0], images)


@pytest.mark.parametrize("size", [0, -1, "640", (), 1.5])
def test_impossible_sizes_are_refused(size, rgb):
    with pytest.raises(UserError, match="size is"):
        seeing(ONE_DOT)[0](rgb, size=size)


def test_larger_of_two_sizes_counts_and_profile_prints(rgb, capsys):
    model, inputs = seeing(ONE_DOT)
    model(rgb, size=(32, 64), profile=True)
    assert inputs[0].shape == (1, 3, 64, 64)
    assert "ms inference" in capsys.readouterr().out


def test_networks_without_views_and_broken_ones_say_so(rgb):
    with pytest.raises(UserError, match=r"augment=True works with \.pt files only"):
        seeing(ONE_DOT)[0](rgb, augment=True)
    with pytest.raises(UserError, match=r"NaN or infinite values for 'image0\.jpg'"):
        seeing(ONE_DOT * math.nan)[0](rgb)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("conf", "iou") for value in (math.nan, -0.1, 2, "0.5", None)],
        *[("max_det", value) for value in (0, -1, 1.5, None)],
        *[("classes", value) for value in (0, [2], [-1], ["dot"])],
    ],
)
def test_settings_without_meaning_are_named(name, value, rgb):
    model, inputs = seeing(ONE_DOT)
    setattr(model, name, value)
    with pytest.raises(UserError, match=f"^{name} is .*expected"):
        model(rgb, size=64)
    assert inputs == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 64, 64), r"shape \(3, 64, 64\), expected \(B, 3, H, W\)"),
        (torch.zeros(1, 3, 64, 65), "multiples of 32"),
        (torch.zeros(1, 4, 64, 64), "the shape"),
        (torch.zeros(0, 3, 64, 64), "the shape"),
        (torch.zeros(1, 3, 0, 64), "the shape"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"torch\.uint8, expected floats from 0 to 1"),
    ],
)
def test_tensors_that_the_network_does_not_take_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        seeing(ONE_DOT)[0](images)
    with pytest.raises(UserError, match=r"expected \(B, 3, 64, 96\)"):
        seeing(ONE_DOT, input_hw=(64, 96))[0](torch.zeros(1, 3, 64, 64))


def test_eight_threads_get_what_one_gets(tiny_weights):
    model = models.load(tiny_weights, "cpu")
    model.conf = 0.001
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(64, 64), (48, 96), (96, 40)]] * 8
    alone = [model(image, size=96).pred[0] for image in images]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda image: model(image, size=96).pred[0], images))
    assert sum(map(len, alone)) > 0
    for expected, found in zip(alone, together, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_eight_threads_see_the_same_in_photographs():
    """The official network on different photographs, sizes and settings at the same time."""
    model = models.load(shared_path("weights/yolov5n.pt"), "cpu")
    photograph = np.asarray(Image.open(shared_path("images/bus.jpg")))
    parts = [photograph[top : top + 700, left : left + 600] for top in (0, 180, 360) for left in (0, 100, 200)]
    calls = [(part, size) for size in (320, 256) for part in [photograph, photograph[:, ::-1], *parts]] * 2
    alone = [model(part, size=size) for part, size in calls]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda call: model(call[0], size=call[1]), calls))
    assert sum(len(results.pred[0]) for results in alone) > len(calls)
    for expected, found in zip(alone, together, strict=True):
        assert found.s == expected.s
        torch.testing.assert_close(found.pred[0], expected.pred[0], rtol=0, atol=1e-3)


def test_augment_shares_the_weights_and_changes_nothing_for_later_calls(tiny_weights, rgb):
    model = models.load(tiny_weights, "cpu")
    model.conf = 0.001
    before = model(rgb, size=64).pred[0]
    several = model(rgb, size=64, augment=True).pred[0]
    assert several.shape != before.shape or not torch.equal(several, before)
    assert torch.equal(model(rgb, size=64).pred[0], before)


@pytest.mark.parametrize("option", ["default", "augment", "agnostic"])
def test_golden_detections(option):
    golden = load_golden("detections.json")
    model = models.load(shared_path("weights/yolov5n.pt"), "cpu")
    bus = shared_path("images/bus.jpg")
    (expected,) = [
        one for one in golden["v61"] if (one["option"], one["imgsz"], one["image"]) == (option, [640, 640], "bus.jpg")
    ]
    model.agnostic = option == "agnostic"
    found = model(bus, augment=option == "augment")
    assert found.s[2:] == tuple(expected["net_hw"])
    np.testing.assert_allclose(found.xyxy[0][:, :4], expected["xyxy"], atol=0.5)
    np.testing.assert_allclose(found.xyxy[0][:, 4], expected["conf"], atol=1e-3)
    assert found.xyxy[0][:, 5].tolist() == expected["cls"]
