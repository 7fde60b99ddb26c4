"""``--batch-size -1``: find how many images a training step has memory for (v6.1's AutoBatch)."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from utils.errors import UserError
from utils.log import LOGGER
from utils.memory import available_memory, is_out_of_memory, peak_memory

NOMINAL = 64  # images that an optimizer step is made of (v6.1); smaller batches are added up to it
USUAL = 16  # where memory cannot be measured
TRIED = (1, 2, 4, 8, 16)
MOST_ON_GPU = 1024
SHARE_OF_GPU = 0.8  # the rest is for optimizer, average, validation and what lies scattered
SHARE_OF_MACHINE = 0.5  # loader processes need some as well, and a machine that runs out kills without an error
GB = 1e9

Taken = Callable[[int], int | None]  # batch size -> bytes a step takes above what was there before, None if too many


def choose_batch_size(
    model: nn.Module, image_size: int, device: torch.device, step: Callable[[int], None], largest: int
) -> int:
    """Return a batch size that fits into the memory of ``device``, and log how it was found.

    Steps with 1, 2, 4 ... images are run and what they take is extended on a line. The result divides 64 or is a
    multiple of it wherever images allow, so that accumulated batches make exactly the nominal 64. On a GPU it is tried
    and halved while it fails. On CPU it is 64 at most; on MPS, which does not tell its memory, it is 16.

    Args:
        model: what ``step`` trains; its buffers (statistics of batch norms), gradients and torch's random numbers are
            afterwards as they were, gradients cleared.
        image_size: px, for messages.
        device: where ``step`` runs.
        step: runs forward, loss and backward with that many images, as in training.
        largest: number of training images; no batch is larger.

    Raises:
        UserError: not even one image fits.
    """
    if device.type == "cuda":
        with unchanged(model, device):
            size, reason = _fit_gpu(step, device, image_size, min(largest, MOST_ON_GPU))
    elif device.type == "cpu" and peak_memory() is not None:
        with unchanged(model, device):
            size, reason = _fit_machine(step, image_size, min(largest, NOMINAL))
    else:
        size, reason = preferred(min(USUAL, largest)), f"usual where memory is not measured ({device.type})"
    LOGGER.info(f"batch size: {size}, {reason}; --batch-size sets another")
    return size


def preferred(size: int) -> int:
    """Return the largest number up to ``size`` (1 or more) that divides 64 or is a multiple of it."""
    return size // NOMINAL * NOMINAL if size >= NOMINAL else 1 << (size.bit_length() - 1)


def _fit_gpu(step: Callable[[int], None], device: torch.device, image_size: int, most: int) -> tuple[int, str]:
    """Return the batch size for a CUDA device, and how it was found."""
    _release(device)
    free, _ = torch.cuda.mem_get_info(device)
    present = torch.cuda.memory_allocated(device)

    def taken(size: int) -> int | None:
        torch.cuda.reset_peak_memory_stats(device)
        fits = _succeeds(step, size)
        peak = torch.cuda.max_memory_allocated(device) - present
        if fits and peak < free:
            return peak
        _release(device)
        return None  # also where a driver goes on in main memory, slowly, instead of failing

    points, limit = _measure(taken, most, enough=len(TRIED))
    _require_one(limit, image_size, str(device))
    size = preferred(min(_estimate(points, SHARE_OF_GPU * free), limit))
    while taken(size) is None:
        _require_one(size - 1, image_size, str(device))
        size = preferred(size // 2)
    return size, f"tried: {_per_image(points, image_size)}, {_allowed(SHARE_OF_GPU, free)} on {device}"


def _fit_machine(step: Callable[[int], None], image_size: int, most: int) -> tuple[int, str]:
    """Return the batch size for the CPU, and how it was found.

    More than the nominal 64 would only make fewer optimizer steps: at 64, none has to wait for another batch. The
    chosen size is not tried, because a system out of memory ends the process instead of raising an error.
    """
    free = available_memory()
    before = peak_memory() or 0

    def taken(size: int) -> int | None:
        return (peak_memory() or 0) - before if _succeeds(step, size) else None

    points, limit = _measure(taken, most, enough=2)
    _require_one(limit, image_size, "this machine")
    size = preferred(min(_estimate(points, SHARE_OF_MACHINE * free), limit))
    return size, f"estimated from small ones: {_per_image(points, image_size)}, {_allowed(SHARE_OF_MACHINE, free)}"


def _measure(taken: Taken, most: int, enough: int) -> tuple[list[tuple[int, int]], int]:
    """Try growing batches until ``enough`` have set a new peak.

    Smaller ones than an earlier peak of the process say nothing where peaks cannot be reset.

    Returns:
        points: batch sizes and their bytes, both growing.
        limit: the largest batch not known to fail, at most ``most``.
    """
    points: list[tuple[int, int]] = []
    for size in TRIED:
        if size > most or len(points) == enough:
            break
        amount = taken(size)
        if amount is None:
            return points, size - 1
        if amount > (points[-1][1] if points else 0):
            points.append((size, amount))
    return points, most


def _estimate(points: list[tuple[int, int]], budget: float) -> int:
    """Return the batch size that takes ``budget`` bytes, on the line through ``points``; at least 1."""
    if not points:
        return TRIED[-1]  # the largest tried took no more than the process had held before
    sizes, amounts = np.array(points, np.float64).T
    slope, fixed = np.polyfit(sizes, amounts, 1) if len(points) > 1 else (amounts[0] / sizes[0], 0.0)
    return max(int((budget - max(fixed, 0.0)) / slope), 1)


def _per_image(points: list[tuple[int, int]], image_size: int) -> str:
    size, amount = points[-1] if points else (TRIED[-1], 0)
    return f"an image of {image_size} px takes about {amount / size / GB:.3f} GB"


def _allowed(share: float, free: int) -> str:
    return f"{100 * share:.0f} % of {free / GB:.1f} GB are used"


def _require_one(limit: int, image_size: int, place: str) -> None:
    if limit < 1:
        raise UserError(
            f"--batch-size -1: a step with one image of {image_size} px needs more memory than {place} has; "
            "use a smaller --imgsz or model"
        )


def _succeeds(step: Callable[[int], None], size: int) -> bool:
    """Run a step; tell whether there was memory for it. Other errors are raised."""
    try:
        step(size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def _release(device: torch.device) -> None:
    """Give memory back to the GPU that a failed step has left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let steps run without a trace: batch norms and random numbers go back, gradients are cleared."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            model.zero_grad(set_to_none=True)
            _release(device)
