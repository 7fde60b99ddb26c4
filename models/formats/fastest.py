"""The fastest way to run a checkpoint on this processor: exported, proven, measured, and remembered."""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.formats import Backend, Format, load_backend
from models.formats.backend import FindRows
from models.formats.facts import Facts
from models.formats.pytorch import build_model
from models.formats.remembered import (
    AUTO,
    MEMORY,
    Choice,
    circumstances,
    is_installed,
    place_for,
    remembered_in,
    wanted_rows,
)
from models.formats.settings import ExportSettings
from models.formats.writing import add_facts, load_written, settings_for, write
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.cores import core_count
from utils.errors import UserError
from utils.log import LOGGER
from utils.sizes import input_size

TORCH = "PyTorch"
CONFIDENCE = 0.25  # detect.py's
MEASURED_SECONDS = 1.0  # each, after the first calls
LEAST_ROUNDS, FIRST_ROUNDS = 5, 2
OUTDATED = 24 * 3600.0  # s after which what belongs to earlier weights goes; somebody may be about to load it

Prove = Callable[[Backend, Backend, FindRows], tuple[Facts, list[str]]]
"""Compares the source with an export, and with how that will be run: figures, and in words what is beyond tolerance."""


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
    rows = wanted_rows(wanted)
    installed = [row for row in rows if is_installed(row)]
    if not installed:
        LOGGER.warning(f"WARNING: no other runtime is installed: pip install {' or '.join(_packages(rows))}")
        return Choice(TORCH, weights)
    facts = circumstances(weights, installed)
    folder = place_for(weights, wanted, facts)
    known = remembered_in(folder, facts, weights)
    if known:
        return known
    with _replaced_when_done(folder) as work:
        found = _try_all(weights, installed, wanted, size_hw, prove, work)
        path = None if found.name == TORCH else found.path.name
        figures = {"milliseconds": found.milliseconds, "size_hw": found.size_hw}
        memory = facts | figures | {"name": found.name, "file": path}
        (work / MEMORY).write_text(json.dumps(memory, indent=1), encoding="utf-8")
    _remove_outdated(folder)
    return found if found.name == TORCH else replace(found, path=folder / found.path.name)


def _packages(rows: Sequence[Format]) -> list[str]:
    return [" ".join(dict.fromkeys((*row.needs, *row.runs_with))) for row in rows]


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
    """Remove what was found for earlier weights in the same file, a day ago or longer."""
    stem = folder.name.rpartition("-")[0]
    for other in folder.parent.iterdir():
        if other == folder or other.name.rpartition("-")[0] != stem:
            continue
        with suppress(OSError):  # another process may have been faster
            if time.time() - other.stat().st_mtime > OUTDATED:
                shutil.rmtree(other, ignore_errors=True)


def _try_all(
    weights: Path, rows: Sequence[Format], wanted: str, size_hw: tuple[int, int], prove: Prove, work: Path
) -> Choice:
    """Export to every runtime, measure, and leave the fastest alone in ``work``."""
    names = ", ".join(row.name for row in rows)
    LOGGER.info(f"Exporting {weights} to {names} and measuring; done once for these weights")
    model = build_model(read_checkpoint(weights), weights).fuse().requires_grad_(False)
    size_hw = input_size(size_hw, model.largest_stride)
    source = load_backend([weights], "cpu", parallel=core_count())
    paths = {TORCH: weights}
    backends: dict[str, Backend] = {TORCH: source}
    for row in rows:
        try:
            path = _export(row, model, source, weights, size_hw, prove, work)
            backends[row.name] = load_backend([path], "cpu", parallel=core_count(), pixels=True)
            paths[row.name] = path
        except Exception as error:  # converters raise anything; what they cannot do others may
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            if wanted != AUTO:
                raise UserError(f"--runtime {wanted}: {row.name} cannot run '{weights}': {first}") from error
            LOGGER.warning(f"WARNING: {row.name} left out: {first}")
    milliseconds = measure(backends, np.zeros((1, *size_hw, model.channels), np.uint8))
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
    whole, as_run = (load_written(row, path, settings, pixels=pixels) for pixels in (False, True))
    figures, faults = prove(source, whole, as_run.find_rows)
    if faults:
        raise UserError(f"too far from PyTorch: {'; '.join(faults)}")
    add_facts(row, path, facts | {"parity": figures})
    return path


def measure(backends: dict[str, Backend], pixels: np.ndarray, seconds: float = MEASURED_SECONDS) -> dict[str, float]:
    """Return the ms an image takes, by name: the median, with as many calls at a time as the runtime likes.

    The runtimes take turns, so that whatever else the machine does slows all of them.

    Args:
        backends: what is measured.
        pixels: (1, H, W, C) uint8.
        seconds: spent on each, at least.
    """

    def look(backend: Backend) -> None:
        list(threads.map(lambda _: backend.find_rows(pixels, CONFIDENCE), range(backend.parallel)))

    times: dict[str, list[float]] = {name: [] for name in backends}
    with ThreadPoolExecutor(max(backend.parallel for backend in backends.values())) as threads:
        for _ in range(FIRST_ROUNDS):
            for backend in backends.values():
                look(backend)
        while any(len(taken) < LEAST_ROUNDS or sum(taken) < seconds for taken in times.values()):
            for name, backend in backends.items():
                start = time.perf_counter()
                look(backend)
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) * 1000 / backends[name].parallel for name, taken in times.items()}
