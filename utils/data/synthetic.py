"""shapes10: the built-in data set, made on first use instead of downloaded.

Ten shapes in five pairs that are easily confused, under clutter, occlusion, uneven light and noise. Each image depends
only on (seed, split, index), so the set is the same on every machine with the same OpenCV and NumPy, whatever the order
or the number of threads.
"""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

from utils.data.shapes.geometry import CLASS_SHAPES
from utils.data.shapes.scene import Scene, compose_scene
from utils.errors import UserError
from utils.log import progress

CLASS_NAMES: tuple[str, ...] = tuple(CLASS_SHAPES)
COUNTS = {"train": 512, "val": 128, "test": 64}
JPEG_QUALITY = 88


def make_scene(seed: int, split: str, index: int) -> Scene:
    """Return image ``index`` of ``split`` of the set that ``seed`` stands for."""
    return compose_scene(np.random.Generator(np.random.PCG64([seed, crc32(split.encode()), index])))


def write_scene(folder: Path, seed: int, split: str, index: int) -> None:
    """Write ``images/<split>/<index>.jpg`` and ``labels/<split>/<index>.txt`` below ``folder``, which has the folders.

    A scene without objects gets an empty label file.
    """
    scene = make_scene(seed, split, index)
    _, encoded = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    lines = [f"{int(kind)} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n" for kind, x, y, width, height in scene.labels()]
    (folder / "images" / split / f"{index:06d}.jpg").write_bytes(encoded.tobytes())
    (folder / "labels" / split / f"{index:06d}.txt").write_bytes("".join(lines).encode())


def generate_shapes10(folder: Path, seed: int = 0, counts: dict[str, int] | None = None) -> None:
    """Make the data set and put it at ``folder``, whole or not at all.

    It grows in a hidden folder beside the final one and is renamed at the end, so an interrupted run leaves nothing
    that looks complete. When another process finishes the same set first, that one stays.

    Args:
        folder: where the set shall be; gets ``images/<split>/*.jpg`` and ``labels/<split>/*.txt``.
        seed: non-negative; which of the possible sets to make.
        counts: images of each split; 512 train, 128 val and 64 test when None.

    Raises:
        UserError: ``folder`` exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"'{folder}' exists, so shapes10 is not made over it; delete the folder to make it anew")
    folder.parent.mkdir(parents=True, exist_ok=True)
    counts = COUNTS if counts is None else counts
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        growing = Path(temporary) / folder.name
        for kind in ("images", "labels"):
            for split in counts:
                (growing / kind / split).mkdir(parents=True)
        _write_scenes(growing, seed, [(split, index) for split, count in counts.items() for index in range(count)])
        _move_into_place(growing, folder)


def _write_scenes(folder: Path, seed: int, wanted: list[tuple[str, int]]) -> None:
    """Write the (split, index) scenes in a few threads: NumPy and OpenCV work outside Python's lock."""
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 8))
    try:
        done = pool.map(lambda item: write_scene(folder, seed, *item), wanted)
        for _ in progress(done, f"Making {folder.name}", len(wanted), "img"):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, do not make the rest first


def _move_into_place(growing: Path, folder: Path) -> None:
    try:
        if folder.exists():
            folder.rmdir()  # Windows renames onto nothing, not even an empty folder
        growing.rename(folder)
    except OSError:
        if not (folder / "images").is_dir():  # else another process was first, with the same content
            raise


GENERATORS: dict[str, Callable[[Path], None]] = {"shapes10": generate_shapes10}
