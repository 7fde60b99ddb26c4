"""What detection looks at: an image, a folder of images or a pattern. Videos and streams will join here."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.data.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix
from utils.data.pixels import read_image
from utils.errors import UserError
from utils.log import LOGGER


@dataclass(frozen=True)
class Frame:
    """One picture to look at.

    Attributes:
        path: file it came from.
        name: stem for what is written about it; different for every frame of a source.
        image: (H, W, C) uint8 as ``read_image`` gives it; three channels are BGR.
        index: position in the source, from 0.
        count: number of pictures in the source.
    """

    path: Path
    name: str
    image: np.ndarray
    index: int
    count: int


class ImageSource:
    """The frames of image files. Unusable ones are skipped with a warning; if none can be used, UserError.

    Attributes:
        channels: of every frame, see ``read_image``; set to what the model takes.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.channels = 3
        self.names = _unique_stems(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        read, problem = 0, ""
        for index, path in enumerate(self.paths):
            try:
                image = _read_or_refuse(path, self.channels)
            except UserError as error:
                problem = str(error)
                if len(self.paths) > 1:
                    reason = problem.removeprefix(f"'{path}' ")
                    LOGGER.warning(f"WARNING: '{path}' skipped: {reason}")
                continue
            read += 1
            yield Frame(path, self.names[index], image, index, len(self.paths))
        if read == 0:
            what = f"none of the {len(self.paths)} images can be used; the last one, " if len(self.paths) > 1 else ""
            raise UserError(f"--source: {what}{problem}")


def _read_or_refuse(path: Path, channels: int) -> np.ndarray:
    image = read_image(path, channels)
    if image is None:
        raise UserError(f"'{path}' cannot be read; expected whole image files ({' '.join(IMAGE_SUFFIXES)})")
    return image


def _unique_stems(paths: list[Path]) -> list[str]:
    """Return the stem of each path, numbered from 2 where an earlier one has it: ``a, b, a2``."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.lower() in taken:  # some file systems know no case
            number += 1
            stem = f"{path.stem}{number}"
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def load_source(source: str) -> ImageSource:
    """Return the frames that ``source`` means.

    Args:
        source: an image file, a folder (not searched deeper, in name order), or a pattern such as ``"images/*.jpg"``.

    Raises:
        UserError: nothing there, no images in it, or a kind that is not supported.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        names = glob.glob(os.path.join(glob.escape(str(path)), "*.*"))
    elif path.is_file():
        names = [str(path)]
    elif source.isdigit() or "://" in source:
        raise UserError(f"--source '{source}': cameras and URLs are not supported yet; give an image file or a folder")
    elif glob.has_magic(source):
        names = glob.glob(str(path), recursive=True)
    else:
        raise UserError(f"--source '{source}' does not exist; give an image file, a folder or a pattern like '*.jpg'")
    return ImageSource(_only_images(source, sorted(filter(os.path.isfile, names))))


def _only_images(source: str, names: list[str]) -> list[Path]:
    images = [Path(name) for name in names if has_suffix(name, IMAGE_SUFFIXES)]
    videos = [name for name in names if has_suffix(name, VIDEO_SUFFIXES)]
    supported = f"supported suffixes are {' '.join(IMAGE_SUFFIXES)}"
    if not images and videos:
        raise UserError(f"--source '{source}': videos ('{videos[0]}') are not supported yet; {supported}")
    if not images:
        got = f"'{names[0]}' is not an image" if names else "no files there"
        raise UserError(f"--source '{source}': {got}; {supported}")
    if videos:
        LOGGER.warning(f"WARNING: {len(videos)} videos in '{source}' skipped: videos are not supported yet")
    return images
