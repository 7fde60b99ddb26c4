"""Ctrl-C: that it is neither lost nor heard by the wrong process."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECOND_TRY = 0.05  # s


@contextmanager
def interrupts_repeated() -> Iterator[None]:
    """Within the block, raise KeyboardInterrupt again when it was lost.

    Python drops one that arrives inside a callback that cannot raise, such as that of a weak reference; starting
    worker processes and ending them is full of these.
    """
    retries: list[threading.Timer] = []
    report = sys.unraisablehook

    def retry(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)
            return
        retries.append(threading.Timer(SECOND_TRY, _thread.interrupt_main))
        retries[-1].daemon = True
        retries[-1].start()

    sys.unraisablehook = retry
    try:
        yield
    finally:
        sys.unraisablehook = report
        for timer in retries:
            timer.cancel()


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Within the block, let Ctrl-C wait; processes started there never hear it (on Windows they do)."""
    if threading.current_thread() is not threading.main_thread():  # no other thread hears of it
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    # What this thread blocks is blocked in its child processes; other threads may still take the signal.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler or signal.default_int_handler)
    if heard:
        signal.raise_signal(signal.SIGINT)
