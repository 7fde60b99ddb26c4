"""Train a detector: ``python train.py --cfg models/yolov5-NAM.yaml --data D.yaml``."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import find_file, make_run_folder
from utils.options import describe_options, make_options, run_command
from utils.train.options import TrainOptions

if TYPE_CHECKING:
    from utils.eval.evaluate import Evaluation
    from utils.train.run import Run


def main(options: TrainOptions) -> "Evaluation":
    """Train a new run or go on with an interrupted one, and measure its best weights."""
    import torch

    from models.plugins import load_plugins, save_plugins, saved_plugins
    from models.start import StartRequest, resume_model, start_model
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
        plugins = options.plugins or saved_plugins(resumed.plugins, folder / "plugins")
        options = make_options(TrainOptions, resumed.options | {"plugins": plugins})
        LOGGER.info(f"Going on with {folder} after epoch {resumed.epoch}, with the options it began with")
    LOGGER.info(describe_options("train", options))
    load_plugins(options.plugins)
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
    request = StartRequest(options.cfg, options.weights, options.insert, not options.no_preserve, hyp.anchors)
    model = resume_model(resumed, folder) if resumed and folder else start_model(request, config.names)
    image_size = fit_size(options.imgsz, model.largest_stride, floor=2 * model.largest_stride)
    samples = {split: load_samples(config, split) for split in ("train", "val")}
    if folder is None:
        folder = make_run_folder(options.project, options.name, options.exist_ok)
        save_plugins(model.yaml, folder / "plugins")
    run = Run(folder, options, hyp, config, samples, image_size, device)
    return measure_best(run, run.train(model, resumed).best)


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
