"""Hyperparameters: v6.1's names and "scratch-low" defaults, read from data/hyps/*.yaml."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError, near_matches
from utils.files import read_yaml
from utils.log import LOGGER

OPTIONAL = {"anchors", "nam_l1", "mosaic9", "cutout", "albumentations"}  # not in files of v6.1
FRACTIONS = (
    "momentum",
    "warmup_momentum",
    "flipud",
    "fliplr",
    "mosaic",
    "mixup",
    "copy_paste",
    "mosaic9",
    "cutout",
    "albumentations",
)


@dataclass(frozen=True)
class Hyperparameters:
    """Everything about training that is a number and no command-line option."""

    lr0: float = 0.01  # initial learning rate
    lrf: float = 0.01  # final learning rate as a fraction of lr0
    momentum: float = 0.937
    weight_decay: float = 0.0005
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.1
    box: float = 0.05  # gain of the box loss
    cls: float = 0.5  # gain of the class loss
    cls_pw: float = 1.0  # weight of positives in the class loss
    obj: float = 1.0  # gain of the objectness loss
    obj_pw: float = 1.0  # weight of positives in the objectness loss
    iou_t: float = 0.2  # read for v6.1's files, which do not use it either
    anchor_t: float = 4.0  # largest ratio of box to anchor side that still matches
    anchors: float | None = None  # anchors per level, overrides the model YAML
    fl_gamma: float = 0.0  # focal loss γ, 0 is plain BCE
    nam_l1: float = 0.0  # weight of the L1 penalty on the scales of NAM layers, 0 is none
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    degrees: float = 0.0
    translate: float = 0.1  # ± fraction
    scale: float = 0.5  # ± gain
    shear: float = 0.0  # ± degrees
    perspective: float = 0.0  # ± fraction, up to 0.001
    flipud: float = 0.0  # probability
    fliplr: float = 0.5  # probability
    mosaic: float = 1.0  # probability
    mixup: float = 0.0  # probability
    copy_paste: float = 0.0  # fraction of outlined objects
    mosaic9: float = 0.0  # fraction of mosaics with nine tiles instead of four
    cutout: float = 0.0  # probability
    albumentations: float = 1.0  # probability that v6.1's optional transforms are tried, if the package is there
    label_smoothing: float = 0.0  # from the command line, as in v6.1


def read_hyperparameters(path: Path) -> Hyperparameters:
    """Read a hyperparameter YAML. Keys it lacks keep their default; those that v6.1 has are named in one log line.

    Raises:
        UserError: unknown key (near matches are named), or a value that is not a number or out of range.
    """
    content = read_yaml(path)
    known = {field.name for field in dataclasses.fields(Hyperparameters)} - {"label_smoothing"}
    for key, value in content.items():
        if key not in known:
            raise UserError(f"{path}: unknown hyperparameter '{key}'{near_matches(key, known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{path}: {key} is {value!r}, expected a number (write 1e-3 as 0.001 or 1.0e-3)")
        most = 1.0 if key in FRACTIONS else sys.float_info.max
        if not 0 <= value <= most:  # NaN is not, either
            raise UserError(f"{path}: {key} is {value}, expected a number {'from 0 to 1' if most == 1 else 'from 0'}")
    missing = sorted(known - content.keys() - OPTIONAL)
    if missing:
        LOGGER.info(f"{path} does not set {', '.join(missing)}; their defaults are used")
    return Hyperparameters(**{key: float(value) for key, value in content.items()})


def scale_gains(hyp: Hyperparameters, levels: int, classes: int, image_size: int) -> Hyperparameters:
    """Fit the loss gains to the head and image size, as v6.1 does: they are tuned for 3 levels, 80 classes, 640 px."""
    return dataclasses.replace(
        hyp,
        box=hyp.box * 3 / levels,
        cls=hyp.cls * classes / 80 * 3 / levels,
        obj=hyp.obj * (image_size / 640) ** 2 * 3 / levels,
    )


def as_dict(hyp: Hyperparameters) -> dict[str, Any]:
    """Return the values by name, without those that are not set."""
    return {key: value for key, value in dataclasses.asdict(hyp).items() if value is not None}
