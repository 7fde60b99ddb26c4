"""PyTorch checkpoints, of this project and of YOLOv5."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from models.augmented import predict_augmented
from models.formats.backend import OBJECTNESS, Metadata, find_by_tensors
from models.formats.levels import Level, rows_of_levels
from models.formats.settings import LoadSettings
from models.plugins import require_plugins
from models.yolo import Detect, Model
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
        by_levels = device.type == "cpu" and model.detect.is_plain
        self._levels = [_level(model.detect, number) for number in range(model.detect.nl)] if by_levels else []
        self._objectness = [_objectness(level) for level in self._levels]
        self.meta = Metadata(
            model.largest_stride, model.names, channels=model.channels, operating_point=model.operating_point
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict everything; see Backend."""
        images = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        with self._sharing():
            decoded = predict_augmented(self.model, images) if self.augment else self.model(images)[0]
        return decoded.float()

    @torch.inference_mode()
    def find_rows(self, pixels: np.ndarray, least: float) -> list[np.ndarray]:
        """Predict what may be worth a look; see Backend."""
        if self.augment or not self._levels:
            return find_by_tensors(self, self.device, pixels, least)
        images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        with self._sharing():
            maps = self.model.maps(images)
            objectness = [convolution(x) for convolution, x in zip(self._objectness, maps, strict=True)]
        cells = [x.flatten(2).transpose(1, 2).numpy() for x in maps]
        logits = [x.permute(0, 2, 3, 1).numpy() for x in objectness]
        return rows_of_levels(cells, logits, self._levels, least)

    def _sharing(self) -> AbstractContextManager[None]:
        """Return a block for one of the calls that share the threads."""
        return torch_threads(self._threads) if self.parallel > 1 else nullcontext()


def _level(detect: Detect, number: int) -> Level:
    """Return one scale of a head."""
    convolution, anchors = cast(nn.Conv2d, detect.m[number]), detect.anchors_px[number].numpy(force=True)
    weights = convolution.weight.float().numpy(force=True).reshape(detect.na, detect.no, -1)
    biases = cast(Tensor, convolution.bias).float().numpy(force=True).reshape(detect.na, detect.no)
    return Level(detect.strides[number], anchors.astype(np.float32), weights, biases)


def _objectness(level: Level) -> nn.Conv2d:
    """Return the convolution that computes the objectness of a level and nothing else."""
    anchors, _, channels = level.weights.shape
    convolution = nn.Conv2d(channels, anchors, 1).requires_grad_(False).to(memory_format=torch.channels_last)
    convolution.weight.copy_(torch.from_numpy(level.weights[:, OBJECTNESS, :, None, None]))
    cast(Tensor, convolution.bias).copy_(torch.from_numpy(level.biases[:, OBJECTNESS]))
    return convolution


def load(path: Path, settings: LoadSettings, augment: bool = False) -> PyTorchBackend:
    """Load a checkpoint for inference; with ``augment``, every image is looked at several times."""
    model = build_model(read_checkpoint(path), path)
    return PyTorchBackend(model, torch.device(settings.device), settings.half, augment, settings.parallel)
