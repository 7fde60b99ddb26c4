"""Which trials of a shared study are really being trained: the pulse of their processes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

PULSE = "pulse"  # user attribute of a trial
INTERVAL = 30.0  # s between beats
PATIENCE = 150.0  # s without a beat after which a trial counts as abandoned


@contextmanager
def beating(trial: "Trial") -> Iterator[None]:
    """Within the block, let a thread raise the trial's pulse time and again.

    Optuna's own heartbeat works with data bases only, and compares the clocks of machines.
    """
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(INTERVAL):
            count += 1
            with suppress(Exception):  # a storage out of reach for a moment is no reason to stop
                trial.set_user_attr(PULSE, count)

    trial.set_user_attr(PULSE, 0)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class PulseWatch:
    """Tells running trials from those whose process died; what counts is that a pulse changes, not its value."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Any, float]] = {}

    def is_alive(self, trial: "FrozenTrial") -> bool:
        """Return whether a running trial's pulse changed in the last ``PATIENCE`` seconds, or was never seen before."""
        pulse, now = trial.user_attrs.get(PULSE), time.monotonic()
        if trial.number not in self._last or self._last[trial.number][0] != pulse:
            self._last[trial.number] = (pulse, now)
        return now - self._last[trial.number][1] < PATIENCE
