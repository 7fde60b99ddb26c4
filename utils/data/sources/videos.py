"""Video files, local ones and those on a web server: every frame, in order."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from utils.data.download import is_offline
from utils.data.sources.capture import QUIET, fps_of, frames_of, open_capture, retrieve
from utils.data.sources.frames import Clip
from utils.data.sources.naming import masked
from utils.data.sources.web import check_online, is_address
from utils.errors import UserError
from utils.log import LOGGER

PATIENCE = 10.0  # s that a web server may take to answer or to go on
MOST_DAMAGED = 10  # frames in a row, after which the rest is given up


@dataclass(frozen=True)
class Video:
    """One video.

    Attributes:
        address: its file or URL.
        name: see ``Clip``.
        number, count: which file of how many of the source, from 1.
        stride: one frame of so many is given, the first one first.
    """

    address: str
    name: str
    number: int
    count: int
    stride: int = 1

    def __len__(self) -> int:
        """Return how many frames it promises to give; 0 if that is unknown, or it cannot be opened."""
        if is_address(self.address) and is_offline():
            return 0
        with QUIET:
            capture = self._open()
            try:
                return -(-frames_of(capture) // self.stride) if capture.isOpened() else 0
            finally:
                capture.release()

    def frames(self, channels: int) -> Iterator[tuple[Clip, np.ndarray]]:
        """Give the frames, turned upright as the file says.

        Raises:
            UserError: not one frame can be read; the message begins with the quoted address.
        """
        if is_address(self.address):
            check_online(self.address)
        with QUIET:
            capture = self._open()
            try:
                yield from self._read(capture, channels)
            finally:
                capture.release()

    def _open(self) -> cv2.VideoCapture:
        return open_capture(self.address, PATIENCE if is_address(self.address) else None)

    def _read(self, capture: cv2.VideoCapture, channels: int) -> Iterator[tuple[Clip, np.ndarray]]:
        name, promised, fps = masked(self.address), frames_of(capture), fps_of(capture) / self.stride
        if not capture.isOpened():
            raise UserError(f"'{name}' cannot be opened: it is damaged, or no video, or of a kind that OpenCV lacks")
        given = read = 0
        for number in self._grabbed(capture, promised):
            read += 1
            if (number - 1) % self.stride == 0 and (image := retrieve(capture, channels)) is not None:
                given += 1
                yield Clip(self.name, self.number, self.count, number, promised, fps), image
        if not given:
            raise UserError(f"'{name}' cannot be read: it has no frame that can be decoded")
        if read < promised:
            LOGGER.warning(f"WARNING: '{name}' has {read} of {promised} frames that can be read: cut off or damaged")

    def _grabbed(self, capture: cv2.VideoCapture, promised: int) -> Iterator[int]:
        """Grab frame by frame and give their numbers from 1; damaged ones have numbers, too."""
        most_damaged = 0 if is_address(self.address) else MOST_DAMAGED  # what a server keeps back does not come later
        number = damaged = 0
        while damaged <= most_damaged:
            number += 1
            if capture.grab():
                damaged = 0
                yield number
            elif number >= promised:
                return
            else:
                damaged += 1
