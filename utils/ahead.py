"""Work that is done ahead of whoever needs it, in threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: int,
    weight: Callable[[Item], float] = lambda _: 0.0,
) -> Generator[Result, None, None]:
    """Give ``function(item)`` of every item, in their order, made by several threads ahead of the consumer.

    An exception, of ``function`` or of ``items``, is raised where its result would have come, and ends it. The
    threads end when the results do, and as soon as the consumer stops: by ``close()``, by an exception of its own,
    by Ctrl-C, or by forgetting the iterator. What has begun by then is finished, the rest is dropped.

    Args:
        function: called in the threads. It pays where it lets others work meanwhile, as OpenCV, torch and files do.
        items: fetched in the thread of the consumer, when it asks for a result.
        threads: 1 or more.
        ahead: how many items, 1 or more, are in work or wait when a result is asked for; while the consumer is at
            one, it is one fewer. 1 therefore means no overlap, and ``threads + 1`` keeps all threads at work.
        weight: of an item, 0 or more; once those in work or waiting weigh 1 together, no more are fetched.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[tuple[Future[Result], float]] = deque()
    coming = _submitted(pool, function, items, weight)
    try:
        while True:
            while len(waiting) < ahead and sum(one for _, one in waiting) < 1 and (work := next(coming, None)):
                waiting.append(work)
            if not waiting:
                return
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _submitted(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    weight: Callable[[Item], float],
) -> Iterator[tuple[Future[Result], float]]:
    """Give the work on every item, and its weight; where ``items`` fails, work that failed."""
    try:
        for item in items:
            yield pool.submit(function, item), weight(item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed, 0.0
