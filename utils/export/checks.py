"""What can be known to go wrong is refused before any work starts."""

import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from utils.errors import UserError, near_matches
from utils.export.options import FLAGS, FORMAT_OPTIONS, NMS_OPTIONS, ExportOptions
from utils.log import LOGGER
from utils.options import given_options

if TYPE_CHECKING:
    from models.formats import Format

MODULE_OF = {  # where pip and Python call a package by different names
    "paddlepaddle": "paddle",
    "litert-torch": "litert_torch",
    "ai-edge-litert": "ai_edge_litert",
}


def chosen_formats(names: Iterable[str], known: "Mapping[str, Format]") -> "list[Format]":
    """Return the rows that ``--include`` names, each once, in the order of the table.

    Args:
        names: words of any case, ``onnx,openvino`` too.
        known: rows by the word that names them.

    Raises:
        UserError: a word names none.
    """
    words = [word for name in names for word in name.lower().split(",") if word]
    for word in words:
        if word not in known:
            hint = near_matches(word, known) or f"; known: {', '.join(known)}"
            raise UserError(f"--include {word}: unknown format{hint}")
    if not words:
        raise UserError(f"--include names no format; known: {', '.join(known)}")
    return [row for word, row in known.items() if word in words]


def check_options(
    options: ExportOptions, rows: "Sequence[Format]", known: "Mapping[str, Format]", device: torch.device
) -> None:
    """Refuse options that do not go together, or that no chosen format understands.

    Args:
        options: of the command line.
        rows: the formats chosen.
        known: all of them, by the word that names them.
        device: where to export.

    Raises:
        UserError: naming the options and what to do.
    """
    _check_understood(options, rows, known)
    if options.half and options.int8:
        raise UserError("--half and --int8 are two precisions; drop one of them")
    if not options.nms:
        for name in NMS_OPTIONS:
            if is_on(options, name):
                raise UserError(f"{_flag(name)} is for suppression inside the graph; add --nms, or drop it")
    int8 = [row for row in rows if (options.int8 and "int8" in row.options) or "int8" in row.implied]
    if int8 and not options.data:
        raise UserError(
            f"INT8 ({', '.join(row.argument for row in int8)}) is fitted to images like those the model will see; name "
            "their data set with --data"
        )
    if not int8 and is_on(options, "calibration_images"):
        raise UserError("--calibration-images is for INT8; add --int8, or drop it")
    if options.per_tensor and not options.int8:
        raise UserError("--per-tensor is a way of INT8; add --int8, or drop it")
    _check_device(options, rows, device)


def _check_understood(options: ExportOptions, rows: "Sequence[Format]", known: "Mapping[str, Format]") -> None:
    """Refuse an option that no chosen format understands; warn of those that some do not."""
    for field in FORMAT_OPTIONS:
        flag = FLAGS.get(field, field)
        ignoring = ", ".join(row.argument for row in rows if field not in row.options)
        if not ignoring or not is_on(options, flag):
            continue
        if any(field in row.options for row in rows):
            LOGGER.warning(f"WARNING: {_flag(flag)} means nothing to {ignoring}, which will be written without it")
            continue
        able = ", ".join(word for word, row in known.items() if field in row.options)
        raise UserError(f"{_flag(flag)} means nothing to {ignoring}; formats that understand it: {able or 'none'}")


def _check_device(options: ExportOptions, rows: "Sequence[Format]", device: torch.device) -> None:
    for row in rows:
        if row.gpu and not row.cpu and device.type != "cuda":
            raise UserError(f"{row.name} is made on the GPU that will run it; export it there with --device 0")
        if options.half and row.half_on_gpu and device.type != "cuda":
            raise UserError(
                f"--half: {row.name} computes in FP16 on a CUDA device only; add --device 0, or drop --half or "
                f"{row.argument}"
            )
        if options.optimize and row.argument == "torchscript" and device.type != "cpu":
            raise UserError("--optimize is for the processors of mobile devices; use --device cpu")


def check_packages(rows: "Sequence[Format]", may_stay_unproven: bool = False) -> None:
    """See that all packages for writing and running the chosen formats are there.

    Args:
        rows: the formats chosen.
        may_stay_unproven: those for running may be missing.

    Raises:
        UserError: naming all that are missing.
    """
    missing = {row: _missing([*row.needs, *([] if may_stay_unproven else row.runs_with)]) for row in rows}
    packages = sorted({package for absent in missing.values() for package in absent})
    if packages:
        lacking = "; ".join(f"{row.name} needs {', '.join(absent)}" for row, absent in missing.items() if absent)
        raise UserError(f"not installed: {lacking}: pip install {' '.join(packages)}")


def _missing(packages: Iterable[str]) -> list[str]:
    return [package for package in dict.fromkeys(packages) if not is_installed(package)]


def is_installed(package: str) -> bool:
    """Tell whether a package, as pip names it, can be imported; without importing it."""
    name = re.split(r"[<>=!~\[ ]", package)[0]
    return importlib.util.find_spec(MODULE_OF.get(name, name.replace("-", "_"))) is not None


def is_on(options: ExportOptions, name: str) -> bool:
    """Tell whether an option was given with another value than its default."""
    return name in given_options(options) and getattr(options, name) != getattr(ExportOptions(), name)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
