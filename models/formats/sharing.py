"""Sessions of a runtime that serve one call at a time, shared by any number of threads."""

import queue
from collections.abc import Callable, Sequence
from typing import Any

MOST_PARALLEL = 8  # calls at the same time; each has memory of its own

Session = Callable[..., Any]


def shared(sessions: Sequence[Session]) -> Session:
    """Return a function for any number of threads, which wait where all sessions are busy."""
    idle: queue.SimpleQueue[Session] = queue.SimpleQueue()
    for session in sessions:
        idle.put(session)

    def run(*given: Any) -> Any:
        session = idle.get()
        try:
            return session(*given)
        finally:
            idle.put(session)

    return run
