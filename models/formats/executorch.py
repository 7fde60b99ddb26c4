"""ExecuTorch: one file for phones and small devices, run by XNNPACK on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.formats import appended
from models.formats.exported import DETECTION_COLUMNS, Runtime
from models.formats.facts import Facts
from models.formats.graph import ExportGraph
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.sharing import MOST_PARALLEL, shared
from models.formats.silence import silence
from models.yolo import Model
from utils.errors import UserError

METHOD = "forward"


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network as an ExecuTorch program for one input shape.

    Args:
        model: fused, FP32 and in evaluation mode, on the CPU.
        path: file to write.
        settings: see there.

    Raises:
        ImportError: executorch is not installed.
    """
    example = torch.zeros(settings.batch_size, model.channels, *settings.input_hw)
    with silence(settings.verbose):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(ExportGraph(model, settings.nms).eval(), (example,))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts behind the program."""
    appended.write_facts(path, facts)


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a file written by ``export``.

    All programs of a process share one pool of threads, which has one a core: ``settings.threads`` changes nothing.

    Raises:
        ImportError: executorch is not installed.
        UserError: the file is damaged, or no detector.
    """
    with silence():
        from executorch import runtime
    parallel = min(settings.parallel or 1, MOST_PARALLEL)
    sessions = [_Session(runtime.Runtime.get(), path) for _ in range(parallel)]
    (batch, _, height, width), columns = sessions[0].shape, sessions[0].columns
    facts = appended.read_facts(path)
    classes = None if facts.get("nms") else columns - 5
    return Runtime(shared(sessions), facts, batch, (height, width), classes, parallel)


class _Session:
    """One loaded program, for one call at a time.

    Attributes:
        shape: (B, C, H, W), the only one it takes. columns: of the output.
    """

    def __init__(self, runtime: Any, path: Path) -> None:
        damaged = f"'{path}' is no ExecuTorch program, it is damaged, or made by another version of executorch"
        with silence():
            try:
                self.program = runtime.load_program(
                    path.read_bytes()
                )  # kept: a method does not hold what it is part of
                self.method = self.program.load_method(METHOD)
                described = self.method.metadata
                self.shape = tuple(described.input_tensor_meta(0).sizes())
                table = tuple(described.output_tensor_meta(0).sizes())
            except (RuntimeError, KeyError, IndexError) as error:
                raise UserError(f"{damaged}; export the model again") from error
        if len(self.shape) != 4 or len(table) != 3 or table[2] < DETECTION_COLUMNS:
            raise UserError(f"'{path}' is no detector: expected one image in and one table of boxes out")
        self.columns = table[2]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Predict; see Runtime."""
        (found,) = self.method.execute([torch.from_numpy(images)])
        return found.numpy().copy()  # what it returns is its own memory, written anew by the next call
