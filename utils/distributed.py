"""Several processes that train one model, started by torchrun; one process is the case of a single rank.

torchrun tells each process its place in environment variables. Here that place becomes a value, whose methods do
nothing when the process is alone, so that nobody else needs to ask.
"""

import atexit
import datetime
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from utils.errors import UserError

TIMEOUT = datetime.timedelta(hours=3)  # for the others, while one validates, writes or scans
MEETING = datetime.timedelta(minutes=10)  # for all to start Python, once torchrun has started them together
SECOND_TRY = 0.2  # s
PORT, ROUNDS, RUN, RESTARTS = "yolov5-nam/port", "yolov5-nam/rounds", "yolov5-nam/run", "restarts"  # keys of stores
PATIENCE = 10.0  # seconds for which a process leaves the word to others; torchrun ends it as soon as one has gone
INTERRUPTED = 130  # exit code after Ctrl-C, which torchrun passes on to all
LOST = (  # as gloo, torch's key-value store and NCCL put it
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
    "socket",
    "recvvalue",
    "timed out",
    "timeout",
    "remote process exit",
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
        restarts: how often torchrun has started them anew after a failure, as far as is known here; see `met`.
        store: where they find each other; None before they have met.
        lasting: torchrun's store, which outlives them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    store: dist.Store | None = field(default=None, repr=False, compare=False)
    lasting: dist.Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_environment(cls) -> "Processes":
        """Return the place that torchrun has given to this process; alone without it."""
        if "RANK" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        usual = ("0", "1", "0", "1", "0")
        rank, size, local_rank, local_size, restarts = map(int, map(os.environ.get, names, usual))
        return cls(rank, size, local_rank, local_size, restarts)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """Rank and size, as the loaders take them."""
        return self.rank, self.size

    def met(self) -> "Processes":
        """Return the same after all have met in a store of this start's own, so that they agree on the restarts.

        torchrun's store outlives the processes. Those that it starts anew would find addresses of dead ones there, and
        wait for these; and on other machines than that of the failure, it does not count the restart. So the main
        process opens a store for each start, and torchrun's is only asked for its port: a dead one does not answer.

        Raises:
            UserError: the main process did not come.
        """
        if self.size == 1:
            return self
        try:
            lasting = next(dist.rendezvous("env://", self.rank, self.size, timeout=MEETING))[0]
            if self.is_main:
                store = dist.TCPStore(os.environ["MASTER_ADDR"], 0, None, True, TIMEOUT, wait_for_workers=False)
                store.set(RESTARTS, str(max(self.restarts, lasting.add(ROUNDS, 1) - 1)))
                lasting.set(PORT, str(store.port))
            else:
                store = _find_store(lasting)
            return replace(self, restarts=int(store.get(RESTARTS)), store=store, lasting=lasting)
        except (RuntimeError, ConnectionError) as error:
            self._explain(error)
            raise

    def remember_run(self, folder: Path) -> None:
        """Have later starts of these processes know the folder of their run."""
        if self.lasting and self.is_main:
            self.lasting.set(RUN, str(folder.resolve()))

    def remembered_run(self) -> Path | None:
        """Return the folder of the run that is to go on after a restart; None when there was none yet."""
        if not (self.restarts and self.lasting and self.lasting.check([RUN])):
            return None
        return Path(self.lasting.get(RUN).decode())

    @contextmanager
    def in_turn(self, task: str) -> Iterator[None]:
        """Let the user's processes on this machine run the block in turn; none needs to be connected yet.

        The first fills caches that the others then find, however long it takes.

        Args:
            task: names the lock, such as the path of what the block works on.
        """
        if self.local_size == 1:
            yield
            return
        from filelock import FileLock  # comes with torch

        user = os.path.expanduser("~")  # nobody may open the lock file of somebody else
        digest = hashlib.sha256(f"{user}|{task}".encode()).hexdigest()[:16]
        with FileLock(Path(tempfile.gettempdir()) / f"yolov5-nam-{digest}.lock"):
            yield

    @contextmanager
    def main_speaks_first(self) -> Iterator[None]:
        """Before they connect: let the main process be the one to report what all of them stumble over.

        torchrun ends the others as soon as one has gone. They wait for that with what they have to report, which may
        after all be known to one of them only, such as a folder that its machine lacks.

        Raises:
            UserError: as the block, with the number of the process.
        """
        try:
            yield
        except UserError as error:
            if self.is_main:
                raise
            time.sleep(PATIENCE)
            raise UserError(f"process {self.rank}: {error}") from error
        except KeyboardInterrupt:
            self._end_silently_unless_main()
            raise

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Connect to the other processes within the block: over NCCL on CUDA, over gloo elsewhere.

        Raises:
            UserError: as the block, with the number of the process; or another process has gone, which says why.
        """
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self.size == 1:
            yield
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, store=self.store, rank=self.rank, world_size=self.size, timeout=TIMEOUT)
            yield
            dist.barrier()
        except BaseException as error:
            # The others shall notice. NCCL, however, may wait for them here; it ends with the process.
            if dist.is_initialized() and backend == "gloo":
                dist.destroy_process_group()
            self._explain(error)
            raise
        dist.destroy_process_group()

    def _explain(self, error: BaseException) -> None:
        """Raise what a user understands in place of ``error``, if there is such a thing."""
        if isinstance(error, RuntimeError | ConnectionError) and any(word in str(error).lower() for word in LOST):
            atexit.register(time.sleep, PATIENCE)  # torchrun, seeing this one end, would end the one that knows why
            raise UserError(f"process {self.rank}: another process of this run is gone; its message says why") from None
        if isinstance(error, KeyboardInterrupt):
            self._end_silently_unless_main()
        if isinstance(error, UserError) and not self.is_main:
            raise UserError(f"process {self.rank}: {error}") from error

    def _end_silently_unless_main(self) -> None:
        if not self.is_main:
            raise SystemExit(INTERRUPTED) from None

    def fail(self, message: str) -> NoReturn:
        """End the run because of what all processes know: each has to call this, and the main one says it.

        Raises:
            UserError: ``message``.
        """
        if not self.is_main:
            atexit.register(time.sleep, PATIENCE)  # torchrun, seeing this one end, would end the main one
            raise SystemExit(1)
        raise UserError(message)

    def check_same(self, **facts: object) -> None:
        """See that all processes have the same ``facts``, without which they would lose step.

        Raises:
            UserError: which process has another one.
        """
        everyone = self.gather(facts) or []
        different = [(rank, name) for rank, own in enumerate(everyone) for name in facts if own[name] != facts[name]]
        message = ""
        if different:
            rank, name = different[0]
            what = name.replace("_", " ")
            message = (
                f"{what}: process {rank} has {everyone[rank][name]}, process 0 has {facts[name]}; data and the folder "
                "of runs must be the same on all machines"
            )
        message = self.broadcast(message)
        if message:
            self.fail(message)

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
        """Overwrite ``tensors`` with those of the main process; many at once, because each message takes its time."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for alike in by_type.values():
            flat = torch.cat([tensor.flatten() for tensor in alike])
            dist.broadcast(flat, src=0)
            for tensor, part in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(part.view(tensor.shape))


def _find_store(lasting: dist.Store) -> dist.TCPStore:
    """Return the store of the main process that lives, whose port the ``lasting`` store knows sooner or later."""
    host, end = os.environ["MASTER_ADDR"], time.monotonic() + MEETING.total_seconds()
    while time.monotonic() < end:
        port = int(lasting.get(PORT))
        try:
            socket.create_connection((host, port), timeout=MEETING.total_seconds()).close()
            return dist.TCPStore(host, port, None, False, TIMEOUT)
        except OSError:  # of an earlier start
            time.sleep(SECOND_TRY)
    raise ConnectionError("timed out")
