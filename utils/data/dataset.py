"""Single training and validation items: an image of the network's size with its boxes."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from torch.utils.data import Dataset

from utils.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.data import augment
from utils.data.augment import Augmentation, Letterbox, Scene
from utils.data.cache import cached_scan
from utils.data.config import DatasetConfig
from utils.data.labels import Sample, label_path, list_images
from utils.data.sources import read_image
from utils.errors import UserError
from utils.log import LOGGER

SeededKey = tuple[int, ...]  # index, seed of everything random about the item; then, if given, its mosaic's other tiles
Key = int | SeededKey


def load_samples(config: DatasetConfig, split: str) -> list[Sample]:
    """Find and check the images and labels of a split; log a one-line summary and what is wrong.

    Args:
        config: the data set; its ``single_class`` turns all classes into 0.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        UserError: the split is absent, empty or all corrupt, a training split has no labels, or a class is not below
            ``config.nc``.
    """
    if split not in config.splits:
        raise UserError(f"{config.file} has no '{split}' split; it has {', '.join(config.splits)}")
    entries = config.splits[split]
    where = ", ".join(f"'{entry}'" for entry in entries)
    images = list_images(entries)
    if not images:
        raise UserError(f"{config.file}: split '{split}' has no images in {where}")
    scan, recalled = cached_scan(images, entries, f"{split}: scanning {where}")
    for warning in scan.warnings:
        LOGGER.warning(f"{split}: WARNING: {warning}")
    LOGGER.info(f"{split}: {len(images)} images, labels {scan.summary()} in {where}{' (cached)' if recalled else ''}")
    if not scan.samples:
        raise UserError(
            f"{config.file}: split '{split}': all {len(images)} images in {where} are unusable, "
            f"first: {scan.warnings[0]}"
        )
    if not any(len(sample.labels) for sample in scan.samples):
        message = f"split '{split}' has no labels for its images in {where}; expected them at '{label_path(images[0])}'"
        if split == "train":
            raise UserError(f"{config.file}: {message}")
        LOGGER.warning(f"{split}: WARNING: {message}")
    if config.single_class:
        return [_as_class_zero(sample) for sample in scan.samples]
    _check_classes(scan.samples, config)
    return scan.samples


def _as_class_zero(sample: Sample) -> Sample:
    labels = sample.labels.copy()
    labels[:, 0] = 0
    return dataclasses.replace(sample, labels=labels)


def _check_classes(samples: list[Sample], config: DatasetConfig) -> None:
    for sample in samples:
        beyond = sample.labels[:, 0][sample.labels[:, 0] >= config.nc]
        if len(beyond):
            lines = label_path(sample.image).read_text(encoding="utf-8-sig").splitlines()
            line = next(
                (
                    number
                    for number, text in enumerate(lines, 1)
                    if text.strip() and float(text.split()[0]) >= config.nc
                ),
                0,
            )
            raise UserError(
                f"{label_path(sample.image)}:{line}: class {beyond[0]:g}, but {config.file} has {config.nc} classes "
                f"(0 to {config.nc - 1}); correct the label or add the class to 'names'"
            )


@dataclasses.dataclass(frozen=True)
class RectSettings:
    """Batches in the shape of their images instead of squares: less padding, fixed order.

    ``batch_size`` images share a shape; sides are multiples of ``stride`` px with ``pad`` strides to spare.
    """

    batch_size: int
    stride: int = 32
    pad: float = 0.5


def rect_batches(
    sizes_hw: Sequence[tuple[int, int]], image_size: int, rect: RectSettings
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Group images of like aspect (v6.1's rectangular batches).

    Args:
        sizes_hw: height and width of every image.
        image_size: long side of the network input, px.
        rect: batch size, stride and padding.

    Returns:
        order: (n,) image indices, by rising height / width; consecutive ``batch_size`` of them form a batch.
        shapes_hw: height and width of each batch, px.
    """
    aspects = np.array([height / width for height, width in sizes_hw])
    order = aspects.argsort(kind="stable")
    shapes = []
    for start in range(0, len(order), rect.batch_size):
        batch = aspects[order[start : start + rect.batch_size]]
        factors = np.array([min(batch.max(), 1.0), 1 / max(batch.min(), 1.0)])
        if batch.min() <= 1 <= batch.max():
            factors = np.ones(2)
        height, width = np.ceil(factors * image_size / rect.stride + rect.pad).astype(int) * rect.stride
        shapes.append((int(height), int(width)))
    return order, shapes


def fit_long_side(size_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Return height and width of an image of ``size_hw`` px once its long side is ``image_size`` px."""
    ratio = image_size / max(size_hw)
    height, width = (max(int(side * ratio), 1) for side in size_hw)
    return height, width


class Item(NamedTuple):
    """One image ready for a batch.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        targets: (n, 5) float32 class, x, y, width, height; boxes in 0..1 of ``image``.
        path: the image file.
        original_hw: height and width of the file's image, px.
        ratio: resize factor from the file's image to ``image``; 1 for augmented items.
        pad_xy: padding left and top of it in ``image``, px; 0 for augmented items.
    """

    image: np.ndarray
    targets: np.ndarray
    path: Path
    original_hw: tuple[int, int]
    ratio: float
    pad_xy: tuple[float, float]


class DetectionDataset(Dataset[Item]):
    """Images and boxes at the size of the network.

    Args:
        samples: what :func:`load_samples` found.
        image_size: long side of the network input, px.
        augmentation: random changes for training; None for none.
        rect: batches of like aspect, which fixes the order of items and switches mosaic off; None for squares.

    An item is asked for by ``(index, seed)``: the seed decides all that is random about it, so that neither the number
    of worker processes nor the order of requests matters. Without augmentation a plain index will do.

    Attributes:
        cached: where images come from instead of their files: index to (h, w, 3) uint8 BGR at ``image_size``, not to
            be changed; set by ``image_cache.cache_images``.
    """

    def __init__(
        self,
        samples: list[Sample],
        image_size: int,
        augmentation: Augmentation | None = None,
        rect: RectSettings | None = None,
    ) -> None:
        self.samples = samples
        self.image_size = image_size
        self.augmentation = augmentation
        self.rect = rect
        self.cached: Callable[[int], np.ndarray] | None = None
        self.batch_shapes: list[tuple[int, int]] = []
        if rect:
            order, self.batch_shapes = rect_batches([sample.size_hw for sample in samples], image_size, rect)
            self.samples = [samples[index] for index in order]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item:
        index, *rest = key if isinstance(key, tuple) else (key,)
        if self.augmentation is None:
            return self._plain_item(index)
        if not rest:
            raise ValueError("an augmented item is asked for by (index, seed)")
        seed, *tiles = rest
        return self._augmented_item(index, tiles, self.augmentation, np.random.default_rng(seed))

    def frame_hw(self, index: int) -> tuple[int, int]:
        """Return height and width of item ``index`` in px."""
        if self.rect:
            return self.batch_shapes[index // self.rect.batch_size]
        return self.image_size, self.image_size

    def _plain_item(self, index: int) -> Item:
        scene, original_hw = self._load(index)
        resized_height = scene.size_hw[0]
        scene, fit = self._letterbox(scene, index)
        ratio = resized_height / original_hw[0] * fit.ratio
        return self._finish(scene, index, original_hw, ratio, fit.half_pad_xy)

    def _augmented_item(self, index: int, tiles: list[int], strength: Augmentation, generator: Generator) -> Item:
        if not self.rect and generator.random() < strength.mosaic:
            scene = self._mosaic(index, tiles, strength, generator)
            if generator.random() < strength.mixup:
                other = self._mosaic(int(generator.integers(len(self))), [], strength, generator)
                scene = augment.mixup(scene, other, augment.draw_mixup_ratio(generator))
        else:
            scene, _ = self._letterbox(self._load(index)[0], index)
            scene = _random_warp(scene, scene.size_hw, strength, generator)
        if strength.hsv_h or strength.hsv_s or strength.hsv_v:
            scene.image = augment.jitter_hsv(scene.image, augment.draw_hsv_gains(strength, generator))
        if generator.random() < strength.flipud:
            scene = augment.flip_up_down(scene)
        if generator.random() < strength.fliplr:
            scene = augment.flip_left_right(scene)
        return self._finish(scene, index, self.samples[index].size_hw, 1.0, (0.0, 0.0))

    def _mosaic(self, index: int, tiles: list[int], strength: Augmentation, generator: Generator) -> Scene:
        centre_xy = augment.draw_mosaic_centre(self.image_size, generator)
        indices = generator.permutation([index, *(tiles or generator.integers(len(self), size=3))])
        scene = augment.mosaic4([self._load(int(tile))[0] for tile in indices], centre_xy, self.image_size)
        if strength.copy_paste:
            chosen = augment.draw_copy_paste(len(scene.segments), strength.copy_paste, generator)
            scene = augment.copy_paste(scene, chosen)
        return _random_warp(scene, (self.image_size, self.image_size), strength, generator)

    def _load(self, index: int) -> tuple[Scene, tuple[int, int]]:
        """Return sample ``index`` with its long side at ``image_size``, labels and polygons in px, and its own size."""
        sample = self.samples[index]
        image, original_hw = (self.cached(index), sample.size_hw) if self.cached else self.decode(index)
        size_xy = np.array(image.shape[1::-1], np.float32)
        boxes = xywh_to_xyxy(sample.labels[:, 1:]) * np.tile(size_xy, 2)
        labels = np.concatenate([sample.labels[:, :1], boxes], 1)
        return Scene(image, labels, [segment * size_xy for segment in sample.segments]), original_hw

    def decode(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Read the file of sample ``index``.

        Returns:
            image: (h, w, 3) uint8 BGR with its long side at ``image_size``.
            original_hw: height and width in the file, px.

        Raises:
            UserError: the file is gone or damaged.
        """
        path = self.samples[index].image
        image = read_image(path)
        if image is None:
            raise UserError(f"'{path}' can no longer be read as an image; restore it or remove it from the data")
        original_hw = image.shape[:2]
        height, width = fit_long_side(original_hw, self.image_size)
        if original_hw != (height, width):
            smooth = self.augmentation is not None or self.image_size > max(original_hw)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_AREA)
        return image, original_hw

    def _letterbox(self, scene: Scene, index: int) -> tuple[Scene, Letterbox]:
        fit = augment.fit_letterbox(scene.size_hw, self.frame_hw(index), scale_up=self.augmentation is not None)
        scale_xy = np.array(fit.resized_hw[::-1], np.float32) / scene.size_hw[::-1]
        labels = scene.labels.copy()
        labels[:, 1:] = labels[:, 1:] * np.tile(scale_xy, 2) + np.tile(fit.half_pad_xy, 2)
        segments = [segment * scale_xy + np.array(fit.half_pad_xy, np.float32) for segment in scene.segments]
        return Scene(augment.letterbox(scene.image, fit), labels, segments), fit

    def _finish(
        self, scene: Scene, index: int, original_hw: tuple[int, int], ratio: float, pad_xy: tuple[float, float]
    ) -> Item:
        height, width = scene.size_hw
        extent = np.array([width, height, width, height], np.float32)
        boxes = xyxy_to_xywh(scene.labels[:, 1:].clip(0, extent - 1e-3)) / extent  # v6.1 stops short of the edge, too
        targets = np.concatenate([scene.labels[:, :1], boxes], 1)
        image = cv2.cvtColor(scene.image, cv2.COLOR_BGR2RGB)
        return Item(image, targets, self.samples[index].image, original_hw, ratio, pad_xy)


def _random_warp(scene: Scene, output_hw: tuple[int, int], strength: Augmentation, generator: Generator) -> Scene:
    draw = augment.draw_affine(strength, generator)
    return augment.warp(scene, augment.affine_matrix(draw, scene.size_hw, output_hw), output_hw, draw.scale)
