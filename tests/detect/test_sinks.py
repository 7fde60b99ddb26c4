"""Sinks with a file a frame; see test_detector.py for labels and crops in v6.1's form."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from tests.detect.fakes import NAMES, NONE, TWO, clip_of, detections_of, frame_of
from utils.detect.sinks import CropSink, ImageSink, LabelSink, Painter


@pytest.mark.parametrize(
    ("corners", "with_scores", "lines"),
    [
        (False, False, ["1 0.625 0.520833 0.625 0.625", "0 0.3125 0.3125 0.3125 0.416667"]),
        (True, False, ["1 0.3125 0.208333 0.9375 0.833333", "0 0.15625 0.104167 0.46875 0.520833"]),
        (True, True, ["1 0.3125 0.208333 0.9375 0.833333 0.5", "0 0.15625 0.104167 0.46875 0.520833 0.9"]),
    ],
)
def test_label_lines(tmp_path, corners, with_scores, lines):
    sink = LabelSink(tmp_path, with_scores, corners)
    sink.write(frame_of(clip=clip_of(3)), TWO)
    sink.write(frame_of(), NONE)
    assert [path.name for path in tmp_path.iterdir()] == ["film_3.txt"]
    assert (tmp_path / "film_3.txt").read_text().splitlines() == lines


def test_images_only_and_no_frames_of_clips(tmp_path):
    sink = ImageSink(tmp_path, Painter(NAMES))
    sink.write(frame_of(clip=clip_of()), TWO)
    assert not list(tmp_path.iterdir())
    for path in ("a.PNG", "b.dng", "c.webp", "http://host/d.gif"):
        sink.write(frame_of(path=path), TWO)
    assert {path.name for path in tmp_path.iterdir()} == {"a.PNG", "b.jpg", "c.webp", "d.jpg"}
    assert (cv2.imread(str(tmp_path / "a.PNG")) != 100).any()


def test_crops_of_several_threads_do_not_overwrite_each_other(tmp_path):
    """The 12th crop of film_1 and the second of film_11 want one name."""
    sink = CropSink(tmp_path, NAMES)
    many = detections_of(*[(4 * column, 0, 4 * column + 3, 20, 0.9, 0) for column in range(12)])
    frames = [frame_of(clip=clip_of(number)) for number in (1, 11, 12, 111, 1)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda frame: sink.write(frame, many), frames))
    files = list((tmp_path / "person").iterdir())
    assert len(files) == 5 * 12 and all(cv2.imread(str(file)) is not None for file in files)


def test_crop_of_nothing_is_left_out(tmp_path):
    CropSink(tmp_path, NAMES).write(frame_of(), detections_of((70, 5, 70, 5, 0.9, 0)))
    assert len(list(tmp_path.rglob("*.jpg"))) <= 1


def test_the_picture_is_a_copy():
    frame = frame_of()
    picture = Painter(NAMES).draw(frame.image, TWO)
    assert (frame.image == 100).all() and picture.shape == frame.image.shape and (picture != 100).any()
    assert np.array_equal(Painter(NAMES).draw(frame.image, NONE), frame.image)
