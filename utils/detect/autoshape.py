"""A model that takes pictures as they come: files, addresses, Pillow images, arrays (v6.1's AutoShape)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from utils.boxes import scale_boxes
from utils.brightness import normalise
from utils.data.letterbox import fit_letterbox, letterbox
from utils.detect.pictures import Picture, as_pictures
from utils.detect.results import Results
from utils.device import Stopwatch
from utils.errors import UserError
from utils.eval.nms import check_finite, non_max_suppression

if TYPE_CHECKING:
    from models.formats import Metadata

Predict = Callable[[Tensor], Tensor]
WHOLE = (int, np.integer)
REAL = (float, np.floating, *WHOLE)


@dataclass(frozen=True)
class Network:
    """The model inside.

    Attributes:
        predict: (B, C, H, W) in [0, 1] to (B, N, 5 + classes), as Backend does; callable by several threads.
        meta: see there.
        device: where it runs.
        predict_augmented: the same, from several views of each image; None where the format cannot.
    """

    predict: Predict
    meta: "Metadata"
    device: torch.device
    predict_augmented: Predict | None = None


@dataclass(frozen=True)
class _Settings:
    """The attributes of an AutoShape as they were when a call began.

    Raises:
        UserError: one of them makes no sense.
    """

    conf: float
    iou: float
    agnostic: bool
    multi_label: bool
    classes: Sequence[int] | None
    max_det: int
    amp: bool

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            value = getattr(self, name)
            if not (isinstance(value, REAL) and 0 <= value <= 1):
                raise UserError(f"{name} is {value!r}, expected a number from 0 to 1")
        if not isinstance(self.max_det, WHOLE) or self.max_det < 1:
            raise UserError(f"max_det is {self.max_det!r}, expected a whole number from 1 on")

    def check_classes(self, names: Mapping[int, str]) -> None:
        """See that the classes to keep are some of the model's."""
        classes = () if self.classes is None else self.classes
        if not isinstance(classes, Sequence) or any(index not in names for index in classes):
            raise UserError(f"classes is {classes!r}, expected a list of numbers from 0 to {max(names)}, or None")


class AutoShape:
    """Pictures in, ``Results`` out. May be called by several threads at once; each call reads its settings once.

    Attributes:
        conf: least score of a detection. iou: overlap above which a weaker box is dropped.
        agnostic: suppress across classes. multi_label: several classes a box.
        classes: keep these only; None keeps all. max_det: most detections of an image.
        amp: mixed precision, on CUDA only.
        names: class names by index. stride: of the input, px. device: where it runs.
    """

    conf = 0.25
    iou = 0.45
    agnostic = False
    multi_label = False
    classes: Sequence[int] | None = None
    max_det = 1000
    amp = False

    def __init__(self, network: Network) -> None:
        self.network = network
        self.names = network.meta.names
        self.stride = network.meta.stride
        self.device = network.device

    def __call__(self, imgs: Any, size: int | Sequence[int] = 640, augment: bool = False, profile: bool = False) -> Any:
        """Find the objects in pictures.

        Args:
            imgs: a path, an address (http, https), a Pillow image, a uint8 array ((H, W, 3) RGB, (3, H, W), (H, W) or
                with a fourth channel, which is left out), or a list of these. OpenCV's BGR arrays are turned to RGB
                by ``image[..., ::-1]``. A (B, C, H, W) float tensor in [0, 1], H and W multiples of ``stride``, goes
                to the network as it is.
            size: longest side of the network's input, px; of several numbers the largest.
            augment: look at each picture in three sizes, once mirrored; .pt files only.
            profile: print the time each step took.

        Returns:
            Results; for a tensor the network's own (B, N, 5 + classes) output: centre x, y, width, height in px of
            the input, objectness and class scores, before any suppression.

        Raises:
            UserError: a picture cannot be read, a setting is out of range, or the model cannot do what is asked.
        """
        settings = _Settings(self.conf, self.iou, self.agnostic, self.multi_label, self.classes, self.max_det, self.amp)
        settings.check_classes(self.names)
        predict = self._predict(augment)
        if isinstance(imgs, Tensor):
            _check_batch(imgs, self.network.meta)
            return self._forward(predict, imgs, settings.amp)
        results = self._detect(predict, imgs, _longest_side(size), settings)
        if profile:
            print(results.speed)
        return results

    def _predict(self, augment: bool) -> Predict:
        if not augment:
            return self.network.predict
        if self.network.predict_augmented is None:
            raise UserError("augment=True works with .pt files only; load the file this model was exported from")
        return self.network.predict_augmented

    def _forward(self, predict: Predict, images: Tensor, amp: bool) -> Tensor:
        """Run the network on (B, C, H, W) images, on CUDA in mixed precision if wanted."""
        images = images.to(self.device)
        if amp and self.device.type == "cuda":
            with torch.autocast("cuda"):
                return predict(images)
        return predict(images)

    def _detect(self, predict: Predict, imgs: Any, size: int, settings: _Settings) -> Results:
        meta = self.network.meta
        clocks = [Stopwatch(self.device) for _ in range(3)]
        with clocks[0]:
            pictures = as_pictures(imgs, meta.channels)
            frame_hw = meta.input_hw or common_shape([one.image.shape[:2] for one in pictures], size, meta.stride)
            images = _batch(pictures, frame_hw).to(self.device)
            images = normalise(images)  # (B, C, H, W)
        with clocks[1]:
            predictions = self._forward(predict, images, settings.amp)  # (B, N, 5 + classes)
        with clocks[2]:
            check_finite(predictions, [one.name for one in pictures])
            found = non_max_suppression(
                predictions,
                settings.conf,
                settings.iou,
                settings.classes,
                settings.agnostic,
                settings.multi_label,
                settings.max_det,
            )
            for rows, picture in zip(found, pictures, strict=True):
                rows[:, :4] = scale_boxes(rows[:, :4], frame_hw, picture.image.shape[:2])
        return Results(
            ims=[one.image for one in pictures],
            pred=found,
            files=[one.name for one in pictures],
            names=self.names,
            t=tuple(clock.seconds * 1000 / len(pictures) for clock in clocks),
            s=tuple(images.shape),
        )


def _check_batch(images: Tensor, meta: "Metadata") -> None:
    """See that a network which ``meta`` describes takes such a tensor."""
    height, width = meta.input_hw or (None, None)
    expected = f"(B, {meta.channels}, {height or 'H'}, {width or 'W'})"
    if not images.is_floating_point():
        raise UserError(f"the tensor holds {images.dtype}, expected floats from 0 to 1, {expected}")
    fits = images.ndim == 4 and images.shape[1] == meta.channels and len(images) > 0
    if fits and meta.input_hw:
        fits = tuple(images.shape[2:]) == tuple(meta.input_hw)
    if not fits or any(side == 0 or side % meta.stride for side in images.shape[2:]):
        raise UserError(
            f"the tensor has the shape {tuple(images.shape)}, expected {expected}, H and W multiples of {meta.stride}"
        )


def _longest_side(size: int | Sequence[int]) -> int:
    sides = list(size) if isinstance(size, Sequence) else [size]
    if not sides or not all(isinstance(side, WHOLE) and side > 0 for side in sides):
        raise UserError(f"size is {size!r}, expected the longest side of the network's input in px, such as 640")
    return int(max(sides))


def common_shape(sizes_hw: Sequence[tuple[int, ...]], size: int, stride: int) -> tuple[int, int]:
    """Return height and width in which all images find room, each with a longest side of about ``size`` px.

    v6.1's rule, with the later truncation to whole px: 810 x 1080 px at 640 are 480 x 640, not 512 x 640.

    Args:
        sizes_hw: height and width of each image, px.
        size: longest side after resizing, px.
        stride: the result is rounded up to multiples of it, px.
    """
    scaled = [[max(int(side * size / max(size_hw)), 1) for side in size_hw] for size_hw in sizes_hw]
    height, width = (math.ceil(max(sides) / stride) * stride for sides in zip(*scaled, strict=True))
    return height, width


def _batch(pictures: Sequence[Picture], frame_hw: tuple[int, int]) -> Tensor:
    """Return (B, C, H, W) uint8 of pictures resized and padded to ``frame_hw``, channels last in memory."""
    padded = [letterbox(one.image, fit_letterbox(one.image.shape[:2], frame_hw)) for one in pictures]
    return torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2)
