"""Suppression inside a graph finds what the one outside finds."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.formats import graph
from models.formats.exported import as_predictions
from models.formats.graph import ExportGraph, suppress
from models.formats.settings import NmsSettings
from models.yolo import Model
from tests.golden_data import load_golden, meta_of
from tests.models.recipes import random_images
from utils.eval.nms import non_max_suppression

ALL = 10**6


def found_by_the_graph(decoded: Tensor, settings: NmsSettings) -> list[Tensor]:
    """Return the detections of each image, after seeing that what follows them is zero."""
    rows = suppress(decoded, settings)
    assert rows.shape == (len(decoded), settings.most, 6)
    assert not rows[rows[..., 4] == 0].any()
    assert (rows[..., 4].diff(dim=1) <= 0).all()
    return [image[image[:, 4] > 0] for image in rows]


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


def random_rows(seed: int, rows: int, classes: int) -> Tensor:
    decoded = torch.rand(2, rows, 5 + classes, generator=torch.Generator().manual_seed(seed))
    decoded[..., :2] *= 300
    decoded[..., 2:4] = decoded[..., 2:4] * 90 + 1.5
    return decoded


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("iou", [0.2, 0.45, 0.9])
@pytest.mark.parametrize(("rows", "classes"), [(5, 1), (300, 3), (900, 40)])
def test_agrees_with_suppression_outside(rows, classes, iou, agnostic):
    decoded = random_rows(rows, rows, classes)
    settings = NmsSettings(0.6, iou, 100, 100, agnostic)
    wanted = non_max_suppression(decoded, 0.6, iou, agnostic=agnostic, max_detections=100)
    assert rows == 5 or sum(map(len, wanted)) > 20
    assert_same(found_by_the_graph(decoded, settings), wanted)


@pytest.mark.parametrize("index", range(25))
def test_agrees_with_v61(index, monkeypatch):
    golden = load_golden("nms.npz")
    case = meta_of(golden)["cases"][index]
    options = case["options"]
    if f"c{index}_pred" not in golden.files or case["has_labels"]:
        pytest.skip("made from another case, or with labels")
    if options.get("multi_label") or options.get("classes"):
        pytest.skip("a graph gives each box its best class, and has all classes")
    monkeypatch.setattr(graph, "CANDIDATES", 2000)
    decoded = torch.from_numpy(golden[f"c{index}_pred"])
    most = options.get("max_det", 300)
    settings = NmsSettings(
        options.get("conf_thres", 0.25), options.get("iou_thres", 0.45), most, most, options.get("agnostic", False)
    )
    wanted = [torch.from_numpy(golden[f"c{index}_out{image}"]) for image in range(len(decoded))]
    assert_same(found_by_the_graph(decoded, settings), wanted)


def test_a_second_suppression_changes_nothing():
    decoded = random_rows(1, 400, 5)
    rows = suppress(decoded, NmsSettings(0.6, 0.45))
    assert_same(
        non_max_suppression(as_predictions(rows, 5), 0.6, 0.45, max_detections=100),
        [image[image[:, 4] > 0] for image in rows],
    )


def test_of_a_class_and_of_an_image_only_so_many_stay():
    decoded = random_rows(2, 400, 4)
    everything = found_by_the_graph(decoded, NmsSettings(0.5, 0.9, ALL, 300))
    for image, best in zip(everything, found_by_the_graph(decoded, NmsSettings(0.5, 0.9, 7, 20)), strict=True):
        wanted = torch.cat([image[image[:, 5] == label][:7] for label in range(4)])
        torch.testing.assert_close(best, wanted[wanted[:, 4].argsort(descending=True)][:20])


def chain(length: int) -> Tensor:
    """Return rows of falling score, each overlapping the one before it and the one after it."""
    decoded = torch.ones(1, length, 6)
    decoded[0, :, 0] = torch.arange(length) * 3.0 + 50
    decoded[0, :, 1:4] = 10
    decoded[0, :, 4] = torch.linspace(0.9, 0.5, length)
    return decoded


def test_chains_are_followed_to_the_last_round():
    decoded = chain(graph.ROUNDS + 1)
    found = found_by_the_graph(decoded, NmsSettings())
    assert_same(found, non_max_suppression(decoded))
    assert len(found[0]) == graph.ROUNDS // 2 + 1


def test_of_longer_chains_none_is_lost_and_a_second_suppression_removes_the_rest():
    decoded = chain(60)
    rows = suppress(decoded, NmsSettings())
    assert (rows[..., 4] > 0).sum() > 30
    assert_same(non_max_suppression(as_predictions(rows, 1)), non_max_suppression(decoded))


def test_boxes_of_unusable_size_and_low_objectness_are_dropped():
    decoded = torch.tensor([[[50.0, 50, 1, 20, 0.9, 0.9], [50, 50, 20, 8000, 0.9, 0.9], [50, 50, 20, 20, 0.2, 0.9]]])
    assert not suppress(decoded, NmsSettings()).any()


def test_half_precision_holds_large_boxes_and_classes():
    decoded = random_rows(3, 200, 80)
    decoded[..., :4] *= 4
    decoded = decoded.half()
    found = found_by_the_graph(decoded, NmsSettings(0.7))
    wanted = non_max_suppression(decoded, 0.7, max_detections=100)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.float16
        assert ours[:, 5].max() > 40
        assert abs(len(ours) - len(theirs)) <= 2
        assert ours[:, 4].float().sub(theirs[: len(ours), 4]).abs().max() < 2e-2


def test_the_module_has_one_output(tiny_config):
    torch.manual_seed(0)
    model = Model(tiny_config).eval()
    images = random_images(1, 2, 64, 96)
    with torch.no_grad():
        decoded = model(images)[0]
        assert torch.equal(ExportGraph(model)(images), decoded)
        assert ExportGraph(model, NmsSettings(most=30))(images).shape == (2, 30, 6)
