"""What ``detect.py`` and the server run: by which runtime, and where; torch, slow to import, only where needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.formats import Backend, check_weights, load_backend
from models.formats.remembered import Choice, recall
from utils.cores import describe_processor, thread_count
from utils.log import LOGGER


@dataclass(frozen=True)
class Opening:
    """How weights are opened for detection.

    Attributes:
        device: as ``--device`` has it.
        half: in FP16, on CUDA only. augment: look at several views of every image. dnn: run ONNX files by OpenCV.
        runtime: empty, or see models/formats/fastest.py.
        kept_by: option that only PyTorch can do, if the user has given one.
        size: one side or height and width of the network's input, px.
        plugins: Python files with layers of the user's own.
        names: of the classes, for files that do not say them.
        parallel: calls at the same time; None leaves it to each runtime.
    """

    device: str = ""
    half: bool = False
    augment: bool = False
    dnn: bool = False
    runtime: str = ""
    kept_by: str = ""
    size: Sequence[int] = (640,)
    plugins: Sequence[str] = ()
    names: Mapping[int, str] | None = None
    parallel: int | None = None


def open_weights(weights: Sequence[str], wanted: Opening) -> Backend:
    """Load weights whose ``find_rows`` will be called, and say in a line by what and where they run.

    Raises:
        UserError: see ``load_backend``; the device is not there; the runtime cannot be had.
    """
    if wanted.plugins:
        from models.plugins import load_plugins

        load_plugins(wanted.plugins)
    known = _recalled(weights, wanted)
    if known or _without_torch(weights, wanted):
        LOGGER.info(f"YOLOv5-NAM {describe_processor(thread_count())}")
        if known:
            LOGGER.info(known.line())
        device, files, half = "cpu", [str(known.path)] if known else list(weights), False
    else:
        device, files, half = _with_torch(weights, wanted)
    return load_backend(
        files, device, half, wanted.augment, wanted.dnn, wanted.names, parallel=wanted.parallel, pixels=True
    )


def _recalled(weights: Sequence[str], wanted: Opening) -> Choice | None:
    """Return the export that is known to be the fastest way to run a checkpoint, where torch need not be asked."""
    only_processor = wanted.device.strip().lower() == "cpu" and not wanted.kept_by
    if not wanted.runtime or not only_processor or len(weights) > 1 or check_weights(Path(weights[0])).argument:
        return None
    known = recall(Path(weights[0]), wanted.runtime)
    return known if known and known.path != Path(weights[0]) else None


def _without_torch(weights: Sequence[str], wanted: Opening) -> bool:
    """Tell whether all files are exports for the processor, and nothing asks for more."""
    rows = [check_weights(Path(path)) for path in weights]
    there = wanted.device.strip().lower() == "cpu" or (not wanted.device and not any(row.gpu for row in rows))
    return there and all(row.argument for row in rows) and not (wanted.half or wanted.runtime)


def _with_torch(weights: Sequence[str], wanted: Opening) -> tuple[str, list[str], bool]:
    """Return where to run, which files instead of ``weights``, and whether in FP16."""
    from utils.device import describe_device, select_device, use_half

    device = select_device(wanted.device)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    files = list(weights)
    if wanted.runtime:
        from models.loading import runtime_weights  # with all that an export needs

        files = runtime_weights(weights, wanted.runtime, device, wanted.size, wanted.kept_by)
    return str(device), files, use_half(wanted.half, device)
