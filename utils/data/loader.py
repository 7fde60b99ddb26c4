"""Items -> batches, in worker processes, repeatable from one seed whatever the number of workers."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from utils.data.as_detected import AsDetected
from utils.data.dataset import DetectionDataset, Item, SeededKey
from utils.data.letterbox import with_channels
from utils.data.rect import RectSettings
from utils.data.samples import Sample
from utils.data.sampling import DealtBatches, SeededBatches
from utils.device import worker_count
from utils.errors import UserError
from utils.interrupts import interrupts_held_back

QUAD = 4  # images that quad makes one of


@dataclass
class Batch:
    """Images of one shape and what is on them.

    Attributes:
        images: (B, C, H, W) uint8, channels last in memory; three channels are RGB.
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

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, from where a GPU fetches it without waiting."""
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


def collate(items: Sequence[Item]) -> Batch:
    """Stack items of one shape."""
    # Pixels stay height, width, channel in memory and are only viewed as (B, C, H, W): this is torch's channels-last
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


def quad_item(dataset: DetectionDataset, group: list[SeededKey]) -> Item:
    """Return one image of twice the side in place of four (v6.1's quad).

    In half of the cases that is the first one enlarged, else all four side by side; their seeds decide. Where an
    epoch leaves one image, it is enlarged; two or three share the four places.
    """
    draw = np.random.default_rng([seed for _, seed, *_ in group]).random()
    if len(group) == 1 or (len(group) == QUAD and draw < 0.5):
        return enlarge_item(dataset[group[0]])
    return tile_items([dataset[key] for key in group])


def enlarge_item(item: Item) -> Item:
    """Return ``item`` with twice the side, bilinear. Grey levels are cut off, not rounded, as in v6.1."""
    large = cv2.resize(item.image.astype(np.float32), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return item._replace(image=with_channels(large.astype(np.uint8)))


def tile_items(items: Sequence[Item]) -> Item:
    """Return one to four items of one shape as one: top left, bottom left, top right, bottom right, then anew."""
    top_left, bottom_left, top_right, bottom_right = tiles = [items[place % len(items)] for place in range(QUAD)]
    left = np.concatenate([top_left.image, bottom_left.image])
    right = np.concatenate([top_right.image, bottom_right.image])
    targets = []
    for place, item in enumerate(tiles):
        moved = item.targets / (1, 2, 2, 2, 2)  # class, x, y, width, height
        moved[:, 1:3] += (place // 2 / 2, place % 2 / 2)
        targets.append(moved.astype(np.float32))
    return top_left._replace(image=np.concatenate([left, right], 1), targets=np.concatenate(targets))


class _BatchFetcher(Dataset[Any]):
    """Makes whole batches where the items are made, and returns a UserError: raised, torch would wrap its message."""

    def __init__(self, dataset: DetectionDataset, quad: bool) -> None:
        self.dataset = dataset
        self.quad = quad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: list[SeededKey]) -> Batch | UserError:
        try:
            if self.quad:
                groups = [keys[start : start + QUAD] for start in range(0, len(keys), QUAD)]
                return collate([quad_item(self.dataset, group) for group in groups])
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

    def __init__(
        self,
        dataset: DetectionDataset,
        batches: SeededBatches,
        workers: int = 0,
        pin_memory: bool = False,
        quad: bool = False,
    ) -> None:
        self.dataset = dataset
        self.workers = workers
        self.pin_memory = pin_memory
        self.quad = quad
        self._batches = batches
        self._loader = self._torch_loader()

    def _torch_loader(self) -> DataLoader[Any]:
        return DataLoader(
            _BatchFetcher(self.dataset, self.quad),
            batch_sampler=self._batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.pin_memory,
            worker_init_fn=_set_up_worker,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # or torch would draw from its global one, when workers start
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is."""
        self._batches.set_epoch(epoch)

    def set_weights(self, weights: np.ndarray | None) -> None:
        """Have the next epochs draw as many images as ever, but with replacement and by their (n,) ``weights``.

        The draws follow from seed and epoch. None, or weights that are all 0, bring every image once again.
        """
        if self.dataset.rect and weights is not None:
            raise ValueError("rectangular batches have a fixed order; they cannot be drawn by weights")
        self._batches.set_weights(weights)

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
    quad: bool = False,
    share: tuple[int, int] = (0, 1),
) -> BatchLoader:
    """Return a loader whose batches depend on ``seed`` and the epoch set, not on ``workers``.

    Args:
        dataset: items; a rectangular one must have been made for this ``batch_size``.
        batch_size: images a batch, at most, over all processes; the last batch of an epoch may be smaller.
        workers: processes that load; 0 loads in this process.
        shuffle: new order each epoch; rectangular data sets keep theirs all the same, as in v6.1.
        seed: seed of the run.
        pin_memory: put batches in page-locked memory, which speeds up the way to a CUDA device.
        quad: make one image of twice the side out of every four, so that batches have a quarter as many.
        share: rank and number of the processes that train together. Each gets its part of every batch, and at least
            one image, so that all have equally many batches.
    """
    if dataset.rect and dataset.rect.batch_size != batch_size:
        raise ValueError(f"data set with batches of {dataset.rect.batch_size} loaded in batches of {batch_size}")
    shuffle = shuffle and dataset.rect is None
    batches = SeededBatches(len(dataset), batch_size, shuffle, seed, share, QUAD if quad else 1)
    return BatchLoader(dataset, batches, workers, pin_memory, quad)


def make_validation_loader(
    samples: Sequence[Sample],
    image_size: int,
    batch_size: int,
    stride: int | None,
    workers: int,
    share: tuple[int, int] = (0, 1),
    channels: int = 3,
    as_detect: bool = False,
) -> BatchLoader:
    """Return a loader of unchanged images for measuring a model.

    Args:
        samples: what ``load_samples`` found.
        image_size: longer side of the network input, px.
        batch_size: images a batch, at most.
        stride: batches take the shape of their images, in multiples of this; None makes squares of all.
        workers: processes that load, at most.
        share: rank and number of the processes that measure together. Whole batches are dealt in turn: batch i is the
            batch i // size of process i % size. A process may get none.
        channels: of the images.
        as_detect: prepare each image as detect.py does, in its own shape; only images of one shape share a batch.
    """
    batch_size = min(batch_size, len(samples))
    if as_detect:
        alone = AsDetected(samples, image_size, stride, channels)
        batches = DealtBatches(len(alone), batch_size, share, alone.runs)
        return BatchLoader(alone, batches, worker_count(workers, batch_size))
    rect = RectSettings(batch_size, stride, pad=0.5) if stride else None
    dataset = DetectionDataset(samples, image_size, rect=rect, channels=channels)
    batches = DealtBatches(len(dataset), batch_size, share)
    return BatchLoader(dataset, batches, worker_count(workers, batch_size))
