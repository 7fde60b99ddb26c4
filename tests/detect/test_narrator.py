"""What is said about frames."""

import logging

import pytest

from tests.detect.fakes import NAMES, NONE, TWO, clip_of, frame_of, seen_of
from utils.detect.narrator import Narrator, where


class Source:
    channels, streams = 3, 1

    def __init__(self, live=False, skipped=0, count=0):
        self.live, self.skipped, self.count = live, skipped, count

    def __len__(self):
        return self.count


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (frame_of(2), "image 3/5 a.png: "),
        (frame_of(2, clip=clip_of(4)), "video 1/2 (4/9) film.avi: "),
        (frame_of(2, clip=clip_of(4, frames=0)), "video 1/2 (4) film.avi: "),
        (frame_of(2, clip=clip_of(4, frames=3)), "video 1/2 (4) film.avi: "),
        (frame_of(2, clip=clip_of(4, live=True, which=2)), "1: "),
    ],
)
def test_beginning_of_a_line(frame, expected):
    assert where(frame) == expected


def told(source, *seen, error=None):
    narrator = Narrator(source, NAMES)
    with narrator:
        for one in seen:
            narrator.tell(one)
        if error:
            raise error
    return narrator


def test_lines_and_sums(caplog):
    caplog.set_level(logging.INFO, "yolov5")
    told(Source(skipped=2, count=4), seen_of(frame_of(0), TWO), seen_of(frame_of(1), NONE))
    assert [record.message for record in caplog.records] == [
        "image 1/5 a.png: 32x64 1 person, 1 traffic light, Done. (0.020s)",
        "image 2/5 a.png: 32x64 Done. (0.020s)",
        "Speed: 1.0ms pre-process, 20.0ms inference, 3.0ms NMS per image at shape (1, 3, 32, 64)",
        "2 images, 2 skipped, 2 objects",
    ]


def test_delays_of_streams(caplog):
    caplog.set_level(logging.INFO, "yolov5")
    frames = [frame_of(index, clip=clip_of(index + 1, live=True)) for index in range(2)]
    told(Source(live=True), seen_of(frames[0], delay=0.1), seen_of(frames[1], delay=0.3))
    lines = [record.message for record in caplog.records]
    assert lines[0].endswith("Done. (0.020s, 100 ms after it was taken)")
    assert lines[3] == "Delay from taking a frame to having its results: 200 ms, longest 300 ms"


def test_sums_after_an_interruption_and_none_of_nothing(caplog):
    caplog.set_level(logging.INFO, "yolov5")
    with pytest.raises(KeyboardInterrupt):
        told(Source(), seen_of(frame_of(), TWO), error=KeyboardInterrupt)
    assert caplog.records[-1].message == "1 image, 2 objects"
    caplog.clear()
    told(Source())
    assert not caplog.records


def test_bar_with_the_remaining_time_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    narrator = Narrator(Source(count=7), NAMES)
    with narrator:
        narrator.tell(seen_of(frame_of()))
        narrator._bar.refresh()
    assert "| 1/7 [" in capsys.readouterr().err
