"""PaddlePaddle: a folder with program and weights for Paddle Inference."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from models.formats.exported import DETECTION_COLUMNS, Runtime
from models.formats.facts import Facts
from models.formats.paddle_graph import Translation
from models.formats.saved_model import read_facts
from models.formats.saved_model import write_facts as write_facts_beside
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.sharing import MOST_PARALLEL, shared
from models.formats.silence import silence
from models.yolo import Model
from utils.cores import thread_count
from utils.errors import UserError

STEM = "model"
PROGRAMS = ("*.json", "*.pdmodel")  # of Paddle 3, and before
WEIGHTS = ".pdiparams"
GPU_MEMORY = 256  # MB that Paddle takes at the start; it takes more when it needs it


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network as a program of Paddle, for one input shape.

    Args:
        model: fused, FP32 and in evaluation mode, on the CPU.
        path: empty folder.
        settings: see there.

    Raises:
        ImportError: paddlepaddle is not installed.
        UserError: an operation of the network has no counterpart in Paddle.
    """
    with silence(settings.verbose):
        Translation(model, settings, _paddle()).save(path / STEM)


def _paddle() -> Any:
    """Return the module, without its handlers of signals, which are the program's own affair.

    Raises:
        ImportError: it is not installed.
        UserError: TensorFlow is loaded already.
    """
    if "tensorflow" in sys.modules and "paddle" not in sys.modules:  # in this order the process would crash
        raise UserError("TensorFlow is in use, and Paddle has to be loaded before it; do it in a new process")
    paddle = importlib.import_module("paddle")
    paddle.disable_signal_handler()
    return paddle


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts beside the program."""
    write_facts_beside(path, facts)


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a folder of this project or of YOLOv5.

    Raises:
        ImportError: paddlepaddle is not installed.
        UserError: files are missing or damaged, or it is no detector.
    """
    facts = read_facts(path)
    program = next((file for pattern in PROGRAMS for file in sorted(path.glob(pattern))), None)
    if program is None or not program.with_suffix(WEIGHTS).exists():
        raise UserError(f"'{path}' is no model of Paddle: expected {' or '.join(PROGRAMS)} and *{WEIGHTS} in it")
    with silence():
        inference = _paddle().inference
        parallel = min(settings.parallel or 1, MOST_PARALLEL)
        threads = max((settings.threads or thread_count()) // parallel, 1)
        config = _config(inference, program, settings.device, threads)
        try:
            first = inference.create_predictor(config)
        except (RuntimeError, ValueError, SystemError) as error:
            raise UserError(f"'{path}' is damaged, or from another version of Paddle; export it again") from error
        sessions = [_Session(predictor) for predictor in (first, *(first.clone() for _ in range(parallel - 1)))]
    batch, _, height, width = sessions[0].shape(path)
    return Runtime(
        shared(sessions),
        facts,
        batch if batch > 0 else None,
        (height, width) if height > 0 and width > 0 else None,
        parallel=parallel,
    )


def _config(inference: Any, program: Path, device: str, threads: int) -> Any:
    """Return how Paddle shall run a program."""
    if program.suffix == ".json":  # Paddle ends the process when it cannot parse one
        try:
            json.loads(program.read_bytes())
        except ValueError as error:
            raise UserError(f"'{program}' is damaged; export the model again") from error
    config = inference.Config(str(program), str(program.with_suffix(WEIGHTS)))
    config.disable_glog_info()
    kind, _, number = device.partition(":")
    if kind == "cuda":
        config.enable_use_gpu(GPU_MEMORY, int(number or 0))
    else:
        config.disable_gpu()
        config.disable_mkldnn()  # which Paddle 3.3 cannot run its own new programs with
        config.set_cpu_math_library_num_threads(threads)
    return config


class _Session:
    """One predictor, for one call at a time."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor

    def shape(self, path: Path) -> tuple[int, int, int, int]:
        """Return B, C, H and W that it takes, -1 for any.

        Raises:
            UserError: it takes and gives something else than a detector does.
        """
        inputs, outputs = self.predictor.get_input_names(), self.predictor.get_output_names()
        shape = tuple(self.predictor.get_input_handle(inputs[0]).shape()) if len(inputs) == 1 else ()
        if len(shape) != 4 or len(outputs) != 1:
            raise UserError(f"'{path}' is no detector: expected one image in and one table of boxes out")
        return shape  # type: ignore[return-value]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Predict; see Runtime."""
        (name,) = self.predictor.get_input_names()
        self.predictor.get_input_handle(name).copy_from_cpu(images)
        self.predictor.run()
        (table,) = self.predictor.get_output_names()
        found = self.predictor.get_output_handle(table).copy_to_cpu()
        if found.ndim != 3 or found.shape[2] < DETECTION_COLUMNS:
            raise UserError(f"the model of Paddle is no detector: it gives {tuple(found.shape)}")
        return found
