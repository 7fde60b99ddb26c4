"""The screen, by the optional package mss: ``screen [number] [left top width height]``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utils.data.sources.capture import UNKNOWN_FPS, check_channels, to_channels
from utils.data.sources.frames import Clip, Frame
from utils.data.sources.naming import frame_name
from utils.errors import UserError

USAGE = "expected screen, screen NUMBER, screen LEFT TOP WIDTH HEIGHT, or screen NUMBER LEFT TOP WIDTH HEIGHT"


def is_screen(text: str) -> bool:
    """Tell whether ``text`` means the screen."""
    return text.split(" ", 1)[0].lower() == "screen"


class ScreenSource:
    """Pictures of a screen or a part of it, each taken when it is asked for; without end.

    Attributes:
        channels, live, streams, skipped: see ``Source``.
    """

    live, streams = True, 1

    def __init__(self, source: str) -> None:
        """Take the text of ``--source``."""
        self.channels, self.skipped = 3, 0
        self.number, self.region = _parse(source)
        self._stopped = False

    def __len__(self) -> int:
        return 0

    def close(self) -> None:
        """Let the next picture be the last."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        check_channels(self.channels, "the screen")
        name = f"screen{self.number}"
        with _open_screen() as screen:
            area = self._area(screen.monitors)
            index = 0
            while not self._stopped:
                image = to_channels(np.asarray(_grab(screen, area)), self.channels)
                clip = Clip(name, 1, 1, index + 1, 0, UNKNOWN_FPS, live=True)
                yield Frame(Path(name), frame_name(name, index + 1), image, index, 0, clip)
                index += 1

    def _area(self, monitors: list[dict[str, int]]) -> dict[str, int]:
        """Return left, top, width and height in px of the desktop; ``monitors`` holds that of all screens first."""
        if not self.number < len(monitors):
            raise UserError(f"--source screen {self.number}: there are {len(monitors) - 1}, numbered from 1; 0 is all")
        monitor = monitors[self.number]
        if self.region is None:
            return monitor
        left, top, width, height = self.region
        return {"left": monitor["left"] + left, "top": monitor["top"] + top, "width": width, "height": height}


def _parse(source: str) -> tuple[int, tuple[int, int, int, int] | None]:
    """Return the number of a screen, and left, top, width and height of a part of it, px."""
    words = source.split()[1:]
    if len(words) not in (0, 1, 4, 5) or not all(word.isdecimal() and word.isascii() for word in words):
        raise UserError(f"--source '{source}': {USAGE}")
    numbers = [int(word) for word in words]
    number = numbers.pop(0) if len(numbers) in (1, 5) else 1
    if not numbers:
        return number, None
    left, top, width, height = numbers
    if not width or not height:
        raise UserError(f"--source '{source}': width and height are 0; {USAGE}")
    return number, (left, top, width, height)


def _open_screen() -> Any:
    try:
        import mss
    except ImportError:
        raise UserError("--source screen needs the package mss; pip install mss") from None
    try:
        return mss.mss()
    except Exception as error:  # every system has kinds of its own
        raise UserError(f"--source screen: there is no display to look at ({_first_line(error)})") from error


def _grab(screen: Any, area: dict[str, int]) -> Any:
    try:
        return screen.grab(area)
    except Exception as error:
        raise UserError(f"--source screen: no picture of {area} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
