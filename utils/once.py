"""State of the whole process that blocks of several threads want changed at the same time."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack


class OnceForAll:
    """A block that threads may share: the first to enter makes the change, the last to leave undoes it.

    Args:
        change: returns a block that makes the change, and undoes it.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._undo.enter_context(self._change())
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undo.close()
