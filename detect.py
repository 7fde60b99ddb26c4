"""Find objects in images: ``python detect.py --weights W --source file|folder|pattern``."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.detect.options import DetectOptions
from utils.errors import UserError
from utils.files import make_run_folder
from utils.options import describe_options, make_options, run_command

if TYPE_CHECKING:
    from models.formats import Backend
    from utils.detect.sinks import Sink
    from utils.detect.visualize import RowWatch


def main(options: DetectOptions) -> Path | None:
    """Detect, write and print; return the run folder, or None when nothing is to be written."""
    from models.formats import load_backend
    from models.plugins import load_plugins
    from utils.data.sources import load_source
    from utils.detect.detector import Detector, describe
    from utils.detect.settings import detection_settings
    from utils.device import describe_device, select_device, use_half
    from utils.eval.report import speed_line
    from utils.log import LOGGER, set_up_logging
    from utils.weights import newest_weights

    set_up_logging()
    LOGGER.info(describe_options("detect", options))
    load_plugins(options.plugins)
    source = load_source(options.source)
    device = select_device(options.device)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    options.weights = options.weights or [str(newest_weights())]
    backend = load_backend(options.weights, device, use_half(options.half, device), options.augment)
    source.channels = backend.meta.channels
    detector = Detector(backend, backend.meta.stride, detection_settings(options, backend.meta), device)
    folder, sinks, input_hw = None, None, (0, 0)
    with row_watch(options, backend) as watch:
        for frame in source:
            if sinks is None:  # not before there is a readable image to write
                folder, sinks = make_sinks(options, backend.meta.names, watch)
            before = detector.clocks[1].seconds
            detections, input_hw = detector(frame.image, frame.path)
            for sink in sinks:
                sink.write(frame, detections)
            LOGGER.info(
                f"image {frame.index + 1}/{frame.count} {frame.path}: {input_hw[0]}x{input_hw[1]} "
                f"{describe(detections, backend.meta.names)}Done. ({detector.clocks[1].seconds - before:.3f}s)"
            )
    LOGGER.info(speed_line(detector.milliseconds(), (1, source.channels, *input_hw)))
    if folder:
        LOGGER.info(f"Results saved to {folder}")
    return folder


def row_watch(options: DetectOptions, backend: "Backend") -> "AbstractContextManager[RowWatch | None]":
    """Return what sees the layers of the network work, if that is wanted."""
    if not options.visualize:
        return nullcontext()
    from models.formats.pytorch import PyTorchBackend
    from utils.detect.visualize import RowWatch

    if not isinstance(backend, PyTorchBackend):
        got = f"{len(options.weights)} files" if len(options.weights) > 1 else f"'{options.weights[0]}'"
        raise UserError(f"--visualize looks into one PyTorch model, got {got}; name one .pt file with --weights")
    if options.augment:
        raise UserError("--visualize shows one look at an image, --augment takes three; leave one of them out")
    return RowWatch(backend.model.model, {row.index for row in backend.model.rows if row.is_gate})


def make_sinks(
    options: DetectOptions, names: dict[int, str], watch: "RowWatch | None"
) -> "tuple[Path | None, list[Sink]]":
    """Return the run folder, made only when something goes there, and what writes into it."""
    from utils.detect.sinks import CropSink, ImageSink, LabelSink

    if options.nosave and not options.save_txt and not options.save_crop and not watch:
        return None, []
    folder = make_run_folder(options.project, options.name, options.exist_ok)
    sinks: list[Sink] = []
    if not options.nosave:
        sinks.append(ImageSink(folder, names, options.line_thickness, options.hide_labels, options.hide_conf))
    if options.save_txt:
        sinks.append(LabelSink(folder / "labels", options.save_conf))
    if options.save_crop:
        sinks.append(CropSink(folder / "crops", names))
    if watch:
        from utils.detect.visualize import StageSink

        sinks.append(StageSink(folder, watch))
    return folder, sinks


def run(**options: Any) -> Path | None:
    """Detect from Python, with the names of the command-line options: ``run(source="a.jpg", save_txt=True)``."""
    return main(make_options(DetectOptions, options))


if __name__ == "__main__":
    run_command("detect.py", DetectOptions, main, __doc__)
