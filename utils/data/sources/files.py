"""Image and video files, on disk and on web servers: images first, decoded ahead, then videos."""

import os
import posixpath
import time
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from utils.ahead import ordered_map
from utils.data.listing import VIDEO_SUFFIXES, has_suffix
from utils.data.sources.capture import check_channels
from utils.data.sources.decode import decode, read_file
from utils.data.sources.frames import Clip, Frame
from utils.data.sources.naming import Names, frame_name, masked
from utils.data.sources.videos import Video
from utils.data.sources.web import fetch_image, is_address, path_of
from utils.errors import UserError
from utils.files import safe_name
from utils.log import LOGGER

THREADS = max(1, min(4, os.cpu_count() or 1))  # that decode images
AHEAD = THREADS + 2  # images decoded before they are asked for; few, because they may be large


class FileSource:
    """The frames of files. Unusable files are skipped with a warning; if none can be used, UserError.

    Attributes:
        channels, live, streams, skipped: see ``Source``.
    """

    live, streams = False, 1

    def __init__(self, files: list[str], vid_stride: int = 1, skipped: int = 0) -> None:
        """Take the paths and http addresses of ``files``; ``skipped`` were left out before."""
        self.channels, self.skipped = 3, skipped
        self.images = [file for file in files if not _is_video(file)]
        videos = [file for file in files if _is_video(file)]
        names = Names()
        self._names = [names.of_image(_stem(file)) for file in self.images]
        self._files, first = len(files), len(self.images) + 1
        self.videos = [
            Video(file, names.of_clip(_stem(file)), first + place, len(files), vid_stride)
            for place, file in enumerate(videos)
        ]
        self._problem = ""

    @cached_property
    def _length(self) -> int:
        return len(self.images) + sum(map(len, self.videos))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        if self.videos:
            check_channels(self.channels, f"'{masked(self.videos[0].address)}'")
        given = 0
        for frame in self._frames():
            given += 1
            yield frame
        if not given:
            none = f"none of the {self._files} files can be used; the last one, " if self._files > 1 else ""
            raise UserError(f"--source: {none}{self._problem}")

    def close(self) -> None:
        """Do nothing: files are open only while the source is iterated over."""

    def _frames(self) -> Iterator[Frame]:
        read = ordered_map(partial(_read_or_problem, channels=self.channels), self.images, THREADS, AHEAD)
        for index, image in enumerate(read):
            if isinstance(image, UserError):
                self._skip(self.images[index], image)
            else:
                yield Frame(Path(self.images[index]), self._names[index], image, index, self._files)
        index = len(self.images)
        for video in self.videos:
            try:
                for clip, image in video.frames(self.channels):
                    yield self._frame(video, clip, image, index)
                    index += 1
            except UserError as error:
                self._skip(video.address, error)

    def _frame(self, video: Video, clip: Clip, image: np.ndarray, index: int) -> Frame:
        name, path = frame_name(clip.name, clip.frame), Path(masked(video.address))
        return Frame(path, name, image, index, max(len(self), index + 1), clip, time.monotonic())

    def _skip(self, file: str, error: UserError) -> None:
        self.skipped += 1
        self._problem = str(error)
        if self._files > 1:
            reason = self._problem.removeprefix(f"'{masked(file)}' ")
            LOGGER.warning(f"WARNING: '{masked(file)}' skipped: {reason}")


def _is_video(file: str) -> bool:
    return has_suffix(path_of(file) if is_address(file) else file, VIDEO_SUFFIXES)


def _stem(file: str) -> str:
    if is_address(file):
        return safe_name(unquote(posixpath.splitext(posixpath.basename(path_of(file)))[0]))
    return Path(file).stem


def _read_or_problem(file: str, channels: int) -> np.ndarray | UserError:
    """Return the image in ``file``, or why it cannot be used."""
    try:
        if is_address(file):
            return decode(fetch_image(file), masked(file), channels)
        return read_file(Path(file), channels)
    except UserError as error:
        return error
