"""What training prints."""

import pytest
import torch

from tests.hooks.reports import batch_report, epoch_report, evaluation
from utils.hooks.console import Console, loading_advice
from utils.log import LOGGER

PARTS = ("box", "obj", "cls")


class Clock:
    """A clock that tests move."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class CountedLosses:
    """Counts how often somebody looks, which on a GPU means waiting."""

    device = torch.device("cpu")
    looks = 0

    def tolist(self) -> list[float]:
        self.looks += 1
        return [0.1, 0.02, 0.003]


@pytest.fixture
def lines(monkeypatch) -> list[str]:
    logged: list[str] = []
    monkeypatch.setattr(LOGGER, "info", logged.append)
    return logged


def play(console: Console, clock: Clock, epochs: int = 3, **changes) -> None:
    """Let ``epochs`` epochs of 90 s happen, 10 s of each after its report."""
    for epoch in range(epochs):
        console.epoch_start(epoch, 3, 1)
        console.batch_end(batch_report(epoch, 0, 1))
        clock.now += 80
        console.epoch_end(epoch_report(epoch, **changes))
        clock.now += 10


def test_the_lines_of_an_epoch(lines, capsys):
    clock = Clock()
    play(Console(PARTS, clock=clock), clock, epochs=1, waiting=2.4)
    header, line, table_header, means = lines
    assert header == "\n" + "".join(f"{name:>10}" for name in ("Epoch", "gpu_mem", *PARTS, "labels", "img_size"))
    assert line == (
        "       0/2        0G       0.1      0.02     0.003         0        64"
        "  20.0 s, 2.0 images/s, waiting 12 %, 0:02:40 left"
    )
    assert table_header.split()[:2] == ["Class", "Images"] and means.split()[:3] == ["all", "3", "3"]
    assert capsys.readouterr().err == ""  # no bar: nobody watches


def test_the_time_left_is_that_of_the_mean_epoch_so_far(lines):
    clock = Clock()
    play(Console(PARTS, clock=clock), clock, evaluation=None)
    left = [line.rsplit(", ", 1)[1] for line in lines if "images/s" in line]
    assert left == ["0:02:40 left", "0:01:25 left", "waiting 0 %"]  # 2 x 80; (90 + 80) / 2; nothing after the last


def test_an_epoch_without_validation_has_no_table(lines):
    clock = Clock()
    play(Console(PARTS, clock=clock), clock, epochs=1, evaluation=None)
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("workers", "cores", "cached", "advice"),
    [(2, 8, False, "--workers 8"), (2, 8, True, "--workers 8"), (8, 8, False, "--cache ram"), (8, 4, True, "--imgsz")],
)
def test_what_helps_against_waiting(workers, cores, cached, advice):
    assert advice in loading_advice(workers, cores, cached)


@pytest.mark.parametrize(
    ("waiting", "seconds", "times"), [(6.0, 20.0, 1), (5.0, 20.0, 0), (4.0, 5.0, 0), (4.0, 5.1, 1)]
)
def test_the_advice_is_given_once_and_only_for_much_waiting_in_a_long_epoch(lines, waiting, seconds, times):
    clock = Clock()
    play(Console(PARTS, 1, 4, False, clock), clock, waiting=waiting, seconds=seconds)
    assert sum("--workers 4" in line for line in lines) == times


@pytest.mark.parametrize(("terminal", "looks"), [(True, 3), (False, 1)])
def test_the_losses_are_looked_at_ten_times_a_second_at_most(monkeypatch, lines, terminal, looks):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    clock, losses = Clock(), CountedLosses()
    console = Console(PARTS, clock=clock)
    console.epoch_start(0, 1, 10)
    for number in range(10):  # at 0, 0.02 ... 0.18 s: the first, the one after 0.1 s, and the last
        console.batch_end(batch_report(0, number, 10, losses))
        clock.now += 0.02
    assert losses.looks == looks


def test_the_table_is_that_of_the_evaluation(lines):
    clock = Clock()
    shown = evaluation(found=3)
    play(Console(PARTS, clock=clock), clock, epochs=1, evaluation=shown)
    assert lines[2:] == shown.table()[:2]
