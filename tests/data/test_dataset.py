import cv2
import numpy as np
import pytest

from tests.golden_data import load_golden
from utils.data import dataset as dataset_module
from utils.data.dataset import DetectionDataset
from utils.data.rect import RectSettings, rect_batches
from utils.data.samples import Sample
from utils.data.strength import Augmentation
from utils.errors import UserError

STRONG = Augmentation(0.015, 0.7, 0.4, 5.0, 0.1, 0.5, 2.0, 0.0, 0.5, 0.5, 0.5, 0.3, 0.1)


def make_samples(folder, sizes_hw):
    """Write grey images with one white box each and return their samples."""
    samples = []
    for number, (height, width) in enumerate(sizes_hw):
        image = np.full((height, width, 3), 60, np.uint8)
        image[height // 4 : height // 2, width // 4 : width // 2] = 255
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), image)
        top, left = height // 4 / height, width // 4 / width
        bottom, right = height // 2 / height, width // 2 / width
        box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        samples.append(Sample(path, (height, width), np.array([[number, *box]], np.float32), []))
    return samples


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path, [(80, 120), (120, 60), (40, 40), (200, 160), (64, 90)])


def pixels_of(item, row):
    """Return the pixels inside box ``row``, less a rim that resizing blurs."""
    height, width = item.image.shape[:2]
    x, y, w, h = item.targets[row, 1:] * [width, height, width, height]
    return item.image[int(y - h / 2) + 3 : int(y + h / 2) - 3, int(x - w / 2) + 3 : int(x + w / 2) - 3]


def test_rect_batches_equal_v61():
    cases = load_golden("letterbox.json")["rect_batches"]
    for case in cases:
        sizes_hw = [(height, width) for width, height in case["wh"]]
        rect = RectSettings(case["batch_size"], case["stride"], case["pad"])
        order, shapes = rect_batches(sizes_hw, case["img_size"], rect)
        assert order.tolist() == case["order"]
        assert shapes == [tuple(shape) for shape in case["batch_shapes_hw"]]
        assert (np.arange(len(order)) // case["batch_size"]).tolist() == case["batch_index"]


def test_loaded_size_equals_v61(tmp_path):
    for case in load_golden("letterbox.json")["load_image_resize"]:
        if case["h0"] * case["w0"] > 4e6:
            continue  # writing these takes longer than all others together
        samples = make_samples(tmp_path, [(case["h0"], case["w0"])])
        item = DetectionDataset(samples, case["img_size"])[0]
        assert item.ratio == pytest.approx(case["h_v61"] / case["h0"])
        left = (case["img_size"] - case["w_v61"]) / 2
        assert item.pad_xy == (left, (case["img_size"] - case["h_v61"]) / 2)


@pytest.mark.parametrize("rect", [None, RectSettings(2, 32, 0.5)])
def test_plain_items(samples, rect):
    dataset = DetectionDataset(samples, 96, rect=rect)
    for index in range(len(dataset)):
        item = dataset[index]
        assert item.image.shape == (*dataset.frame_hw(index), 3)
        assert item.image.dtype == np.uint8 and item.targets.dtype == np.float32
        assert item.original_hw == dataset.samples[index].size_hw
        assert (pixels_of(item, 0) > 250).all()
        # back to the original image, as evaluation does it
        height, width = item.image.shape[:2]
        centre = (item.targets[0, 1:3] * [width, height] - item.pad_xy) / item.ratio
        expected = dataset.samples[index].labels[0, 1:3] * item.original_hw[::-1]
        np.testing.assert_allclose(centre, expected, atol=1.5)


def test_rect_items_share_batch_shapes(samples):
    dataset = DetectionDataset(samples, 96, rect=RectSettings(2, 32, 0.0))
    assert [dataset[index].image.shape[:2] for index in range(5)] == [
        dataset.batch_shapes[index // 2] for index in range(5)
    ]
    aspects = [sample.size_hw[0] / sample.size_hw[1] for sample in dataset.samples]
    assert aspects == sorted(aspects)


def test_items_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((32, 32, 3), (1, 2, 3), np.uint8))
    sample = Sample(tmp_path / "a.png", (32, 32), np.zeros((0, 5), np.float32), [])
    item = DetectionDataset([sample], 32)[0]
    assert item.image[0, 0].tolist() == [3, 2, 1] and item.targets.shape == (0, 5)


def test_augmented_item_depends_on_its_seed_alone(samples):
    first, second = DetectionDataset(samples, 96, STRONG), DetectionDataset(samples, 96, STRONG)
    for index in range(5):
        np.random.seed(index)
        ours, theirs = first[index, 7], second[index, 7]
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.targets, theirs.targets)
    assert any((first[0, 7].image != first[0, seed].image).any() for seed in (1, 2, 3))
    with pytest.raises(ValueError, match="seed"):
        first[0]


@pytest.mark.parametrize(
    "strength",
    [
        Augmentation(translate=0.1, scale=0.4, fliplr=0.5, flipud=0.5, mosaic=1.0),
        Augmentation(translate=0.1, scale=0.4, fliplr=0.5, flipud=0.5),
        Augmentation(),
    ],
)
@pytest.mark.parametrize("with_polygons", [False, True])
def test_augmented_boxes_follow_their_pixels(samples, strength, with_polygons):
    if with_polygons:
        for sample in samples:
            x, y, width, height = sample.labels[0, 1:]
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
            sample.segments.append(([x, y] + corners * [width, height]).astype(np.float32))
    dataset = DetectionDataset(samples, 128, strength)
    boxes = 0
    for seed in range(20):
        item = dataset[seed % 5, seed]
        assert item.image.shape == (128, 128, 3)
        assert ((item.targets[:, 1:] >= 0) & (item.targets[:, 1:] <= 1)).all()
        for row in range(len(item.targets)):
            inside = pixels_of(item, row)
            boxes += inside.size > 0
            assert (inside > 240).all()
    assert boxes > 15


def test_everything_switched_on_gives_sound_items(samples):
    dataset = DetectionDataset(samples, 96, STRONG)
    classes = set()
    for seed in range(30):
        item = dataset[seed % 5, seed]
        assert item.image.shape == (96, 96, 3) and item.image.flags.c_contiguous
        assert ((item.targets[:, 1:] >= 0) & (item.targets[:, 1:] <= 1)).all()
        classes |= set(item.targets[:, 0])
    assert classes == {0, 1, 2, 3, 4}


def test_tiles_of_a_mosaic_may_be_named(samples):
    dataset = DetectionDataset(samples, 96, Augmentation(mosaic=1.0))
    shown = {number for seed in range(10) for number in dataset[0, seed, 3, 3, 4].targets[:, 0]}
    assert shown == {0, 3, 4}


def test_rectangular_training_has_no_mosaic(samples):
    dataset = DetectionDataset(samples, 96, Augmentation(mosaic=1.0), RectSettings(5, 32, 0.0))
    for index in range(5):
        assert dataset[index, 0].targets[:, 0].tolist() == dataset.samples[index].labels[:, 0].tolist()


def test_image_that_vanished_is_named(samples):
    dataset = DetectionDataset(samples, 96)
    samples[2].image.unlink()
    with pytest.raises(UserError, match=r"2\.png"):
        dataset[2]


@pytest.mark.parametrize("size_hw", [(10, 5000), (5000, 10), (40, 20_000), (10, 10)])
@pytest.mark.parametrize("strength", [None, Augmentation(scale=0.5, mosaic=1.0), STRONG])
def test_images_of_odd_shape(tmp_path, size_hw, strength):
    samples = make_samples(tmp_path, [size_hw, (64, 64)])
    dataset = DetectionDataset(samples, 64, strength)
    for seed in range(8):
        item = dataset[(0, seed) if strength else 0]
        assert item.image.shape == (64, 64, 3) and np.isfinite(item.targets).all()
        assert ((item.targets[:, 1:] >= 0) & (item.targets[:, 1:] <= 1)).all()


def test_large_jpeg_is_decoded_at_a_fraction_for_training_only(tmp_path, monkeypatch):
    asked = []
    ours = dataset_module.read_image
    monkeypatch.setattr(dataset_module, "read_image", lambda *words: asked.append(words[2]) or ours(*words))
    rows, columns = np.mgrid[:600, :900]
    cv2.imwrite(
        str(tmp_path / "a.jpg"), np.dstack([rows * 255 // 600, columns * 255 // 900, rows * 0]).astype(np.uint8)
    )
    sample = Sample(tmp_path / "a.jpg", (600, 900), np.zeros((0, 5), np.float32), [])
    reduced = DetectionDataset([sample], 96, Augmentation()).decode(0)
    whole = DetectionDataset([sample], 96).decode(0)
    assert asked == [9, 1] and reduced.shape == whole.shape == (64, 96, 3)
    assert np.abs(reduced.astype(int) - whole).max() <= 3


def test_mosaic9_and_named_tiles(samples):
    dataset = DetectionDataset(samples, 96, Augmentation(mosaic=1.0, mosaic9=1.0, scale=0.5))
    items = [dataset[0, seed, 3, 3, 4] for seed in range(20)]
    assert {3, 4} <= {number for item in items for number in item.targets[:, 0]}
    assert max(len(item.targets) for item in items) > 4


def test_polygons_of_copy_paste_reach_the_item(samples):
    for sample in samples:
        x, y, width, height = sample.labels[0, 1:]
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
        sample.segments.append(([x, y] + corners * [width, height]).astype(np.float32))
    without = DetectionDataset(samples, 128, Augmentation(mosaic=1.0))
    pasting = DetectionDataset(samples, 128, Augmentation(mosaic=1.0, copy_paste=1.0))
    counts = [(len(without[0, seed].targets), len(pasting[0, seed].targets)) for seed in range(20)]
    assert sum(more for _, more in counts) > sum(fewer for fewer, _ in counts) + 10
    for seed in range(10):
        item = pasting[0, seed]
        # A pasted object may bring a line of what touches it.
        assert all((pixels_of(item, row) > 240).mean() > 0.9 for row in range(len(item.targets)))
