"""Every detection and every label of an evaluation, as flat arrays: what all figures and pictures follow from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Findings:
    """What was found on I images and what is there, image after image, in px of the original images.

    Attributes:
        names: class index to name.
        paths: I image files, in the order of evaluation.
        sizes_hw: (I, 2) height and width of the images, px.
        boxes: (n, 4) float32 left, top, right, bottom of the detections; of each image, best score first.
        scores: (n,) float32 in 0..1.
        classes: (n,) int32.
        correct: (n, 10) bool from `match_detections`: true positive at IoU 0.50, 0.55, ... 0.95.
        detection_counts: (I,) detections of each image; their sum is n.
        label_boxes: (m, 4) float32.
        label_classes: (m,) int32.
        label_counts: (I,) labels of each image; their sum is m.
    """

    names: Mapping[int, str]
    paths: Sequence[str]
    sizes_hw: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    correct: np.ndarray
    detection_counts: np.ndarray
    label_boxes: np.ndarray
    label_classes: np.ndarray
    label_counts: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def detection_image(self) -> np.ndarray:
        """(n,) position of the image of each detection."""
        return np.repeat(np.arange(len(self)), self.detection_counts)

    @cached_property
    def label_image(self) -> np.ndarray:
        """(m,) position of the image of each label."""
        return np.repeat(np.arange(len(self)), self.label_counts)

    @cached_property
    def _detection_ends(self) -> np.ndarray:
        return self.detection_counts.cumsum()

    @cached_property
    def _label_ends(self) -> np.ndarray:
        return self.label_counts.cumsum()

    def detections_of(self, image: int) -> slice:
        """Return where the detections of the image at position ``image`` are in the arrays of n."""
        end = int(self._detection_ends[image])
        return slice(end - int(self.detection_counts[image]), end)

    def labels_of(self, image: int) -> slice:
        """Return where its labels are in the arrays of m."""
        end = int(self._label_ends[image])
        return slice(end - int(self.label_counts[image]), end)
