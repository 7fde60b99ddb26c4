"""Order, batches, bounds and ends of the pipeline."""

import threading
import time
import weakref

import numpy as np
import pytest

from tests.detect.fakes import frame_of, seen_of
from utils.detect.detector import DetectionSettings, Detector
from utils.detect.pipeline import WINDOW, Pace, grouped, look, pace_for, write

SHAPES = [(64, 64), (32, 64), (64, 32)]


class Source:
    """Says what ``pace_for`` wants to know."""

    def __init__(self, live=False, streams=1):
        self.live, self.streams = live, streams


def first_pixel(images, least=0.0):
    """Return a network that finds one box, whose score tells the first pixel of the image."""
    time.sleep(float(images[0, 0, 0, 0]) / 25500)  # of two batches at the same time, either may be ready first
    return [np.array([[16, 16, 8, 8, 1, image[0, 0, 0] / 255]], np.float32) for image in images]


def detector(find_rows=first_pixel):
    return Detector(find_rows, 32, DetectionSettings((64, 64), confidence=0.01))


def mixed_frames(count):
    shapes = np.random.default_rng(0).integers(0, len(SHAPES), count)
    return [frame_of(index, SHAPES[shape], level=100 + index) for index, shape in enumerate(shapes)]


@pytest.mark.parametrize("looking", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_results_belong_to_their_frames_and_come_in_order(batch_size, looking):
    frames = mixed_frames(40)
    sizes = []

    def find_rows(images, least):
        sizes.append(len(images))
        return first_pixel(images)

    pace = Pace(batch_size, WINDOW * batch_size, looking)
    seen = list(look(detector(find_rows), iter(frames), pace))
    assert [one.frame.index for one in seen] == list(range(40))
    for one in seen:
        assert one.detected.detections.scores[0] == pytest.approx((100 + one.frame.index) / 255, abs=1e-6)
        assert one.detected.input_hw == one.frame.image.shape[:2] and one.delay >= 0
    assert max(sizes) == batch_size and sum(sizes) == 40
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize(("size", "window"), [(1, 1), (2, 2), (4, 32), (4, 4), (3, 7)])
def test_groups_have_one_shape_and_nobody_waits_for_ever(size, window):
    frames = mixed_frames(60)
    taken = []

    def coming():
        for frame in frames:
            taken.append(frame.index)
            yield frame

    seen = set()
    for group in grouped(coming(), lambda frame: frame.image.shape[:2], size, window):
        assert 1 <= len(group) <= size and len({frame.image.shape for _, frame in group}) == 1
        assert [number for number, _ in group] == sorted(frame.index for _, frame in group)
        seen |= {number for number, _ in group}
        waiting = set(taken) - seen
        assert len(waiting) < window or len(taken) == 60
        assert not waiting or len(taken) - min(waiting) <= window
    assert seen == set(range(60))


def test_one_odd_shape_does_not_keep_all_that_follows():
    images = []

    def coming():
        for index in range(300):
            frame = frame_of(index, (32, 64) if index == 0 else (64, 64))
            images.append(weakref.ref(frame.image))
            yield frame

    most = 0
    for _ in look(detector(lambda images, least: [np.zeros((0, 6), np.float32)] * len(images)), coming(), Pace(4, 32)):
        most = max(most, sum(image() is not None for image in images))
    assert most < 60


def test_large_images_do_not_wait_in_numbers(monkeypatch):
    monkeypatch.setattr("utils.detect.pipeline.MOST_BYTES", frame_of().image.nbytes * 1.5)
    fetched = []

    def coming():
        for index in range(20):
            fetched.append(index)
            yield frame_of(index)

    results = look(detector(lambda images, least: [np.zeros((0, 6), np.float32)]), coming(), Pace(looking=8))
    next(results)
    assert len(fetched) == 2
    results.close()


def test_an_error_of_the_network_reaches_the_caller_after_what_went_well():
    def find_rows(images, least):
        if images[0, 0, 0, 0] > 104:
            raise ValueError("broken")
        return first_pixel(images)

    results = look(
        detector(find_rows), [frame_of(index, (64, 64), level=100 + index) for index in range(20)], Pace(looking=2)
    )
    assert [next(results).frame.index for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="broken"):
        next(results)


class Notes:
    """A sink that notes the frames it gets."""

    def __init__(self, in_order, fails_at=-1):
        self.in_order, self.fails_at, self.got, self.at_once, self.most = in_order, fails_at, [], 0, 0

    def write(self, frame, detections):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        time.sleep(0.002 * (frame.index % 3))
        if frame.index == self.fails_at:
            raise OSError("full")
        self.got.append(frame.index)
        self.at_once -= 1


def test_sinks_get_every_frame_those_that_want_so_in_order():
    ordered, anyhow = Notes(True), Notes(False)
    frames = [seen_of(frame_of(index), delay=0) for index in range(30)]
    written = list(write(frames, [ordered, anyhow], Pace(writing=3)))
    assert [one.frame.index for one in written] == ordered.got == list(range(30))
    assert sorted(anyhow.got) == list(range(30)) and ordered.most == 1
    assert all(one.done > two.done for one, two in zip(written, frames, strict=True)), "delays count writing, too"


def test_error_of_a_sink_ends_it_and_stopping_leaves_no_frame_half_written():
    sink = Notes(True, fails_at=7)
    with pytest.raises(OSError, match="full"):
        list(write([seen_of(frame_of(index)) for index in range(30)], [sink], Pace(writing=2)))
    assert sink.got[:7] == list(range(7))
    sinks = [Notes(False), Notes(True)]
    results = write((seen_of(frame_of(index)) for index in range(1000)), sinks, Pace(writing=2))
    next(results)
    results.close()
    assert all(sink.at_once == 0 and len(sink.got) < 20 for sink in sinks)


def test_unhurried_frames_are_written_before_the_next_is_fetched():
    fetched = []

    def coming():
        for index in range(5):
            fetched.append(index)
            yield frame_of(index)

    pace = Pace(hurried=False)
    sink = Notes(True)
    for one in write(look(detector(), coming(), pace), [sink], pace):
        assert sink.got[-1] == fetched[-1] == one.frame.index


@pytest.mark.parametrize(
    ("source", "parallel", "batch_size", "watched", "expected"),
    [
        (Source(), 2, 1, False, Pace(1, 8, 2, 3)),
        (Source(), 8, 4, False, Pace(4, 32, 8, 4)),
        (Source(), 1, 100, False, Pace(100, 100, 1, 2)),
        (Source(), 2, 4, True, Pace(hurried=False)),
        (Source(True), 2, 4, False, Pace(1, 1, 1, hurried=False)),
        (Source(True, 3), 2, 1, False, Pace(1, 1, 1, hurried=False)),
        (Source(True, 3), 2, 8, False, Pace(3, 3, 1, hurried=False)),
    ],
)
def test_pace(source, parallel, batch_size, watched, expected):
    assert pace_for(source, parallel, batch_size, watched) == expected
