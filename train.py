"""Train a detector: ``python train.py --cfg models/yolov5-NAM.yaml --data D.yaml``."""

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import find_file, make_run_folder, runs_dir
from utils.options import describe_options, make_options, run_command
from utils.train.options import TrainOptions, check_combinations

if TYPE_CHECKING:
    import torch

    from models.yolo import Model
    from utils.distributed import Processes
    from utils.eval.evaluate import Evaluation
    from utils.train.hyperparameters import Hyperparameters
    from utils.train.resume import Resumable
    from utils.train.run import Run
    from utils.train.setup import Setup


def main(options: TrainOptions) -> "Evaluation | Hyperparameters | None":
    """Train a new run or go on with an interrupted one and measure its best weights, or search hyperparameters.

    Returns:
        the final measurement, or the best hyperparameters; None on all but the main one of several processes.
    """
    from models.plugins import load_plugins
    from utils.device import describe_device, select_device
    from utils.distributed import Processes
    from utils.hooks.loggers import check_loggers
    from utils.log import LOGGER, set_up_logging

    processes = Processes.from_environment()
    set_up_logging(processes.is_main)
    with processes.main_speaks_first():
        check_combinations(options, processes.size)
        processes = processes.met()
        options, resumed = choose_start(options, processes)
        LOGGER.info(describe_options("train", options))
        check_loggers(options.log_to)
        load_plugins(options.plugins)
        device = select_device(options.device, processes)
        together = f", {processes.size} processes" if processes.size > 1 else ""
        LOGGER.info(f"YOLOv5-NAM {describe_device(device)}{together}")
        setup = prepare(options, resumed, device, processes)
    if options.evolve:
        return search_hyperparameters(setup)
    with processes.connected(device):
        run, folder, best = train_once(setup, resumed)
    if not processes.is_main:
        return None
    try:
        return measure_best(run, folder, best)
    finally:
        run.close()


def choose_start(options: TrainOptions, processes: "Processes") -> tuple[TrainOptions, "Resumable | None"]:
    """Return the options in force and the run to go on with, None for a new one."""
    from models.plugins import saved_plugins
    from utils.log import LOGGER
    from utils.train.resume import find_restarted, find_resumable, resumed_options

    before, plugins = processes.remembered_run(), options.plugins
    resumed = find_restarted(before) if before else None
    if resumed:
        options, plugins = resumed_options(resumed, TrainOptions()), []  # those of the run itself
    elif options.resume and not options.evolve:
        resumed = find_resumable(options.resume, Path(options.project))
        options = resumed_options(resumed, options)
    if resumed:
        options.plugins = plugins or saved_plugins(resumed.checkpoint.plugins, resumed.plugins)
        LOGGER.info(
            f"Going on with {resumed.folder or resumed.file} after {resumed.epochs_done} epochs, with its options"
        )
    return options, resumed


def prepare(
    options: TrainOptions, resumed: "Resumable | None", device: "torch.device", processes: "Processes"
) -> "Setup":
    """Read hyperparameters and data."""
    import torch

    from utils.data.config import load_dataset_config
    from utils.data.splits import load_samples
    from utils.train.hyperparameters import Hyperparameters, read_hyperparameters
    from utils.train.resume import require_same_channels, require_same_classes
    from utils.train.setup import Setup

    if resumed:
        hyp = Hyperparameters(**resumed.checkpoint.hyperparameters)
    else:
        hyp = read_hyperparameters(find_file(options.hyp, "--hyp"))
        hyp = dataclasses.replace(hyp, label_smoothing=options.label_smoothing)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.deterministic = True  # as in v6.1
    with processes.in_turn(options.data):
        try:
            config = load_dataset_config(options.data)
        except UserError as error:
            hint = "; if it has moved, name it with --data" if resumed else ""
            raise UserError(f"{error}{hint}") from error
        options.data = str(config.file.resolve())  # so that the run can be resumed from any folder
        config = config.as_single_class() if options.single_cls else config
        if resumed:
            require_same_classes(resumed.checkpoint.names, config.names, config.file)
            require_same_channels(resumed.checkpoint.channels, config.channels, config.file)
        samples = {split: load_samples(config, split) for split in ("train", "val")}
    return Setup(options, hyp, config, samples, device, processes)


def build_model(setup: "Setup") -> "Model":
    """Return the network that a new run begins with."""
    from models.start import StartRequest, start_model
    from utils.weights import pretrained_weights

    options = setup.options
    if options.weights is None:
        options.weights = str(pretrained_weights() or "")
    request = StartRequest(options.cfg, options.weights, options.insert, not options.no_preserve, setup.hyp.anchors)
    return start_model(request, setup.config.names, setup.config.channels)


def train_once(setup: "Setup", resumed: "Resumable | None") -> tuple["Run", Path, Path]:
    """Train; return the run, its folder and the best checkpoint."""
    from models.plugins import save_plugins
    from models.start import resume_model
    from utils.train.resume import bring_best
    from utils.train.run import Run

    options, processes = setup.options, setup.processes
    processes.check_same(
        training_images=len(setup.samples["train"]),
        validation_images=len(setup.samples["val"]),
        goes_on=resumed is not None,
        finished_epochs=resumed.epochs_done if resumed else 0,
    )
    model = resume_model(resumed.checkpoint, resumed.file) if resumed else build_model(setup)
    run = Run(setup, model, resumed.checkpoint if resumed else None)
    folder = resumed.folder if resumed else None
    if folder is None:
        reuses = options.exist_ok and not resumed
        made = make_run_folder(options.project, options.name, reuses) if processes.is_main else Path()
        folder = processes.broadcast(made)
        if processes.is_main:
            save_plugins(model.yaml, folder / "plugins")
            if resumed:
                bring_best(resumed, folder)
    processes.remember_run(folder)
    return run, folder, run.train(folder)


def search_hyperparameters(setup: "Setup") -> "Hyperparameters":
    """Train again and again, with hyperparameters that promise more each time."""
    import torch

    from utils.log import quietly
    from utils.search.search import Report, search
    from utils.train.run import Run

    options = setup.options
    project = runs_dir("evolve") if options.project == TrainOptions.project else options.project
    folder = make_run_folder(str(project), options.name, options.exist_ok or bool(options.resume))
    if (folder / "weights").exists():
        raise UserError(f"'{folder}' is the folder of a training run; choose another --name for the search")

    trials = itertools.count()

    def objective(hyp: "Hyperparameters", report: Report) -> tuple[float, ...]:
        trial = dataclasses.replace(setup, hyp=hyp)
        torch.manual_seed(options.seed)  # all trials begin with the same weights
        with quietly(next(trials) > 0):  # what the first one says goes for all of them
            return Run(trial, build_model(trial)).measure(report)

    storage, seed, draws = options.evolve_storage, options.seed, not options.noplots
    return search(folder, setup.hyp, options.evolve or 0, objective, storage=storage, seed=seed, draws=draws)


def measure_best(run: "Run", folder: Path, best: Path) -> "Evaluation":
    """Print the table per class of a run's best weights, and write its plots."""
    from models.formats import load_backend
    from utils.eval.coco_json import is_coco, save_predictions
    from utils.eval.report import Leavings, measure
    from utils.log import LOGGER
    from utils.train.validation import in_parts_if_needed

    LOGGER.info(f"\nMeasuring {best}")
    setup = run.setup
    backend = load_backend([best], setup.device)
    loader = run.batches.validation(backend.meta.stride, keep=False)
    facts = {"weights": str(best), "data": f"{setup.config.file}, val", "input": f"{run.image_size} px"}
    result = measure(
        in_parts_if_needed(backend),
        loader,
        setup.config.names,
        setup.final_settings,
        Leavings(folder, every_class=True, draws=not setup.options.noplots, facts=facts),
    )
    if is_coco(setup.config) and result.findings:
        save_predictions(result.findings, folder / f"{best.stem}_predictions.json", setup.config, "val")
        run.add_final_row(result)
    return result


def run(**options: Any) -> "Evaluation | Hyperparameters | None":
    """Train from Python, with the names of the command-line options: ``run(data="my.yaml", epochs=30)``."""
    return main(make_options(TrainOptions, options))


if __name__ == "__main__":
    run_command("train.py", TrainOptions, main, __doc__)
