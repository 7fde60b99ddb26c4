"""Single training and validation items: an image of the network's size with its boxes."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from torch.utils.data import Dataset

from utils.boxes import xywh_to_xyxy, xyxy_to_xywh
from utils.channels import swap_red_and_blue
from utils.data import augment
from utils.data.letterbox import Letterbox, fit_letterbox, letterbox, resize
from utils.data.mosaic import Tile, draw_mosaic9_offset, draw_mosaic_centre, mosaic4, mosaic9
from utils.data.pixels import read_image
from utils.data.recent import RecentImages
from utils.data.rect import RectSettings, rect_batches
from utils.data.samples import Sample, Samples
from utils.data.scene import Scene
from utils.data.strength import Augmentation
from utils.data.transforms import Transforms
from utils.data.warp import affine_matrix, draw_affine, warp
from utils.errors import UserError

BGR = 3  # channels of a colour image; only these have a hue

SeededKey = tuple[int, ...]  # index, seed of everything random about the item; then, if given, its mosaic's other tiles
Key = int | SeededKey


def fit_long_side(size_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Return height and width of an image of ``size_hw`` px once its long side is ``image_size`` px."""
    ratio = image_size / max(size_hw)
    height, width = (max(int(side * ratio), 1) for side in size_hw)
    return height, width


class Item(NamedTuple):
    """One image ready for a batch.

    Attributes:
        image: (H, W, C) uint8; three channels are RGB.
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
        samples: what ``splits.load_samples`` found.
        image_size: long side of the network input, px.
        augmentation: random changes for training; None for none.
        rect: batches of like aspect, which fixes the order of items and switches mosaic off; None for squares.
        channels: of the images; 3 are BGR in files and RGB in items.
        transforms: further changes of training images of three channels, see ``transforms.py``.

    An item is asked for by ``(index, seed)``: the seed decides all that is random about it, so that neither the number
    of worker processes nor the order of requests matters. Without augmentation a plain index will do.

    Attributes:
        cached: where images come from instead of their files: index to (h, w, C) uint8 at ``image_size``, not to be
            changed; set by ``image_cache.cache_images``.
        recent: the images decoded last.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        image_size: int,
        augmentation: Augmentation | None = None,
        rect: RectSettings | None = None,
        channels: int = 3,
        transforms: Transforms | None = None,
    ) -> None:
        self.samples = Samples.of(samples)
        self.image_size = image_size
        self.augmentation = augmentation
        self.rect = rect
        self.channels = channels
        self.transforms = transforms
        self.cached: Callable[[int], np.ndarray] | None = None
        self.recent = RecentImages(0)
        self.batch_shapes: list[tuple[int, int]] = []
        if rect:
            order, self.batch_shapes = rect_batches(self.samples.sizes_hw, image_size, rect)
            self.samples = self.samples.take(order)

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

    def read(self, index: int, shrink: int = 1) -> np.ndarray:
        """Return what is in the file of sample ``index``, see ``read_image``.

        Raises:
            UserError: the file is gone or damaged, or has another number of channels.
        """
        path = self.samples[index].image
        image = read_image(path, self.channels, shrink)
        if image is None:
            raise UserError(f"'{path}' can no longer be read as an image; restore it or remove it from the data")
        return image

    def decode(self, index: int) -> np.ndarray:
        """Read the file of sample ``index``: (h, w, C) uint8 with its long side at ``image_size``.

        Raises:
            UserError: the file is gone or damaged, or has another number of channels.
        """
        sample = self.samples[index]
        size_hw = fit_long_side(sample.size_hw, self.image_size)
        # JPEG can be decoded at a half, a quarter or an eighth for less. Measuring keeps to v6.1's pixels.
        shrink = max(sample.size_hw) // self.image_size if self.augmentation else 1
        image = self.read(index, shrink)
        if image.shape[:2] == size_hw:
            return image
        smooth = self.augmentation is not None or self.image_size > max(sample.size_hw)
        return resize(image, size_hw, area=not smooth)

    def _plain_item(self, index: int) -> Item:
        scene, original_hw = self._scene(index), self.samples[index].size_hw
        resized_height = scene.size_hw[0]
        scene, fit = self._letterbox(scene, index)
        ratio = resized_height / original_hw[0] * fit.ratio
        return self._finish(scene, index, ratio, fit.half_pad_xy)

    def _augmented_item(self, index: int, tiles: list[int], strength: Augmentation, generator: Generator) -> Item:
        if not self.rect and generator.random() < strength.mosaic:
            scene = self._mosaic(index, tiles, strength, generator)
            if generator.random() < strength.mixup:
                other = self._mosaic(int(generator.integers(len(self))), [], strength, generator)
                scene = augment.mixup(scene, other, augment.draw_mixup_ratio(generator))
        else:
            scene, _ = self._letterbox(self._scene(index), index)
            draw = draw_affine(strength, generator)
            scene = warp(scene, affine_matrix(draw, scene.size_hw, scene.size_hw), scene.size_hw, draw.scale)
        return self._finish(self._recolour_and_flip(scene, strength, generator), index)

    def _recolour_and_flip(self, scene: Scene, strength: Augmentation, generator: Generator) -> Scene:
        """Change what is no matter of place, in v6.1's order."""
        coloured = self.channels == BGR
        if self.transforms and coloured and generator.random() < strength.albumentations:
            scene.image = self.transforms(scene.image, int(generator.integers(2**32)))
        if coloured and (strength.hsv_h or strength.hsv_s or strength.hsv_v):
            scene.image = augment.jitter_hsv(scene.image, augment.draw_hsv_gains(strength, generator))
        if generator.random() < strength.flipud:
            scene = augment.flip_up_down(scene)
        if generator.random() < strength.fliplr:
            scene = augment.flip_left_right(scene)
        if strength.cutout and generator.random() < strength.cutout:
            scene = augment.cutout(scene, augment.draw_cutout(scene.size_hw, self.channels, generator))
        return scene

    def _mosaic(self, index: int, others: list[int], strength: Augmentation, generator: Generator) -> Scene:
        size = self.image_size
        canvas_hw, output_hw = (2 * size, 2 * size), (size, size)
        if strength.mosaic9 and generator.random() < strength.mosaic9:
            offset_xy = draw_mosaic9_offset(size, generator)
            collage = mosaic9(self._tiles(index, others, 9, generator), offset_xy, size, self.channels)
        else:
            centre_xy = draw_mosaic_centre(size, generator)
            collage = mosaic4(self._tiles(index, others, 4, generator), centre_xy, size, self.channels)
        pasted = []
        if strength.copy_paste:
            pasted = augment.draw_copy_paste(len(collage.segments), strength.copy_paste, generator)
        draw = draw_affine(strength, generator)
        matrix = affine_matrix(draw, canvas_hw, output_hw)
        if pasted:
            return warp(augment.copy_paste(collage.scene(), pasted), matrix, output_hw, draw.scale)
        return collage.warp(matrix, output_hw, draw.scale)

    def _tiles(self, index: int, others: list[int], count: int, generator: Generator) -> list[Tile]:
        """Return sample ``index`` and ``count`` - 1 others in random order: the given ones, then any."""
        drawn = generator.integers(len(self), size=max(count - 1 - len(others), 0)).tolist()
        return [self._tile(int(number)) for number in generator.permutation([index, *others, *drawn])]

    def _tile(self, index: int) -> Tile:
        """Return sample ``index`` with its long side at ``image_size``, not yet decoded; its objects in px."""
        sample = self.samples[index]
        size_hw = fit_long_side(sample.size_hw, self.image_size)
        size_xy = np.array(size_hw[::-1], np.float32)
        boxes = xywh_to_xyxy(sample.labels[:, 1:]) * np.tile(size_xy, 2)
        labels = np.concatenate([sample.labels[:, :1], boxes], 1)
        return Tile(size_hw, labels, [segment * size_xy for segment in sample.segments], partial(self._picture, index))

    def _picture(self, index: int) -> np.ndarray:
        return self.cached(index) if self.cached else self.recent.get(index, self.decode)

    def _scene(self, index: int) -> Scene:
        tile = self._tile(index)
        return Scene(tile.picture(), tile.labels, tile.segments)

    def _letterbox(self, scene: Scene, index: int) -> tuple[Scene, Letterbox]:
        fit = fit_letterbox(scene.size_hw, self.frame_hw(index), scale_up=self.augmentation is not None)
        scale_xy = np.array(fit.resized_hw[::-1], np.float32) / scene.size_hw[::-1]
        labels = scene.labels.copy()
        labels[:, 1:] = labels[:, 1:] * np.tile(scale_xy, 2) + np.tile(fit.half_pad_xy, 2)
        segments = [segment * scale_xy + np.array(fit.half_pad_xy, np.float32) for segment in scene.segments]
        return Scene(letterbox(scene.image, fit), labels, segments), fit

    def _finish(self, scene: Scene, index: int, ratio: float = 1.0, pad_xy: tuple[float, float] = (0.0, 0.0)) -> Item:
        height, width = scene.size_hw
        extent = np.array([width, height, width, height], np.float32)
        boxes = xyxy_to_xywh(scene.labels[:, 1:].clip(0, extent - 1e-3)) / extent  # v6.1 stops short of the edge, too
        targets = np.concatenate([scene.labels[:, :1], boxes], 1).astype(np.float32, copy=False)
        sample = self.samples[index]
        return Item(swap_red_and_blue(scene.image), targets, sample.image, sample.size_hw, ratio, pad_xy)
