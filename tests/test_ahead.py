"""Results in order, and no threads left behind."""

import threading
import time

import pytest

from utils.ahead import ordered_map


def slow_first(number):
    time.sleep(0.03 if number == 0 else 0)
    return number * 2


def left_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (1, 3), (3, 2), (4, 20)])
def test_order_is_kept(threads, ahead):
    assert list(ordered_map(slow_first, range(7), threads, ahead)) == [0, 2, 4, 6, 8, 10, 12]
    assert not left_threads()


def test_no_items():
    assert list(ordered_map(slow_first, [], 2, 2)) == []


def test_never_more_than_asked_for():
    fetched = []

    def items():
        for number in range(10):
            fetched.append(number)
            yield number

    results = ordered_map(slow_first, items(), 2, 3)
    assert not fetched, "nothing before the first is asked for"
    for number in range(1, 5):
        next(results)
        assert len(fetched) == number + 2
    results.close()
    assert len(fetched) == 6


def test_threads_work_at_the_same_time():
    meet = threading.Barrier(3, timeout=5)

    def meeting(number):
        meet.wait()
        return number

    assert list(ordered_map(meeting, range(6), 3, 4)) == list(range(6))


def test_exception_comes_at_its_place():
    results = ordered_map(lambda number: 6 // (3 - number), range(6), 2, 5)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [] and not left_threads()


def test_exception_of_the_items_comes_after_what_they_gave():
    def items():
        yield from range(3)
        raise OSError("gone")

    results = ordered_map(slow_first, items(), 2, 5)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(OSError, match="gone"):
        next(results)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_threads_end_when_the_consumer_stops(error):
    done = []

    def work(number):
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(error):
        for _ in ordered_map(work, range(1000), 2, 50):
            raise error
    assert not left_threads() and len(done) < 60
