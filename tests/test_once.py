"""Blocks of several threads that share a change of the process."""

from contextlib import contextmanager

from utils.once import OnceForAll


def test_the_first_changes_and_the_last_undoes():
    events = []

    @contextmanager
    def change():
        events.append("change")
        yield
        events.append("undo")

    block = OnceForAll(change)
    for _ in range(2):
        block.__enter__()
        block.__enter__()
        block.__exit__(None, None, None)
        assert events[-1] == "change"
        block.__exit__(None, None, None)
    assert events == ["change", "undo"] * 2
