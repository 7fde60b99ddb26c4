"""PyTorch checkpoints, of this project and of YOLOv5."""

from pathlib import Path

import torch
from torch import Tensor

from models.augmented import predict_augmented
from models.formats.backend import Metadata
from models.plugins import require_plugins
from models.yolo import Model
from utils.checkpoint import Checkpoint, read_checkpoint
from utils.errors import UserError


def build_model(checkpoint: Checkpoint, source: Path) -> Model:
    """Return the FP32 model of a checkpoint, in evaluation mode.

    Raises:
        UserError: a plug-in layer is not loaded or has changed; the weights do not belong to the model YAML stored
            with them.
    """
    require_plugins(checkpoint.plugins, source)
    model = Model(checkpoint.yaml)
    try:
        model.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"weights '{source}' do not fit the model YAML they carry: {first}") from error
    model.names = checkpoint.names
    model.operating_point = checkpoint.operating_point
    return model.eval()


class PyTorchBackend:
    """A checkpoint run by torch, fused and channels last; with ``augment``, on several views of every image."""

    def __init__(self, model: Model, device: torch.device, half: bool = False, augment: bool = False) -> None:
        self.device = device
        self.dtype = torch.float16 if half else torch.float32
        self.augment = augment
        self.model = model.fuse().eval().requires_grad_(False)
        self.model.to(device, self.dtype).to(memory_format=torch.channels_last)
        self.meta = Metadata(
            model.largest_stride, model.names, channels=model.channels, operating_point=model.operating_point
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict; see Backend."""
        images = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        decoded = predict_augmented(self.model, images) if self.augment else self.model(images)[0]
        return decoded.float()


def load(path: Path, device: torch.device, half: bool = False, augment: bool = False) -> PyTorchBackend:
    """Load a checkpoint for inference."""
    return PyTorchBackend(build_model(read_checkpoint(path), path), device, half, augment)
