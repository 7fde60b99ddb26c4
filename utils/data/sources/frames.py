"""What every source gives: frames, one after the other."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Clip:
    """The video or stream that a frame is from.

    Attributes:
        name: stem of the file that is written about it; different for every clip of a source.
        number, count: which clip of how many, from 1.
        frame: number of the frame in it, from 1, skipped ones counted.
        frames: number of its frames; 0 where nobody knows.
        fps: frames a second when it is played, those skipped by the stride left out.
        live: a stream, in which the newest frame counts.
    """

    name: str
    number: int
    count: int
    frame: int
    frames: int
    fps: float
    live: bool = False


@dataclass(frozen=True)
class Frame:
    """One picture to look at.

    Attributes:
        path: file it came from; for a stream its address, without a password.
        name: stem for what is written about it; different for every frame of a source.
        image: (H, W, C) uint8 as ``read_image`` gives it; three channels are BGR.
        index: position in the source, from 0.
        count: for an image, number of files in the source, as v6.1 prints it; for a clip, number of frames in the
            source, as far as it is known; 0 for endless ones.
        clip: the video or stream it is part of.
        captured: when it was taken or read, s on the clock of ``time.monotonic``.
    """

    path: Path
    name: str
    image: np.ndarray
    index: int
    count: int
    clip: Clip | None = None
    captured: float = field(default_factory=time.monotonic)


class Source(Protocol):
    """Gives frames, once. Whoever iterates to the end, or stops early, closes it.

    Attributes:
        channels: of every frame, see ``read_image``; set to what the model takes before iterating.
        live: frames are taken as they come; one that is not fetched in time is replaced by a newer one.
        streams: how many frames may come at the same time; 1 for all that is not live.
        skipped: files that could not be used, so far.
    """

    channels: int
    live: bool
    streams: int
    skipped: int

    def __len__(self) -> int:
        """Return the number of frames, as far as it is known; 0 for endless sources."""

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames.

        Raises:
            UserError: not one frame could be read.
        """

    def close(self) -> None:
        """Let go of files, devices and connections. Harmless when repeated."""
