"""Ctrl-C is neither lost nor raised where it must not be."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from utils.interrupts import interrupts_held_back, interrupts_repeated


class Callback:
    """Interrupts its own deletion, where Python cannot raise."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_that_python_dropped_is_repeated():
    hook, reached = sys.unraisablehook, False
    with pytest.raises(KeyboardInterrupt), interrupts_repeated():
        callback = Callback()
        del callback
        reached = True
        for _ in range(1000):
            time.sleep(0.01)
    assert reached
    assert sys.unraisablehook is hook


def test_no_interrupt_comes_after_the_end():
    with interrupts_repeated():
        callback = Callback()
        del callback
    time.sleep(0.1)


def test_other_lost_errors_are_reported_as_before(monkeypatch):
    class Broken:
        def __del__(self) -> None:
            raise ValueError("lost")

    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: seen.append(lost.exc_type))
    with interrupts_repeated():
        broken = Broken()
        del broken
    assert seen == [ValueError]


def test_an_interrupt_waits_until_the_end_of_the_block():
    handler, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        with interrupts_held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("inside")
        done.append("after")
    assert done == ["inside"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_an_interrupt_nothing_happens():
    handler = signal.getsignal(signal.SIGINT)
    with interrupts_held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is handler


def test_errors_pass_through():
    with pytest.raises(ValueError), interrupts_held_back():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone():
    done = []

    def work() -> None:
        with interrupts_held_back():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX only")
def test_processes_started_in_the_block_do_not_hear_it():
    code = "import signal, time; print('ready', flush=True); time.sleep(0.3); print('done')"
    with interrupts_held_back():
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "done\n"
    assert process.returncode == 0
