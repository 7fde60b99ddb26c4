"""Measure a model on a data set: ``python val.py --weights W --data D.yaml``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import ROOT, make_run_folder, runs_dir
from utils.options import describe_options, make_options, option, run_command

if TYPE_CHECKING:
    from models.formats import Metadata
    from utils.eval.evaluate import Evaluation


@dataclass
class ValOptions:
    """Options of val.py, with v6.1's names and defaults."""

    data: str = option(str(ROOT / "data/shapes10.yaml"), "data set YAML")
    weights: list[str] = option([], "model file; several make an ensemble [newest trained best.pt, else yolov5s.pt]")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    batch_size: int = option(32, "images a batch", least=1)
    imgsz: int = option(640, "longer side of the network input, px", "--img", "--img-size")
    conf_thres: float = option(0.001, "least score of a detection", least=0, most=1)
    iou_thres: float = option(0.6, "overlap above which a weaker box is dropped", least=0, most=1)
    max_det: int = option(300, "most detections of one image", least=1)
    task: str = option("val", "which part of the data set to measure on", choices=("train", "val", "test"))
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    workers: int = option(8, "most processes that load images", least=0)
    single_cls: bool = option(False, "treat all classes as one")
    verbose: bool = option(False, "list every class even if there are 50 or more")
    save_txt: bool = option(False, "write labels/<image>.txt")
    save_conf: bool = option(False, "add scores to those files")
    project: str = option(str(runs_dir("val")), "folder that holds runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "write into that folder even if it is there")
    half: bool = option(False, "FP16 inference, CUDA only")


def main(options: ValOptions) -> "Evaluation":
    """Measure, print the table and write the plots."""
    from models.formats import load_backend
    from models.plugins import load_plugins
    from utils.data.config import load_dataset_config
    from utils.data.loader import make_validation_loader
    from utils.data.splits import load_samples
    from utils.device import describe_device, select_device, use_half
    from utils.eval.evaluate import EvaluationSettings
    from utils.eval.report import measure, speed_line
    from utils.eval.sinks import LabelFileSink
    from utils.log import LOGGER, set_up_logging
    from utils.weights import newest_weights

    set_up_logging()
    LOGGER.info(describe_options("val", options))
    load_plugins(options.plugins)
    device = select_device(options.device)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    backend = load_backend(options.weights or [newest_weights()], device, use_half(options.half, device))
    config = load_dataset_config(options.data, (options.task,))
    config = config.as_single_class() if options.single_cls else config
    if not options.single_cls and len(backend.meta.names) != config.nc:
        raise UserError(
            f"the model knows {len(backend.meta.names)} classes, but {config.file} has {config.nc}; "
            "measure on the data set it was trained for, or with --single-cls"
        )
    if backend.meta.channels != config.channels:
        raise UserError(
            f"the model takes images of {backend.meta.channels} channels, but {config.file} says ch: {config.channels}"
            "; measure on the data set it was trained for, or correct 'ch'"
        )
    samples = load_samples(config, options.task)
    size, stride = validation_size(options.imgsz, backend.meta)
    channels = config.channels
    loader = make_validation_loader(samples, size, options.batch_size, stride, options.workers, channels=channels)
    if options.conf_thres > 0.001:
        LOGGER.warning(f"WARNING: --conf-thres {options.conf_thres} above 0.001 makes mAP lower than it is")
    folder = make_run_folder(options.project, options.name, options.exist_ok)
    sinks = [LabelFileSink(folder / "labels", options.save_conf)] if options.save_txt else []
    settings = EvaluationSettings(options.conf_thres, options.iou_thres, options.max_det, options.single_cls, device)
    result = measure(backend, loader, config.names, settings, folder, sinks, options.verbose)
    LOGGER.info(speed_line(result.speed_ms, (options.batch_size, channels, size, size)))
    return result


def validation_size(requested: int, meta: "Metadata") -> tuple[int, int | None]:
    """Return the longer side of the input, and the stride of rectangular batches or None for squares.

    Raises:
        UserError: the model takes one shape only, and that is no square.
    """
    from utils.log import LOGGER
    from utils.sizes import fit_size

    if meta.input_hw is None:
        return fit_size(requested, meta.stride), meta.stride
    height, width = meta.input_hw
    if height != width:
        raise UserError(f"the model takes images of {height}x{width} only; for val.py export it for a square")
    if requested != height:
        LOGGER.warning(f"WARNING: --imgsz {requested}: the model was exported for {height} px; using that")
    return height, None


def run(**options: Any) -> "Evaluation":
    """Measure from Python, with the names of the command-line options: ``run(data="coco128.yaml", imgsz=320)``."""
    return main(make_options(ValOptions, options))


if __name__ == "__main__":
    run_command("val.py", ValOptions, main, __doc__)
