"""Validation images exactly as detect.py lets a network see them."""

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from utils.boxes import letterbox_geometry, xywh_to_xyxy
from utils.data.dataset import DetectionDataset, Item
from utils.data.prepare import prepare_image, prepared_hw
from utils.data.samples import Sample
from utils.data.scene import Scene
from utils.errors import UserError


class AsDetected(DetectionDataset):
    """Each image in its own least shape, images of one shape one after the other, otherwise in the given order.

    Args:
        samples: what ``splits.load_samples`` found.
        image_size: side of the square that images fit into, px.
        stride: sides are multiples of it; None makes squares of all.
        channels: of the images.

    Attributes:
        shapes: (n, 2) height and width of each item, px.
    """

    def __init__(self, samples: Iterable[Sample], image_size: int, stride: int | None, channels: int = 3) -> None:
        super().__init__(samples, image_size, channels=channels)
        self.stride = stride
        frame_hw = (image_size, image_size)
        sizes = [(int(height), int(width)) for height, width in self.samples.sizes_hw]
        shapes = np.array([prepared_hw(size_hw, frame_hw, stride) for size_hw in sizes]).reshape(-1, 2)
        order = np.lexsort((shapes[:, 1], shapes[:, 0]))  # stable
        self.samples, self.shapes = self.samples.take(order), shapes[order]

    @property
    def runs(self) -> list[int]:
        """How many items of each shape there are, in order."""
        return [len(list(items)) for _, items in groupby(self.shapes.tolist())]

    def frame_hw(self, index: int) -> tuple[int, int]:
        """Return height and width of item ``index`` in px."""
        height, width = self.shapes[index].tolist()
        return height, width

    def _plain_item(self, index: int) -> Item:
        sample, input_hw = self.samples[index], self.frame_hw(index)
        image = self.read(index)
        if image.shape[:2] != tuple(sample.size_hw):
            raise UserError(f"'{sample.image}' has changed its size since the data set was looked at; start again")
        prepared = prepare_image(image, (self.image_size, self.image_size), self.stride)
        ratio, pad_xy = letterbox_geometry(input_hw, sample.size_hw)
        scale_xy = np.array(sample.size_hw[::-1], np.float32) * ratio
        boxes = xywh_to_xyxy(sample.labels[:, 1:]) * np.tile(scale_xy, 2) + np.tile(np.array(pad_xy, np.float32), 2)
        labels = np.concatenate([sample.labels[:, :1], boxes], 1)
        return self._finish(Scene(prepared, labels, []), index, ratio, pad_xy)
