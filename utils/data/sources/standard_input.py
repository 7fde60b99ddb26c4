"""Images on standard input, one after the other, as ``cat *.jpg`` and ``ffmpeg -f image2pipe`` write them."""

import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import cast

import numpy as np

from utils.data.sources.decode import MOST_BYTES, decode
from utils.data.sources.frames import Frame
from utils.errors import UserError
from utils.log import LOGGER

JPEG, PNG, BMP, RIFF = b"\xff\xd8", b"\x89PNG", b"BM", b"RIFF"
SUFFIXES = {JPEG: "jpg", PNG: "png", BMP: "bmp", RIFF: "webp"}
PNG_SIGNATURE, PNG_END = 8, b"IEND"
SCAN, END = 0xDA, 0xD9  # JPEG markers
PIECE = 1 << 20  # bytes
STUFFED = (0x00, *range(0xD0, 0xD8))  # what may follow 0xFF within the pixels of a JPEG


class StandardInput:
    """The images on standard input.

    JPEG, PNG, BMP and WebP files may follow one another and are given as they come. A file of another kind, such as
    TIFF, does not tell where it ends: all that follows counts as a part of it.

    Attributes:
        channels, live, streams, skipped: see ``Source``.
    """

    live, streams = False, 1

    def __init__(self, pipe: BufferedReader | None = None) -> None:
        """Read from ``pipe``, in place of standard input."""
        self.channels, self.skipped = 3, 0
        self._pipe = pipe

    def __len__(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: standard input stays open."""

    def __iter__(self) -> Iterator[Frame]:
        index, problem = 0, "standard input is empty; expected image files, as in 'cat a.jpg | python detect.py ...'"
        for number, (suffix, content) in enumerate(split_images(self._open()), 1):
            name = f"stdin{number}"
            try:
                image = decode(np.frombuffer(content, np.uint8), name, self.channels)
            except UserError as error:
                self.skipped, problem = self.skipped + 1, str(error)
                reason = problem.removeprefix(f"'{name}' ")
                LOGGER.warning(f"WARNING: '{name}' skipped: {reason}")
                continue
            yield Frame(Path(f"{name}.{suffix}"), name, image, index, 0)
            index += 1
        if not index:
            raise UserError(f"--source -: {problem}")

    def _open(self) -> BufferedReader:
        if self._pipe:
            return self._pipe
        if sys.stdin is None or sys.stdin.isatty():
            raise UserError("--source - reads images from standard input, and nothing is piped into it")
        return cast(BufferedReader, sys.stdin.buffer)


def split_images(pipe: BufferedReader) -> Iterator[tuple[str, bytes]]:
    """Give a suffix and the content of each of the image files that follow one another in ``pipe``.

    The last one may be incomplete.
    """
    readers = {JPEG: _read_jpeg, PNG: _read_png, BMP: _read_bmp, RIFF: _read_riff}
    while start := pipe.read(2):
        start += pipe.read(2) if start[:2] in (PNG[:2], RIFF[:2]) else b""
        if start in readers:
            content = readers[start](pipe)
            yield SUFFIXES[start], start + content
        else:
            yield "jpg", start + _read(pipe, MOST_BYTES)  # the suffix is that of what is written about it


def _read(pipe: BufferedReader, count: int) -> bytes:
    """Return the next bytes, fewer where they end; memory is taken for those that come, not for those announced."""
    content = bytearray()
    while (rest := min(count, MOST_BYTES) - len(content)) > 0 and (piece := pipe.read(min(rest, PIECE))):
        content += piece
    return bytes(content)


def _read_jpeg(pipe: BufferedReader) -> bytes:
    """Return the rest of a JPEG. Its parts tell their length, and only its pixels have to be searched for the end."""
    content = bytearray()
    marker = pipe.read(2)
    content += marker
    while len(marker) == 2 and marker[0] == 0xFF and marker[1] != END:
        content += _read_part(pipe)
        marker = _read_scan(pipe, content) if marker[1] == SCAN else pipe.read(2)
        content += marker
    return bytes(content)


def _read_part(pipe: BufferedReader) -> bytes:
    """Return a length of two bytes, counted in, and what it measures."""
    length = pipe.read(2)
    return length + pipe.read(max(int.from_bytes(length, "big") - 2, 0))


def _read_scan(pipe: BufferedReader, content: bytearray) -> bytes:
    """Append the pixels of a JPEG to ``content``; return the marker behind them."""
    while seen := pipe.peek(1):
        found = seen.find(0xFF)
        if found < 0:
            content += pipe.read(len(seen))
            continue
        content += pipe.read(found)
        marker = pipe.read(2)
        while marker == b"\xff\xff":  # any number of these may precede a marker
            marker = marker[:1] + pipe.read(1)
        if len(marker) == 2 and marker[1] not in STUFFED:
            return marker
        content += marker
    return b""


def _read_png(pipe: BufferedReader) -> bytes:
    content = bytearray(pipe.read(PNG_SIGNATURE - len(PNG)))
    while len(head := pipe.read(8)) == 8:  # length and kind of a chunk
        content += head + _read(pipe, int.from_bytes(head[:4], "big") + 4)  # its checksum behind it
        if head[4:] == PNG_END:
            break
    return bytes(content)


def _read_bmp(pipe: BufferedReader) -> bytes:
    length = pipe.read(4)
    return length + _read(pipe, int.from_bytes(length, "little") - len(BMP) - 4)


def _read_riff(pipe: BufferedReader) -> bytes:
    length = pipe.read(4)
    return length + _read(pipe, int.from_bytes(length, "little"))
