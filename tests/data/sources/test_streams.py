"""Streams: the newest frame, several at once, broken off, silent, dead."""

import logging
import socket
import threading
import time

import pytest

from tests.data.sources.media import serve_streams, stream_threads, write_video
from tests.data.sources.rtsp import serve_rtsp, transport_stream
from tests.data.web import serve
from utils.data.sources import load_source
from utils.data.sources.stream import Patience
from utils.data.sources.streams import StreamSource
from utils.errors import UserError

IMPATIENT = Patience(answer=0.5, first_tries=2, tries=2, pause=0.05, longest_pause=0.05)


@pytest.fixture
def streams():
    with serve_streams() as running:
        yield running
    assert not stream_threads()


def take(source, count):
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            break
    source.close()
    return frames


def test_frames_of_a_stream(streams, caplog):
    source = load_source(f"{streams.url}/live")
    assert (source.live, source.streams, len(source)) == (True, 1, 0)
    with caplog.at_level(logging.INFO, "yolov5"):
        frames = take(source, 5)
    numbers = [frame.clip.frame for frame in frames]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1
    assert [frame.index for frame in frames] == list(range(5))
    assert len({frame.name for frame in frames}) == 5 and frames[0].name == f"{frames[0].clip.name}_{numbers[0]}"
    assert frames[0].image.shape == (48, 64, 3) and frames[0].clip.live and frames[0].clip.fps > 0
    assert all(0 <= time.monotonic() - frame.captured < 60 for frame in frames)
    assert "(64x48 at" in caplog.text and "WARNING" not in caplog.text


def test_slow_consumer_gets_the_newest_frame(streams):
    source = load_source(f"{streams.url}/live")
    frames = iter(source)
    first = next(frames)
    time.sleep(0.5)
    second, fetched = next(frames), time.monotonic()
    frames.close()
    assert second.clip.frame > first.clip.frame + 10, "those in between are gone"
    assert fetched - second.captured < 0.4


def test_grey_and_stride(streams):
    source = load_source(f"{streams.url}/live", vid_stride=3)
    source.channels = 1
    frames = take(source, 4)
    assert frames[0].image.shape == (48, 64, 1)
    assert all((frame.clip.frame - 1) % 3 == 0 for frame in frames)


def test_several_streams_take_turns(streams, tmp_path):
    (tmp_path / "all.streams").write_text(f"{streams.url}/live?a\n{streams.url}/live?b\n\n", encoding="utf-8")
    source = load_source(str(tmp_path / "all.streams"))
    assert source.streams == 2
    frames = take(source, 30)
    counts = [sum(frame.clip.number == number for frame in frames) for number in (1, 2)]
    assert min(counts) >= 5
    assert len({frame.clip.name for frame in frames}) == 2 and len({frame.name for frame in frames}) == 30


def test_stream_that_breaks_off_is_connected_anew(streams, caplog):
    streams.most = 2
    with caplog.at_level(logging.WARNING, "yolov5"):
        frames = list(StreamSource([f"{streams.url}/few"], patience=IMPATIENT))
    assert streams.connections["/few"] >= 3
    assert 10 < frames[-1].clip.frame <= 20 and frames[0].clip.frame < 10
    assert "broken off after frame" in caplog.text and "trying again in 0.05 s" in caplog.text
    assert caplog.records[-1].message.count("given up") == 1


def test_one_dead_stream_does_not_stop_the_others(streams, caplog):
    source = StreamSource([f"{streams.url}/gone", f"{streams.url}/live"], patience=IMPATIENT)
    with caplog.at_level(logging.WARNING, "yolov5"):
        for frame in source:
            if source.skipped and frame.index > 5:
                break
    assert source.skipped == 1
    assert f"stream '{streams.url}/gone' given up: no frame in 2 tries" in caplog.text


@pytest.mark.parametrize("path", ["/silent", "/gone"])
def test_none_gives_a_frame(streams, path):
    begun = time.monotonic()
    with pytest.raises(UserError, match="does not give a frame"):
        list(StreamSource([streams.url + path], patience=IMPATIENT))
    assert time.monotonic() - begun < 30, "it may not wait for ever"


def test_nobody_listens():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"rtsp://127.0.0.1:{closed.getsockname()[1]}/a"
        with pytest.raises(UserError, match="none of the 2 streams gives a frame"):
            list(StreamSource([url, url], patience=IMPATIENT))


def test_server_that_falls_silent_is_left(streams, caplog):
    with caplog.at_level(logging.WARNING, "yolov5"):
        frames = list(StreamSource([f"{streams.url}/stall"], patience=IMPATIENT))
    assert frames and "broken off" in caplog.text


def test_passwords_are_not_shown(streams, caplog):
    url = streams.url.replace("://", "://me:secret@") + "/gone?token=1"
    with caplog.at_level(logging.INFO, "yolov5"), pytest.raises(UserError) as caught:
        list(StreamSource([url], patience=IMPATIENT))
    assert "secret" not in caplog.text + str(caught.value) and "***@" in str(caught.value)


def test_close_ends_a_consumer_that_waits(streams):
    source = StreamSource([f"{streams.url}/silent"], patience=IMPATIENT)
    got = []
    consumer = threading.Thread(target=lambda: got.extend(source))
    consumer.start()
    time.sleep(0.05)
    source.close()
    source.close()
    consumer.join(5)
    assert not consumer.is_alive() and got == []


def test_video_of_a_web_server_is_played_to_its_end(tmp_path, monkeypatch):
    monkeypatch.delenv("YOLOV5_OFFLINE", raising=False)
    with serve() as web:
        web.files["/a.mp4?session=1"] = web.files["/video"] = write_video(tmp_path / "a.mp4").read_bytes()
        source = load_source(f"{web.url}/a.mp4?session=1")
        assert not source.live and [frame.clip.frame for frame in source] == list(range(1, 11))
        assert source.skipped == 0
        source = load_source(f"{web.url}/video")
        frames = list(source)
    assert source.live and frames[-1].clip.frame == frames[-1].clip.frames == 10
    assert not stream_threads()


def test_rtsp(tmp_path):
    with serve_rtsp(transport_stream(tmp_path / "a.ts")) as url:
        frames = take(load_source(f"{url}?token=1"), 5)
    assert frames[0].image.shape == (48, 64, 3) and frames[0].clip.fps == 25
    shades = [frame.image.mean() for frame in frames]
    assert shades == sorted(shades) and shades[-1] > shades[0]
    assert frames[0].clip.name == url.replace("://", "_").replace(":", "_").replace("/", "_")


def test_no_camera(caplog):
    with pytest.raises(UserError, match="camera 99 does not give a frame"):
        list(StreamSource(["99"], patience=IMPATIENT))


def test_other_channels_are_refused():
    source = load_source("rtsp://127.0.0.1:1/a")
    source.channels = 4
    with pytest.raises(UserError, match="the model takes 4 channels"):
        next(iter(source))
