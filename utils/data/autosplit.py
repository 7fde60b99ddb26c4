"""Divide a folder of images at random: ``python -m utils.data.autosplit FOLDER`` writes autosplit_train.txt and so on.

The draw is v6.1's, so the same seed gives the same lists; only images with the same content stay together, wherever
the first of them is drawn to.
"""

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.data.listing import IMAGE_SUFFIXES, has_suffix, label_path, printable
from utils.errors import UserError
from utils.files import atomic_write
from utils.options import make_options, option, run_command

SPLITS = ("train", "val", "test")
BLOCK = 1 << 20  # bytes read at a time


@dataclass
class SplitOptions:
    """Options of ``python -m utils.data.autosplit``."""

    folder: str = option("", "folder of images, or the data set's folder that holds 'images'", positional=True)
    weights: list[float] = option([0.9, 0.1, 0.0], "shares of train, val and test", least=0)
    seed: int = option(0, "another seed, another division")
    annotated_only: bool = option(False, "leave images without a label file out")


def main(options: SplitOptions) -> dict[str, int]:
    """Divide, write the lists and print the counts; return split -> number of images."""
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    folder = image_folder(Path(options.folder).expanduser())
    lists = autosplit(folder, tuple(options.weights), options.seed, options.annotated_only)
    counts = {split: len(images) for split, images in lists.items()}
    write_lists(folder.parent, lists)
    LOGGER.info(f"{sum(counts.values())} images of '{folder}': {', '.join(f'{key} {n}' for key, n in counts.items())}")
    for split, count in counts.items():
        if count:
            LOGGER.info(f"{split}: {list_file(folder.parent, split)}")
    return counts


def image_folder(folder: Path) -> Path:
    """Return ``folder``, or the folder ``images`` in it: the lists belong beside that one.

    Raises:
        UserError: it is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder; name the folder of the images")
    inner = folder / "images"
    return inner.resolve() if folder.name != "images" and inner.is_dir() else folder.resolve()


def autosplit(
    folder: Path, weights: tuple[float, ...] = (0.9, 0.1, 0.0), seed: int = 0, annotated_only: bool = False
) -> dict[str, list[Path]]:
    """Return split -> images of ``folder``, in sorted order.

    Args:
        folder: searched to any depth, hidden files and folders excepted.
        weights: shares of train, val and test; they need not add up to 1.
        seed: of the draw.
        annotated_only: leave images without a label file out.

    Raises:
        UserError: the weights are not three shares, or there is nothing to divide.
    """
    if len(weights) != len(SPLITS) or not all(math.isfinite(one) and one >= 0 for one in weights) or not sum(weights):
        raise UserError(f"--weights {' '.join(map(str, weights))}: expected three shares, as 0.9 0.1 0.0")
    found = (path for path in folder.rglob("*.*") if has_suffix(path, IMAGE_SUFFIXES) and path.is_file())
    images = sorted(path for path in found if not is_hidden(path.relative_to(folder)))
    if not images:
        raise UserError(f"'{folder}' holds no images; expected files that end in {' '.join(IMAGE_SUFFIXES)}")
    drawn = random.Random(seed).choices(SPLITS, weights=weights, k=len(images))  # one draw an image, labelled or not
    split_of = dict(zip(images, drawn, strict=True))
    kept = [image for image in images if not annotated_only or label_path(image).is_file()]
    if not kept:
        raise UserError(f"'{folder}': none of {len(images)} images has a label file; leave --annotated-only out")
    for first, *others in identical_files(kept):
        split_of |= dict.fromkeys(others, split_of[first])
    return {split: [image for image in kept if split_of[image] == split] for split in SPLITS}


def is_hidden(path: Path) -> bool:
    """Tell whether the name of a relative path, or of a folder in it, begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def identical_files(files: Iterable[Path]) -> list[list[Path]]:
    """Return the groups of two and more files with the same content; only files of equal size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size].append(file)
    groups = []
    for candidates in by_size.values():
        if len(candidates) > 1:
            by_content: dict[bytes, list[Path]] = defaultdict(list)
            for file in candidates:
                by_content[_digest(file)].append(file)
            groups += [group for group in by_content.values() if len(group) > 1]
    return groups


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.digest()


def list_file(folder: Path, split: str) -> Path:
    """Return the list of ``split``, in ``folder``."""
    return folder / f"autosplit_{split}.txt"


def write_lists(folder: Path, lists: dict[str, list[Path]]) -> None:
    """Write one list a split with paths from ``folder``; a split without images has no list, nor an old one."""
    _refuse_to_replace(folder, lists)
    texts = {split: "".join(_line(image, folder) for image in images) for split, images in lists.items()}
    for split, text in texts.items():  # a name that cannot be written stops it before
        file = list_file(folder, split)
        if not text:
            file.unlink(missing_ok=True)
            continue
        with atomic_write(file) as temporary:
            temporary.write_bytes(text.encode())


def _refuse_to_replace(folder: Path, lists: dict[str, list[Path]]) -> None:
    """Raise a UserError when a list is there already of images in another folder than those of ``lists``."""
    ours = {image.relative_to(folder).parts[0] for images in lists.values() for image in images}
    for split in lists:
        file = list_file(folder, split)
        if not file.exists():
            continue
        theirs = {line.removeprefix("./").split("/")[0] for line in file.read_text(errors="replace").splitlines()}
        if theirs - ours - {""}:
            raise UserError(f"'{file}' lists images of '{min(theirs - ours)}'; move it away, or give it another name")


def _line(image: Path, folder: Path) -> str:
    path = image.relative_to(folder).as_posix()
    if printable(path) != path:
        raise UserError(f"'{printable(str(image))}' cannot be in a list of one path a line; rename it")
    return f"./{path}\n"


def run(**options: Any) -> dict[str, int]:
    """Divide from Python, with the names of the command-line options."""
    return main(make_options(SplitOptions, options))


if __name__ == "__main__":
    run_command("autosplit", SplitOptions, main, __doc__)
