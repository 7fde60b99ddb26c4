"""Reading, looking and writing at the same time, each in threads of its own, with results in the order of the frames.

Everything is pulled by the main thread through a chain of iterators; each stage works a bounded number of frames ahead
(`utils.ahead`). So memory does not grow with the number of frames, and an exception of any thread reaches the caller.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from utils.ahead import ordered_map
from utils.data.sources import Frame, Source
from utils.detect.detector import Detected, Detector
from utils.detect.sinks import Sink

WINDOW = 8  # batches; among as many frames are those looked for that go together
MOST_WAITING = 64  # frames; they take memory
MOST_BYTES = 256 << 20  # of the images in a stage of the pipeline; with the last of them it may be more
MOST_WRITERS = 4  # threads that encode and save

Numbered = tuple[int, Frame]


@dataclass(frozen=True)
class Pace:
    """How far each stage works ahead.

    Attributes:
        batch_size: most frames the network gets at once.
        window: frames among which those of equal shape are put together.
        looking: networks at work at the same time.
        writing: threads that write.
        hurried: stages run ahead of each other. Else a frame is written before the next one is fetched, which is what
            live sources want, whose newest frame counts, and those who watch the network at work.
    """

    batch_size: int = 1
    window: int = 1
    looking: int = 1
    writing: int = 1
    hurried: bool = True

    @property
    def look_ahead(self) -> int:
        """Return how many batches are in work or wait."""
        return self.looking + self.hurried

    @property
    def write_ahead(self) -> int:
        """Return how many frames are being written or wait."""
        return 2 * self.writing + 1 if self.hurried else 1


def pace_for(source: Source, parallel: int, batch_size: int, watched: bool) -> Pace:
    """Return how to go through a source.

    Args:
        source: see there.
        parallel: networks at work at the same time by which the work gets done the fastest.
        batch_size: most frames the network gets at once.
        watched: somebody looks at the network at work, one image after the other.
    """
    if watched:
        return Pace(hurried=False)
    if source.live:
        size = min(batch_size, source.streams)
        return Pace(size, size, hurried=False)  # with more at work, results would wait for the next frames
    window = max(min(WINDOW * batch_size, MOST_WAITING), batch_size)
    return Pace(batch_size, window, parallel, min(parallel + 1, MOST_WRITERS))


@dataclass(frozen=True)
class Seen:
    """A frame that was looked at, and perhaps written.

    Attributes:
        frame: see there.
        detected: what came of it.
        done: when, s on the clock of ``time.monotonic``.
    """

    frame: Frame
    detected: Detected
    done: float

    @property
    def delay(self) -> float:
        """Return the seconds from taking the frame to having its results."""
        return self.done - self.frame.captured


def look(detector: Detector, frames: Iterable[Frame], pace: Pace) -> Generator[Seen, None, None]:
    """Give what a detector finds in each frame, in order. Close it, or iterate to the end."""

    def shape(frame: Frame) -> tuple[int, int]:
        return detector.input_hw(frame.image.shape[:2])

    groups = grouped(frames, shape, pace.batch_size, pace.window)
    work = ordered_map(partial(_look_at, detector), groups, pace.looking, pace.look_ahead, _weight)
    with closing(work) as results:
        yield from in_order(results)


def _look_at(detector: Detector, group: Sequence[Numbered]) -> list[tuple[int, Seen]]:
    found = detector.detect_batch([frame.image for _, frame in group], [frame.path for _, frame in group])
    now = time.monotonic()
    return [(number, Seen(frame, one, now)) for (number, frame), one in zip(group, found, strict=True)]


def _weight(group: Sequence[Numbered]) -> float:
    return sum(frame.image.nbytes for _, frame in group) / MOST_BYTES


def write(seen: Iterable[Seen], sinks: Sequence[Sink], pace: Pace) -> Generator[Seen, None, None]:
    """Give each frame, in order, once all sinks have it. Close it, or iterate to the end, before closing the sinks."""
    anyhow = [sink for sink in sinks if not sink.in_order]
    one_by_one = [sink for sink in sinks if sink.in_order]
    with closing(_written(seen, anyhow, pace.writing, pace.write_ahead)) as first:
        with closing(_written(first, one_by_one, 1, pace.write_ahead)) as second:
            yield from second


def _written(seen: Iterable[Seen], sinks: Sequence[Sink], threads: int, ahead: int) -> Generator[Seen, None, None]:
    if sinks:
        yield from ordered_map(partial(_write_one, sinks), seen, threads, ahead, lambda one: _weight([(0, one.frame)]))
    else:
        yield from seen


def _write_one(sinks: Sequence[Sink], seen: Seen) -> Seen:
    for sink in sinks:
        sink.write(seen.frame, seen.detected.detections)
    return replace(seen, done=time.monotonic())


def grouped(
    frames: Iterable[Frame], shape: Callable[[Frame], tuple[int, int]], size: int, window: int
) -> Iterator[list[Numbered]]:
    """Put frames of equal shape together.

    Args:
        frames: in their order.
        shape: of the network's input for a frame.
        size: most frames of a group.
        window: a frame waits for others of its shape among so many, itself included, and then goes. Without an end to
            its wait all that came after it would be kept, for the sake of the order.

    Yields:
        frames, each with its number from 0.
    """
    waiting: dict[tuple[int, int], list[Numbered]] = {}  # the one with the oldest frame first
    for number, frame in enumerate(frames):
        key = shape(frame)
        group = waiting.setdefault(key, [])
        group.append((number, frame))
        if len(group) == size:
            yield waiting.pop(key)
        longest = next(iter(waiting.values()), None)
        if longest and number - longest[0][0] >= window - 1:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def in_order(groups: Iterable[Sequence[tuple[int, Seen]]]) -> Iterator[Seen]:
    """Give what is numbered from 0 in the order of the numbers."""
    early: dict[int, Seen] = {}
    expected = 0
    for group in groups:
        early.update(group)
        while expected in early:
            yield early.pop(expected)
            expected += 1
