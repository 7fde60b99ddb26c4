"""Image files: which, in which order, and what becomes of those that cannot be used."""

import logging
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.sources.media import shade, write_video
from tests.data.web import serve
from utils.data.sources import decode, load_source
from utils.errors import UserError


def write(path, level=50):
    Image.new("RGB", (24, 16), (level, 0, 0)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name, level in (("b.png", 20), ("a.jpg", 10), ("ö ü.PNG", 30)):
        write(tmp_path / name, level)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "c.png")
    return tmp_path


def names_of(source):
    return [frame.path.name for frame in source]


def test_folder_in_name_order(folder):
    source = load_source(str(folder))
    assert (source.live, source.streams, len(source)) == (False, 1, 3)
    frames = list(source)
    assert [frame.path.name for frame in frames] == ["a.jpg", "b.png", "ö ü.PNG"]
    assert [(frame.index, frame.count, frame.clip) for frame in frames] == [(0, 3, None), (1, 3, None), (2, 3, None)]
    assert frames[2].image.shape == (16, 24, 3) and frames[2].image.dtype == np.uint8
    assert frames[2].image[0, 0].tolist() == [0, 0, 30], "BGR"


@pytest.mark.parametrize(
    ("pattern", "names"), [("*.png", ["b.png"]), ("**/*.png", ["b.png", "c.png"]), ("a.jpg", ["a.jpg"])]
)
def test_pattern_and_file(folder, pattern, names):
    assert names_of(load_source(str(folder / pattern))) == names


@pytest.mark.parametrize("name", ["a[1].png", "screen.png", "7.png"])
def test_file_whose_name_looks_like_something_else(tmp_path, monkeypatch, name):
    write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert names_of(load_source(name)) == [name]


def test_equal_stems_get_names_of_their_own(folder):
    for name in ("a.png", "A.bmp", "a2.jpg"):
        write(folder / name)
    names = [frame.name for frame in load_source(str(folder / "**/*.*"))]
    assert len({name.lower() for name in names}) == len(names) == 7


def test_images_come_before_videos(folder):
    write_video(folder / "aa.avi", frames=2)
    source = load_source(str(folder))
    assert len(source) == 5
    frames = list(source)
    assert [frame.path.name for frame in frames] == ["a.jpg", "b.png", "ö ü.PNG", "aa.avi", "aa.avi"]
    assert [frame.index for frame in frames] == list(range(5)) and frames[0].count == 4 and frames[4].count == 5
    assert [shade(frame.image) for frame in frames[3:]] == [0, 1]
    assert frames[4].clip.frame == 2 and (frames[4].clip.number, frames[4].clip.count) == (4, 4)


def cut(suffix):
    content = cv2.imencode(suffix, np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))[1].tobytes()
    return content[: len(content) // 2]


def huge_png(side=20000):
    """Return a PNG of one bit a pixel: 50 kB that would become 1.2 GB."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes((1 + side // 8) * side), 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BAD = {
    "bad.jpg": (b"no image", "damaged, or no image"),
    "cut.bmp": (cut(".bmp"), "damaged"),
    "cut.jpg": (cut(".jpg"), "truncated"),
    "cut.png": (cut(".png"), "it breaks off, or is damaged"),
    "cut.tiff": (cut(".tiff"), "damaged"),
    "cut.webp": (cut(".webp"), "damaged"),
    "empty.png": (b"", "it is empty"),
    "huge.png": (huge_png(), "more than 178 million pixels"),
}


def test_bad_files_among_good_ones_are_named_counted_and_skipped(folder, caplog):
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "phone.heic").write_bytes(b"other kind")
    with caplog.at_level(logging.WARNING, "yolov5"):
        source = load_source(str(folder))
        frames = list(source)
    assert [frame.path.name for frame in frames] == ["a.jpg", "b.png", "ö ü.PNG"]
    assert source.skipped == len(BAD) + 2
    said = {record.message for record in caplog.records}
    assert len(caplog.records) == len(said) == len(BAD) + 2
    for name, why in [(name, why) for name, (_, why) in BAD.items()] + [("gone.jpg", "it is gone"), ("heic", "suffix")]:
        assert any(name in line and "skipped: " in line and why in line for line in said), name


def test_opencv_and_libraries_say_nothing_about_bad_files(tmp_path, capfd):
    for name in ("bad.jpg", "cut.bmp", "cut.png", "cut.tiff", "cut.webp"):
        (tmp_path / name).write_bytes(BAD[name][0])
    with pytest.raises(UserError):
        list(load_source(str(tmp_path)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("names", [["x.png"], ["x.png", "y.png"]])
def test_nothing_readable(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"{names[-1]}' cannot be read: it is empty") as error:
        list(load_source(str(tmp_path)))
    assert ("none of the 2 files can be used" in str(error.value)) == (len(names) == 2)


def test_file_of_too_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_BYTES", 100)
    write(tmp_path / "a.bmp")
    with pytest.raises(UserError, match=r"a\.bmp' cannot be read: it has .* GB, expected at most 1 GB"):
        list(load_source(str(tmp_path)))


def test_jpeg_with_something_behind_it_is_whole(tmp_path):
    path = write(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"a maker's own data")
    assert len(list(load_source(str(path)))) == 1


def test_channels_are_those_of_the_model(folder, caplog):
    source = load_source(str(folder))
    source.channels = 1
    assert {frame.image.shape for frame in source} == {(16, 24, 1)}
    source = load_source(str(folder))
    source.channels = 4
    with pytest.raises(UserError, match="has 3 channels, expected 4"):
        list(source)


def test_images_of_a_web_server(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("YOLOV5_OFFLINE", raising=False)
    image = write(tmp_path / "a.png").read_bytes()
    with serve() as web:
        web.files["/x/a%20b.png"] = web.files["/c.png?size=1"] = image
        web.files["/cut.png"] = image[:20]
        listed = [f"{web.url}/{name}" for name in ("x/a%20b.png", "c.png?size=1", "cut.png", "gone.png")]
        (tmp_path / "list.txt").write_text("\n".join([*listed, "a.png"]), encoding="utf-8")
        source = load_source(str(tmp_path / "list.txt"))
        with caplog.at_level(logging.WARNING, "yolov5"):
            frames = list(source)
    assert [frame.name for frame in frames] == ["a b", "c", "a"] and source.skipped == 2
    assert "gone.png' skipped: cannot be fetched: the server answers 404" in caplog.text


def test_turned_and_deep_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / "a.jpg", exif=exif)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((5, 6), 2304, np.uint16))
    turned, deep = (frame.image for frame in load_source(str(tmp_path)))
    assert turned.shape == (24, 16, 3), "upright by its EXIF entry"
    assert deep.shape == (5, 6, 3) and (deep == 9).all()
