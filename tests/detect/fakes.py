"""Frames and detections for tests of what looks at them and writes them."""

from pathlib import Path

import numpy as np

from utils.data.sources import Clip, Frame
from utils.detect.detector import Detected, Detections
from utils.detect.pipeline import Seen

NAMES = {0: "person", 1: "traffic light"}


def detections_of(*rows):
    """Return detections from rows of left, top, right, bottom, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(int))


NONE = detections_of()
TWO = detections_of((10, 5, 30, 25, 0.9, 0), (20.4, 10, 60, 40, 0.5, 1))


def frame_of(index=0, size_hw=(48, 64), clip=None, path="a.png", level=100):
    """Return a frame; of a clip, if its name is given, of that one's."""
    image = np.full((*size_hw, 3), level, np.uint8)
    if clip is None:
        return Frame(Path(path), Path(path).stem, image, index, 5)
    return Frame(Path(f"{clip.name}.avi"), f"{clip.name}_{clip.frame}", image, index, clip.frames, clip)


def clip_of(number=1, name="film", frames=9, fps=12.5, live=False, which=1):
    """Return the clip of frame ``number``."""
    return Clip(name, which, 2, number, frames, fps, live)


def seen_of(frame, detections=NONE, delay=0.25):
    """Return a frame that was looked at."""
    return Seen(frame, Detected(detections, (32, 64), (0.001, 0.02, 0.003)), frame.captured + delay)
