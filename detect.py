"""Find objects in images: ``python detect.py --weights W --source file|folder|pattern``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import ROOT, make_run_folder, runs_dir
from utils.options import describe_options, make_options, option, run_command

if TYPE_CHECKING:
    from models.formats import Backend
    from utils.detect.detector import DetectionSettings
    from utils.detect.sinks import Sink


@dataclass
class DetectOptions:
    """Options of detect.py, with v6.1's names and defaults."""

    weights: list[str] = option([], "model file; several make an ensemble [newest trained best.pt, else yolov5s.pt]")
    source: str = option(str(ROOT / "data/images"), "image file, folder, or pattern such as 'images/*.jpg'")
    imgsz: list[int] = option([640], "network input: one side, or height and width, px", "--img", "--img-size")
    conf_thres: float = option(0.25, "least score of a detection", least=0, most=1)
    iou_thres: float = option(0.45, "overlap above which a weaker box is dropped", least=0, most=1)
    max_det: int = option(1000, "most detections of one image", least=1)
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    save_txt: bool = option(False, "write labels/<image>.txt")
    save_conf: bool = option(False, "add scores to those files")
    save_crop: bool = option(False, "write each object as crops/<class>/<image>.jpg")
    nosave: bool = option(False, "write no annotated images")
    classes: list[int] | None = option(None, "keep these class numbers only")
    agnostic_nms: bool = option(False, "suppress overlapping boxes of different classes too")
    project: str = option(str(runs_dir("detect")), "folder that holds runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "write into that folder even if it is there")
    line_thickness: int = option(3, "box line, px", least=1)
    hide_labels: bool = option(False, "draw boxes without text")
    hide_conf: bool = option(False, "draw labels without scores")
    half: bool = option(False, "FP16 inference, CUDA only")


def main(options: DetectOptions) -> Path | None:
    """Detect, write and print; return the run folder, or None when nothing is to be written."""
    from models.formats import load_backend
    from utils.data.sources import load_source
    from utils.detect.detector import Detector, describe
    from utils.device import describe_device, select_device, use_half
    from utils.eval.report import speed_line
    from utils.log import LOGGER, set_up_logging
    from utils.weights import newest_weights

    set_up_logging()
    LOGGER.info(describe_options("detect", options))
    source = load_source(options.source)
    device = select_device(options.device)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    backend = load_backend(options.weights or [newest_weights()], device, use_half(options.half, device))
    detector = Detector(backend, backend.meta.stride, detection_settings(options, backend), device)
    folder, sinks, input_hw = None, None, (0, 0)
    for frame in source:
        if sinks is None:  # not before there is a readable image to write
            folder, sinks = make_sinks(options, backend.meta.names)
        before = detector.clocks[1].seconds
        detections, input_hw = detector(frame.image)
        for sink in sinks:
            sink.write(frame, detections)
        LOGGER.info(
            f"image {frame.index + 1}/{frame.count} {frame.path}: {input_hw[0]}x{input_hw[1]} "
            f"{describe(detections, backend.meta.names)}Done. ({detector.clocks[1].seconds - before:.3f}s)"
        )
    LOGGER.info(speed_line(detector.milliseconds(), (1, 3, *input_hw)))
    if folder:
        LOGGER.info(f"Results saved to {folder}")
    return folder


def detection_settings(options: DetectOptions, backend: "Backend") -> "DetectionSettings":
    """Return the thresholds, and an input size the model takes."""
    from utils.detect.detector import DetectionSettings
    from utils.sizes import input_size

    unknown = set(options.classes or ()) - set(backend.meta.names)
    if unknown:
        raise UserError(f"--classes {min(unknown)}: the model has classes 0 to {max(backend.meta.names)} only")
    return DetectionSettings(
        size_hw=backend.meta.input_hw or input_size(options.imgsz, backend.meta.stride),
        confidence=options.conf_thres,
        iou=options.iou_thres,
        max_detections=options.max_det,
        classes=options.classes,
        agnostic=options.agnostic_nms,
        exact_shape=backend.meta.input_hw is not None,
    )


def make_sinks(options: DetectOptions, names: dict[int, str]) -> "tuple[Path | None, list[Sink]]":
    """Return the run folder, made only when something goes there, and what writes into it."""
    from utils.detect.sinks import CropSink, ImageSink, LabelSink

    if options.nosave and not options.save_txt and not options.save_crop:
        return None, []
    folder = make_run_folder(options.project, options.name, options.exist_ok)
    sinks: list[Sink] = []
    if not options.nosave:
        sinks.append(ImageSink(folder, names, options.line_thickness, options.hide_labels, options.hide_conf))
    if options.save_txt:
        sinks.append(LabelSink(folder / "labels", options.save_conf))
    if options.save_crop:
        sinks.append(CropSink(folder / "crops", names))
    return folder, sinks


def run(**options: Any) -> Path | None:
    """Detect from Python, with the names of the command-line options: ``run(source="a.jpg", save_txt=True)``."""
    return main(make_options(DetectOptions, options))


if __name__ == "__main__":
    run_command("detect.py", DetectOptions, main, __doc__)
