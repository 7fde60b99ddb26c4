"""The fastest way to run a checkpoint on this processor: exported, proven, measured, and remembered."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from models.formats import FORMATS, Backend, Format, load_backend, missing_package
from models.formats.facts import Facts, hash_of
from models.formats.pytorch import build_model
from models.formats.settings import ExportSettings
from models.formats.writing import add_facts, load_written, settings_for, write
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.cores import core_count
from utils.errors import UserError
from utils.log import LOGGER
from utils.sizes import input_size

AUTO = "auto"
RUNTIMES = ("openvino", "onnx")  # rows of FORMATS that may be faster than torch, on processors
TORCH = "PyTorch"
MEASURED_SECONDS = 1.0  # each, after the first calls
LEAST_ROUNDS, FIRST_ROUNDS = 5, 2
FOLDER = ".runtime"  # beside the weights
MEMORY = "choice.json"
CPU = torch.device("cpu")

Prove = Callable[[Backend, Backend], tuple[Facts, list[str]]]
"""Compares the source with an export: the figures, and in words what is beyond tolerance."""


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


def choose_runtime(weights: Path, wanted: str, size_hw: tuple[int, int], prove: Prove) -> Choice:
    """Return the fastest way to run ``weights`` on the processor; export and measure unless that was done before.

    What is found is kept beside the weights, or in a folder for caches where that is not possible. It holds as long as
    weights, versions and processor are the same.

    Args:
        weights: a checkpoint.
        wanted: "auto" for the fastest of those installed and of torch, or one of RUNTIMES.
        size_hw: of the network's input to measure with, px; the export takes all others, too.
        prove: see there.

    Raises:
        UserError: the runtime wanted is not installed, cannot run the model, or gives other results.
    """
    if wanted not in (AUTO, *RUNTIMES):
        raise UserError(f"--runtime {wanted} is not known; use {AUTO}, {' or '.join(RUNTIMES)}")
    rows = [row for row in FORMATS if row.argument in (RUNTIMES if wanted == AUTO else (wanted,))]
    if wanted != AUTO and not _is_installed(rows[0]):
        packages = (*rows[0].needs, *rows[0].runs_with)
        raise missing_package(rows[0].name, sorted(set(packages)), ImportError("not installed"))
    installed = [row for row in rows if _is_installed(row)]
    if not installed:
        LOGGER.warning(f"WARNING: no other runtime is installed: pip install {' or '.join(_packages(rows))}")
        return Choice(TORCH, weights)
    folder, facts = _place(weights, wanted), _circumstances(weights, installed)
    known = _remembered(folder, facts, weights)
    if known:
        return known
    with _replaced_when_done(folder) as work:
        found = _try_all(weights, installed, wanted, size_hw, prove, work)
        path = None if found.name == TORCH else found.path.name
        figures = {"milliseconds": found.milliseconds, "size_hw": found.size_hw}
        memory = facts | figures | {"name": found.name, "file": path}
        (work / MEMORY).write_text(json.dumps(memory, indent=1), encoding="utf-8")
    _remove_outdated(folder)
    return _remembered(folder, facts, weights, fresh=True) or found


def _packages(rows: Sequence[Format]) -> list[str]:
    return [" ".join(dict.fromkeys((*row.needs, *row.runs_with))) for row in rows]


def _is_installed(row: Format) -> bool:
    return all(_version(package) for package in (*row.needs, *row.runs_with))


def _version(package: str) -> str:
    """Return the installed version of a package, empty if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _circumstances(weights: Path, rows: Sequence[Format]) -> Facts:
    """Return what a measurement depends on."""
    packages = {"torch", *(package for row in rows for package in (*row.needs, *row.runs_with))}
    return {
        "weights_hash": hash_of(weights),
        "versions": {package: _version(package) for package in sorted(packages)},
        "processor": f"{platform.system()} {processor_name()}, {torch.get_num_threads()} threads",
    }


def processor_name() -> str:
    """Return the processor's model where the system tells, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _place(weights: Path, wanted: str) -> Path:
    """Return the folder for what is found: beside the weights, else in a folder for caches."""
    name = f"{weights.stem}-{wanted}-{hash_of(weights)}"
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


def _remembered(folder: Path, facts: Facts, weights: Path, fresh: bool = False) -> Choice | None:
    """Return what was found earlier under the same circumstances, if it is still there."""
    try:
        memory = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
        path = folder / memory["file"] if memory["file"] else weights
        height, width = memory["size_hw"]
        known = Choice(memory["name"], path, dict(memory["milliseconds"]), (int(height), int(width)), not fresh)
        same = all(memory[key] == value for key, value in facts.items()) and known.name in known.milliseconds
    except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged
        return None
    return known if same and path.exists() else None


@contextmanager
def _replaced_when_done(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` when the block succeeds; another process may have been faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary) / folder.name
        work.mkdir()
        yield work
        try:
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            work.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _remove_outdated(folder: Path) -> None:
    """Remove what was found for earlier weights in the same file."""
    stem = folder.name.rpartition("-")[0]
    for other in folder.parent.iterdir():
        if other != folder and other.name.rpartition("-")[0] == stem:
            shutil.rmtree(other, ignore_errors=True)


def _try_all(
    weights: Path, rows: Sequence[Format], wanted: str, size_hw: tuple[int, int], prove: Prove, work: Path
) -> Choice:
    """Export to every runtime, measure, and leave the fastest alone in ``work``."""
    names = ", ".join(row.name for row in rows)
    LOGGER.info(f"Exporting {weights} to {names} and measuring; done once for these weights")
    model = build_model(read_checkpoint(weights), weights).fuse().requires_grad_(False)
    size_hw = input_size(size_hw, model.largest_stride)
    source = load_backend([weights], CPU, parallel=core_count())
    paths = {TORCH: weights}
    backends: dict[str, Backend] = {TORCH: source}
    for row in rows:
        try:
            path = _export(row, model, source, weights, size_hw, prove, work)
            backends[row.name] = load_backend([path], CPU, parallel=core_count())
            paths[row.name] = path
        except Exception as error:  # converters raise anything; what they cannot do others may
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            if wanted != AUTO:
                raise UserError(f"--runtime {wanted}: {row.name} cannot run '{weights}': {first}") from error
            LOGGER.warning(f"WARNING: {row.name} left out: {first}")
    milliseconds = measure(backends, torch.zeros(1, model.channels, *size_hw))
    candidates = milliseconds if wanted == AUTO else {rows[0].name: 0.0}
    best = min(candidates, key=lambda name: candidates[name])
    backends.clear()
    for name, path in paths.items():
        if name not in (best, TORCH):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Choice(best, paths[best], milliseconds, size_hw)


def _export(
    row: Format,
    model: Model,
    source: Backend,
    weights: Path,
    size_hw: tuple[int, int],
    prove: Prove,
    work: Path,
) -> Path:
    """Write a fused model for images of any size, prove that it sees the same, and return where it is."""
    settings = settings_for(row, ExportSettings(size_hw, dynamic=True))
    path = row.path_for(work / weights.name)
    if row.is_folder:
        path.mkdir()
    facts = write(row, model, path, settings, weights)
    figures, faults = prove(source, load_written(row, path, settings))
    if faults:
        raise UserError(f"too far from PyTorch: {'; '.join(faults)}")
    add_facts(row, path, facts | {"parity": figures})
    return path


def measure(backends: dict[str, Backend], images: torch.Tensor, seconds: float = MEASURED_SECONDS) -> dict[str, float]:
    """Return the ms an image takes, by name: the median, with as many calls at a time as the runtime likes.

    The runtimes take turns, so that whatever else the machine does slows all of them.

    Args:
        backends: what is measured.
        images: (1, C, H, W) in [0, 1].
        seconds: spent on each, at least.
    """
    times: dict[str, list[float]] = {name: [] for name in backends}
    with ThreadPoolExecutor(max(backend.parallel for backend in backends.values())) as threads:
        for _ in range(FIRST_ROUNDS):
            for backend in backends.values():
                list(threads.map(backend, [images] * backend.parallel))
        while any(len(taken) < LEAST_ROUNDS or sum(taken) < seconds for taken in times.values()):
            for name, backend in backends.items():
                start = time.perf_counter()
                list(threads.map(backend, [images] * backend.parallel))
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) * 1000 / backends[name].parallel for name, taken in times.items()}
