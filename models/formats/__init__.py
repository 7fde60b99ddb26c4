"""Model formats: one row and one file each. ``load_backend`` hides which one a file is."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.formats.backend import Backend, Metadata
from models.formats.exported import ExportedBackend
from models.formats.settings import LoadSettings
from utils.errors import UserError
from utils.log import LOGGER

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["FORMATS", "Backend", "Ensemble", "Format", "Metadata", "check_weights", "format_of", "load_backend"]


@dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes:
        name: as people write it.
        argument: as ``export.py --include`` takes it; empty for what is not exported to.
        ending: of its files or folders, after the stem of the weights.
        module: where ``export``, ``write_facts`` and ``load`` live; imported when needed.
        options: the fields of ExportSettings that its export understands, besides size, batch and device.
        int8_ending: instead of ``ending``, for INT8.
        other_endings: by which its files are known, too.
        cpu, gpu: where it runs.
        needs: packages for exporting, as pip names them.
        runs_with: packages for running, as pip names them.
        implied: options that are on, whether asked for or not.
        half_on_gpu: ``half`` is the precision of the network that is exported, which only a GPU computes with.
        finds_rows: its ``load`` knows another way than the whole table, see ``Runtime.find_rows``.
    """

    name: str
    argument: str
    ending: str
    module: str
    options: frozenset[str] = frozenset()
    int8_ending: str = ""
    other_endings: tuple[str, ...] = ()
    cpu: bool = True
    gpu: bool = True
    needs: tuple[str, ...] = ()
    runs_with: tuple[str, ...] = ()
    implied: frozenset[str] = frozenset()
    half_on_gpu: bool = False
    finds_rows: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether an export is a folder that has to be there for ``export`` to fill."""
        return self.ending.startswith("_")

    @property
    def endings(self) -> tuple[str, ...]:
        """All endings that its files may have."""
        return tuple(filter(None, (self.ending, self.int8_ending, *self.other_endings)))

    def path_for(self, weights: Path, int8: bool = False, old: bool = False) -> Path:
        """Return where the export of ``weights`` goes; ``old`` is for the first of the other endings."""
        ending = self.other_endings[0] if old else self.int8_ending if int8 and self.int8_ending else self.ending
        return weights.with_name(weights.stem + ending)


def _row(name: str, argument: str, ending: str, module: str, options: str = "", **rest: Any) -> Format:
    return Format(name, argument, ending, f"models.formats.{module}", frozenset(options.split()), **rest)


# In the order in which v6.1 lists and exports them, but Paddle, which has to be loaded before TensorFlow. Where two
# endings fit a file, the longest counts.
FORMATS = (
    _row("PyTorch", "", ".pt", "pytorch"),
    _row("TorchScript", "torchscript", ".torchscript", "torchscript", "half optimize nms", half_on_gpu=True),
    _row(
        "ONNX",
        "onnx",
        ".onnx",
        "onnx",
        "half dynamic simplify opset nms",
        needs=("onnx",),
        runs_with=("onnxruntime",),
    ),
    _row(
        "OpenVINO",
        "openvino",
        "_openvino_model",
        "openvino",
        "half int8 dynamic nms",
        int8_ending="_int8_openvino_model",
        other_endings=(".xml",),
        gpu=False,
        finds_rows=True,
        needs=("openvino",),
        runs_with=("openvino",),
    ),
    _row(
        "TensorRT",
        "engine",
        ".engine",
        "tensorrt",
        "half dynamic workspace timing_cache simplify opset",
        cpu=False,
        needs=("tensorrt", "onnx"),
        runs_with=("tensorrt",),
    ),
    _row(
        "CoreML",
        "coreml",
        ".mlpackage",
        "coreml",
        "half int8 nms mlmodel",
        other_endings=(".mlmodel",),
        gpu=False,
        needs=("coremltools",),
        runs_with=("coremltools",),
    ),
    _row(
        "PaddlePaddle",
        "paddle",
        "_paddle_model",
        "paddle",
        "nms",
        needs=("paddlepaddle",),
        runs_with=("paddlepaddle",),
    ),
    _row(
        "TensorFlow SavedModel",
        "saved_model",
        "_saved_model",
        "saved_model",
        "nms",
        needs=("tensorflow", "litert-torch"),
        runs_with=("tensorflow",),
    ),
    _row(
        "TensorFlow GraphDef",
        "pb",
        ".pb",
        "graphdef",
        "nms",
        needs=("tensorflow", "litert-torch"),
        runs_with=("tensorflow",),
    ),
    _row(
        "TensorFlow Lite",
        "tflite",
        "-fp16.tflite",
        "tflite",
        "half int8 nms per_tensor",
        int8_ending="-int8.tflite",
        other_endings=(".tflite",),
        gpu=False,
        needs=("litert-torch", "ai-edge-quantizer"),
        runs_with=("ai-edge-litert",),
        implied=frozenset({"half"}),
    ),
    _row(
        "TensorFlow Edge TPU",
        "edgetpu",
        "-int8_edgetpu.tflite",
        "edgetpu",
        "int8",
        cpu=False,
        gpu=False,
        needs=("litert-torch", "ai-edge-quantizer"),
        runs_with=("ai-edge-litert",),
        implied=frozenset({"int8"}),
    ),
    _row(
        "TensorFlow.js",
        "tfjs",
        "_web_model",
        "tfjs",
        "nms",
        cpu=False,
        gpu=False,
        needs=("tensorflow", "litert-torch"),
    ),
    _row("ncnn", "ncnn", "_ncnn_model", "ncnn", "half", gpu=False, needs=("pnnx",), runs_with=("ncnn",)),
    _row(
        "ExecuTorch",
        "executorch",
        ".pte",
        "executorch",
        "nms",
        gpu=False,
        needs=("executorch",),
        runs_with=("executorch",),
    ),
)


def format_of(path: Path) -> Format:
    """Return the format of a weights file, by the longest ending that fits its name.

    Raises:
        UserError: no format has such an ending.
    """
    fitting = [(len(ending), row) for row in FORMATS for ending in row.endings if path.name.endswith(ending)]
    if fitting:
        return max(fitting, key=lambda pair: pair[0])[1]
    known = ", ".join(f"*{ending}" for row in FORMATS for ending in row.endings)
    raise UserError(f"weights '{path}' are in no known format; known are {known}")


class Ensemble:
    """Several models as one: the predictions of all, side by side, for one suppression (v6.1)."""

    def __init__(self, members: Sequence[Backend]) -> None:
        self.members = members
        self.parallel = min(member.parallel for member in members)
        for member in members[1:]:
            _check_same_classes(members[0].meta.names, member.meta.names)
        channels = [member.meta.channels for member in members]
        if len(set(channels)) > 1:
            raise UserError(f"the --weights of an ensemble must take the same images, got channels {channels}")
        fixed = {member.meta.input_hw for member in members if member.meta.input_hw}
        if len(fixed) > 1:
            sizes = " and ".join(f"{height}x{width}" for height, width in sorted(fixed))
            raise UserError(f"the --weights of an ensemble must take the same images, got models for {sizes} px only")
        stride = max(member.meta.stride for member in members)
        self.meta = Metadata(stride, members[0].meta.names, fixed.pop() if fixed else None, channels[0])

    def __call__(self, images: "Tensor") -> "Tensor":
        """Predict everything; see Backend. N is the sum over the members."""
        import torch

        return torch.cat([member(images) for member in self.members], 1)

    def find_rows(self, pixels: np.ndarray, least: float) -> list[np.ndarray]:
        """Predict what may be worth a look; see Backend."""
        found = [member.find_rows(pixels, least) for member in self.members]
        return [np.concatenate(rows) for rows in zip(*found, strict=True)]


def _check_same_classes(first: dict[int, str], other: dict[int, str]) -> None:
    """Refuse models whose classes do not go together; warn where only the spelling may differ."""
    if len(first) != len(other):
        counts = f"{len(first)} and {len(other)}"
        raise UserError(
            f"the --weights of an ensemble must have the same number of classes, got {counts}; "
            "leave one out, or use --compare to measure each"
        )
    differing = [index for index in first if first[index] != other.get(index)]
    moved = set(first.values()) & {other.get(index) for index in differing}
    if moved:
        name = min(str(name) for name in moved)
        raise UserError(
            f"the --weights of an ensemble must have their classes in the same order, but '{name}' has another number "
            "in one of them; leave that one out"
        )
    if differing:
        index = differing[0]
        LOGGER.warning(
            f"WARNING: class {index} is '{first[index]}' in one of the --weights and '{other.get(index)}' in another; "
            "the names of the first are used"
        )


def load_backend(
    weights: Sequence[str | Path],
    device: "str | torch.device",
    half: bool = False,
    augment: bool = False,
    dnn: bool = False,
    names: Mapping[int, str] | None = None,
    parallel: int | None = None,
    pixels: bool = False,
) -> Backend:
    """Load one model, or several as an ensemble.

    Args:
        weights: the files.
        device: where to run, as torch writes it: "cpu", "cuda:0".
        half: in FP16.
        augment: let each model look at several views of every image, see models/augmented.py.
        dnn: run ONNX files by OpenCV.
        names: of the classes, for files that do not say them.
        parallel: calls that will be made at the same time; None leaves it to each runtime.
        pixels: only ``find_rows`` will be called; some runtimes take pixels faster than floats.

    Raises:
        UserError: a file is missing, foreign, damaged, in an unknown format, or in one that cannot do what is asked
            for; its runtime is not installed; or the models do not go together.
    """
    settings = LoadSettings(str(device), half, dnn, parallel=parallel, pixels=pixels)
    members = [_load_one(Path(path), settings, augment, names) for path in weights]
    return members[0] if len(members) == 1 else Ensemble(members)


def check_weights(path: Path) -> Format:
    """Return the format of a weights file or folder that is there.

    Raises:
        UserError: it is not, or in no known format.
    """
    row = format_of(path)
    if not path.exists():
        raise UserError(f"weights '{path}' do not exist; put the file there or name another with --weights")
    return row


def _load_one(path: Path, settings: LoadSettings, augment: bool, names: Mapping[int, str] | None) -> Backend:
    row = check_weights(path)
    if settings.dnn and row.argument != "onnx":
        raise UserError(f"--dnn runs ONNX files, got '{path}'; export it: python export.py --include onnx")
    module = importlib.import_module(row.module)
    if not row.argument:
        return module.load(path, settings, augment)
    if augment:
        raise UserError(f"--augment works with .pt files, got '{path}'; use the file it was exported from")
    try:
        runtime = module.load(path, settings)
    except ImportError as error:
        raise missing_package(row.name, row.runs_with, error) from error
    return ExportedBackend(runtime, path, names)


def missing_package(name: str, packages: Sequence[str], error: ImportError) -> UserError:
    """Return the error that names what to install for a format."""
    return UserError(f"{name} needs {' and '.join(packages)} ({error}): pip install {' '.join(packages)}")
