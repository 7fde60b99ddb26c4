"""Items -> batches, in worker processes, repeatable from one seed whatever the number of workers."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from utils.data.dataset import DetectionDataset, Item, Key, RectSettings
from utils.data.labels import Sample
from utils.device import worker_count
from utils.errors import UserError
from utils.interrupts import interrupts_held_back


@dataclass
class Batch:
    """Images of one shape and what is on them.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, channels last in memory.
        targets: (n, 6) float32 image index in the batch, class, x, y, width, height; boxes in 0..1 of the padded input.
        paths: image files.
        original_hw: height and width of each file's image, px.
        ratios: resize factors from there to the padded input (1 when augmented).
        pads_xy: padding left and top in the padded input, px (0 when augmented).
    """

    images: Tensor
    targets: Tensor
    paths: list[str]
    original_hw: list[tuple[int, int]]
    ratios: list[float]
    pads_xy: list[tuple[float, float]]

    def to_device(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on ``device``."""
        images, targets = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.targets))
        return replace(self, images=images, targets=targets)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, from where a GPU fetches it without waiting."""
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


def normalise(images: Tensor) -> Tensor:
    """Return (B, 3, H, W) uint8 ``images`` as float32 in 0..1, channels last in memory."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one shape."""
    # Pixels stay height, width, channel in memory and are only viewed as (B, 3, H, W): this is torch's channels-last
    # layout, the fast one, and saves a transposition for each image.
    stacked = torch.empty((len(items), *items[0].image.shape), dtype=torch.uint8)
    if get_worker_info() is not None:
        stacked.share_memory_()  # where the main process can see it: saves a copy
    np.stack([item.image for item in items], out=stacked.numpy())
    indices = np.repeat(np.arange(len(items), dtype=np.float32), [len(item.targets) for item in items])
    targets = np.concatenate([indices[:, None], np.concatenate([item.targets for item in items])], 1)
    return Batch(
        stacked.permute(0, 3, 1, 2),
        torch.from_numpy(targets.astype(np.float32)),
        [str(item.path) for item in items],
        [item.original_hw for item in items],
        [item.ratio for item in items],
        [item.pad_xy for item in items],
    )


class SeededBatches(Sampler[list[Key]]):
    """Lists of (index, seed) for one epoch, decided by the seed of the run and the number of the epoch alone.

    Args:
        length: number of items in the data set.
        batch_size: items a batch; the last one may be smaller.
        shuffle: new order each epoch, else 0 to ``length`` - 1.
        seed: seed of the run.
    """

    def __init__(self, length: int, batch_size: int, shuffle: bool, seed: int) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and seeds the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(self.length) if self.shuffle else np.arange(self.length)
        keys: list[Key] = list(zip(order.tolist(), generator.integers(2**63, size=self.length).tolist(), strict=True))
        for start in range(0, self.length, self.batch_size):
            yield keys[start : start + self.batch_size]


class _BatchFetcher(Dataset[Any]):
    """Makes whole batches where the items are made, and returns a UserError: raised, torch would wrap its message."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: list[Key]) -> Batch | UserError:
        try:
            return collate([self.dataset[key] for key in keys])
        except UserError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def _set_up_worker(_worker: int) -> None:
    """One core a worker, and no Ctrl-C on Windows either."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class BatchLoader:
    """Iterate over it for the batches of one epoch; its length is their number. Made by :func:`make_loader`.

    Worker processes stay alive between epochs and end with this object.
    """

    def __init__(self, dataset: DetectionDataset, batches: SeededBatches, workers: int, pin_memory: bool) -> None:
        self.dataset = dataset
        self.workers = workers
        self.pin_memory = pin_memory
        self._batches = batches
        self._loader = self._torch_loader()

    def _torch_loader(self) -> DataLoader[Any]:
        return DataLoader(
            _BatchFetcher(self.dataset),
            batch_sampler=self._batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin_memory,
            worker_init_fn=_set_up_worker,
            collate_fn=_unchanged,
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is."""
        self._batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        with interrupts_held_back():  # workers start here; Ctrl-C is for the main process, which ends them
            batches = iter(self._loader)
        for batch in batches:
            if isinstance(batch, UserError):
                message = str(batch)
                break
            yield batch
        else:
            return
        # Replacing the loader ends its workers here and now. Left to the garbage collector, which an exception that
        # refers to this frame would bring into play, each of them would keep the program waiting for five seconds.
        self._loader = self._torch_loader()
        raise UserError(message)


def make_loader(
    dataset: DetectionDataset,
    batch_size: int,
    workers: int = 0,
    shuffle: bool = False,
    seed: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
    """Return a loader whose batches depend on ``seed`` and the epoch set, not on ``workers``.

    Args:
        dataset: items; a rectangular one must have been made for this ``batch_size``.
        batch_size: images a batch, at most; the last batch of an epoch may be smaller.
        workers: processes that load; 0 loads in this process.
        shuffle: new order each epoch; rectangular data sets keep theirs all the same, as in v6.1.
        seed: seed of the run.
        pin_memory: put batches in page-locked memory, which speeds up the way to a CUDA device.
    """
    if dataset.rect and dataset.rect.batch_size != batch_size:
        raise ValueError(f"data set with batches of {dataset.rect.batch_size} loaded in batches of {batch_size}")
    batches = SeededBatches(len(dataset), batch_size, shuffle and dataset.rect is None, seed)
    return BatchLoader(dataset, batches, workers, pin_memory)


def make_validation_loader(
    samples: list[Sample], image_size: int, batch_size: int, stride: int | None, workers: int
) -> BatchLoader:
    """Return a loader of unchanged images for measuring a model.

    Args:
        samples: what ``load_samples`` found.
        image_size: longer side of the network input, px.
        batch_size: images a batch, at most.
        stride: batches take the shape of their images, in multiples of this; None makes squares of all.
        workers: processes that load, at most.
    """
    batch_size = min(batch_size, len(samples))
    rect = RectSettings(batch_size, stride, pad=0.5) if stride else None
    dataset = DetectionDataset(samples, image_size, rect=rect)
    return make_loader(dataset, batch_size, worker_count(workers, batch_size))
