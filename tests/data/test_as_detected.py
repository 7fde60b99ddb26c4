"""Images as detect.py prepares them, in batches of one shape."""

import cv2
import numpy as np
import pytest
import torch

from utils.boxes import scale_boxes, xywh_to_xyxy
from utils.data.loader import make_validation_loader
from utils.data.pixels import read_image
from utils.data.prepare import prepare_image, prepared_hw
from utils.data.samples import Sample
from utils.detect.detector import DetectionSettings, Detector
from utils.errors import UserError
from utils.eval.metrics import labels_per_image

SIZES = [(48, 64), (100, 200), (64, 48), (33, 200), (48, 64), (64, 64), (200, 100), (50, 66), (1, 90)]
LABELS = np.array([[0, 0.5, 0.5, 1, 1], [2, 0.25, 0.6, 0.1, 0.2]], np.float32)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    found = []
    for index, size_hw in enumerate(SIZES):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), generator.integers(0, 255, (*size_hw, 3), np.uint8))
        found.append(Sample(path, size_hw, LABELS[: index % 3], []))
    return found


def network_inputs(sample: Sample, stride: int | None) -> np.ndarray:
    """Return what detect.py shows a network of the image of ``sample``."""
    seen = []

    def find_rows(pixels: np.ndarray, least: float) -> list[np.ndarray]:
        seen.append(pixels)
        return [np.zeros((0, 6), np.float32)]

    settings = DetectionSettings((96, 96), exact_shape=stride is None)
    Detector(find_rows, stride or 32, settings)(read_image(sample.image))
    return seen[0]


@pytest.mark.parametrize("stride", [32, None])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_every_image_is_what_detect_makes_of_it(samples, stride, batch_size):
    loader = make_validation_loader(samples, 96, batch_size, stride, workers=0, as_detect=True)
    by_path = {str(sample.image): sample for sample in samples}
    batches = list(loader)
    assert len(batches) == len(loader)
    assert sorted(path for batch in batches for path in batch.paths) == sorted(by_path)
    for batch in batches:
        for image, path in zip(batch.images, batch.paths, strict=True):
            expected = network_inputs(by_path[path], stride)
            np.testing.assert_array_equal(image[None].permute(0, 2, 3, 1), expected)


def test_only_images_of_one_shape_share_a_batch_and_batches_are_full(samples):
    loader = make_validation_loader(samples, 96, 2, 32, workers=0, as_detect=True)
    shapes = [prepared_hw(size_hw, (96, 96), 32) for size_hw in SIZES]
    expected = sorted(-(-shapes.count(shape) // 2) for shape in set(shapes))
    found = [tuple(batch.images.shape[2:]) for batch in loader]
    assert sorted(found.count(shape) for shape in set(found)) == expected
    assert set(found) == set(shapes)


def test_processes_share_the_batches(samples):
    def paths(share: tuple[int, int]) -> list[list[str]]:
        loader = make_validation_loader(samples, 96, 2, 32, workers=0, share=share, as_detect=True)
        batches = [batch.paths for batch in loader]
        assert len(batches) == len(loader)
        return batches

    parts = [paths((rank, 2)) for rank in range(2)]
    whole = paths((0, 1))
    assert parts == [whole[::2], whole[1::2]]


@pytest.mark.parametrize("stride", [32, None])
def test_labels_and_detections_share_a_geometry(samples, stride):
    """Labels mapped back lie where the file has them, and boxes are mapped back as detect.py does it."""
    by_path = {str(sample.image): sample for sample in samples}
    for batch in make_validation_loader(samples, 96, 4, stride, workers=0, as_detect=True):
        input_hw = tuple(batch.images.shape[2:])
        labels = labels_per_image(batch.targets, len(batch.paths), input_hw)
        rows = zip(labels, batch.paths, batch.original_hw, batch.ratios, batch.pads_xy, strict=True)
        for label, path, image_hw, ratio, pad_xy in rows:
            sample = by_path[path]
            extent = np.tile(image_hw[::-1], 2)
            expected = xywh_to_xyxy(sample.labels[:, 1:]) * extent
            back = scale_boxes(label[:, 1:], input_hw, image_hw, ratio, pad_xy)
            np.testing.assert_allclose(back, expected, atol=0.01)
            boxes = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)) * 96
            derived = scale_boxes(boxes, input_hw, image_hw)
            assert torch.equal(scale_boxes(boxes, input_hw, image_hw, ratio, pad_xy), derived)


@pytest.mark.parametrize("stride", [32, None])
@pytest.mark.parametrize("size_hw", [*SIZES, (1080, 810), (7, 3000)])
def test_the_shape_is_known_without_the_pixels(size_hw, stride):
    image = np.zeros((*size_hw, 3), np.uint8)
    assert prepare_image(image, (96, 64), stride).shape[:2] == prepared_hw(size_hw, (96, 64), stride)


def test_an_image_that_has_changed_is_named(samples, tmp_path):
    path = tmp_path / "new.png"
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    loader = make_validation_loader([Sample(path, (20, 40), LABELS[:0], [])], 96, 1, 32, workers=0, as_detect=True)
    with pytest.raises(UserError, match=r"new\.png' has changed its size"):
        next(iter(loader))
