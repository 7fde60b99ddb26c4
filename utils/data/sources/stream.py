"""One camera or stream: read without pause, connected anew when it breaks off, given up when it stays silent."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from utils.data.sources.capture import QUIET, fps_of, frames_of, open_capture, retrieve
from utils.data.sources.frames import Clip
from utils.data.sources.naming import masked
from utils.data.sources.web import is_camera
from utils.log import LOGGER


class Picture(NamedTuple):
    """One picture of a stream, see ``Frame``."""

    address: str
    image: np.ndarray
    clip: Clip
    captured: float


@dataclass(frozen=True)
class Patience:
    """How long a stream that gives nothing is waited for.

    Attributes:
        answer: s that it may take to answer, and to send the next frame.
        first_tries: how often it is asked for a first frame.
        tries: how often, once it gave some, it may fail in a row.
        pause: s before the second try, doubled before each further one, but never more than ``longest_pause``.
    """

    answer: float = 10.0
    first_tries: int = 2
    tries: int = 6
    pause: float = 1.0
    longest_pause: float = 16.0

    def pause_after(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, s."""
        return min(self.pause * 2 ** (failures - 1), self.longest_pause)


@dataclass
class Stream:
    """One camera or stream.

    Attributes:
        address: number of a camera, or an address.
        name: see ``Clip``.
        number, count: which of how many streams, from 1.
        channels: of its pictures, 3 or 1.
        stride: one frame of so many is given.
        patience: when it is given up.
        frame: number of frames so far, skipped ones counted.
    """

    address: str
    name: str
    number: int
    count: int
    channels: int
    stride: int
    patience: Patience
    frame: int = field(default=0, init=False)

    def run(self, put: Callable[[Picture], None], stopped: threading.Event) -> None:
        """Call ``put`` with every picture until the stream ends, is given up, or ``stopped`` is set."""
        failures = 0
        with QUIET:
            while not stopped.is_set():
                before = self.frame
                if self._read_to_the_end(put, stopped) or stopped.is_set():
                    return
                failures = 1 if self.frame > before else failures + 1
                if failures >= (self.patience.tries if self.frame else self.patience.first_tries):
                    LOGGER.warning(f"WARNING: {self._called} given up: {self._trouble(failures)}")
                    return
                pause = self.patience.pause_after(failures)
                LOGGER.warning(f"WARNING: {self._called}: {self._trouble(failures)}; trying again in {pause:g} s")
                stopped.wait(pause)

    @property
    def _called(self) -> str:
        return f"camera {self.address}" if is_camera(self.address) else f"stream '{masked(self.address)}'"

    def _trouble(self, failures: int) -> str:
        tries = f" in {failures} tries" if failures > 1 else ""
        return f"broken off after frame {self.frame}, nothing new{tries}" if self.frame else f"no frame{tries}"

    def _read_to_the_end(self, put: Callable[[Picture], None], stopped: threading.Event) -> bool:
        """Connect and read; return whether that was all, as a video of a web server comes to its end."""
        capture = open_capture(self.address, self.patience.answer)
        try:
            return capture.isOpened() and self._read(capture, put, stopped)
        finally:
            capture.release()

    def _read(self, capture: cv2.VideoCapture, put: Callable[[Picture], None], stopped: threading.Event) -> bool:
        frames, fps, before = frames_of(capture), fps_of(capture), self.frame
        while not stopped.is_set() and capture.grab():
            captured = time.monotonic()
            self.frame += 1
            if (self.frame - 1) % self.stride == 0:
                image = retrieve(capture, self.channels)
                if image is not None:
                    self._greet(image, fps)
                    clip = Clip(self.name, self.number, self.count, self.frame, frames, fps / self.stride, live=True)
                    put(Picture(self.address, image, clip, captured))
            if frames:  # a video, which would come as fast as the line allows
                stopped.wait(1 / fps)
        return frames > 0 and self.frame > before

    def _greet(self, image: np.ndarray, fps: float) -> None:
        """Say what the stream is, with its first frame."""
        if self.frame == 1:
            height, width = image.shape[:2]
            LOGGER.info(f"{self.number}/{self.count}: {self._called} ({width}x{height} at {fps:.2f} FPS)")
