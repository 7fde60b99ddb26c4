"""ONNX: the graph that most runtimes read; run here by ONNX Runtime, or by OpenCV with ``--dnn``."""

import importlib.util
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.formats.exported import DETECTION_COLUMNS, Runtime
from models.formats.facts import Facts, to_texts
from models.formats.onnx_file import OnnxFile, described_by_onnx, described_by_onnx_runtime
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.sharing import MOST_PARALLEL
from models.formats.silence import silence
from utils.cores import thread_count
from utils.errors import UserError
from utils.log import LOGGER

if TYPE_CHECKING:
    from models.yolo import Model

INPUT, OUTPUT = "images", "output0"
OLDEST_OPSET, DEFAULT_OPSET, NEWEST_OPSET = 11, 17, 20  # that torch can write and the network needs
ANY_SIDE = 64  # px; a multiple of every stride
PROCESSOR, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Run = Callable[[np.ndarray], np.ndarray]


def export(model: "Model", path: Path, settings: ExportSettings) -> None:
    """Write a network as ONNX.

    By torch's exporter through TorchScript: unlike the newer one, it takes a second instead of up to 40 s, and writes
    old operator sets, too.

    Args:
        model: fused and in evaluation mode, on the device where it is traced; ``half`` turns it into FP16.
        path: file to write.
        settings: see there.

    Raises:
        ImportError: onnx is not installed.
        UserError: the operator set cannot be written, or --simplify lacks its package.
    """
    opset = settings.opset or DEFAULT_OPSET
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UserError(f"--opset {opset}: this network can be written in {OLDEST_OPSET} to {NEWEST_OPSET}")
    if settings.simplify and importlib.util.find_spec("onnxslim") is None:
        raise UserError("--simplify needs onnxslim: pip install onnxslim")
    import onnx
    import torch

    from models.formats.graph import ExportGraph

    example = torch.zeros(settings.batch_size, model.channels, *settings.input_hw, device=settings.device)
    graph = ExportGraph(model.half() if settings.half else model, settings.nms).eval()
    open_axes = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch", 1: "anchors"}}
    if settings.nms:
        del open_axes[OUTPUT][1]
    with silence(settings.verbose), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants in the trace, which the parity proof checks, and of deprecation
        torch.onnx.export(
            graph,
            (example.half() if settings.half else example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=open_axes if settings.dynamic else None,
        )
        network = onnx.load(str(path))
        network = _simplified(network) if settings.simplify else network
    known = {1: settings.nms.most, 2: DETECTION_COLUMNS} if settings.nms else {2: 5 + model.detect.nc}
    for axis, length in known.items():  # the exporter leaves them open where others are
        network.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = length
    del network.graph.value_info[:]  # the exporter gives unlike lengths one name, and runtimes believe it
    onnx.checker.check_model(network, full_check=True)
    onnx.save(network, str(path))


def _simplified(network: Any) -> Any:
    import onnxslim

    return onnxslim.slim(network)


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts into a file written by ``export``; those that are there already go."""
    import onnx

    network = onnx.load(str(path))
    del network.metadata_props[:]
    onnx.helper.set_model_props(network, to_texts(facts))
    onnx.save(network, str(path))


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load an ONNX file of this project or of YOLOv5; of several outputs the decoded one counts.

    Raises:
        ImportError: ONNX Runtime is not installed.
        UserError: the file is damaged, no detector, or has operations that the runtime lacks; --dnn lacks its package.
    """
    file, run, parallel = _opencv(path) if settings.dnn else _onnx_runtime(path, settings)
    batch, channels, height, width = file.input.shape
    columns = file.output.shape[2] if file.output.shape else None
    if columns is None:  # v6.1 leaves it open with --dynamic
        columns = run(np.zeros((batch or 1, channels or 3, height or ANY_SIDE, width or ANY_SIDE), np.float32)).shape[2]
    return Runtime(
        run,
        file.facts,
        batch_size=batch,
        input_hw=(height, width) if height and width else None,
        classes=None if file.facts.get("nms") else columns - 5,
        parallel=parallel,
    )


def _onnx_runtime(path: Path, settings: LoadSettings) -> tuple[OnnxFile, Run, int]:
    """Return what a file says, what runs it by ONNX Runtime, and how many calls at the same time are good for it."""
    import onnxruntime

    threads = settings.threads or thread_count()
    kind, _, number = settings.device.partition(":")
    on_gpu = kind == "cuda"
    parallel = 1 if on_gpu else max(1, min(settings.parallel or 1, threads, MOST_PARALLEL))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads - parallel + 1  # calls share all but one of them, and bring one each
    options.log_severity_level = 3  # errors
    wanted: list[Any] = [(CUDA, {"device_id": int(number or 0)})] if on_gpu else []
    wanted = wanted if CUDA in onnxruntime.get_available_providers() else []
    session = _session(path, options, [*wanted, PROCESSOR])
    file = described_by_onnx_runtime(path, session)
    if "dynamic" not in file.facts and None in file.input.shape:  # not ours: see value_info in export
        options.enable_mem_reuse = False
        session = _session(path, options, [*wanted, PROCESSOR])
    if on_gpu and CUDA not in session.get_providers():
        LOGGER.warning(
            f"WARNING: '{path}' runs on the processor: this ONNX Runtime cannot use the GPU (pip install "
            "onnxruntime-gpu)"
        )

    def run(images: np.ndarray) -> np.ndarray:
        values = images.astype(np.float16 if file.input.half else np.float32, copy=False)
        (found,) = session.run([file.output.name], {file.input.name: values})
        return found.astype(np.float32, copy=False)

    return file, run, parallel


def _session(path: Path, options: Any, providers: list[Any]) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime has a dozen types, with nothing in common
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"ONNX Runtime cannot load '{path}': {first}") from error


def _opencv(path: Path) -> tuple[OnnxFile, Run, int]:
    """Return what a file says, and what runs it by OpenCV, on the processor, one call at a time."""
    import cv2

    try:
        file = described_by_onnx(path)
    except ImportError as error:
        raise UserError(f"--dnn needs onnx, which reads names and sizes ({error}): pip install onnx") from error
    try:
        with silence():
            network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise UserError(f"OpenCV cannot load '{path}'; leave --dnn out, or export it with --opset 12") from error
    busy = threading.Lock()

    def run(images: np.ndarray) -> np.ndarray:
        with busy:
            network.setInput(images, file.input.name)
            try:
                found = network.forward(file.output.name).copy()
            except cv2.error as error:
                raise UserError(f"OpenCV cannot run '{path}'; leave --dnn out") from error
        return found.astype(np.float32, copy=False)

    return file, run, 1
