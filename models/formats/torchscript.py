"""TorchScript: a traced network in one file, for C++ and mobile."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from models.formats.exported import Runtime
from models.formats.facts import Facts, tidy
from models.formats.graph import ExportGraph
from models.formats.settings import ExportSettings, LoadSettings
from models.yolo import Model
from utils.errors import UserError

METADATA_FILE = "config.txt"  # name inside the archive, as YOLOv5 has it


@contextmanager
def _no_deprecation_notice() -> Iterator[None]:
    """Keep torch's advice to use torch.export from users, who asked for TorchScript."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
        yield


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network as TorchScript for one input shape.

    Args:
        model: fused and in evaluation mode, on the device and in the precision it shall have.
        path: file to write.
        settings: see there.
    """
    example = torch.zeros(settings.batch_size, model.channels, *settings.input_hw, device=settings.device)
    example = example.half() if settings.half else example
    with _no_deprecation_notice():
        _save(torch.jit.trace(ExportGraph(model, settings.nms), example), path, "")


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts into a file written by ``export``."""
    with _no_deprecation_notice():
        _save(torch.jit.load(str(path), map_location="cpu"), path, json.dumps(facts))


def _save(module: torch.jit.ScriptModule, path: Path, text: str) -> None:
    with path.open("wb") as stream:  # given a path, torch reports a full disk as a fault of its own
        torch.jit.save(module, stream, _extra_files={METADATA_FILE: text})


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a TorchScript file written by ``export`` or by YOLOv5.

    Raises:
        UserError: not a TorchScript file, or one without the metadata this project and YOLOv5 add.
    """
    extra = {METADATA_FILE: ""}
    try:
        with _no_deprecation_notice():
            module = torch.jit.load(str(path), map_location=settings.device, _extra_files=extra).eval()
        facts = tidy(json.loads(extra[METADATA_FILE]))
        _, _, *input_hw = facts["shape"]
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is not a TorchScript file written by export.py") from error

    def run(images: torch.Tensor) -> torch.Tensor:
        found = module(images.to(settings.device, torch.float16 if facts.get("half") else torch.float32))
        return (found[0] if isinstance(found, tuple) else found).float()  # v6.1 adds the raw outputs

    return Runtime(run, facts, input_hw=tuple(input_hw), device=settings.device)
