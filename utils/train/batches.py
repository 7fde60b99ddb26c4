"""Where a run's batches come from."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from utils.cores import core_count
from utils.data.dataset import BGR, DetectionDataset
from utils.data.image_cache import cache_images
from utils.data.loader import BatchLoader, make_loader, make_validation_loader
from utils.data.recent import RecentImages, recent_budget
from utils.data.rect import RectSettings
from utils.data.samples import Samples
from utils.data.sampling import class_weights, difficulty_weights, image_weights
from utils.data.strength import Augmentation
from utils.data.transforms import load_transforms
from utils.device import worker_count
from utils.train.setup import Setup

CACHES: dict[str, Literal["ram", "disk"]] = {"ram": "ram", "disk": "disk", "val": "ram"}  # by --cache

Weigh = Callable[[Sequence[float]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class BatchSource:
    """Makes the loaders of a run.

    Attributes:
        setup: of the run.
        image_size: px.
        stride: image sides are multiples of it, px.
    """

    setup: Setup
    image_size: int
    stride: int

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.setup.config.channels

    @property
    def workers(self) -> int:
        """Most loader processes of this training process."""
        return min(self.setup.options.workers, max(core_count() // self.setup.processes.local_size, 1))

    def training(self) -> BatchLoader:
        """Return the augmented batches, shuffled unless they are rectangular; this process's share of them."""
        options, samples, processes = self.setup.options, self.setup.samples["train"], self.setup.processes
        strengths = {field.name: getattr(self.setup.hyp, field.name) for field in dataclasses.fields(Augmentation)}
        batch_size = min(options.batch_size, len(samples))
        rect = RectSettings(batch_size, self.stride, pad=0.0) if options.rect else None
        transforms = load_transforms() if self.setup.hyp.albumentations and self.channels == BGR else None
        augmentation = Augmentation(**strengths)
        dataset = DetectionDataset(samples, self.image_size, augmentation, rect, self.channels, transforms)
        if options.cache and options.cache != "val":
            self._cache(dataset, "train")
        workers = worker_count(self.workers, batch_size)
        dataset.recent = RecentImages(recent_budget(max(workers, 1) * processes.local_size))
        pin_memory = self.setup.device.type == "cuda"
        return make_loader(dataset, batch_size, workers, True, options.seed, pin_memory, options.quad, processes.share)

    def validation(self, stride: int | None, share: tuple[int, int] = (0, 1), keep: bool = True) -> BatchLoader:
        """Return the validation images in batches twice as large as those of training (v6.1).

        Args:
            stride: of the network that is measured, px; None for squares.
            share: rank and number of the processes that measure together.
            keep: keep decoded images if --cache says so. For a single pass memory is no use, while a file is there.
        """
        options, samples = self.setup.options, self.setup.samples["val"]
        loader = make_validation_loader(
            samples, self.image_size, 2 * options.batch_size, stride, self.workers, share, channels=self.channels
        )
        if options.cache and (keep or options.cache == "disk"):
            self._cache(loader.dataset, "val")
        return loader

    def _cache(self, dataset: DetectionDataset, split: str) -> None:
        """Keep the decoded images of a split; a file is made by one process of each machine for all of them."""
        entries, processes = self.setup.config.splits[split], self.setup.processes
        with processes.in_turn(f"images of {entries}"):
            cache_images(dataset, CACHES[self.setup.options.cache or ""], entries, processes.local_size)


def image_weighting(samples: Samples, classes: int) -> Weigh:
    """Return what turns the (classes,) average precisions of the last validation into weights of the images (v6.1)."""
    labels, counts = samples.labels, samples.label_counts
    rarity = class_weights(labels, classes)

    def weigh(class_ap: Sequence[float]) -> np.ndarray:
        known = np.asarray(class_ap) if len(class_ap) else np.zeros(classes)
        return image_weights(labels, counts, difficulty_weights(rarity, known))

    return weigh
