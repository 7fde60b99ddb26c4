"""Decoded images, kept in memory or in one file, so that no epoch decodes them again (v6.1's ``--cache``).

All images lie one after another in a flat run of bytes, which every process on the machine can share: worker processes
see the memory of the one that filled it, and whoever wants the same images finds the same file.
"""

import hashlib
import os
import shutil
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.data.cache import cache_file
from utils.data.dataset import DetectionDataset, fit_long_side
from utils.errors import UserError
from utils.files import atomic_write
from utils.log import LOGGER, progress
from utils.memory import available_memory

VERSION = 2  # raise when the meaning of the file's bytes changes
THREADS = 8
SPARE = 1.1  # room asked for, as a multiple of what is needed: the rest of training needs some, too (v6.1's successors)
HEADER = 64  # bytes: the key, by which a file tells what it holds


class NotCached(Exception):
    """Why images are not kept; training goes on without."""


def cache_images(
    dataset: DetectionDataset, where: Literal["ram", "disk"], entries: Sequence[Path] = (), copies: int = 1
) -> None:
    """Have ``dataset`` take its images from memory or from a file instead of decoding them in every epoch.

    To be called before a loader of the data set starts its workers. The pixels are the same as without. Where there is
    no room, a warning says so and the data set stays as it is.

    Args:
        dataset: its images are kept as :meth:`DetectionDataset.decode` gives them.
        where: ``"ram"``, or ``"disk"``: a file beside the label cache, used again by later runs until an image changes.
        entries: the folders or lists of the split; they name the file, as they name the label cache.
        copies: processes on this machine that will ask for the same. Where they cannot share memory (not on Linux),
            each has its own.

    Raises:
        UserError: an image is gone or damaged.
    """
    layout, start = Layout.of(dataset), time.perf_counter()
    pixels: Tensor | MappedFile
    try:
        if where == "ram":
            place, pixels = "in memory", _keep_in_memory(dataset, layout, copies)
        else:
            place, pixels = _keep_on_disk(dataset, layout, entries)
    except (NotCached, OSError) as reason:
        LOGGER.warning(f"WARNING: --cache {where}: images are not cached: {reason}")
        return
    dataset.cached = ImageCache(pixels, layout)
    seconds = time.perf_counter() - start
    LOGGER.info(f"{len(dataset)} images of {dataset.image_size} px {place}: {_show(layout.total)}, {seconds:.1f} s")


@dataclass(frozen=True)
class Layout:
    """Where the images of a data set lie in a flat run of bytes.

    Attributes:
        sizes_hw: (n, 2) height and width of each resized image, px.
        channels: of every image.
        order: image indices by path.
        starts: (n,) position of each one's first byte. Images lie in the order of their paths, whatever that of the
            data set, so that square and rectangular batches use the same file.
        total: number of bytes.
    """

    sizes_hw: np.ndarray
    channels: int
    order: list[int]
    starts: np.ndarray
    total: int

    @classmethod
    def of(cls, dataset: DetectionDataset) -> "Layout":
        """Lay out the images of ``dataset``: their sizes are known before any is decoded."""
        sizes = dataset.samples.sizes_hw.tolist()
        sizes_hw = np.array([fit_long_side(size_hw, dataset.image_size) for size_hw in sizes], np.int64)
        images = list(dataset.samples.images)
        order = sorted(range(len(images)), key=images.__getitem__)
        ends = np.cumsum(dataset.channels * sizes_hw.prod(1)[order])
        starts = np.empty_like(ends)
        starts[order] = np.concatenate([[0], ends[:-1]])
        return cls(sizes_hw, dataset.channels, order, starts, int(ends[-1]))

    def view(self, pixels: np.ndarray, index: int) -> np.ndarray:
        """Return image ``index`` of the flat ``pixels`` as (h, w, C), without a copy."""
        height, width = self.sizes_hw[index]
        start = self.starts[index]
        return pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)


class MappedFile:
    """The bytes of a file, as memory that is read when it is looked at.

    Pickled, it is only a name: a worker process maps the file anew.
    """

    def __init__(self, file: Path, key: str, size: int) -> None:
        self._arguments = file, key, size
        if not _holds(file, key, size):
            raise UserError(f"image cache '{file}' was changed while in use; start again, or without --cache")
        self._bytes = np.asarray(np.memmap(file, np.uint8, "r", HEADER))

    def numpy(self) -> np.ndarray:
        """Return the bytes after the header, read-only."""
        return self._bytes

    def __reduce__(self) -> tuple[type, tuple[Path, str, int]]:
        return MappedFile, self._arguments


@dataclass(frozen=True)
class ImageCache:
    """Images by index, as :attr:`DetectionDataset.cached` wants them; goes to worker processes without its pixels."""

    pixels: Tensor | MappedFile
    layout: Layout

    def __call__(self, index: int) -> np.ndarray:
        """Return image ``index``, (h, w, C) uint8, read-only."""
        image = self.layout.view(self.pixels.numpy(), index)
        image.flags.writeable = False
        return image


def _keep_in_memory(dataset: DetectionDataset, layout: Layout, copies: int) -> Tensor | MappedFile:
    """Return the pixels in memory: that which all processes of this machine share, or this one's own."""
    if hasattr(os, "memfd_create"):
        return _find_or_share(dataset, layout)
    _require_room(layout.total * copies, available_memory(), "of memory")
    try:
        pixels = torch.empty(layout.total, dtype=torch.uint8).share_memory_()
    except RuntimeError as error:
        raise NotCached(str(error).splitlines()[0]) from error
    _fill(pixels.numpy(), dataset, layout)
    return pixels


def _find_or_share(dataset: DetectionDataset, layout: Layout) -> MappedFile:
    """Return the pixels in a file without a name, which is memory and goes when the last process that uses it ends.

    A note in the folder of temporary files tells other training processes where it is. Containers limit the usual
    shared memory, /dev/shm, but not this.
    """
    key, size = _fingerprint(dataset), layout.total
    note = Path(tempfile.gettempdir()) / f"yolov5-nam-{key[:16]}.pixels"
    found = _follow(note, key, size)
    if found:
        return found
    _require_room(HEADER + size, available_memory(), "of memory")
    descriptor = os.memfd_create("yolov5-nam-images")
    file = _name_of(descriptor)
    try:
        os.ftruncate(descriptor, HEADER + size)
        _fill(np.memmap(file, np.uint8, "r+", HEADER), dataset, layout)
        os.pwrite(descriptor, key.encode(), 0)  # last, so that nobody takes it for complete before
        pixels = MappedFile(file, key, size)
    except BaseException:
        os.close(descriptor)
        raise
    with suppress(OSError), atomic_write(note) as temporary:
        temporary.write_text(str(file))
    weakref.finalize(pixels, _let_go, descriptor, os.getpid(), note)
    return pixels


def _follow(note: Path, key: str, size: int) -> MappedFile | None:
    """Return the pixels that another process of this user has told of in ``note``, if they are those of ``key``."""
    try:
        if note.stat().st_uid != os.getuid():
            return None
        file = Path(note.read_text())
        if not _holds(file, key, size):
            return None
        descriptor = os.open(file, os.O_RDONLY)  # of our own: the other process may end before ours
    except (OSError, ValueError):
        return None
    pixels = MappedFile(_name_of(descriptor), key, size)
    weakref.finalize(pixels, os.close, descriptor)
    return pixels


def _name_of(descriptor: int) -> Path:
    """Return by what path all processes of this user can open a file that has no name."""
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _let_go(descriptor: int, process: int, note: Path) -> None:
    os.close(descriptor)
    with suppress(OSError):
        if os.getpid() == process and note.read_text() == f"/proc/{process}/fd/{descriptor}":
            note.unlink()


def _fill(pixels: np.ndarray, dataset: DetectionDataset, layout: Layout) -> None:
    def keep(index: int, image: np.ndarray) -> None:
        layout.view(pixels, index)[:] = image

    _decode_all(dataset, keep)


def _keep_on_disk(dataset: DetectionDataset, layout: Layout, entries: Sequence[Path]) -> tuple[str, MappedFile]:
    """Return a word on where the pixels are, and them; decode only if the file is not that of these images."""
    labels = cache_file([dataset.samples.image(layout.order[0])], entries)
    file = labels.with_name(f"{labels.stem}-{dataset.image_size}-{_resampling(dataset)}.images")
    key = _fingerprint(dataset)
    if _holds(file, key, layout.total):
        return f"found in '{file}'", MappedFile(file, key, layout.total)
    file.parent.mkdir(parents=True, exist_ok=True)
    _require_room(HEADER + layout.total, shutil.disk_usage(file.parent).free, f"in '{file.parent}'")
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        writing = threading.Lock()

        def keep(index: int, image: np.ndarray) -> None:
            with writing:
                stream.seek(HEADER + int(layout.starts[index]))
                stream.write(image.data)

        stream.write(key.encode())
        _decode_all(dataset, keep)
    return f"in '{file}'", MappedFile(file, key, layout.total)


def _require_room(needed: int, free: int, of_what: str) -> None:
    if SPARE * needed > free:
        raise NotCached(f"they need {_show(needed)} {of_what} and a tenth to spare, {_show(free)} are free")


def _decode_all(dataset: DetectionDataset, keep: Callable[[int, np.ndarray], None]) -> None:
    """Hand every image of ``dataset`` to ``keep``, from several threads."""

    def decode(index: int) -> None:
        keep(index, dataset.decode(index))

    pool = ThreadPoolExecutor(THREADS)
    try:
        for _ in progress(pool.map(decode, range(len(dataset))), "caching images", len(dataset), "img"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, do not decode the rest first


def _resampling(dataset: DetectionDataset) -> str:
    return "area" if dataset.augmentation is None else "linear"


def _fingerprint(dataset: DetectionDataset) -> str:
    """Return ``HEADER`` characters that follow from all that decides the pixels."""
    settings = f"{VERSION}|{cv2.__version__}|{dataset.image_size}|{dataset.channels}|{_resampling(dataset)}"
    lines = []
    for image, size_hw in zip(dataset.samples.images, dataset.samples.sizes_hw.tolist(), strict=True):
        try:
            status = os.stat(image)
        except OSError:
            raise UserError(f"'{image}' is gone; restore it or remove it from the data") from None
        lines.append(f"{image}|{size_hw}|{status.st_size}|{status.st_mtime_ns}")
    return hashlib.sha256(os.fsencode("\n".join([settings, *sorted(lines)]))).hexdigest()


def _holds(file: Path, key: str, size: int) -> bool:
    """Tell whether ``file`` has the ``key`` and, after it, ``size`` bytes."""
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size != HEADER + size:  # to open a pipe would wait, or take
            return False
        with file.open("rb") as stream:
            return stream.read(HEADER) == key.encode()
    except OSError:
        return False


def _show(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
