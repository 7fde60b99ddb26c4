"""Images on standard input."""

import io
import logging

import cv2
import numpy as np
import pytest

from utils.data.sources.standard_input import StandardInput, split_images
from utils.errors import UserError

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)


def encoded(suffix, *settings):
    return cv2.imencode(suffix, PICTURE, settings)[1].tobytes()


FILES = {
    "baseline.jpg": encoded(".jpg"),
    "progressive.jpg": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts.jpg": encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "a.png": encoded(".png"),
    "a.bmp": encoded(".bmp"),
    "a.webp": encoded(".webp"),
}


class Trickle(io.RawIOBase):
    """Gives few bytes at a time, as pipes do."""

    def __init__(self, content):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.content.read(min(len(buffer), 7))
        buffer[: len(piece)] = piece
        return len(piece)


def pipe(*contents):
    return io.BufferedReader(Trickle(b"".join(contents)), 64)


def test_every_kind_tells_where_it_ends():
    wanted = [(name.split(".")[1], content) for name, content in FILES.items()] * 2
    assert list(split_images(pipe(*(content for _, content in wanted)))) == wanted


def test_images_come_in_turn():
    frames = list(StandardInput(pipe(*FILES.values())))
    assert [frame.name for frame in frames] == [f"stdin{number}" for number in range(1, 7)]
    assert [frame.path.name for frame in frames][-2:] == ["stdin5.bmp", "stdin6.webp"]
    assert all(frame.image.shape == PICTURE.shape for frame in frames)
    assert (frames[4].image == PICTURE).all()


def test_an_image_is_given_before_the_next_one_is_written():
    class Endless(Trickle):
        def readinto(self, buffer):
            return super().readinto(buffer) or pytest.fail("waits for more than the image")

    source = StandardInput(io.BufferedReader(Endless(FILES["a.png"]), 64))
    assert next(iter(source)).name == "stdin1"


def test_damaged_one_is_skipped(caplog):
    damaged = bytearray(FILES["a.bmp"])
    damaged[14:18] = bytes(4)
    source = StandardInput(pipe(bytes(damaged), FILES["a.png"], FILES["baseline.jpg"][:300]))
    with caplog.at_level(logging.WARNING, "yolov5"):
        assert [frame.name for frame in source] == ["stdin2"]
    assert source.skipped == 2 and "'stdin1' skipped: " in caplog.text and "'stdin3' skipped: " in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "standard input is empty"),
        (b"\x00", "no image"),
        (b"hello, this is text", "'stdin1' cannot be read: it is damaged, or no image"),
        (b"\xff\xd8", "'stdin1' cannot be read"),
        (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT", "'stdin1' cannot be read"),
    ],
)
def test_no_image_at_all(content, message):
    with pytest.raises(UserError, match=message):
        list(StandardInput(pipe(content)))


def test_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(UserError, match="nothing is piped into it"):
        list(StandardInput())
