"""Paths, YAML files and writes that cannot leave half a file behind."""

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError, near_matches

ROOT = Path(__file__).resolve().parents[1]
LONGEST_YAML_LINE = 1000  # characters; rows of a model YAML stay whole
LONGEST_STEM = 80  # characters of a name kept in its temporary name, which must not become too long


def runs_dir(kind: str) -> Path:
    """Return the default ``--project`` folder, ``runs/<kind>`` in the project, as a path from the working folder."""
    folder = ROOT / "runs" / kind
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def datasets_dir() -> Path:
    """Return the folder that holds data sets: ``$YOLOV5_DATASETS_DIR``, else ``datasets`` beside the project."""
    return Path(os.environ.get("YOLOV5_DATASETS_DIR") or ROOT.parent / "datasets").resolve()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place when the block succeeds.

    A crash, a full disk or Ctrl-C inside the block leaves the previous file as it was. The temporary name keeps the
    suffix of ``path``, because writers such as OpenCV choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:LONGEST_STEM]}-{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # the name the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed writes have left in ``folder``; nobody may be writing there now."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+-[0-9a-f]{8}(\.\w+)?", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def increment_path(path: Path, exist_ok: bool = False) -> Path:
    """Return ``path`` if it is free (or ``exist_ok``), else the next of ``exp2, exp3, ...`` (v6.1's run-folder rule).

    The number goes before the suffix of a file: ``crop.jpg``, ``crop2.jpg``; folders have none: ``v1.0``, ``v1.02``.
    """
    if exist_ok or not path.exists():
        return path
    stem, suffix = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    pattern = re.compile(re.escape(stem) + r"(\d+)" + re.escape(suffix))
    taken = [pattern.fullmatch(sibling.name) for sibling in path.parent.iterdir()]
    numbers = [int(match[1]) for match in taken if match]
    return path.with_name(f"{stem}{max(numbers, default=1) + 1}{suffix}")


def safe_name(name: str) -> str:
    """Return ``name`` as one file name that every system takes and that cannot lead to another folder."""
    cleaned = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name).strip(". ")
    return cleaned or "_"


def make_run_folder(project: str, name: str, exist_ok: bool = False) -> Path:
    """Create and return the run folder ``project/name[N]``.

    Raises:
        UserError: the folder cannot be created or written.
    """
    if not name.strip():
        raise UserError("--name is empty; give the run folder a name, or leave it out")
    folder = increment_path(Path(project) / name, exist_ok)
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write run folder '{folder}' ({error.strerror}); choose another --project") from error
    return folder


def find_file(name: str, kind: str) -> Path:
    """Return the file a user means by ``name``: an existing path, else the only such file below data/ or models/.

    Args:
        name: path or bare file name, e.g. ``"hyp.scratch-low.yaml"``.
        kind: what the file is for, used in the error, e.g. ``"--hyp"``.

    Raises:
        UserError: nothing found, or several files of that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"{kind} '{name}' is a folder, expected a file")
    shipped = [file for folder in ("data", "models") for file in sorted((ROOT / folder).rglob("*.yaml"))]
    found = [file for file in shipped if file.name == name or file == ROOT / path]
    if not found:
        raise UserError(f"{kind} '{name}' does not exist{near_matches(name, [file.name for file in shipped])}")
    if len(found) > 1:
        raise UserError(f"{kind} '{name}' is ambiguous: {', '.join(map(str, found))}; give the whole path")
    return found[0]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        UserError: the file is missing, not UTF-8, malformed (with the line), or not a mapping with words as keys.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"'{path}' does not exist") from error
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not a UTF-8 text file ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: malformed YAML: {getattr(error, 'problem', None) or error}") from error
    except (ValueError, RecursionError) as error:  # such as a date in a 13th month, or a thousand nested brackets
        raise UserError(f"'{path}': malformed YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        got = f"the keys {list(content)}" if isinstance(content, dict) else type(content).__name__
        raise UserError(f"'{path}' must hold a YAML mapping ('word: value' lines), got {got}")
    return content


class _Dumper(yaml.SafeDumper):
    """Writes a list of lists over several lines, and any other, such as a row of a model YAML, on one."""


def _represent_list(dumper: yaml.SafeDumper, content: list[Any]) -> yaml.Node:
    nested = bool(content) and all(isinstance(one, list | dict) for one in content)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", content, flow_style=not nested)


_Dumper.add_representer(list, _represent_list)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as YAML in insertion order, atomically."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LONGEST_YAML_LINE)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
