"""TorchScript: a traced network in one file, for C++ and mobile."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from models.formats.backend import Metadata
from models.yolo import Model
from utils.errors import UserError
from utils.files import atomic_write

METADATA_FILE = "config.txt"  # name inside the archive, as YOLOv5 has it


@contextmanager
def _no_deprecation_notice() -> Iterator[None]:
    """Keep torch's advice to use torch.export from users, who asked for TorchScript."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
        yield


class _DecodedOnly(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[0]


def export(model: Model, path: Path, input_hw: tuple[int, int], batch_size: int) -> None:
    """Write ``model``, fused and in evaluation mode, as TorchScript for one input shape.

    Args:
        model: the network.
        path: file to write, ``*.torchscript``.
        input_hw: height and width, multiples of the stride.
        batch_size: images a call.
    """
    images = torch.zeros(batch_size, model.channels, *input_hw)
    facts = {
        "shape": list(images.shape),
        "stride": model.largest_stride,
        "names": model.names,
        "operating_point": model.operating_point,
    }
    with atomic_write(path) as temporary, _no_deprecation_notice():
        traced = torch.jit.trace(_DecodedOnly(model), images)
        with temporary.open("wb") as stream:  # given a path, torch reports a full disk as a fault of its own
            torch.jit.save(traced, stream, _extra_files={METADATA_FILE: json.dumps(facts)})


class TorchScriptBackend:
    """A traced network, in the shape it was traced with."""

    def __init__(self, module: torch.jit.ScriptModule, meta: Metadata, device: torch.device) -> None:
        self.module = module
        self.meta = meta
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict; see Backend."""
        return self.module(images.to(self.device))


def load(path: Path, device: torch.device, half: bool = False, augment: bool = False) -> TorchScriptBackend:
    """Load a TorchScript file written by ``export``.

    Raises:
        UserError: not a TorchScript file, or one without the metadata this project and YOLOv5 add; or ``augment``,
            which takes inputs of several shapes.
    """
    if augment:
        raise UserError(f"--augment needs several input shapes, but '{path}' takes one only; use its .pt file")
    extra = {METADATA_FILE: ""}
    try:
        with _no_deprecation_notice():
            module = torch.jit.load(str(path), map_location=device, _extra_files=extra)
        facts = json.loads(extra[METADATA_FILE])
        names = {int(index): name for index, name in dict(facts["names"]).items()}
        _, channels, *input_hw = facts["shape"]
        meta = Metadata(int(facts["stride"]), names, tuple(input_hw), channels, facts.get("operating_point"))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is not a TorchScript file written by export.py") from error
    return TorchScriptBackend(module.eval(), meta, device)
