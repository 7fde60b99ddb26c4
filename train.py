"""Train a detector: ``python train.py --cfg models/yolov5-NAM.yaml --data D.yaml``."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import find_file, make_run_folder
from utils.options import describe_options, make_options, run_command
from utils.train.options import TrainOptions

if TYPE_CHECKING:
    from models.yolo import Model
    from utils.checkpoint import Checkpoint
    from utils.eval.evaluate import Evaluation
    from utils.train.run import Run


def main(options: TrainOptions) -> "Evaluation":
    """Train a new run or go on with an interrupted one, and measure its best weights."""
    import torch

    from utils.data.config import load_dataset_config
    from utils.data.dataset import load_samples
    from utils.device import describe_device, select_device
    from utils.log import LOGGER, set_up_logging
    from utils.sizes import fit_size
    from utils.train.hyperparameters import Hyperparameters, read_hyperparameters
    from utils.train.resume import find_resumable
    from utils.train.run import Run

    set_up_logging()
    folder, resumed = None, None
    if options.resume:
        folder, resumed = find_resumable(options.resume, Path(options.project))
        options = make_options(TrainOptions, resumed.options)
        LOGGER.info(f"Going on with {folder} after epoch {resumed.epoch}, with the options it began with")
    LOGGER.info(describe_options("train", options))
    device = select_device(options.device)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    if resumed:
        hyp = Hyperparameters(**resumed.hyperparameters)
    else:
        hyp = read_hyperparameters(find_file(options.hyp, "--hyp"))
        hyp = dataclasses.replace(hyp, label_smoothing=options.label_smoothing)
    config = load_dataset_config(options.data)
    options.data = str(config.file.resolve())  # so that the run can be resumed from any folder
    config = config.as_single_class() if options.single_cls else config
    if resumed and len(resumed.names) != config.nc:
        raise UserError(f"{config.file} has {config.nc} classes now, but the run began with {len(resumed.names)}")
    torch.manual_seed(options.seed)
    model = make_model(options, config.names, hyp.anchors, resumed)
    image_size = fit_size(options.imgsz, model.largest_stride, floor=2 * model.largest_stride)
    samples = {split: load_samples(config, split) for split in ("train", "val")}
    folder = folder or make_run_folder(options.project, options.name, options.exist_ok)
    run = Run(folder, options, hyp, config, samples, image_size, device)
    return measure_best(run, run.train(model, resumed).best)


def make_model(
    options: TrainOptions, names: dict[int, str], anchors: float | None, resumed: "Checkpoint | None"
) -> "Model":
    """Build the network for the data set's classes, and start it from ``--weights`` where they fit."""
    from models.summary import layer_table, summary_line
    from models.yolo import Model
    from utils.checkpoint import read_checkpoint
    from utils.log import LOGGER
    from utils.train.transfer import log_transfer, transfer_weights
    from utils.weights import PRETRAINED, pretrained_weights

    weights = pretrained_weights() if options.weights is None else options.weights
    start = None if resumed or not weights else read_checkpoint(Path(weights))
    source = resumed.yaml if resumed else options.cfg or (start and start.yaml)
    if not source:
        raise UserError(
            "nothing to train: name a model with --cfg models/yolov5-NAM.yaml, or a checkpoint with --weights"
        )
    model = Model(source, nc=len(names), anchors=anchors)
    model.names = names
    LOGGER.info(layer_table(model))
    LOGGER.info(summary_line(model))
    if start:
        with_anchors = not options.cfg and anchors is None  # v6.1: a --cfg or hyp file brings anchors of its own
        transfer = transfer_weights(model, start.state, with_anchors)
        log_transfer(transfer, str(weights), [row.type for row in model.rows])
    elif not resumed:
        LOGGER.info(f"Training from scratch; to start from pretrained weights put {PRETRAINED} here or use --weights")
    return model


def measure_best(run: "Run", best: Path) -> "Evaluation":
    """Print the table per class of a run's best weights, and write its plots."""
    from models.formats.pytorch import load
    from utils.eval.report import measure
    from utils.log import LOGGER

    LOGGER.info(f"\nMeasuring {best}")
    backend = load(best, run.device)
    loader = run.validation_loader(backend.meta.stride)
    return measure(backend, loader, run.config.names, run.evaluation_settings(), run.folder)


def run(**options: Any) -> "Evaluation":
    """Train from Python, with the names of the command-line options: ``run(data="my.yaml", epochs=30)``."""
    return main(make_options(TrainOptions, options))


if __name__ == "__main__":
    run_command("train.py", TrainOptions, main, __doc__)
