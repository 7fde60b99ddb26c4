"""Who listens to a run: console, results.csv, pictures, loggers."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

from utils.cores import core_count
from utils.hooks.base import Hook
from utils.hooks.console import Console
from utils.hooks.csv_file import CsvFile, Figure
from utils.hooks.facts import RunFacts
from utils.hooks.first_batch import FirstBatch
from utils.hooks.loggers import make_loggers
from utils.hooks.pictures import TrainingPictures
from utils.hooks.scales import ScaleFigures
from utils.hooks.zero_map import ZeroMap
from utils.train.fit import Fit
from utils.train.hyperparameters import as_dict
from utils.train.sanity import count_classes
from utils.train.setup import Setup
from utils.train.sparsity import sparse_scales
from utils.train.state import TrainState

if TYPE_CHECKING:
    from models.yolo import Model


def make_hooks(setup: Setup, fit: Fit, state: TrainState, folder: Path) -> tuple[CsvFile, list[Hook]]:
    """Return the writer of results.csv, and all listeners, itself included.

    Args:
        setup: of the run.
        fit: its epochs.
        state: before the first of them, or where the run goes on.
        folder: the run folder.
    """
    options, draws, parts = setup.options, not setup.options.noplots, fit.step.criterion.part_names
    head, average = cast("Model", state.model).detect, state.average
    figures: dict[str, Figure] = {}
    if "nam" in parts:
        figures["train/nam_loss"] = lambda report: report.losses[parts.index("nam")]
    scales = sparse_scales(average.model)
    scale_figures = ScaleFigures(folder, scales, state.epoch, draws) if scales else None
    if scale_figures:
        figures[scale_figures.column] = lambda _: scale_figures.share_below()
    csv = CsvFile(folder / "results.csv", state.epoch, figures, state.results, draws)
    cores = min(core_count() // setup.processes.local_size, options.batch_size)
    boxes = count_classes(setup.samples["train"], setup.config.nc)
    hooks: list[Hook] = [
        Console(parts, fit.loader.workers, cores, options.cache in ("ram", "disk")),
        csv,
        FirstBatch(head.anchors.cpu(), head.strides, setup.hyp.anchor_t),
        ZeroMap(boxes, fit.schedule.warmup, not options.weights, lambda: average.updates, lambda: csv.lines),
    ]
    if draws:
        hooks.append(TrainingPictures(folder, setup.config.names))
    if scale_figures:
        hooks.append(scale_figures)
    settings = dataclasses.asdict(options), as_dict(setup.hyp)
    facts = RunFacts(folder, Path(options.project), *settings, state.epoch, figures, average.model)
    return csv, [*hooks, *make_loggers(options.log_to, facts)]
