import pickle

import numpy as np
import pytest
import torch

from tests.data.test_dataset import STRONG, make_samples
from utils.data.dataset import DetectionDataset, RectSettings
from utils.data.labels import Sample
from utils.data.loader import SeededBatches, collate, make_loader, normalise
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


def test_to_device_and_normalise(samples):
    batch = next(iter(make_loader(DetectionDataset(samples, 64), 2))).to_device(torch.device("cpu"))
    images = normalise(batch.images)
    assert images.dtype == torch.float32 and images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images, batch.images / 255)


def test_order_and_seeds_follow_from_seed_and_epoch():
    def epoch_of(seed, epoch):
        batches = SeededBatches(10, 4, True, seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert epoch_of(1, 0) == epoch_of(1, 0)
    assert epoch_of(1, 0) != epoch_of(1, 1) != epoch_of(2, 1)
    keys = epoch_of(1, 0)
    assert [len(batch) for batch in keys] == [4, 4, 2]
    assert sorted(index for batch in keys for index, _ in batch) == list(range(10))
    assert len({seed for batch in keys for _, seed in batch}) == 10


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


def test_batches_do_not_depend_on_workers_and_see_new_epochs(samples):
    dataset = DetectionDataset(samples, 96, STRONG)
    alone, helped = make_loader(dataset, 3, 0, True, 5), make_loader(dataset, 3, 2, True, 5)
    first_paths = []
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        for ours, theirs in zip(alone, helped, strict=True):
            assert ours.paths == theirs.paths
            assert torch.equal(ours.images, theirs.images) and torch.equal(ours.targets, theirs.targets)
            assert theirs.images.is_contiguous(memory_format=torch.channels_last)
        first_paths.append(ours.paths)
    assert first_paths[0] != first_paths[1]


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
