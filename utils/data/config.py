"""The data set a YAML file describes: where its images are and what its classes are called."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.errors import UserError, near_matches
from utils.files import ROOT, datasets_dir, find_file, read_yaml
from utils.log import LOGGER

KEYS = ("path", "train", "val", "test", "nc", "names", "download", "generator")
FOREIGN_KEYS = ("roboflow",)  # written by a common labelling service; says nothing we need
DATASETS_PREFIX = "../datasets/"


@dataclass(frozen=True)
class DatasetConfig:
    """A data set, its paths found.

    Attributes:
        file: the YAML file.
        root: the folder that the split paths start from.
        names: class index -> class name, 0 to nc - 1.
        splits: ``train``, ``val`` and perhaps ``test`` -> folders or text files that list images.
        single_class: every label counts as class 0.
    """

    file: Path
    root: Path
    names: dict[int, str]
    splits: dict[str, list[Path]]
    single_class: bool = False

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    def as_single_class(self) -> "DatasetConfig":
        """Return this data set with all classes made one, called ``item`` (``--single-cls``)."""
        names = self.names if self.nc == 1 else {0: "item"}
        return replace(self, names=names, single_class=True)


def load_dataset_config(name: str) -> DatasetConfig:
    """Read a data set YAML, find its images, and make them first when they are a generated set not there yet.

    Args:
        name: path, or bare name of a file below data/, e.g. ``"coco128.yaml"``.

    Raises:
        UserError: the file or a split is missing, or a key is unknown or has an impossible value.
    """
    file = find_file(name, "--data")
    content = read_yaml(file)
    for key in content:
        if key not in KEYS + FOREIGN_KEYS:
            hint = near_matches(str(key), KEYS) or f"; known keys are {', '.join(KEYS)}"
            raise UserError(f"{file}: unknown key '{key}'{hint}")
    names = _read_names(file, content)
    entries = {key: _read_split(file, key, content[key]) for key in ("train", "val", "test") if content.get(key)}
    for key in ("train", "val"):
        if key not in entries:
            raise UserError(f"{file}: '{key}' is missing; it names the folder of images of that split")
    roots = list(dict.fromkeys(_root_candidates(file, str(content.get("path") or "."))))
    root = next(filter(None, (_usable_root(root, entries) for root in roots)), None)
    if root is None and content.get("generator"):
        root = _generate(file, str(content["generator"]), str(content.get("path") or file.stem))
        root = _usable_root(root, entries)
    if root is None:
        raise UserError(_missing_message(file, content, roots, entries))
    return DatasetConfig(file, root, names, {key: _place(root, paths) for key, paths in entries.items()})


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


def _root_candidates(file: Path, path: str) -> Iterator[Path]:
    """Yield the folders that the ``path`` of ``file`` may mean, likeliest first."""
    expanded = Path(path).expanduser()
    in_datasets = datasets_dir() / path.removeprefix(DATASETS_PREFIX) if path.startswith(DATASETS_PREFIX) else None
    if in_datasets and os.environ.get("YOLOV5_DATASETS_DIR"):
        yield in_datasets
    for base in (file.parent, Path.cwd(), ROOT, datasets_dir()):
        yield Path(os.path.abspath(base / expanded))  # symbolic links stay: labels lie beside the link, not its target
    if in_datasets:
        yield in_datasets


def _usable_root(root: Path, entries: dict[str, list[str]]) -> Path | None:
    """Return ``root`` if the train and val paths exist below it, else None. The test split is looked for when used."""
    needed = [path for key in ("train", "val") for path in _place(root, entries[key])]
    return root if all(path.exists() for path in needed) else None


def _place(root: Path, paths: list[str]) -> list[Path]:
    """Join ``paths`` to ``root``. A leading ``../`` that leads nowhere is dropped, as exports of some tools need."""
    placed = []
    for path in paths:
        joined = Path(os.path.abspath(root / Path(path).expanduser()))
        inside = Path(os.path.abspath(root / path.removeprefix("../")))
        placed.append(inside if inside.exists() and not joined.exists() else joined)
    return placed


def _generate(file: Path, generator: str, path: str) -> Path:
    """Make the generated data set ``generator`` in the data sets folder and return its root."""
    from utils.data.synthetic import GENERATORS  # only a first use needs it

    if generator not in GENERATORS:
        known = near_matches(generator, GENERATORS) or f"; there are {', '.join(sorted(GENERATORS))}"
        raise UserError(f"{file}: unknown generator '{generator}'{known}")
    root = datasets_dir() / Path(path.removeprefix(DATASETS_PREFIX)).expanduser()
    LOGGER.info(f"{file.name}: making the data set '{generator}' in '{root}' (once)")
    GENERATORS[generator](root)
    return root


def _missing_message(file: Path, content: dict[str, Any], roots: list[Path], entries: dict[str, list[str]]) -> str:
    missing = [path for key in ("train", "val") for path in entries[key]]
    missing = [path for path in dict.fromkeys(missing) if not any(_place(root, [path])[0].exists() for root in roots)]
    wanted = ", ".join(f"'{path}'" for path in missing or entries["train"] + entries["val"])
    places = ", ".join(f"'{root}'" for root in roots)
    source = content.get("download")
    where = f" (to be had from: {' '.join(str(source).split())[:200]}; it is not fetched for you)" if source else ""
    mend = "put the data there, correct 'path', or set YOLOV5_DATASETS_DIR to the folder that holds your data sets"
    return f"{file}: {wanted} not found; looked in {places}; {mend}{where}"
