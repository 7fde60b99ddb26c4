import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.test_dataset import STRONG, make_samples
from tests.golden_data import load_golden
from utils.brightness import normalise
from utils.data.dataset import DetectionDataset, Item
from utils.data.loader import (
    collate,
    enlarge_item,
    make_loader,
    make_validation_loader,
    quad_item,
    tile_items,
)
from utils.data.rect import RectSettings
from utils.data.samples import Sample
from utils.data.strength import Augmentation
from utils.errors import UserError

SIZES = [(80, 120), (120, 60), (40, 40), (100, 90), (64, 90), (50, 70), (70, 50)]


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path, SIZES)


def test_collate(samples):
    samples[1] = Sample(samples[1].image, samples[1].size_hw, np.zeros((0, 5), np.float32), [])
    dataset = DetectionDataset(samples, 64)
    items = [dataset[index] for index in range(3)]
    batch = collate(items)
    assert (batch.images.shape, batch.images.dtype) == ((3, 3, 64, 64), torch.uint8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for index, item in enumerate(items):
        np.testing.assert_array_equal(batch.images[index].numpy(), item.image.transpose(2, 0, 1))
    assert batch.targets.dtype == torch.float32
    assert batch.targets[:, :2].tolist() == [[0, 0], [2, 2]]
    np.testing.assert_array_equal(batch.targets[1, 1:].numpy(), items[2].targets[0])
    assert batch.paths == [str(sample.image) for sample in samples[:3]]
    assert batch.original_hw == SIZES[:3]
    assert batch.ratios == [item.ratio for item in items]
    assert batch.pads_xy == [item.pad_xy for item in items]


def test_batch_without_objects(samples):
    empty = [Sample(sample.image, sample.size_hw, np.zeros((0, 5), np.float32), []) for sample in samples]
    batch = next(iter(make_loader(DetectionDataset(empty, 64), 2)))
    assert batch.targets.shape == (0, 6)


def test_normalise(samples):
    batch = next(iter(make_loader(DetectionDataset(samples, 64), 2)))
    images = normalise(batch.images)
    assert images.dtype == torch.float32 and images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images, batch.images / 255)


def test_without_shuffling_items_come_in_order(samples):
    loader = make_loader(DetectionDataset(samples, 64), 3)
    assert len(loader) == 3
    assert [path for batch in loader for path in batch.paths] == [str(sample.image) for sample in samples]


def test_batch_larger_than_the_data_set(samples):
    (batch,) = make_loader(DetectionDataset(samples, 64), 100)
    assert len(batch.paths) == len(samples)


def test_rectangular_loader_keeps_order_and_batch_size(samples):
    dataset = DetectionDataset(samples, 96, rect=RectSettings(3))
    batches = list(make_loader(dataset, 3, shuffle=True))
    assert [tuple(batch.images.shape[2:]) for batch in batches] == dataset.batch_shapes
    assert [path for batch in batches for path in batch.paths] == [str(sample.image) for sample in dataset.samples]
    with pytest.raises(ValueError, match="batches of 3"):
        make_loader(dataset, 4)


def assert_same_batches(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.paths == other.paths
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
        assert one.images.is_contiguous(memory_format=torch.channels_last)
        assert other.images.is_contiguous(memory_format=torch.channels_last)


MODES = {
    "square": {},
    "rect": {"rect": RectSettings(3, 32, 0.0)},
    "quad": {"quad": True},
    "rect and quad": {"rect": RectSettings(3, 32, 0.0), "quad": True},
    "image weights": {"weights": np.arange(7.0)},
    "image weights and quad": {"weights": np.arange(7.0), "quad": True},
    "second of two": {"share": (1, 2)},
    "second of two, quad": {"share": (1, 2), "quad": True},
}


def loader_for(samples, workers, rect=None, weights=None, **options):
    dataset = DetectionDataset(samples, 64, STRONG, rect)
    loader = make_loader(dataset, 3 if rect else 5, workers, True, 5, **options)
    loader.set_weights(weights)
    return loader


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize(("mode", "workers"), [*((mode, 2) for mode in MODES), ("square", 4)])
def test_batches_do_not_depend_on_workers_and_see_new_epochs(samples, mode, workers):
    alone, helped = (loader_for(samples, number, **MODES[mode]) for number in (0, workers))
    epochs = []
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        epochs.append(list(alone))
        assert len(epochs[-1]) == len(alone) == len(helped)
        assert_same_batches(epochs[-1], helped)
    assert any(not torch.equal(one.images, other.images) for one, other in zip(*epochs, strict=True))


# --- rectangular training


def test_rectangular_training(samples):
    strength = Augmentation(hsv_v=0.1, translate=0.1, scale=0.3, flipud=0.5, fliplr=0.5, mosaic=1.0)
    dataset = DetectionDataset(samples, 96, strength, RectSettings(2, 16, 0.0))
    assert len(set(dataset.batch_shapes)) == 3
    loader = make_loader(dataset, 2, shuffle=True)
    flips, found = 0, 0
    for epoch in range(4):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert [path for batch in batches for path in batch.paths] == [str(sample.image) for sample in dataset.samples]
        assert [tuple(batch.images.shape[2:]) for batch in batches] == dataset.batch_shapes
        for number, batch in enumerate(batches):
            for image, class_number, *box in batch.targets.tolist():
                sample = dataset.samples[2 * number + int(image)]
                assert class_number == sample.labels[0, 0], "an image of its own, no mosaic"
                flips += box[0] > 0.5
                pixels = inside(batch.images[int(image)], box)
                found += pixels.numel() > 0
                assert (pixels > 200).all()
    assert found > 20 and flips > 3


def inside(image, box):
    """Return the pixels of a (3, H, W) image inside a box in 0..1, less a rim that resizing blurs."""
    height, width = image.shape[1:]
    x, y, w, h = np.array(box) * [width, height, width, height]
    return image[:, int(y - h / 2) + 3 : int(y + h / 2) - 3, int(x - w / 2) + 3 : int(x + w / 2) - 3]


def test_rectangular_batches_have_no_weights(samples):
    loader = make_loader(DetectionDataset(samples, 64, STRONG, RectSettings(3)), 3)
    with pytest.raises(ValueError, match="fixed order"):
        loader.set_weights(np.ones(7))


# --- quad


def golden_items():
    golden = load_golden("augment.npz")
    images = [golden[f"quad_im{number}"].transpose(1, 2, 0) for number in range(4)]
    rows = [golden[f"quad_lab{number}"][:, 1:] for number in range(4)]
    paths = [Path(f"{number}.png") for number in range(4)]
    return golden, [
        Item(np.ascontiguousarray(image), labels, path, (16, 16), 1.0, (0.0, 0.0))
        for image, labels, path in zip(images, rows, paths, strict=True)
    ]


@pytest.mark.parametrize(("kind", "join"), [("up", lambda items: enlarge_item(items[0])), ("grid", tile_items)])
def test_quad_equals_v61(kind, join):
    golden, items = golden_items()
    batch = collate([join(items)])
    np.testing.assert_array_equal(batch.images.numpy(), golden[f"quad_{kind}_im"])
    np.testing.assert_allclose(batch.targets.numpy(), golden[f"quad_{kind}_labels"], atol=1e-7)
    assert batch.paths == ["0.png"]


class Numbered(DetectionDataset):
    """Items whose pixels and class are their index."""

    def __init__(self, samples):
        super().__init__(samples, 8, Augmentation())

    def __getitem__(self, key):
        index, *_ = key
        image = np.full((8, 8, 3), index, np.uint8)
        targets = np.array([[index, 0.5, 0.5, 1, 1]], np.float32)
        return Item(image, targets, self.samples[index].image, (8, 8), 1.0, (0.0, 0.0))


def test_quad_takes_one_or_four_of_each_group(samples):
    dataset, kinds = Numbered(samples), []
    for seed in range(40):
        item = quad_item(dataset, [(index, seed + index) for index in range(4)])
        assert item.image.shape == (16, 16, 3)
        kinds.append(item.targets[:, 0].tolist())
    assert {tuple(kind) for kind in kinds} == {(0,), (0, 1, 2, 3)}
    assert 10 < kinds.count([0]) < 30


@pytest.mark.parametrize(("count", "classes"), [(1, [0]), (2, [0, 1, 0, 1]), (3, [0, 1, 2, 0])])
def test_quad_keeps_all_images_of_a_smaller_group(samples, count, classes):
    for seed in range(8):
        item = quad_item(Numbered(samples), [(index, seed) for index in range(count)])
        assert item.image.shape == (16, 16, 3)
        assert item.targets[:, 0].tolist() == classes
        assert set(np.unique(item.image)) == set(classes)


def test_quad_tiles_and_their_labels(samples):
    item = tile_items([Numbered(samples)[index, 0] for index in range(4)])
    assert [item.image[y, x, 0] for y, x in ((0, 0), (15, 0), (0, 15), (15, 15))] == [0, 1, 2, 3]
    corners = [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    assert item.targets.tolist() == [[number, *corner, 0.5, 0.5] for number, corner in enumerate(corners)]


@pytest.mark.parametrize(("batch_size", "counts"), [(4, [1, 1]), (5, [2, 1]), (7, [2]), (100, [2])])
def test_quad_batches(samples, batch_size, counts):
    loader = make_loader(DetectionDataset(samples, 64, STRONG), batch_size, shuffle=True, quad=True)
    batches = list(loader)
    assert [tuple(batch.images.shape) for batch in batches] == [(count, 3, 128, 128) for count in counts]
    assert all(len(batch.paths) == len(batch.images) for batch in batches)
    assert all((batch.targets[:, 0] < len(batch.images)).all() for batch in batches)


def test_quad_of_rectangular_batches(samples):
    dataset = DetectionDataset(samples, 96, STRONG, RectSettings(4, 32, 0.0))
    shapes = [tuple(batch.images.shape[2:]) for batch in make_loader(dataset, 4, quad=True)]
    assert shapes == [(2 * height, 2 * width) for height, width in dataset.batch_shapes]


# --- several processes


def joined(parts, size):
    """Return images and boxes of one batch in the order in which one process would have them."""
    count = sum(len(part.images) for part in parts)
    return [image_of(parts[place % size], place // size) for place in range(count)]


def image_of(batch, place):
    return batch.images[place], batch.targets[batch.targets[:, 0] == place, 1:]


@pytest.mark.parametrize("rect", [None, RectSettings(4, 32, 0.0)])
@pytest.mark.parametrize("size", [2, 3])
def test_processes_see_together_what_one_would(samples, rect, size):
    dataset = DetectionDataset(samples, 64, STRONG, rect)
    alone = make_loader(dataset, 4, 0, True, 5)
    ranks = [make_loader(dataset, 4, 0, True, 5, share=(rank, size)) for rank in range(size)]
    assert {len(loader) for loader in ranks} == {len(alone)}
    for whole, *parts in zip(alone, *ranks, strict=True):
        for place, (image, boxes) in enumerate(joined(parts, size)):
            assert torch.equal(image, image_of(whole, place)[0])
            assert torch.equal(boxes, image_of(whole, place)[1])


def test_processes_keep_the_groups_of_quad(samples):
    dataset = DetectionDataset(samples, 64, STRONG)
    (whole,) = make_loader(dataset, 7, 0, True, 5, quad=True)
    parts = [next(iter(make_loader(dataset, 7, 0, True, 5, quad=True, share=(rank, 2)))) for rank in range(2)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    (third,) = make_loader(dataset, 7, 0, True, 5, quad=True, share=(2, 3))
    assert torch.equal(third.images[0], whole.images[0]), "more processes than groups: nobody is left without"


@pytest.mark.parametrize("stride", [32, None])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_validation_batches_are_dealt_whole(samples, stride, size):
    alone = list(make_validation_loader(samples, 64, 2, stride, 0))
    ranks = [make_validation_loader(samples, 64, 2, stride, 0, (rank, size)) for rank in range(size)]
    hands = [list(loader) for loader in ranks]
    assert [len(hand) for hand in hands] == [len(loader) for loader in ranks]
    dealt = [hands[number % size][number // size] for number in range(len(alone))]
    assert sum(map(len, hands)) == len(alone) == 4
    assert_same_batches(dealt, alone)


def test_process_without_validation_batches_and_with_workers(samples):
    loader = make_validation_loader(samples, 64, 4, 32, 2, (2, 3))
    assert len(loader) == 0 and list(loader) == [] and list(loader) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_user_error_arrives_in_one_line(samples, workers):
    samples[4].image.write_bytes(b"broken")
    loader = make_loader(DetectionDataset(samples, 64), 2, workers)
    with pytest.raises(UserError) as caught:
        list(loader)
    assert "4.png" in str(caught.value) and "\n" not in str(caught.value)


def test_loader_parts_can_be_sent_to_spawned_workers(samples):
    dataset = DetectionDataset(samples, 64, STRONG)
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - made in this line
    np.testing.assert_array_equal(copy[1, 2].image, dataset[1, 2].image)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_quad_takes_any_number_of_channels(channels):
    """In half of the cases one image is enlarged, else four are put side by side."""
    image = np.full((8, 8, channels), 7, np.uint8)
    item = Item(image, np.zeros((0, 5), np.float32), "a.png", (8, 8), 1.0, (0.0, 0.0))
    assert enlarge_item(item).image.shape == tile_items([item] * 4).image.shape == (16, 16, channels)
