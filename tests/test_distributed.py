"""The place of a process among others: what it does alone, how processes meet, and who reports what."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import distributed as dist

from utils import distributed
from utils.distributed import Processes
from utils.errors import UserError

VARIABLES = {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4, "TORCHELASTIC_RESTART_COUNT": 2}


def test_torchrun_tells_the_place(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, str(value))
    place = Processes.from_environment()
    assert place == Processes(5, 8, 1, 4, 2)
    assert place.share == (5, 8) and not place.is_main


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert Processes.from_environment() == Processes() and Processes().is_main


def test_alone_there_is_nothing_to_exchange():
    alone, tensor = Processes(), torch.ones(2)
    assert alone.met() is alone
    with alone.connected(torch.device("cpu")), alone.in_turn("task"):
        assert alone.sum(tensor) is tensor
        assert alone.broadcast("value") == "value" and alone.gather("value") == ["value"]
        alone.copy_from_main([tensor])
        alone.check_same(images=3)
    assert not dist.is_initialized()


def test_in_turn_lets_one_at_a_time_in():
    inside, most = [], []

    def work(_: int) -> None:
        with Processes(size=2, local_size=2).in_turn("the same task"):
            inside.append(True)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lasting(monkeypatch) -> dist.TCPStore:
    """The store of a torchrun agent, which outlives the processes."""
    store = dist.TCPStore("localhost", 0, None, True, wait_for_workers=False)
    for name, value in {"ADDR": "localhost", "PORT": store.port}.items():
        monkeypatch.setenv(f"MASTER_{name}", str(value))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    return store


def meet(*restarts: int, main_comes_late: bool = False) -> list[Processes]:
    """Have one process more than torchrun's restart counts say, each a thread, meet."""

    def work(rank: int) -> Processes:
        if rank == 0 and main_comes_late:
            time.sleep(0.5)
        return Processes(rank, len(restarts), restarts=restarts[rank]).met()

    with ThreadPoolExecutor(len(restarts)) as pool:
        return list(pool.map(work, range(len(restarts))))


def test_each_start_meets_in_a_store_of_its_own(lasting):
    first = meet(0, 0)
    assert [place.restarts for place in first] == [0, 0]
    first[0].store.set("address", "of the first start")
    del first  # the processes are gone, torchrun's store is not
    second = meet(1, 1, main_comes_late=True)  # the others see the port of the first start
    assert [place.restarts for place in second] == [1, 1]
    assert not second[1].store.check(["address"])
    second[0].store.set("word", "heard")
    assert second[1].store.get("word") == b"heard"


def test_a_restart_that_only_another_machine_counts_is_known_to_all(lasting):
    assert [place.restarts for place in meet(0, 0)] == [0, 0]
    assert [place.restarts for place in meet(0, 1)] == [1, 1]


def test_a_main_process_that_never_comes_is_reported(lasting, monkeypatch):
    monkeypatch.setattr(distributed, "MEETING", distributed.datetime.timedelta(seconds=0.5))
    monkeypatch.setattr(distributed.atexit, "register", lambda *_: None)
    lasting.set(distributed.PORT, str(free_port()))
    with pytest.raises(UserError, match="process 1: another process of this run is gone"):
        Processes(1, 2).met()


@pytest.fixture
def waits(monkeypatch) -> list:
    """Waiting is noted, not done: ``True`` for one at the exit of the process."""
    noted = []
    monkeypatch.setattr(distributed.time, "sleep", lambda _: noted.append(False))
    monkeypatch.setattr(distributed.atexit, "register", lambda *_: noted.append(True))
    return noted


@pytest.mark.parametrize(("rank", "message", "waiting"), [(0, "no such file", []), (1, "process 1: no such file", [0])])
def test_the_main_process_reports_first(rank, message, waiting, waits):
    with pytest.raises(UserError, match=f"^{message}$"), Processes(rank, 2).main_speaks_first():
        raise UserError("no such file")
    assert waits == waiting


def test_what_all_know_is_said_by_the_main_process_alone(waits):
    with pytest.raises(UserError, match=r"^stop$"):
        Processes(0, 2).fail("stop")
    assert waits == []
    with pytest.raises(SystemExit) as end:
        Processes(1, 2).fail("stop")
    assert end.value.code == 1 and waits == [True]


def test_only_the_main_process_says_that_it_was_interrupted(waits):
    with pytest.raises(KeyboardInterrupt), Processes(0, 2).main_speaks_first():
        raise KeyboardInterrupt
    with pytest.raises(SystemExit) as end, Processes(1, 2).main_speaks_first():
        raise KeyboardInterrupt
    assert end.value.code == 130 and waits == []


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            RuntimeError("[gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:5"),
            UserError,
            "process 1: another proc",
        ),
        (ConnectionResetError("Connection reset by peer"), UserError, "process 1: another process of this run is gone"),
        (UserError("'a.jpg' is gone"), UserError, "process 1: 'a.jpg' is gone"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError, "mat1"),
        (ValueError("connection closed"), ValueError, "connection closed"),
    ],
)
def test_errors_while_connected(error, kind, message, waits, tmp_path):
    def fake_group(*_: object, **__: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "init_process_group", fake_group)
        with pytest.raises(kind, match=message), Processes(1, 2).connected(torch.device("cpu")):
            pass


def test_no_thread_is_left(lasting):
    before = threading.active_count()
    meet(0, 0)
    assert threading.active_count() == before
