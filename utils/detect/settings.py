"""Options to settings: the input size a model takes, and from which scores detections count."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from utils.detect.detector import DetectionSettings
from utils.detect.options import DetectOptions
from utils.errors import UserError
from utils.eval.operating_point import OperatingPoint
from utils.log import LOGGER
from utils.sizes import input_size

if TYPE_CHECKING:
    from models.formats import Metadata

MOST_LISTED = 10  # classes; of more, only the extremes are told


def detection_settings(options: DetectOptions, meta: "Metadata") -> DetectionSettings:
    """Return how the model that ``meta`` describes is to be used.

    Raises:
        UserError: a class it does not have, a size it cannot take, or measured scores that nobody has measured.
    """
    unknown = set(options.classes or ()) - set(meta.names)
    if unknown:
        raise UserError(f"--classes {min(unknown)}: the model has classes 0 to {max(meta.names)} only")
    wanted = {index: meta.names[index] for index in options.classes or meta.names}
    point = OperatingPoint.stored(meta.operating_point)
    confidence, class_confidence = resolve_thresholds(options.conf_thres, point, wanted, options.weights)
    return DetectionSettings(
        size_hw=network_size(options, meta),
        confidence=confidence,
        class_confidence=class_confidence,
        iou=options.iou_thres,
        max_detections=options.max_det,
        classes=options.classes,
        agnostic=options.agnostic_nms,
        exact_shape=meta.input_hw is not None,
    )


def network_size(options: DetectOptions, meta: "Metadata") -> tuple[int, int]:
    """Return height and width of the network's input, px, which for some files is the only one they take.

    Raises:
        UserError: --imgsz names another one.
    """
    wanted = input_size(options.imgsz, meta.stride)
    if meta.input_hw is None or wanted == meta.input_hw:
        return wanted
    height, width = meta.input_hw
    file = f"'{options.weights[0]}'" if len(options.weights) == 1 else "one of the --weights"
    if options.imgsz != DetectOptions().imgsz:
        raise UserError(
            f"--imgsz {' '.join(map(str, options.imgsz))}: {file} takes images of {height}x{width} px only; leave "
            f"--imgsz out, or export the model with --dynamic"
        )
    LOGGER.info(f"Images are fitted to {height}x{width} px, which is all that {file} takes")
    return meta.input_hw


def resolve_thresholds(
    wanted: float | str, point: OperatingPoint | None, names: Mapping[int, str], weights: Sequence[str]
) -> tuple[float, dict[int, float] | None]:
    """Return the least score of any detection, and that of each class where they differ; say what is used.

    Args:
        wanted: a score, or ``"auto"`` or ``"per-class"``: what was measured for the model.
        point: that measurement.
        names: the classes looked for, by index.
        weights: the model's files, for errors.

    Raises:
        UserError: the measurement is wanted and there is none.
    """
    if not isinstance(wanted, str):
        return wanted, None
    if point is None and len(weights) > 1:
        raise UserError(f"--conf-thres {wanted} is measured for one model, got {len(weights)} files; give a number")
    if point is None:
        raise UserError(
            f"--conf-thres {wanted}: '{weights[0]}' holds no measured scores; give a number, or measure it: "
            f"python val.py --weights {weights[0]} --data DATA.yaml --save-point"
        )
    if wanted == "auto":
        LOGGER.info(f"--conf-thres auto: {point.confidence:g}, where F1 was highest")
        return point.confidence, None
    thresholds = point.thresholds(names)
    LOGGER.info(f"--conf-thres per-class: {_described(thresholds, names)}, where F1 was highest")
    return min(thresholds.values()), thresholds


def _described(thresholds: Mapping[int, float], names: Mapping[int, str]) -> str:
    ordered = sorted(thresholds, key=thresholds.__getitem__) if len(thresholds) > MOST_LISTED else list(thresholds)
    parts = [f"{names[index]} {thresholds[index]:g}" for index in ordered]
    return ", ".join(parts) if len(parts) <= MOST_LISTED else f"from {parts[0]} to {parts[-1]}"
