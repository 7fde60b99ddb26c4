"""Video files."""

import logging

import pytest

from tests.data.sources.media import FPS, shade, write_noise, write_video
from utils.data.sources import load_source
from utils.errors import UserError


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_every_frame_in_order(tmp_path, suffix):
    source = load_source(str(write_video(tmp_path / f"a{suffix}")))
    frames = list(source)
    assert [shade(frame.image) for frame in frames] == list(range(10)) and len(source) == 10
    clip = frames[3].clip
    assert (clip.name, clip.frame, clip.frames, clip.fps, clip.live) == ("a", 4, 10, FPS, False)
    assert (frames[3].name, frames[3].index, frames[3].count) == ("a_4", 3, 10)
    assert frames[0].image.shape == (48, 64, 3)


@pytest.mark.parametrize(("stride", "shades"), [(3, [0, 3, 6, 9]), (4, [0, 4, 8]), (99, [0])])
def test_stride(tmp_path, stride, shades):
    source = load_source(str(write_video(tmp_path / "a.avi")), stride)
    frames = list(source)
    assert [shade(frame.image) for frame in frames] == shades and len(source) == len(shades)
    assert [frame.clip.frame for frame in frames] == [number + 1 for number in shades]
    assert frames[0].clip.fps == pytest.approx(FPS / stride), "what is written keeps its pace"


def test_grey(tmp_path):
    source = load_source(str(write_video(tmp_path / "a.avi", width=65, height=49)))
    source.channels = 1
    assert {frame.image.shape for frame in source} <= {(49, 65, 1), (48, 64, 1)}


def test_names_of_videos_differ_from_all_others(tmp_path):
    for name in ("a.avi", "a.mp4"):
        write_video(tmp_path / name, 2)
    for name in ("a.png", "a2_1.png"):
        (tmp_path / name).write_bytes(b"")
    frames = list(load_source(str(tmp_path)))
    assert len({frame.name for frame in frames}) == 4
    assert {frame.clip.name for frame in frames}.isdisjoint({"a", "a2"})


def test_cut_off_video_gives_what_it_has(tmp_path, caplog):
    whole = write_noise(tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING, "yolov5"):
        frames = list(load_source(str(tmp_path / "a.avi")))
    assert 5 < len(frames) < 25
    assert f"has {len(frames)} of 30 frames that can be read" in caplog.text


@pytest.mark.parametrize("how", ["empty", "text", "cut mp4"])
def test_no_video(tmp_path, how):
    path = write_noise(tmp_path / "a.mp4")
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no video", "cut mp4": whole[: len(whole) // 2]}[how])
    assert len(load_source(str(path))) == 0
    with pytest.raises(UserError, match=r"a\.mp4' cannot be opened: it is damaged, or no video"):
        list(load_source(str(path)))


def test_video_without_frames(tmp_path):
    path = write_video(tmp_path / "a.avi", frames=0)
    with pytest.raises(UserError, match=r"a\.avi' cannot be (opened|read)"):
        list(load_source(str(path)))


def test_bad_video_among_good_ones_is_skipped(tmp_path, caplog):
    for name in ("a.avi", "c.avi"):
        write_video(tmp_path / name, 3)
    (tmp_path / "b.avi").write_bytes(b"no video")
    source = load_source(str(tmp_path))
    with caplog.at_level(logging.WARNING, "yolov5"):
        frames = list(source)
    assert [frame.path.name for frame in frames] == ["a.avi"] * 3 + ["c.avi"] * 3 and source.skipped == 1
    assert [frame.index for frame in frames] == list(range(6))
    assert "b.avi' skipped: cannot be opened" in caplog.text


def test_consumer_that_stops_closes_the_file(tmp_path):
    path = write_video(tmp_path / "a.avi")
    frames = iter(load_source(str(path)))
    next(frames)
    frames.close()
    assert list(frames) == []
    path.unlink()


def test_other_channels_are_refused(tmp_path):
    source = load_source(str(write_video(tmp_path / "a.avi", 1)))
    source.channels = 4
    with pytest.raises(UserError, match="has colour or grey pictures, and the model takes 4 channels"):
        list(source)
