"""PyTorch checkpoints, of this project and of YOLOv5."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.augmented import predict_augmented
from models.formats.backend import Metadata, likely_rows
from models.formats.settings import LoadSettings
from models.plugins import require_plugins
from models.yolo import Model
from utils.brightness import normalise
from utils.checkpoint import Checkpoint, read_checkpoint
from utils.device import torch_threads
from utils.errors import UserError

MOST_PARALLEL = 8  # calls; Python itself is busy between the layers, and of that only one call at a time is


def build_model(checkpoint: Checkpoint, source: Path) -> Model:
    """Return the FP32 model of a checkpoint, in evaluation mode.

    Raises:
        UserError: a plug-in layer is not loaded or has changed; the weights do not belong to the model YAML stored
            with them.
    """
    require_plugins(checkpoint.plugins, source)
    model = Model(checkpoint.yaml, strides=checkpoint.stride)  # it was tried before it was trained
    try:
        model.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"weights '{source}' do not fit the model YAML they carry: {first}") from error
    model.names = checkpoint.names
    model.operating_point = checkpoint.operating_point
    return model.eval()


class PyTorchBackend:
    """A checkpoint run by torch, fused and channels last; with ``augment``, on several views of every image.

    On a CPU, several calls at the same time with few threads each get more done than one with all: small layers leave
    threads without work. ``parallel`` calls share the threads that torch has been given.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        half: bool = False,
        augment: bool = False,
        parallel: int | None = None,
    ) -> None:
        self.device = device
        self.dtype = torch.float16 if half else torch.float32
        self.augment = augment
        threads = torch.get_num_threads()
        self.parallel = min(parallel or 1, threads, MOST_PARALLEL) if device.type == "cpu" else 1
        self._threads = threads // self.parallel
        self.model = model.fuse().eval().requires_grad_(False)
        self.model.to(device, self.dtype).to(memory_format=torch.channels_last)
        self.meta = Metadata(
            model.largest_stride, model.names, channels=model.channels, operating_point=model.operating_point
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict everything; see Backend."""
        images = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        with torch_threads(self._threads) if self.parallel > 1 else nullcontext():
            decoded = predict_augmented(self.model, images) if self.augment else self.model(images)[0]
        return decoded.float()

    @torch.inference_mode()
    def find_rows(self, pixels: np.ndarray, least: float) -> list[np.ndarray]:
        """Predict what may be worth a look; see Backend."""
        table = self(normalise(torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)))
        if self.device.type == "cpu":
            return likely_rows(table.numpy(), least)
        return [rows[~(rows[:, 4] <= least)].cpu().numpy() for rows in table]  # not all of it travels


def load(path: Path, settings: LoadSettings, augment: bool = False) -> PyTorchBackend:
    """Load a checkpoint for inference; with ``augment``, every image is looked at several times."""
    model = build_model(read_checkpoint(path), path)
    return PyTorchBackend(model, torch.device(settings.device), settings.half, augment, settings.parallel)
