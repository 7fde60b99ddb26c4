"""Image files of a conversion: their sizes, where they are found, how they get to the new data set."""

import os
import shutil
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from utils.data.convert.records import Record, Unusable
from utils.data.headers import EXIF_ORIENTATION, SIDEWAYS, plain_jpeg_hw
from utils.data.listing import IMAGE_SUFFIXES, has_suffix
from utils.files import safe_name

SAME_ASPECT = 0.02  # relative; sizes closer than this may be one image at two scales
SIZE_DIFFERS = "images have another size and shape than annotated; their own size was taken"
SCALED = "images were annotated at another scale"
RENAMED = "images renamed, another of the split has the same stem or their name suits not every system"


def read_size(image: Path | bytes) -> tuple[int, int]:
    """Return height and width in px as training sees them, turned by EXIF; only the header is read.

    Raises:
        Unusable: it is no image.
    """
    plain_hw = plain_jpeg_hw(image) if isinstance(image, Path) else None
    if plain_hw:
        return plain_hw
    try:
        with Image.open(BytesIO(image) if isinstance(image, bytes) else image) as opened:
            width, height = opened.size
            # Other formats would have to be decoded to know their EXIF.
            turned = "exif" in opened.info and opened.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
    except Exception as error:  # Pillow's readers raise many kinds (SyntaxError, struct.error, ...) on broken files
        kind = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unusable(f"the image cannot be read: {kind}") from error
    return (width, height) if turned else (height, width)


def agreed_size(record: Record) -> tuple[tuple[int, int], list[str]]:
    """Return the (height, width) that the coordinates of ``record`` count in, and changes to report.

    An image of the annotated shape at another scale was resized after it was annotated, so the annotated size counts.
    Any other difference is a wrong entry, and the size of the image itself counts.

    Raises:
        Unusable: there is no usable image.
    """
    if record.problem or record.image is None:
        raise Unusable(record.problem or "the image is missing")
    actual = read_size(record.image)
    annotated = record.size_hw
    if annotated is None or annotated == actual or min(annotated) <= 0:
        return actual, []
    ratio = (annotated[0] * actual[1]) / (annotated[1] * actual[0])
    if abs(ratio - 1) < SAME_ASPECT:
        return annotated, [SCALED]
    return actual, [SIZE_DIFFERS]


def index_images(folders: Iterable[Path], deep: bool = False) -> dict[str, Path]:
    """Return file name -> path and stem -> path of the images in ``folders``; of equal names the first counts.

    Args:
        folders: those that do not exist are skipped.
        deep: look into their subfolders, too.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
                if has_suffix(path, IMAGE_SUFFIXES):
                    found.setdefault(path.name, path)
                    found.setdefault(path.stem, path)
    return found


class Places:
    """Gives each image its own path below ``images/<split>``, such that its label file is its own, too."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}  # the last one given to a wanted path

    def claim(self, split: str, name: str) -> PurePosixPath:
        """Return the path for an image wanted as ``name``, cleaned of what leads elsewhere, numbered when taken.

        Folders called ``images`` or ``labels`` go: the place of a label file is found by these words.
        """
        text = name.encode(errors="replace").decode()  # Linux has names that are no text
        words = [word for word in text.replace("\\", "/").split("/") if word not in ("", ".", "..")]
        folders = [safe_name(word) for word in words[:-1] if word not in ("images", "labels", split)]
        wanted = PurePosixPath(*folders, safe_name(words[-1] if words else "_"))
        key = _without_suffix(split, wanted)
        path, number = wanted, self.numbers.get(key, 1)
        while _without_suffix(split, path) in self.taken:
            number += 1
            path = wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
        self.numbers[key] = number
        self.taken.add(_without_suffix(split, path))
        return path


def _without_suffix(split: str, path: PurePosixPath) -> str:
    return f"{split}/{path.with_suffix('')}".lower()  # some systems know no upper and lower case


def place_image(image: Path | bytes, target: Path, link: bool = False) -> None:
    """Put a copy of ``image`` at ``target``, or with ``link`` a second name of the same file, where the disk can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        target.write_bytes(image)
        return
    if link:
        try:
            os.link(os.path.realpath(image), target)
            return
        except OSError:  # another disk, a file of another user, or no hard links here
            pass
    shutil.copyfile(image, target)
