"""CoreML, for iPhone, iPad and Mac: an ML program (.mlpackage), or a neural network in the old format (.mlmodel).

Written anywhere by coremltools, run by macOS only. Not run by its authors, who have looked at the files on Linux.
"""

import importlib
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.formats.exported import CannotRunHere, Runtime
from models.formats.facts import Facts, from_texts, to_texts
from models.formats.graph import ExportGraph
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.silence import silence
from models.yolo import Model
from utils.errors import UserError

INPUT, OUTPUT = "image", "output"
BATCH_SIZE = 1  # a picture as CoreML has it is one
COLOURS = {1: "GRAYSCALE", 3: "RGB"}  # pictures by their channels; others are arrays
SPECIFICATION = "*.mlmodel"  # the file inside a package that holds all but the weights


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network for one picture of one size.

    Args:
        model: fused, FP32 and in evaluation mode, on the CPU.
        path: folder to make, or file to write with ``mlmodel``.
        settings: ``half`` computes in FP16 (``mlmodel``: stores the weights so), ``int8`` stores the weights in 8 bits.

    Raises:
        ImportError: coremltools is not installed.
        UserError: the old format is asked to suppress.
    """
    if settings.mlmodel and settings.nms:
        raise UserError("--mlmodel has no suppression inside the graph; drop --nms, or write an .mlpackage")
    graph = ExportGraph(model, settings.nms).eval()
    example = torch.zeros(BATCH_SIZE, model.channels, *settings.input_hw)
    with silence(settings.verbose):
        with _without_tensorflow():
            tools = importlib.import_module("coremltools")
        convert = _convert_to_network if settings.mlmodel else _convert_to_program
        convert(tools, graph, example, settings).save(str(path))


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Keep coremltools from loading TensorFlow, which it needs not here; with torch 2.14 the process would crash."""
    if "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # Python's way to say that a module cannot be had
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


def _input(tools: Any, example: torch.Tensor) -> Any:
    """Return the input's description: a picture where CoreML knows such, which it divides by 255 itself."""
    channels = example.shape[1]
    if channels not in COLOURS:
        return tools.TensorType(INPUT, shape=tuple(example.shape))
    layout = getattr(tools.colorlayout, COLOURS[channels])
    return tools.ImageType(INPUT, shape=tuple(example.shape), scale=1 / 255, color_layout=layout)


def _convert_to_program(tools: Any, graph: ExportGraph, example: torch.Tensor, settings: ExportSettings) -> Any:
    """Return an ML program of coremltools."""
    program = torch.export.export(graph, (example,)).run_decompositions()
    _drop_aliases(program)
    converted = tools.convert(
        program,
        inputs=[_input(tools, example)],
        outputs=[tools.TensorType(OUTPUT)],
        convert_to="mlprogram",
        compute_precision=tools.precision.FLOAT16 if settings.half else tools.precision.FLOAT32,
        minimum_deployment_target=tools.target.iOS15,
        skip_model_load=True,
    )
    if not settings.int8:
        return converted
    optimize = importlib.import_module("coremltools.optimize.coreml")
    config = optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
    return optimize.linear_quantize_weights(converted, config)


def _drop_aliases(program: torch.export.ExportedProgram) -> None:
    """Take out operations that give their input, which coremltools does not know."""
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()


def _convert_to_network(tools: Any, graph: ExportGraph, example: torch.Tensor, settings: ExportSettings) -> Any:
    """Return a neural network of coremltools, the format before ML programs."""
    converted = tools.convert(
        torch.jit.trace(graph, example),
        inputs=[_input(tools, example)],
        outputs=[tools.TensorType(OUTPUT)],
        convert_to="neuralnetwork",
        skip_model_load=True,
    )
    if not (settings.half or settings.int8):
        return converted
    reduce = importlib.import_module("coremltools.models.neural_network.quantization_utils").quantize_weights
    specification = reduce(converted, 16 if settings.half else 8, "linear")
    specification = specification if hasattr(specification, "description") else specification.get_spec()
    return tools.models.MLModel(specification, skip_model_load=True)


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts into what ``export`` has written, as texts of its author's."""
    file = _specification_file(path)
    specification = _read(file)
    texts = to_texts(facts | {"shape": [BATCH_SIZE, *facts["shape"][1:]]})
    specification.description.metadata.userDefined.update(texts)
    file.write_bytes(specification.SerializeToString())


def _specification_file(path: Path) -> Path:
    """Return the file that describes a network: inside a package, or the file itself."""
    found = next(path.rglob(SPECIFICATION), None) if path.is_dir() else path
    if found is None:
        raise UserError(f"'{path}' is no CoreML package: it holds no {SPECIFICATION}")
    return found


def _read(file: Path) -> Any:
    """Return the message of protobuf that a file holds."""
    with silence(), _without_tensorflow():
        kinds = importlib.import_module("coremltools.proto.Model_pb2")
    specification = kinds.Model()
    try:
        specification.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's own, which is in no public place
        raise UserError(f"'{file}' is no CoreML model, or it is damaged") from error
    return specification


def read_facts(path: Path) -> Facts:
    """Return the facts of a file or package; {} if there are none.

    Raises:
        ImportError: coremltools is not installed.
        UserError: it is no CoreML model, or damaged.
    """
    try:
        return from_texts(_read(_specification_file(path)).description.metadata.userDefined)
    except ValueError as error:
        raise UserError(f"the metadata of '{path}' are damaged; export it again") from error


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load what ``export`` has written.

    Raises:
        ImportError: coremltools is not installed.
        CannotRunHere: this is no Mac.
        UserError: it is damaged, or not from ``export``.
    """
    facts = read_facts(path)
    if "shape" not in facts:
        raise UserError(f"'{path}' was not written by export.py; export it from its .pt file")
    if platform.system() != "Darwin":
        raise CannotRunHere(f"'{path}' runs on macOS only; name the .pt file it was exported from")
    with silence(), _without_tensorflow():
        model = importlib.import_module("coremltools").models.MLModel(str(path))

    def run(images: np.ndarray) -> np.ndarray:
        found = model.predict({INPUT: as_input(images)})
        return np.asarray(found[OUTPUT], np.float32)

    _, _, height, width = facts["shape"]
    return Runtime(run, facts, BATCH_SIZE, (height, width))


def as_input(images: np.ndarray) -> Any:
    """Return (1, C, H, W) in [0, 1] as the network takes it: a picture if of 1 or 3 channels, else the array."""
    if images.shape[1] not in COLOURS:
        return images
    pixels = (images[0] * 255).round().astype(np.uint8).transpose(1, 2, 0)  # (H, W, C)
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
