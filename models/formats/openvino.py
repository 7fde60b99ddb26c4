"""OpenVINO: Intel's runtime for processors; converted straight from torch, and quantised to INT8 by NNCF."""

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.formats.backend import likely_rows
from models.formats.exported import Runtime
from models.formats.facts import Facts, tidy
from models.formats.levels import Level, rows_of_levels
from models.formats.settings import Calibration, ExportSettings, LoadSettings
from models.formats.sharing import shared
from models.formats.silence import silence
from utils.brightness import BRIGHTEST
from utils.cores import thread_count
from utils.errors import UserError
from utils.files import read_yaml, write_yaml

if TYPE_CHECKING:
    from models.yolo import Model

INPUT, OUTPUT = "images", "output0"
PER_LEVEL = ("cells{}", "objectness{}", "weights{}", "biases{}")  # outputs beside the table, see LevelGraph
ENDINGS = ("_int8_openvino_model", "_openvino_model")  # of the folder; its files have the stem of the weights
TABLE_AXES, IMAGE_AXES = 3, 4  # image, box, values of a box; image, row, column, channel
MOST_PARALLEL = 64  # calls; each needs a stream of its own
HEAD, SUPPRESSION = r"__module\.model\.model\.{index}[/.].*", r"aten::.*"  # names that OpenVINO gives their operations


def export(model: "Model", path: Path, settings: ExportSettings) -> None:
    """Write a network as a graph, X.xml, and its weights, X.bin.

    Args:
        model: fused, FP32 and in evaluation mode, on the CPU.
        path: folder that exists.
        settings: ``half`` stores the weights in FP16; ``load`` computes in FP32 all the same.

    Raises:
        ImportError: openvino is not installed.
        UserError: INT8 lacks its package or images.
    """
    if settings.int8 and settings.calibration is None:
        raise UserError("INT8 needs images to calibrate with; name a data set with --data")
    if settings.int8 and importlib.util.find_spec("nncf") is None:
        raise UserError("--int8: OpenVINO needs nncf: pip install nncf")
    batch, (height, width) = settings.batch_size, settings.input_hw
    shape = [-1, model.channels, -1, -1] if settings.dynamic else [batch, model.channels, height, width]
    with unobserved(), silence(settings.verbose), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants in the trace, which the parity proof checks, and of deprecation
        import openvino
        import torch

        from models.formats.graph import ExportGraph, LevelGraph

        example = torch.zeros(batch, model.channels, height, width)
        head = HEAD.format(index=len(model.model) - 1)
        levels = model.detect.nl if model.detect.is_plain and not settings.nms else 0
        graph = (LevelGraph(model) if levels else ExportGraph(model, settings.nms)).eval()
        network = openvino.convert_model(graph, example_input=example, input=[shape])
        network.inputs[0].set_names({INPUT})
        for port, name in zip(network.outputs, _output_names(levels), strict=True):
            port.set_names({name})
        if settings.int8 and settings.calibration:
            float_parts = [head, *([SUPPRESSION] if settings.nms else [])]
            network = _quantised(network, settings.calibration, 1 if settings.dynamic else batch, float_parts)
        stem = next(path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending))
        openvino.save_model(network, path / f"{stem}.xml", compress_to_fp16=settings.half)


def _quantised(network: Any, calibration: Calibration, batch: int, float_parts: list[str]) -> Any:
    """Return a network that computes in 8 bits, but for ``float_parts``, patterns of names.

    Those are the head and what follows: 256 steps are too coarse for pixels. With the head's three convolutions in 8
    bits, too, yolov5n loses 0.010 mAP50-95 on COCO128 instead of none, for 5 % of the time.
    """
    import nncf

    items = [np.repeat(image, batch, 0) for image in calibration()]
    return _apart(
        nncf.quantize,
        network,
        nncf.Dataset(items),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(items),
        ignored_scope=nncf.IgnoredScope(patterns=float_parts),
    )


def _apart(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function in a thread of its own.

    OpenVINO gives the thread that compiles a stack for signals, and frees that stack with the network: in the main
    thread, the next Ctrl-C or the next process that ends would then crash the program.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments, **options).result()


@contextmanager
def unobserved() -> Iterator[None]:
    """Keep OpenVINO and NNCF from reporting what users do, as they do unasked, except in continuous integration."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts beside what ``export`` has written, in the file where later YOLOv5 looks for stride and names."""
    write_yaml(_graph_file(path).with_suffix(".yaml"), facts)


def _graph_file(path: Path) -> Path:
    """Return the graph in a folder, or itself.

    Raises:
        UserError: there is none.
    """
    if not path.is_dir():
        return path
    graphs = sorted(path.glob("*.xml"))
    if not graphs:
        raise UserError(f"'{path}' holds no *.xml; export the model again")
    return graphs[0]


def _read_facts(path: Path) -> Facts:
    """Return the facts beside a graph; {} if there are none, as with v6.1."""
    file = path.with_suffix(".yaml")
    if not file.exists():
        return {}
    try:
        return tidy(read_yaml(file))
    except (ValueError, TypeError) as error:
        raise UserError(f"'{file}' is damaged; export the model again") from error


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a folder or .xml file of this project or of YOLOv5; of several outputs the decoded one counts.

    It computes in FP32, if not INT8, whatever the processor offers: in BF16 boxes are off by 14 px.

    Raises:
        ImportError: openvino is not installed.
        UserError: files are missing or damaged, or it is no detector.
    """
    with unobserved():
        import openvino

    file = _graph_file(path)
    facts = _read_facts(file)
    core = openvino.Core()
    try:
        network = core.read_model(file)
    except RuntimeError as error:
        raise UserError(f"'{file}' or its .bin is missing or damaged; export the model again") from error
    tables = [port for port in network.outputs if port.partial_shape.rank == TABLE_AXES]
    if len(network.inputs) != 1 or network.inputs[0].partial_shape.rank != IMAGE_AXES or not tables:
        raise UserError(f"'{file}' is no detector: expected images in and a table of boxes out")
    threads = settings.threads or thread_count()
    parallel = max(1, min(settings.parallel or 1, threads, MOST_PARALLEL))
    batch, channels, height, width = map(_length, network.inputs[0].partial_shape)
    columns = _length(tables[0].partial_shape[2])
    if channels:
        facts = {"shape": [batch, channels, height, width], **facts}
    pixels = settings.pixels and not facts.get("nms")
    levels = _levels(network, facts, columns) if pixels else []
    names = [name.format(level) for name in PER_LEVEL[:2] for level in range(len(levels))]
    wanted = list(map(network.output, names)) or tables[:1]
    network = openvino.Model(wanted, network.get_parameters())  # computes nothing else
    compiled = _compiled(core, _on_pixels(openvino, network) if pixels else network, file, threads, parallel)
    requests = [compiled.create_infer_request() for _ in range(parallel)]
    sessions = shared([_PixelRequest(one, levels) if pixels else _Request(one) for one in requests])
    return Runtime(
        sessions,
        facts,
        batch_size=batch,
        input_hw=(height, width) if height and width else None,
        classes=columns - 5 if columns and not facts.get("nms") else None,
        parallel=parallel,
        find_rows=sessions if pixels else None,
    )


def _output_names(levels: int) -> list[str]:
    """Return what the outputs of a graph are called: the table, and for each level what LevelGraph gives."""
    return [OUTPUT, *(name.format(level) for level in range(levels) for name in PER_LEVEL)]


def _levels(network: Any, facts: Facts, columns: int | None) -> list[Level]:
    """Return the levels of the head that a file tells of; none if it does not, or if they do not fit together.

    ``columns`` are those of the table.
    """
    ports = {name: port for port in network.outputs for name in port.names}
    strides, anchors = facts.get("strides", []), facts.get("anchors", [])
    if not set(_output_names(len(strides))) <= set(ports):
        return []
    found = []
    for number, (stride, sides) in enumerate(zip(strides, anchors, strict=True)):
        cells, objectness, weights, biases = (ports[name.format(number)] for name in PER_LEVEL)
        level = Level(stride, np.array(sides, np.float32), _constant(weights), _constant(biases))
        count, outputs, channels = level.weights.shape if level.weights.ndim == 3 else (0, 0, 0)
        shapes = [cells.partial_shape, objectness.partial_shape]
        ranks_fit = [shape.rank for shape in shapes] == [TABLE_AXES, IMAGE_AXES]
        known = [_length(shape[-1]) for shape in shapes] if ranks_fit else []
        if (len(sides), outputs) != (count, columns) or level.biases.shape != (count, outputs):
            return []
        if known != [channels, count]:
            return []
        found.append(level)
    return found


def _constant(port: Any) -> np.ndarray:
    """Return what an output gives that depends on nothing, as float32; nothing if it does."""
    node = port.get_node().input_value(0).get_node()
    if node.get_type_name() == "Convert":  # of weights in FP16
        node = node.input_value(0).get_node()
    return np.array(node.data, np.float32) if node.get_type_name() == "Constant" else np.zeros(0, np.float32)


def _on_pixels(openvino: Any, network: Any) -> Any:
    """Return a network that takes (b, H, W, C) uint8: OpenVINO turns them into floats faster than we do."""
    steps = openvino.preprocess.PrePostProcessor(network)
    images = steps.input()
    images.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    images.model().set_layout(openvino.Layout("NCHW"))
    images.preprocess().convert_element_type(openvino.Type.f32).scale(BRIGHTEST)
    return steps.build()


def _compiled(core: Any, network: Any, file: Path, threads: int, parallel: int) -> Any:
    """Return a network made ready for the processor.

    Raises:
        UserError: it has operations that OpenVINO lacks.
    """
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": parallel,
        "PERFORMANCE_HINT": "THROUGHPUT" if parallel > 1 else "LATENCY",
        "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
    }
    try:
        return _apart(core.compile_model, network, "CPU", config)
    except RuntimeError as error:
        last = (str(error).strip() or "no reason given").splitlines()[-1]
        raise UserError(f"OpenVINO cannot run '{file}': {last}") from error


def _length(dimension: Any) -> int | None:
    return dimension.get_length() if dimension.is_static else None


class _Request:
    """A request serves one call at a time; a stream runs one request."""

    def __init__(self, request: Any) -> None:
        self.request = request
        # Asked here, by one thread: when two ask for the first time at once, OpenVINO 2026.4 waits for ever.
        self.dtype = request.get_input_tensor().element_type.to_dtype()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Predict; see Runtime."""
        return self.infer(images)[0].astype(np.float32)  # a copy

    def infer(self, images: np.ndarray) -> list[np.ndarray]:
        """Return all outputs, in memory that the next call writes anew."""
        self.request.infer([images.astype(self.dtype, copy=False)], share_inputs=True, share_outputs=True)
        return [tensor.data for tensor in self.request.output_tensors]


class _PixelRequest(_Request):
    """A request for (b, H, W, C) pixels; its network gives ``levels`` of its head, or a table if there are none."""

    def __init__(self, request: Any, levels: Sequence[Level]) -> None:
        super().__init__(request)
        self.levels = levels

    def __call__(self, pixels: np.ndarray, least: float) -> list[np.ndarray]:  # type: ignore[override]
        """Find rows; see Runtime."""
        outputs = self.infer(pixels)
        if self.levels:
            half = len(self.levels)
            return rows_of_levels(outputs[:half], outputs[half:], self.levels, least)
        return likely_rows(outputs[0].astype(np.float32, copy=False), least)
