"""Test-time augmentation, on networks whose answer is known."""

import copy

import pytest
import torch

from models.augmented import PADDING, VIEWS, View, predict_augmented, view_of
from models.formats import load_backend
from models.yolo import Model
from tests.golden_data import load_golden, shared_path
from tests.models.recipes import random_images
from utils.data.config import load_dataset_config
from utils.data.loader import make_validation_loader
from utils.data.splits import load_samples
from utils.errors import UserError
from utils.eval.evaluate import EvaluationSettings, evaluate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tiny_config) -> Model:
    torch.manual_seed(0)
    return Model(tiny_config, nc=2).eval()


def test_a_square_of_640_gives_the_rows_of_v61(tiny):
    with torch.no_grad():
        assert predict_augmented(tiny, torch.zeros(1, 3, 640, 640)).shape == (1, 24000 + 18207 + 2940, 7)


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 160), (32, 224)])
def test_every_shape_loses_the_coarsest_level_of_the_largest_view_and_the_finest_of_the_smallest(tiny, size_hw):
    images = random_images(1, 2, *size_hw)
    with torch.no_grad():
        found = predict_augmented(tiny, images)
        views = [tiny(view_of(images, view, 32)) for view in VIEWS]
    large, medium, small = [[level[0, ..., 0].numel() for level in raw] for _, raw in views]
    assert found.shape[1] == sum(large[:2]) + sum(medium) + sum(small[1:])
    torch.testing.assert_close(found[:, : sum(large[:2])], views[0][0][:, : sum(large[:2])])
    scores = torch.cat([views[0][0][:, : sum(large[:2])], views[1][0], views[2][0][:, small[0] :]], 1)[..., 4:]
    torch.testing.assert_close(found[..., 4:], scores)


def test_a_view_is_padded_with_grey_right_and_below():
    images = torch.ones(1, 3, 64, 96)
    seen = view_of(images, View(0.67, False), 32)
    assert seen.shape == (1, 3, 64, 96)  # 42 x 64 px, and what is missing to multiples of 32
    assert (
        (seen[..., :42, :64] == 1).all() and (seen[..., 42:, :] == PADDING).all() and (seen[..., 64:] == PADDING).all()
    )
    assert view_of(images, View(1, False), 32) is images


class _Brightest(torch.nn.Module):
    """Finds the bright square of an image, whatever the size of the image, and says so at three levels."""

    largest_stride = 32

    class detect:
        strides = (8.0, 16.0, 32.0)

    def forward(self, images):
        rows = []
        for image in images[:, 0]:
            y, x = (image > 0.8).nonzero().float().T
            box = [
                (x.min() + x.max() + 1) / 2,
                (y.min() + y.max() + 1) / 2,
                x.max() - x.min() + 1,
                y.max() - y.min() + 1,
            ]
            rows.append([*box, 0.9, 1.0])
        raw = torch.zeros(len(images), 1, 1, 1, 6)
        return torch.tensor(rows)[:, None].expand(-1, 3, -1), [raw] * 3


def test_boxes_of_all_views_return_to_the_image():
    images = torch.zeros(2, 3, 192, 320)
    images[0, :, 30:90, 20:120] = 1
    images[1, :, 100:180, 200:300] = 1
    found = predict_augmented(_Brightest(), images)
    assert found.shape == (2, 2 + 3 + 2, 6)
    expected = torch.tensor([[70.0, 60, 100, 60], [250, 140, 100, 80]])[:, None].expand(-1, 7, -1)
    torch.testing.assert_close(found[..., :4], expected, atol=3.0, rtol=0)
    torch.testing.assert_close(found[:, :2, :4], expected[:, :2])


def test_one_level_is_never_left_out(tiny_config):
    config = copy.deepcopy(tiny_config)
    config["anchors"] = config["anchors"][:1]
    config["head"][-1] = [[17], *config["head"][-1][1:]]
    model = Model(config).eval()
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        rows = [model(view_of(images, view, model.largest_stride))[0].shape[1] for view in VIEWS]
        assert predict_augmented(model, images).shape[1] == sum(rows)


def test_each_member_of_an_ensemble_is_augmented(tiny_weights):
    images = random_images(3, 1, 64, 64)
    one = load_backend([tiny_weights], CPU, augment=True)(images)
    two = load_backend([tiny_weights, tiny_weights], CPU, augment=True)(images)
    assert one.shape[1] > load_backend([tiny_weights], CPU)(images).shape[1]
    torch.testing.assert_close(two, torch.cat([one, one], 1))


def test_exported_files_say_that_they_cannot(tmp_path):
    path = tmp_path / "a.torchscript"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"--augment works with \.pt files, got '.*a\.torchscript'"):
        load_backend([path], CPU, augment=True)


@pytest.mark.slow
def test_coco128_augmented(monkeypatch):
    weights, data = shared_path("weights/yolov5n.pt"), shared_path("datasets/coco128")
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(data.parent))
    config = load_dataset_config("coco128.yaml", ("val",))
    backend = load_backend([weights], CPU, augment=True)
    loader = make_validation_loader(load_samples(config, "val"), 320, 16, backend.meta.stride, workers=0)
    result = evaluate(lambda images: (backend(images), None), loader, config.names, EvaluationSettings())
    expected = next(run for run in load_golden("val.json")["v61"]["runs"] if run["name"] == "320_augment")
    assert result.images == 128
    assert result.map50 == pytest.approx(expected["mAP50"], abs=0.005)  # its OpenCV shrinks images differently
