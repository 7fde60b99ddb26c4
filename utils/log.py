"""Console output: one logger, and progress bars that keep quiet when nobody watches."""

import logging
import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

LOGGER = logging.getLogger("yolov5")

Item = TypeVar("Item")


class _OutputHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Lets the command end when its output cannot be written (closed pipe, full disk), where logging would go on."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # called while the exception is handled


def set_up_logging() -> None:
    """Send log lines to standard output, once. ``YOLOv5_VERBOSE=false`` leaves warnings only (v6.1's switch)."""
    verbose = os.environ.get("YOLOv5_VERBOSE", "true").lower() != "false"
    LOGGER.setLevel(logging.INFO if verbose else logging.WARNING)
    LOGGER.propagate = False
    LOGGER.handlers.clear()
    handler = _OutputHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.addHandler(handler)


def progress(items: Iterable[Item], description: str, total: int | None = None, unit: str = "it") -> "tqdm[Item]":
    """Wrap ``items`` in a bar with rate and remaining time; silent when standard error is not a terminal."""
    return tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        disable=not sys.stderr.isatty(),
        bar_format="{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]",
    )


def colour(text: str, code: int) -> str:
    """Return ``text`` in an ANSI colour when standard output is a terminal, plain otherwise."""
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def bold(text: str) -> str:
    """Return ``text`` in bold on a terminal, plain otherwise."""
    return colour(text, 1)
