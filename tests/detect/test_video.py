"""Video files that are written, and windows."""

import os

import cv2
import numpy as np
import pytest

from tests.detect.fakes import NAMES, NONE, TWO, clip_of, frame_of
from utils.detect import video
from utils.detect.sinks import Painter
from utils.detect.video import LIVE_FPS, VideoSink, Viewer
from utils.errors import UserError


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, image = capture.read()
        if not good:
            return capture.get(cv2.CAP_PROP_FPS), frames
        frames.append(image)


def written(folder, frames, detections=NONE):
    sink = VideoSink(folder, Painter(NAMES))
    for frame in frames:
        sink.write(frame, detections)
    sink.close()
    return sink


@pytest.mark.parametrize("size_hw", [(48, 64), (49, 65), (1, 1), (3, 200), (17, 16)])
@pytest.mark.parametrize("fps", [0.5, 12.5, 30000 / 1001, 1000])
def test_pace_and_size_are_kept(tmp_path, fps, size_hw):
    levels = [0, 60, 120, 180]
    clips = [clip_of(number, fps=fps) for number in range(1, 5)]
    written(tmp_path, [frame_of(0, size_hw, clip, level=level) for clip, level in zip(clips, levels, strict=True)])
    got_fps, frames = frames_of(tmp_path / "film.mp4")
    assert got_fps == pytest.approx(fps, rel=1e-4) and len(frames) == 4
    for frame, level in zip(frames, levels, strict=True):
        assert all(0 <= got - side <= max(1, 16 - side) for got, side in zip(frame.shape, size_hw, strict=False))
        assert abs(frame.astype(int) - level).max() < 16, "no black border"


def test_boxes_are_drawn(tmp_path):
    written(tmp_path, [frame_of(0, clip=clip_of())], TWO)
    _, (frame,) = frames_of(tmp_path / "film.mp4")
    assert abs(frame.astype(int) - 100).max() > 50


def test_files_come_one_after_the_other(tmp_path):
    sink = VideoSink(tmp_path, Painter(NAMES))
    sink.write(frame_of(0, clip=clip_of(name="a")), NONE)
    sink.write(frame_of(path="still.png"), NONE)
    assert not list(tmp_path.glob("[!.]*"))
    sink.write(frame_of(1, clip=clip_of(name="b")), NONE)
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["a.mp4"], "complete as soon as the next one begins"
    sink.close()
    sink.close()
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


def test_streams_take_turns_and_may_change_size(tmp_path):
    frames = [
        frame_of(0, (48, 64) if number < 3 else (100, 80), clip_of(number, name, live=True, fps=7))
        for number in range(1, 6)
        for name in ("a", "b")
    ]
    written(tmp_path, frames)
    for name in ("a", "b"):
        fps, images = frames_of(tmp_path / f"{name}.mp4")
        assert fps == LIVE_FPS and [image.shape for image in images] == [(48, 64, 3)] * 5


def test_disk_that_becomes_full_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(video._Recording, "_is_whole", lambda self: False)
    with pytest.raises(UserError, match=r"film\.mp4' could not be written to its end; is the disk full\?"):
        written(tmp_path, [frame_of(0, clip=clip_of())])
    assert not os.listdir(tmp_path)


def test_no_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "CODEC", "none")
    with pytest.raises(UserError, match="no encoder for none; use --nosave"):
        written(tmp_path, [frame_of(0, clip=clip_of())])
    assert not os.listdir(tmp_path)


def test_windows_until_q_is_pressed(monkeypatch):
    shown, keys = [], iter([-1, ord("a"), ord("q")])
    monkeypatch.setattr(video, "has_display", lambda: True)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append((title, image.shape)))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append("closed"))
    viewer = Viewer(Painter(NAMES))
    for clip in (None, clip_of(1), clip_of(2)):
        assert not viewer.ended
        viewer.show(frame_of(clip=clip), TWO)
    viewer.close()
    shape = np.shape(frame_of().image)
    assert viewer.ended and shown == [("YOLOv5-NAM", shape), ("film", shape), ("film", shape), "closed"]


@pytest.mark.parametrize("why", ["no display", "no windows"])
def test_without_a_display_or_windows_it_says_so_once(monkeypatch, caplog, why):
    def fails(*_):
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(video, "has_display", lambda: why == "no windows")
    monkeypatch.setattr(cv2, "imshow", fails)
    viewer = Viewer(Painter(NAMES))
    for _ in range(3):
        viewer.show(frame_of(), TWO)
    viewer.close()
    assert [why in record.message for record in caplog.records] == [True] and not viewer.ended
