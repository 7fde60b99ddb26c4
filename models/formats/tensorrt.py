"""TensorRT: an engine for one model of NVIDIA GPU. Not run by its authors, who had no such GPU.

Networks are "strongly typed": they compute in the precision that the ONNX graph has, which TensorRT 10 offers and
TensorRT 11 demands. The facts stand before the engine, after their length in four bytes, as later YOLOv5 has them.
"""

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from models.formats.exported import CannotRunHere, Runtime
from models.formats.facts import Facts, tidy
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.sharing import shared
from models.yolo import Model
from utils.errors import UserError

INPUT = "images"
OLDEST = 10  # major version
LENGTH_BYTES = 4  # little endian
MOST_FACTS = 1 << 20  # bytes; a larger length is none
SMALLEST_SIDE = 32  # px, of a dynamic input
GIGABYTE = 1 << 30


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Build an engine for the GPU that ``settings.device`` names.

    Args:
        model: fused and in evaluation mode, on that GPU.
        path: file to write.
        settings: see there; ``dynamic`` takes batches of 1 to ``batch_size`` and images of up to ``input_hw``.

    Raises:
        ImportError: tensorrt or onnx is not installed.
        UserError: TensorRT is too old, or fails.
    """
    tensorrt = _tensorrt()
    if not settings.device.startswith("cuda"):
        raise UserError("TensorRT is made on the GPU that will run it; export it there with --device 0")
    onnx = importlib.import_module("models.formats.onnx")
    with tempfile.TemporaryDirectory(prefix="tensorrt-") as folder, torch.cuda.device(settings.device):
        file = Path(folder) / "model.onnx"
        onnx.export(model, file, settings)
        path.write_bytes(_build(tensorrt, file, model, settings))


def _tensorrt() -> Any:
    """Return the module.

    Raises:
        ImportError: it is not installed.
        UserError: it is too old.
    """
    tensorrt = importlib.import_module("tensorrt")
    if int(tensorrt.__version__.partition(".")[0]) < OLDEST:
        raise UserError(f"TensorRT {tensorrt.__version__} is too old: pip install 'tensorrt>={OLDEST}'")
    return tensorrt


def _build(tensorrt: Any, file: Path, model: Model, settings: ExportSettings) -> bytes:
    """Return the engine of an ONNX file."""
    logger = tensorrt.Logger(tensorrt.Logger.VERBOSE if settings.verbose else tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(file)):
        reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise UserError(f"TensorRT cannot read the ONNX graph: {reason}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, settings.workspace * GIGABYTE)
    if settings.dynamic:
        config.add_optimization_profile(_profile(builder, model, settings))
    cache = _timings(config, settings.timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserError("TensorRT could not build an engine; --verbose shows why, more --workspace may help")
    if cache is not None:
        Path(settings.timing_cache).write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _profile(builder: Any, model: Model, settings: ExportSettings) -> Any:
    """Return the input shapes of a dynamic engine: the least, the one to be fast with, the most."""
    channels, most = model.channels, settings.batch_size
    side = max(SMALLEST_SIDE, model.largest_stride)
    height, width = settings.input_hw
    profile = builder.create_optimization_profile()
    profile.set_shape(
        INPUT,
        (1, channels, side, side),
        (max(1, most // 2), channels, height, width),
        (most, channels, height, width),
    )
    return profile


def _timings(config: Any, file: str) -> Any:
    """Let a build use and extend the timings of earlier ones; None if no file is named."""
    if not file:
        return None
    path = Path(file)
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts before the engine; those that are there already go."""
    _, engine = split_facts(path.read_bytes())
    text = json.dumps(facts).encode("utf-8")
    path.write_bytes(len(text).to_bytes(LENGTH_BYTES, "little") + text + engine)


def split_facts(content: bytes) -> tuple[Facts, bytes]:
    """Return the facts before an engine, {} if there are none as in files of v6.1, and the engine."""
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    text, engine = content[LENGTH_BYTES : LENGTH_BYTES + length], content[LENGTH_BYTES + length :]
    if not text.startswith(b"{") or length > MOST_FACTS:
        return {}, content
    try:
        return tidy(json.loads(text)), engine
    except ValueError:
        return {}, content


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load an engine; one call at a time.

    Raises:
        ImportError: tensorrt is not installed.
        CannotRunHere: there is no GPU, or another than the engine was built for.
        UserError: TensorRT is too old, or this is no detector.
    """
    if not settings.device.startswith("cuda"):
        raise CannotRunHere(f"'{path}' runs on NVIDIA GPUs; add --device 0, or name the .pt file it was exported from")
    tensorrt = _tensorrt()
    facts, content = split_facts(path.read_bytes())
    with torch.cuda.device(settings.device):
        engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(content)
    if engine is None:
        raise CannotRunHere(f"'{path}' is damaged, or built for another GPU or version of TensorRT; export it here")
    session = _Session(tensorrt, engine, path, settings.device)
    batch, _, height, width = session.shape
    fixed = (height, width) if min(height, width) > 0 else None
    return Runtime(shared([session]), facts, batch if batch > 0 else None, fixed, device=settings.device)


class _Session:
    """One engine in use.

    Attributes:
        shape: (B, C, H, W) that it takes, -1 for any.
    """

    def __init__(self, tensorrt: Any, engine: Any, path: Path, device: str) -> None:
        self.device, self.engine, self.context = device, engine, engine.create_execution_context()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        tables = [name for name in outputs if len(engine.get_tensor_shape(name)) == 3]  # v6.1 adds raw maps
        if len(inputs) != 1 or len(tables) != 1:
            raise UserError(f"'{path}' is no detector: expected one image in and one table of boxes out")
        self.input, self.outputs, self.table = inputs[0], outputs, tables[0]
        self.shape = tuple(engine.get_tensor_shape(self.input))
        types = {tensorrt.float32: torch.float32, tensorrt.float16: torch.float16}
        self.types = {name: types[engine.get_tensor_dtype(name)] for name in names}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Predict; see Runtime."""
        with torch.cuda.device(self.device):
            values = images.to(self.device, self.types[self.input]).contiguous()
            self.context.set_input_shape(self.input, tuple(values.shape))
            self.context.set_tensor_address(self.input, values.data_ptr())
            found = {name: self._room(name) for name in self.outputs}
            for name, room in found.items():
                self.context.set_tensor_address(name, room.data_ptr())
            stream = torch.cuda.current_stream()
            self.context.execute_async_v3(stream.cuda_stream)
            stream.synchronize()
        return found[self.table].float()

    def _room(self, name: str) -> torch.Tensor:
        """Return memory for an output."""
        return torch.empty(tuple(self.context.get_tensor_shape(name)), dtype=self.types[name], device=self.device)
