"""Several processes that train one model, started by torchrun; one process is the case of a single rank.

torchrun tells each process its place in environment variables. Here that place becomes a value, whose methods do
nothing when the process is alone, so that nobody else needs to ask.
"""

import datetime
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from utils.errors import UserError

TIMEOUT = datetime.timedelta(hours=3)  # for the others, while one validates, writes or scans
LOST = (
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
    "socket",
    "recvvalue",
    "timed out",
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that train together.

    Attributes:
        rank: of all, from 0; 0 is the main process, which alone writes files and speaks.
        size: how many there are.
        local_rank: on this machine, from 0; the GPU it uses.
        local_size: how many there are on this machine.
        restarts: how often torchrun has started them anew after a failure.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0

    @classmethod
    def from_environment(cls) -> "Processes":
        """Return the place that torchrun has given to this process; alone without it."""
        if "RANK" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        usual = (0, 1, 0, 1, 0)
        return cls(*(int(os.environ.get(name, value)) for name, value in zip(names, usual, strict=True)))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """Rank and size, as the loaders take them."""
        return self.rank, self.size

    @contextmanager
    def in_turn(self, task: str) -> Iterator[None]:
        """Let the processes of this machine run the block one after the other; none needs to be connected yet.

        The first fills caches that the others then find, however long it takes.

        Args:
            task: names the lock, such as the path of what the block works on.
        """
        if self.local_size == 1:
            yield
            return
        from filelock import FileLock  # comes with torch

        digest = hashlib.sha256(task.encode()).hexdigest()[:16]
        with FileLock(Path(tempfile.gettempdir()) / f"yolov5-nam-{digest}.lock"):
            yield

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Connect to the other processes within the block: over NCCL on CUDA, over gloo elsewhere.

        Raises:
            UserError: another process has gone, which says itself why.
        """
        if self.size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
            yield
            dist.barrier()
        except (RuntimeError, ConnectionError) as error:
            if not any(word in str(error).lower() for word in LOST):
                raise
            raise UserError(f"process {self.rank}: another process of this run is gone; its message says why") from None
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of ``tensor`` over all processes, on its device or, over NCCL, on the GPU."""
        if self.size == 1:
            return tensor
        device = torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else tensor.device
        total = tensor.to(device, copy=True)
        dist.all_reduce(total)
        return total

    def broadcast(self, value: Value) -> Value:
        """Return the main process's ``value``, any object that pickles."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Value) -> list[Value] | None:
        """Return the values of all processes in order of rank, on the main process only."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, values, dst=0)
        return values

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of the main process."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)
