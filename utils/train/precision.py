"""In which number format the network computes while it trains."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from utils.log import LOGGER

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
LARGEST_ERROR = 0.1  # of the largest output; rounding gives a hundredth of it


@dataclass(frozen=True)
class Precision:
    """What convolutions compute in; weights, losses and the optimizer stay in FP32.

    Attributes:
        dtype: None for FP32.
        device_type: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """

    dtype: torch.dtype | None
    device_type: str

    @property
    def scales_losses(self) -> bool:
        """Whether gradients need loss scaling, as those of FP16 do."""
        return self.dtype == torch.float16

    def autocast(self) -> AbstractContextManager[object]:
        """Return the block in which the network runs."""
        return torch.autocast(self.device_type, self.dtype) if self.dtype else nullcontext()


def choose_precision(
    request: str, model: nn.Module, device: torch.device, image_size: int, channels: int = 3
) -> Precision:
    """Return the format asked for; for ``"auto"`` FP16 on CUDA (v6.1), BF16 on CPUs with instructions for it, or FP32.

    The choice is tried on one random image first, and FP32 taken with one line when the outputs are not the same.

    Args:
        request: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        model: a detector on ``device``; left as it is.
        device: where it trains.
        image_size: px.
        channels: of images.
    """
    dtype = _best_dtype(device) if request == "auto" else DTYPES[request]
    precision = Precision(dtype, device.type)
    if dtype is not None and not _agrees(model, precision, device, (channels, image_size, image_size)):
        LOGGER.warning(f"WARNING: {dtype} gives other outputs than FP32 on this device; training in FP32")
        return Precision(None, device.type)
    return precision


def _best_dtype(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bf16() else None


def _cpu_has_bf16() -> bool:
    checks = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return any(check() for check in checks if check)


@torch.no_grad()
def _agrees(model: nn.Module, precision: Precision, device: torch.device, image_shape: tuple[int, int, int]) -> bool:
    """Tell whether the raw outputs for a random image are the same but for rounding."""
    trial = copy.deepcopy(model).eval()
    images = torch.rand(1, *image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    images = images.to(memory_format=torch.channels_last)
    exact = trial(images)[1]
    try:
        with precision.autocast():
            rounded = trial(images)[1]
    except RuntimeError as error:  # an operation that the device has not in this format
        LOGGER.debug(f"{precision.dtype}: {error}")
        return False
    return all(
        bool(((one.float() - other.float()).abs().max() <= LARGEST_ERROR * other.abs().max()).item())
        for one, other in zip(rounded, exact, strict=True)
    )
