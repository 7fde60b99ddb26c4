"""Which processor runs the network, and how many helpers feed it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from utils.cores import core_count, describe_processor
from utils.distributed import Processes
from utils.errors import UserError
from utils.log import LOGGER


def select_device(request: str = "", processes: Processes = Processes()) -> torch.device:  # noqa: B008  frozen
    """Turn v6.1's ``--device`` text into a device.

    Args:
        request: ``""`` (CUDA if there is one, else Apple MPS, else CPU), ``"cpu"``, ``"mps"``, ``"0"`` or ``"cuda:0"``;
            several GPUs, ``"0,1"``, for several processes.
        processes: each takes a GPU of its own, in the order given or by its number on this machine.

    Raises:
        UserError: the device asked for is not there, or there are fewer GPUs than processes.
    """
    wanted = request.strip().lower().removeprefix("cuda:").replace("cuda", "0")
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted == "mps" and processes.size > 1:
        raise UserError("--device mps works with one process; start train.py without torchrun, or use --device cpu")
    if wanted == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: this machine or this torch build has no Apple MPS; use --device cpu")
        return torch.device("mps")
    if wanted == "" and not torch.cuda.is_available():
        alone = processes.size == 1  # MPS does not take part in several processes
        return torch.device("mps" if alone and torch.backends.mps.is_available() else "cpu")
    numbers = wanted.split(",") if wanted else [str(number) for number in range(max(processes.local_size, 1))]
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"--device '{request}' is not understood; use cpu, mps or the number of a GPU, such as 0")
    if max(map(int, numbers)) >= torch.cuda.device_count():
        asked = f"--device {request}" if wanted else f"{processes.local_size} processes"
        raise UserError(f"{asked}: torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu")
    if len(numbers) != processes.local_size:
        raise UserError(
            f"--device {request} names {len(numbers)} GPUs for {processes.local_size} process on this machine; each "
            f"takes one, and training alone takes several: torchrun --nproc_per_node {len(numbers)} train.py ..."
        )
    return torch.device("cuda", int(numbers[processes.local_rank]))


def describe_device(device: torch.device) -> str:
    """Return a banner such as ``"torch 2.14.1 CPU (x86_64, 2 threads)"``."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"CUDA:{device.index} ({properties.name}, {properties.total_memory / 2**20:.0f}MiB)"
    elif device.type == "mps":
        name = "MPS"
    else:
        name = describe_processor(torch.get_num_threads())
    return f"torch {torch.__version__} {name}"


def worker_count(limit: int, batch_size: int) -> int:
    """Return the number of loader processes: at most ``limit`` and one a core; none for single-image batches."""
    return min(limit, core_count(), batch_size if batch_size > 1 else 0)


@contextmanager
def torch_threads(wanted: int) -> Iterator[None]:
    """Let torch compute on the CPU with so many threads, inside a ``with`` block or, as a decorator, a function.

    This holds for the calling thread; others that have used torch before are not disturbed.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(count)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on the CPU with one thread, see `torch_threads`."""
    with torch_threads(1):
        yield


def synchronize(device: torch.device) -> None:
    """Wait for queued GPU work, so that a clock read next is honest; does nothing on CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Adds up the seconds spent inside its ``with`` blocks, queued GPU work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def __enter__(self) -> None:
        synchronize(self.device)
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._start


def use_half(requested: bool, device: torch.device) -> bool:
    """Tell whether to run in FP16: when asked to, on CUDA. Elsewhere a warning says that it stays FP32."""
    if requested and device.type != "cuda":
        LOGGER.warning("WARNING: --half needs a CUDA device; running in FP32")
    return requested and device.type == "cuda"
