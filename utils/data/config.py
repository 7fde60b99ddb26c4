"""The data set a YAML file describes: where its images are and what its classes are called."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.data.archives import FOLDER_SUFFIXES, is_archive
from utils.data.packed import unpacked_yaml
from utils.data.places import Search, place
from utils.data.provide import one_at_a_time, provide
from utils.data.recipe import read_download
from utils.errors import UserError, near_matches
from utils.files import find_file, read_yaml
from utils.log import LOGGER

KEYS = ("path", "train", "val", "test", "nc", "names", "ch", "download", "generator")
FOREIGN_KEYS = ("roboflow",)  # written by a common labelling service; says nothing we need
MOST_CHANNELS = 128  # OpenCV 5 resizes and moves no images of more


@dataclass(frozen=True)
class DatasetConfig:
    """A data set, its paths found.

    Attributes:
        file: the YAML file.
        root: the folder that the split paths start from.
        names: class index -> class name, 0 to nc - 1.
        splits: ``train``, ``val`` and perhaps ``test`` -> folders or text files that list images.
        single_class: every label counts as class 0.
        channels: of the images, as the network shall see them.
    """

    file: Path
    root: Path
    names: dict[int, str]
    splits: dict[str, list[Path]]
    single_class: bool = False
    channels: int = 3

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    def as_single_class(self) -> "DatasetConfig":
        """Return this data set with all classes made one, called ``item`` (``--single-cls``)."""
        names = self.names if self.nc == 1 else {0: "item"}
        return replace(self, names=names, single_class=True)


def load_dataset_config(name: str, splits: Iterable[str] = ("train", "val")) -> DatasetConfig:
    """Read a data set YAML and find its images; make or fetch them first when they are not there and it says how.

    Args:
        name: path, or bare name of a file below data/, e.g. ``"coco128.yaml"``; or an archive that holds a YAML file.
        splits: those that will be used; only they have to be there. Ones that the YAML lacks are passed over.

    Raises:
        UserError: the file or a split is missing, or a key is unknown or has an impossible value.
    """
    file = find_file(name, "--data")
    if is_archive(file.name, FOLDER_SUFFIXES):
        file = unpacked_yaml(file)
        content = read_yaml(file) | {"path": str(file.parent)}  # wherever it was before
    else:
        content = read_yaml(file)
    for key in content:
        if key not in KEYS + FOREIGN_KEYS:
            hint = near_matches(str(key), KEYS) or f"; known keys are {', '.join(KEYS)}"
            raise UserError(f"{file}: unknown key '{key}'{hint}")
    names, channels = _read_names(file, content), _read_channels(file, content)
    entries = {key: _read_split(file, key, content[key]) for key in ("train", "val", "test") if content.get(key)}
    for key in ("train", "val"):
        if key not in entries:
            raise UserError(f"{file}: '{key}' is missing; it names the folder of images of that split")
    search = Search(file, _read_path(file, content), entries, tuple(split for split in splits if split in entries))
    root = search.found() or _supply(search, content, list(names.values()))
    placed = {key: place(root, paths) for key, paths in entries.items()}
    return DatasetConfig(file, root, names, placed, channels=channels)


def _read_path(file: Path, content: dict[str, Any]) -> str | None:
    path = content.get("path")
    if path is not None and not isinstance(path, str | int):
        raise UserError(f"{file}: 'path' is {path!r}, expected a folder")
    return str(path) if path else None


def _read_channels(file: Path, content: dict[str, Any]) -> int:
    channels = content.get("ch", 3)
    if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= MOST_CHANNELS:
        raise UserError(
            f"{file}: 'ch' is {channels!r}, expected the number of channels of the images, 1 to {MOST_CHANNELS}"
        )
    return channels


def _read_names(file: Path, content: dict[str, Any]) -> dict[int, str]:
    count, given = content.get("nc"), content.get("names")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise UserError(f"{file}: 'nc' is {count!r}, expected the number of classes, 1 or more")
    if given is None:
        if count is None:
            raise UserError(f"{file}: 'names' is missing; it lists the class names")
        return {index: f"class{index}" for index in range(count)}
    if not isinstance(given, list | dict) or not given:
        raise UserError(f"{file}: 'names' is {given!r}, expected a list of class names or lines 'index: name'")
    given = dict(enumerate(given)) if isinstance(given, list) else given
    if set(given) != set(range(len(given))):
        raise UserError(f"{file}: 'names' has the keys {', '.join(map(str, given))}; expected 0 to {len(given) - 1}")
    for index, label in given.items():
        if label is None or isinstance(label, (bool, list, dict)):
            raise UserError(f"{file}: class {index} in 'names' reads as {label!r}; put the name in quotes")
    if count is not None and count != len(given):
        raise UserError(f"{file}: 'nc' is {count} but 'names' has {len(given)} entries; make them agree")
    return {index: str(given[index]) for index in range(len(given))}


def _read_split(file: Path, key: str, value: Any) -> list[str]:
    paths = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path for path in paths):
        raise UserError(f"{file}: '{key}' is {value!r}, expected a folder, a text file or a list of these")
    return paths


def _supply(search: Search, content: dict[str, Any], names: list[str]) -> Path:
    """Make or fetch the data set and return its root."""
    if content.get("generator"):
        root = search.home
        _generate(search.file, str(content["generator"]), root)
    elif content.get("download"):
        root = search.place_to_fill()
        _fetch(search, root, content["download"], names)
    else:
        raise UserError(
            f"{search.file}: {search.describe(*search.roots())}; put the data there, correct 'path', or set "
            "YOLOV5_DATASETS_DIR to the folder that holds your data sets"
        )
    if search.lacking(root):
        raise UserError(f"{search.file}: {search.describe(root)}, though the data set was made or fetched there")
    return root


def _generate(file: Path, generator: str, root: Path) -> None:
    """Make the generated data set ``generator`` at ``root``."""
    from utils.data.synthetic import GENERATORS  # only a first use needs it

    if generator not in GENERATORS:
        known = near_matches(generator, GENERATORS) or f"; there are {', '.join(sorted(GENERATORS))}"
        raise UserError(f"{file}: unknown generator '{generator}'{known}")
    LOGGER.info(f"{file.name}: making the data set '{generator}' in '{root}' (once)")
    GENERATORS[generator](root)


def _fetch(search: Search, root: Path, content: Any, names: list[str]) -> None:
    """Fetch what ``root`` lacks, as ``content``, the YAML's ``download``, says."""
    try:
        download = read_download(search.file, content)
        with one_at_a_time(root):
            missing = {split for split, _ in search.lacking(root)}
            if missing:  # else another process has been here
                provide(search.file, download, root, missing, names)
    except UserError as error:
        reason = str(error).removeprefix(f"{search.file}: ")
        raise UserError(f"{search.file}: {search.describe(*search.roots())}; {reason}") from error
