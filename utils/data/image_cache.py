"""Decoded images, kept in memory or in one file, so that no epoch decodes them again (v6.1's ``--cache``).

All images lie one after another in a flat run of bytes, which every process on the machine can share: worker processes
see the memory of the one that filled it, and whoever wants the same images finds the same file.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.data.cache import cache_file
from utils.data.dataset import DetectionDataset, fit_long_side
from utils.data.labels import Sample
from utils.errors import UserError
from utils.files import atomic_write
from utils.log import LOGGER, progress
from utils.memory import available_memory

VERSION = 1  # raise when the meaning of the file's bytes changes
THREADS = 8
SPARE = 1.1  # room asked for, as a multiple of what is needed: the rest of training needs some, too (v6.1's successors)
HEADER = 64  # bytes: the key, by which a file tells what it holds
SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps memory that processes share; containers may have little


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
        copies: processes on this machine that will keep these images in memory, each for itself.

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
        starts: (n,) position of each one's first byte. Images lie in the order of their paths, whatever that of the
            data set, so that square and rectangular batches use the same file.
        total: number of bytes.
    """

    sizes_hw: np.ndarray
    starts: np.ndarray
    total: int

    @classmethod
    def of(cls, dataset: DetectionDataset) -> "Layout":
        """Lay out the images of ``dataset``: their sizes are known before any is decoded."""
        sizes_hw = np.array([fit_long_side(sample.size_hw, dataset.image_size) for sample in dataset.samples], np.int64)
        order = sorted(range(len(dataset)), key=lambda index: str(dataset.samples[index].image))
        ends = np.cumsum(3 * sizes_hw.prod(1)[order])
        starts = np.empty_like(ends)
        starts[order] = np.concatenate([[0], ends[:-1]])
        return cls(sizes_hw, starts, int(ends[-1]))

    def view(self, pixels: np.ndarray, index: int) -> np.ndarray:
        """Return image ``index`` of the flat ``pixels`` as (h, w, 3), without a copy."""
        height, width = self.sizes_hw[index]
        start = self.starts[index]
        return pixels[start : start + 3 * height * width].reshape(height, width, 3)


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
        """Return image ``index``, (h, w, 3) uint8 BGR, read-only."""
        image = self.layout.view(self.pixels.numpy(), index)
        image.flags.writeable = False
        return image


def _keep_in_memory(dataset: DetectionDataset, layout: Layout, copies: int) -> Tensor:
    free = available_memory()
    if SHARED_MEMORY.is_dir():  # writing beyond its end would kill the process
        free = min(free, shutil.disk_usage(SHARED_MEMORY).free)
    _require_room(layout.total * copies, free, "of memory")
    try:
        pixels = torch.empty(layout.total, dtype=torch.uint8).share_memory_()
    except RuntimeError as error:
        raise NotCached(str(error).splitlines()[0]) from error
    flat = pixels.numpy()

    def keep(index: int, image: np.ndarray) -> None:
        layout.view(flat, index)[:] = image

    _decode_all(dataset, keep)
    return pixels


def _keep_on_disk(dataset: DetectionDataset, layout: Layout, entries: Sequence[Path]) -> tuple[str, MappedFile]:
    """Return a word on where the pixels are, and them; decode only if the file is not that of these images."""
    samples = sorted(dataset.samples, key=lambda sample: str(sample.image))
    resampling = "area" if dataset.augmentation is None else "linear"
    labels = cache_file([sample.image for sample in samples], list(entries))
    file = labels.with_name(f"{labels.stem}-{dataset.image_size}-{resampling}.images")
    key = _fingerprint(samples, dataset.image_size, resampling)
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
        image, original_hw = dataset.decode(index)
        sample = dataset.samples[index]
        if original_hw != sample.size_hw:  # an odd EXIF entry
            raise NotCached(f"'{sample.image}' has another size than its header says")
        keep(index, image)

    pool = ThreadPoolExecutor(THREADS)
    try:
        for _ in progress(pool.map(decode, range(len(dataset))), "caching images", len(dataset), "img"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, do not decode the rest first


def _fingerprint(samples: Sequence[Sample], image_size: int, resampling: str) -> str:
    """Return ``HEADER`` characters that follow from all that decides the pixels."""
    digest = hashlib.sha256(f"{VERSION}|{cv2.__version__}|{image_size}|{resampling}\n".encode())
    for sample in samples:
        try:
            status = os.stat(sample.image)
        except OSError:
            raise UserError(f"'{sample.image}' is gone; restore it or remove it from the data") from None
        digest.update(f"{sample.image}|{sample.size_hw}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _holds(file: Path, key: str, size: int) -> bool:
    """Tell whether ``file`` has the ``key`` and, after it, ``size`` bytes."""
    try:
        with file.open("rb") as stream:
            return stream.read(HEADER) == key.encode() and file.stat().st_size == HEADER + size
    except OSError:
        return False


def _show(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
