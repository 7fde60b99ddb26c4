"""What an exported file says of itself: written by every format in its own place, read back when it is loaded."""

import ast
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.formats.backend import Metadata

if TYPE_CHECKING:
    from models.formats.settings import ExportSettings
    from models.yolo import Model

Facts = dict[str, Any]
"""Values that JSON and YAML know; the keys are those of ``facts_of``, ``parity`` joins them after the proof."""

ALL = "facts"  # key that holds everything as JSON, in files whose metadata are pairs of texts
DEFAULT_STRIDE, MOST_STRIDE = 32, 1024  # px
HASH_LENGTH = 16  # hexadecimal digits


def facts_of(model: "Model", settings: "ExportSettings", weights: Path) -> Facts:
    """Return the facts of an export of ``model``, which was read from ``weights``."""
    return {
        "stride": model.largest_stride,
        "names": dict(model.names),
        "shape": [settings.batch_size, model.channels, *settings.input_hw],
        "dynamic": settings.dynamic,
        "half": settings.half,
        "int8": settings.int8,
        "nms": settings.nms is not None,
        "operating_point": model.operating_point,
        "strides": [float(stride) for stride in model.detect.strides],
        "anchors": model.detect.anchors_px.tolist(),
        "weights": weights.name,
        "weights_hash": hash_of(weights),
    }


def hash_of(path: Path) -> str:
    """Return the first digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_LENGTH]


def to_texts(facts: Facts) -> dict[str, str]:
    """Return facts as pairs of texts; ``stride`` and ``names`` as later versions of YOLOv5 write them."""
    return {"stride": str(facts["stride"]), "names": str(facts["names"]), ALL: json.dumps(facts)}


def from_texts(texts: Mapping[str, str]) -> Facts:
    """Return the facts in pairs of texts, written by ``to_texts`` or by later YOLOv5; {} if there are none.

    Raises:
        ValueError: the texts are malformed.
    """
    if ALL in texts:
        return tidy(json.loads(texts[ALL]))
    try:
        return tidy({key: ast.literal_eval(texts[key]) for key in ("stride", "names") if key in texts})
    except SyntaxError as error:
        raise ValueError(str(error)) from error


def tidy(facts: Mapping[str, Any]) -> Facts:
    """Return facts with class names by number: JSON knows only texts as keys, and v6.1 wrote a list.

    Raises:
        ValueError: names, stride, shape, strides or anchors are something else.
    """
    if not isinstance(facts, Mapping):
        raise ValueError(f"they are {type(facts).__name__}")
    stride, shape = facts.get("stride", DEFAULT_STRIDE), facts.get("shape")
    if not isinstance(stride, int | float) or not 0 < stride < MOST_STRIDE:
        raise ValueError(f"the stride is {stride!r}")
    if shape is not None and not (isinstance(shape, list) and len(shape) == 4 and isinstance(shape[1], int)):
        raise ValueError(f"the shape is {shape!r}")
    _check_levels(facts.get("strides", []), facts.get("anchors", []))
    if "names" not in facts:
        return dict(facts)
    names = facts["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        raise ValueError(f"class names are {type(names).__name__}")
    return {**facts, "names": {int(index): str(name) for index, name in names.items()}}


def _check_levels(strides: Any, anchors: Any) -> None:
    """See that strides and anchors are numbers that belong together, see models/formats/levels.py."""
    try:
        shapes = [np.array(pairs, np.float32).shape for pairs in anchors]
        good = len(shapes) == len(strides) and all(0 < stride < MOST_STRIDE for stride in strides)
        good = good and all(len(shape) == 2 and shape[1] == 2 for shape in shapes)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise ValueError(f"strides and anchors are {strides!r} and {anchors!r}")


def metadata_from(facts: Facts, input_hw: tuple[int, int] | None, names: Mapping[int, str]) -> Metadata:
    """Return what the rest of the project wants to know.

    Args:
        facts: of the file; may be empty, files of v6.1 say little or nothing.
        input_hw: the only input size, as the runtime tells it.
        names: of the classes, where the file has none.
    """
    shape = facts.get("shape") or (1, 3)
    return Metadata(
        stride=int(facts.get("stride", DEFAULT_STRIDE)),
        names=facts.get("names") or dict(names),
        input_hw=input_hw,
        channels=int(shape[1]),
        operating_point=facts.get("operating_point"),
    )
