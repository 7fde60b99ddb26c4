"""Edge TPU: an INT8 TensorFlow Lite file compiled for Google Coral.

Not run by its authors: the compiler is Linux only and in no package index, the device rare.
"""

import platform
import shutil
import tempfile
from pathlib import Path

from models.formats import tflite
from models.formats.exported import CannotRunHere, Runtime
from models.formats.facts import Facts
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.tfjs import run_tool
from models.yolo import Model
from utils.errors import UserError

COMPILER = "edgetpu_compiler"
LIBRARIES = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network for the Edge TPU; what it cannot do (decoding boxes, in FP32) stays on the CPU.

    Raises:
        ImportError: litert-torch or ai-edge-quantizer is not installed.
        UserError: the compiler is not there, or fails.
    """
    compiler = shutil.which(COMPILER)
    if platform.system() != "Linux" or compiler is None:
        raise UserError(
            f"Edge TPU needs the command {COMPILER}, on Linux; Google's Debian packages have it: "
            "https://coral.ai/docs/edgetpu/compiler"
        )
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.tflite"
        tflite.export(model, graph, settings)
        run_tool([compiler, "-s", "-o", folder, str(graph)])
        shutil.move(graph.with_name("model_edgetpu.tflite"), path)


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts behind the graph."""
    tflite.write_facts(path, facts)


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a compiled file; one call at a time.

    Raises:
        ImportError: no interpreter is installed.
        CannotRunHere: there is no Edge TPU, or its library is missing.
        UserError: the file is damaged.
    """
    runtime = tflite.find_runtime()
    library = LIBRARIES[platform.system()]
    try:
        delegate = runtime.load_delegate(library)
    except (ValueError, OSError) as error:
        raise CannotRunHere(f"'{path}' needs an Edge TPU and its library {library}") from error
    return tflite.load_with(path, settings, runtime, [delegate])
