"""OpenCV's reader of videos, cameras and streams: opened quietly, with time limits, closed for sure."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from utils.data.sources.web import is_camera
from utils.errors import UserError
from utils.once import OnceForAll

UNKNOWN_FPS, MOST_FPS = 30.0, 1000.0  # assumed where a file or camera says nothing sensible (v6.1)
COLOURS = (3, 1)  # channels that moving pictures come in


@contextmanager
def _no_log() -> Iterator[None]:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


QUIET = OnceForAll(_no_log)  # what goes wrong with a video or stream is told in one line of ours


def open_capture(address: str, timeout: float | None = None) -> cv2.VideoCapture:
    """Open a video file, an address, or a camera by its number; ask ``isOpened`` whether that went well.

    Args:
        address: what to open.
        timeout: s that a server may take to answer, and to send the next frame; None for files.
    """
    # FFmpeg writes about every damaged byte. OpenCV asks the environment when it starts FFmpeg, the first time only.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if is_camera(address):
        return cv2.VideoCapture(int(address))
    if timeout is None:
        return cv2.VideoCapture(address)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(timeout * 1000), cv2.CAP_PROP_READ_TIMEOUT_MSEC]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*limits, round(timeout * 1000)])


def frames_of(capture: cv2.VideoCapture) -> int:
    """Return how many frames a video promises; 0 if that is unknown."""
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(frames) if math.isfinite(frames) and 0 < frames < 2**31 else 0


def fps_of(capture: cv2.VideoCapture) -> float:
    """Return frames a second; 30 where the video or camera says nothing sensible."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= MOST_FPS else UNKNOWN_FPS


def retrieve(capture: cv2.VideoCapture, channels: int) -> np.ndarray | None:
    """Return the (H, W, channels) uint8 frame that was grabbed last; None if it cannot be decoded."""
    try:
        good, image = capture.retrieve()
    except cv2.error:
        return None
    return to_channels(image, channels) if good and image is not None and image.size else None


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return an (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA uint8 ``image`` as BGR or grey."""
    given = image.shape[2] if image.ndim == 3 else 1
    if channels == 1:
        grey = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if given == 4 else cv2.COLOR_BGR2GRAY) if given > 1 else image
        return grey.reshape(*grey.shape[:2], 1)
    if given == 3:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR if given == 4 else cv2.COLOR_GRAY2BGR)


def check_channels(channels: int, what: str) -> None:
    """Raise a UserError unless moving pictures come in so many channels."""
    if channels not in COLOURS:
        raise UserError(
            f"--source: {what} has colour or grey pictures, and the model takes {channels} channels; "
            "give it image files that have them"
        )
