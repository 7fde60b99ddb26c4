"""Moving pictures with boxes: into video files, and onto the screen."""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from utils.data.sources import Clip, Frame
from utils.detect.detector import Detections
from utils.detect.sinks import Painter
from utils.errors import UserError
from utils.files import atomic_write
from utils.log import LOGGER

LIVE_FPS = 30.0  # of the video of a stream, whatever comes (v6.1)
CODEC = "mp4v"
LEAST_SIDE = 16  # px of a video; OpenCV cannot write very small ones
WINDOW = "YOLOv5-NAM"


class _Recording:
    """One video being written. It gets its name when it is complete: without its end, no player opens it."""

    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        self.path, self.size_hw, self.frames = path, size_hw, 0
        height, width = (max(side + side % 2, LEAST_SIDE) for side in size_hw)  # OpenCV would cut odd sides
        self._below, self._beside = height - size_hw[0], width - size_hw[1]
        with ExitStack() as opening:
            self._temporary = opening.enter_context(atomic_write(path))
            codec = cv2.VideoWriter.fourcc(*CODEC)
            self._writer = cv2.VideoWriter(str(self._temporary), codec, fps, (width, height))
            if not self._writer.isOpened():
                raise UserError(f"'{path}' cannot be written: this OpenCV has no encoder for {CODEC}; use --nosave")
            self._open = opening.pop_all()

    def add(self, picture: np.ndarray) -> None:
        if picture.shape[:2] != self.size_hw:  # a stream that has changed
            picture = cv2.resize(picture, self.size_hw[::-1])
        if self._below or self._beside:
            picture = cv2.copyMakeBorder(picture, 0, self._below, 0, self._beside, cv2.BORDER_REPLICATE)
        self._writer.write(picture)
        self.frames += 1

    def close(self) -> None:
        with self._open:
            self._writer.release()
            if not self._is_whole():  # OpenCV keeps it to itself when a disk is full
                raise UserError(f"'{self.path}' could not be written to its end; is the disk full?")

    def _is_whole(self) -> bool:
        written = cv2.VideoCapture(str(self._temporary))
        try:
            return written.isOpened() and round(written.get(cv2.CAP_PROP_FRAME_COUNT)) >= self.frames
        finally:
            written.release()


@dataclass
class VideoSink:
    """Writes ``<clip>.mp4`` with the size and pace of the clip; images are not for it.

    Odd sides get a further row or column of pixels, because the codec has none.

    Attributes:
        folder: where the videos go.
        painter: draws their frames.
    """

    folder: Path
    painter: Painter
    in_order = True
    _recordings: dict[str, _Recording] = field(default_factory=dict, init=False)

    def write(self, frame: Frame, detections: Detections) -> None:
        """Add one frame to the video of its clip."""
        if frame.clip is None:
            return
        if frame.clip.name not in self._recordings:
            if not frame.clip.live:  # files come one after the other
                self.close()
            self._recordings[frame.clip.name] = self._start(frame.clip, frame.image.shape[:2])
        self._recordings[frame.clip.name].add(self.painter.draw(frame.image, detections))

    def _start(self, clip: Clip, size_hw: tuple[int, int]) -> _Recording:
        return _Recording(self.folder / f"{clip.name}.mp4", LIVE_FPS if clip.live else clip.fps, size_hw)

    def close(self) -> None:
        """Complete the videos."""
        with ExitStack() as stack:
            while self._recordings:
                stack.callback(self._recordings.popitem()[1].close)


def has_display() -> bool:
    """Return whether there is a screen; asking OpenCV would end the process where there is none."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Viewer:
    """Shows each frame in a window, one a clip, as long as there is a screen; belongs to the main thread.

    Attributes:
        ended: somebody has pressed q.
    """

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self.ended = False
        self._able = has_display()
        if not self._able:
            LOGGER.warning("WARNING: --view-img: there is no display to show images on")

    def show(self, frame: Frame, detections: Detections) -> None:
        """Show one frame."""
        if not self._able:
            return
        try:
            cv2.imshow(frame.clip.name if frame.clip else WINDOW, self.painter.draw(frame.image, detections))
            self.ended = cv2.waitKey(1) & 0xFF == ord("q")
        except cv2.error:
            self._able = False
            LOGGER.warning("WARNING: --view-img: this OpenCV has no windows; pip install opencv-python")

    def close(self) -> None:
        """Close the windows."""
        if self._able:
            cv2.destroyAllWindows()
