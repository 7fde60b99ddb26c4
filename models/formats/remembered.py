"""Which runtime was found to be the fastest for a checkpoint on this processor; read back without torch."""

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.formats import FORMATS, Format, missing_package
from models.formats.facts import Facts, hash_of
from utils.cores import thread_count
from utils.errors import UserError

AUTO = "auto"
RUNTIMES = ("openvino", "onnx")  # rows of FORMATS that may be faster than torch, on processors
FOLDER = ".runtime"  # beside the weights
MEMORY = "choice.json"
LAYOUT = 2  # of the graphs that export writes; another number makes all of them anew


@dataclass(frozen=True)
class Choice:
    """How a checkpoint is to be run.

    Attributes:
        name: of the runtime. path: of the file or folder that it runs.
        milliseconds: an image, by runtime tried.
        size_hw: of the images it was measured with, px.
        remembered: measured earlier, on this processor and with these versions.
    """

    name: str
    path: Path
    milliseconds: dict[str, float] = field(default_factory=dict)
    size_hw: tuple[int, int] = (0, 0)
    remembered: bool = False

    def line(self) -> str:
        """Return all of it for people."""
        if not self.milliseconds:
            return f"Runtime: {self.name}: {self.path}"
        times = sorted(self.milliseconds.items(), key=lambda pair: pair[1])
        others = ", ".join(f"{name} {ms:.1f}" for name, ms in times if name != self.name)
        height, width = self.size_hw
        own = f"{self.milliseconds[self.name]:.1f} ms an image of {height}x{width}{f' ({others})' if others else ''}"
        return f"Runtime: {self.name}, {own}, {'measured earlier' if self.remembered else 'just measured'}: {self.path}"


def wanted_rows(wanted: str) -> list[Format]:
    """Return the formats that ``wanted``, "auto" or one of RUNTIMES, means.

    Raises:
        UserError: it is something else, or one that is not installed.
    """
    if wanted not in (AUTO, *RUNTIMES):
        raise UserError(f"--runtime {wanted} is not known; use {AUTO}, {' or '.join(RUNTIMES)}")
    rows = [row for row in FORMATS if row.argument in (RUNTIMES if wanted == AUTO else (wanted,))]
    if wanted != AUTO and not is_installed(rows[0]):
        packages = (*rows[0].needs, *rows[0].runs_with)
        raise missing_package(rows[0].name, sorted(set(packages)), ImportError("not installed"))
    return rows


def is_installed(row: Format) -> bool:
    """Tell whether a format can be written and run here."""
    return all(_version(package) for package in (*row.needs, *row.runs_with))


def _version(package: str) -> str:
    """Return the installed version of a package, empty if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def recall(weights: Path, wanted: str) -> Choice | None:
    """Return what was found earlier for ``weights``, a checkpoint, under the same circumstances; None if nothing.

    ``wanted`` is as in ``wanted_rows``.
    """
    installed = [row for row in wanted_rows(wanted) if is_installed(row)]
    facts = circumstances(weights, installed)
    return remembered_in(place_for(weights, wanted, facts), facts, weights)


def circumstances(weights: Path, rows: Sequence[Format]) -> Facts:
    """Return what a measurement depends on."""
    packages = {"torch", *(package for row in rows for package in (*row.needs, *row.runs_with))}
    return {
        "layout": LAYOUT,
        "weights_hash": hash_of(weights),
        "versions": {package: _version(package) for package in sorted(packages)},
        "processor": f"{platform.system()} {processor_name()}, {thread_count()} threads",
    }


def processor_name() -> str:
    """Return the processor's model where the system tells, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def place_for(weights: Path, wanted: str, facts: Facts) -> Path:
    """Return the folder for what is found under the circumstances ``facts``: beside the weights, else among caches."""
    name = f"{weights.stem}-{wanted}-{facts['weights_hash']}"
    beside = weights.resolve().parent
    cache = os.environ.get("YOLOV5_CACHE_DIR")
    if not cache and _can_write(beside):
        return beside / FOLDER / name
    where = hashlib.sha256(str(beside).encode()).hexdigest()[:8]  # weights of one name in several folders
    return (Path(cache) if cache else _user_cache()) / "runtime" / where / name


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _user_cache() -> Path:
    """Return where this system keeps files that can be made again."""
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/yolov5-nam"
    default = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return Path(default or Path.home() / ".cache") / "yolov5-nam"


def remembered_in(folder: Path, facts: Facts, weights: Path) -> Choice | None:
    """Return what was found earlier under the same circumstances, if it is still there."""
    try:
        memory = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
        path = folder / memory["file"] if memory["file"] else weights
        height, width = memory["size_hw"]
        milliseconds = {str(name): float(value) for name, value in memory["milliseconds"].items()}
        known = Choice(memory["name"], path, milliseconds, (int(height), int(width)), remembered=True)
        same = all(memory[key] == value for key, value in facts.items()) and known.name in milliseconds
        return known if same and path.exists() else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # not there, or damaged
        return None
