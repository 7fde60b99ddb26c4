import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.data.sources import load_source, read_image
from utils.errors import UserError


def write(path, shade=50):
    Image.new("RGB", (24, 16), (shade, 0, 0)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name, shade in (("b.png", 20), ("a.jpg", 10), ("ö ü.PNG", 30)):
        write(tmp_path / name, shade)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "c.png")
    return tmp_path


def test_folder_in_name_order(folder):
    source = load_source(str(folder))
    frames = list(source)
    assert [frame.path.name for frame in frames] == ["a.jpg", "b.png", "ö ü.PNG"]
    assert [(frame.index, frame.count) for frame in frames] == [(0, 3), (1, 3), (2, 3)]
    assert len(source) == 3
    assert frames[2].image.shape == (16, 24, 3) and frames[2].image.dtype == np.uint8
    assert frames[2].image[0, 0].tolist() == [0, 0, 30], "BGR"


@pytest.mark.parametrize(
    ("pattern", "names"), [("*.png", ["b.png"]), ("**/*.png", ["b.png", "c.png"]), ("a.jpg", ["a.jpg"])]
)
def test_pattern_and_file(folder, pattern, names):
    assert [frame.path.name for frame in load_source(str(folder / pattern))] == names


def test_file_whose_name_looks_like_a_pattern(tmp_path):
    write(tmp_path / "a[1].png")
    assert len(load_source(str(tmp_path / "a[1].png"))) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "does not exist"),
        ("empty", "no files there.*supported suffixes are bmp"),
        ("*.gone", "no files there"),
        ("notes.txt", "not an image.*supported"),
        ("clip.mp4", "videos.*not supported yet"),
        ("0", "cameras and URLs are not supported yet"),
        ("rtsp://host/stream", "cameras and URLs are not supported yet"),
    ],
)
def test_mistakes(folder, monkeypatch, source, message):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "clip.mp4").touch()
    with pytest.raises(UserError, match=message):
        load_source(source)


def test_unreadable_image_in_a_folder_is_skipped(folder, caplog):
    (folder / "b.png").write_bytes(b"broken")
    with caplog.at_level(logging.WARNING, "yolov5"):
        frames = list(load_source(str(folder)))
    assert [(frame.path.name, frame.index) for frame in frames] == [("a.jpg", 0), ("ö ü.PNG", 2)]
    assert len(caplog.records) == 1 and "b.png" in caplog.text


@pytest.mark.parametrize("names", [["x.png"], ["x.png", "y.png"]])
def test_nothing_readable(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"(can|cannot) be read"):
        list(load_source(str(tmp_path)))


def test_exif_rotation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (24, 16, 3)


@pytest.mark.parametrize(
    "pixels", [np.full((5, 6), 9, np.uint8), np.full((5, 6, 4), 9, np.uint8), np.full((5, 6), 2304, np.uint16)]
)
def test_grey_alpha_and_deep_images_become_bgr(tmp_path, pixels):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    image = read_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((5, 6, 3), np.uint8) and (image == 9).all()
