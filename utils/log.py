"""Console output: one logger, and progress bars that keep quiet when nobody watches."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

LOGGER = logging.getLogger("yolov5")

Item = TypeVar("Item")


class _OutputHandler(logging.Handler):
    """Prints to standard output as it is at the time, above progress bars; a closed pipe or a full disk ends it all."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(nolock=True):
            print(self.format(record), file=sys.stdout, flush=True)


def set_up_logging(speaks: bool = True) -> None:
    """Send log lines to standard output, once. ``YOLOv5_VERBOSE=false`` leaves warnings only (v6.1's switch).

    Args:
        speaks: whether this process says anything; of several that do the same, one is enough.
    """
    verbose = os.environ.get("YOLOv5_VERBOSE", "true").lower() != "false"
    LOGGER.setLevel((logging.INFO if verbose else logging.WARNING) if speaks else logging.CRITICAL)
    LOGGER.propagate = False
    LOGGER.handlers.clear()
    LOGGER.addHandler(_OutputHandler())


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Hold log lines below errors back within the block, unless ``quiet`` is False."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR if quiet else level)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def progress(items: Iterable[Item], description: str, total: int | None = None, unit: str = "it") -> "tqdm[Item]":
    """Wrap ``items`` in a bar with rate and remaining time; gone at the end, silent without a terminal."""
    return tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        leave=False,
        disable=not sys.stderr.isatty() or not LOGGER.isEnabledFor(logging.WARNING),
        bar_format="{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]",
    )


def speed_line(milliseconds: Sequence[float], shape: tuple[int, ...]) -> str:
    """Return v6.1's line of times an image: preparing, inference, suppression; and the (B, C, H, W) of the input."""
    times = "{:.1f}ms pre-process, {:.1f}ms inference, {:.1f}ms NMS".format(*milliseconds)
    return f"Speed: {times} per image at shape {shape}"


def bold(text: str) -> str:
    """Return ``text`` in bold on a terminal, plain otherwise."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
