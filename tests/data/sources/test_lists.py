"""What --source may say, and lists of files and streams."""

import pytest
from PIL import Image

from utils.data.sources import load_source
from utils.errors import UserError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "sub/b.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "does not exist; give an image or video file"),
        ("empty", "no files there; supported suffixes are bmp"),
        ("*.gone", "no files there"),
        ("notes.doc", "'notes.doc' is neither an image nor a video; supported"),
        ("ftp://host/a.jpg", "'ftp' is not supported; expected http"),
        ("http:///a.jpg", "has no host"),
        ("http://[::1/a.jpg", "is no address: Invalid IPv6 URL"),
        ("https://www.youtube.com/watch?v=1", "is a page, no video"),
        ("rtsp://me:secret@/a", r"'rtsp://\*\*\*@/a' has no host"),
        ("screen 1 2", "expected screen, screen NUMBER"),
        ("screen 0 0 0 10", "width and height are 0"),
    ],
)
def test_mistakes(here, source, message):
    (here / "empty").mkdir()
    (here / "notes.doc").write_text("x")
    with pytest.raises(UserError, match=message) as error:
        load_source(source)
    assert str(error.value).startswith("--source ") and "\n" not in str(error.value)


def test_stride_must_be_a_number_of_frames(here):
    with pytest.raises(UserError, match="--vid-stride 0"):
        load_source("a.png", 0)


def test_list_of_files(here):
    (here / "sub/list.txt").write_text(f"# mine\n\nb.png\n{here}/a.png\n  ../a.png\nsub/a.png\n", encoding="utf-8-sig")
    frames = list(load_source("sub/list.txt"))
    assert [str(frame.path) for frame in frames] == ["sub/b.png", f"{here}/a.png", "a.png", "sub/a.png"]
    assert [frame.name for frame in frames] == ["b", "a", "a2", "a3"]


def test_list_that_names_missing_files(here):
    (here / "list.txt").write_text("gone.png\na.png\n")
    source = load_source("list.txt")
    assert [frame.path.name for frame in source] == ["a.png"] and source.skipped == 1
    (here / "list.txt").write_text("gone.png\ngone too.mp4\n")
    with pytest.raises(UserError, match=r"none of the 2 files can be used; the last one, 'gone too\.mp4' cannot"):
        list(load_source("list.txt"))


@pytest.mark.parametrize("suffix", ["txt", "streams"])
def test_list_of_streams(here, suffix):
    (here / f"list.{suffix}").write_text("0\nrtsp://me:secret@host/a\nhttp://host/b\n")
    source = load_source(f"list.{suffix}")
    assert (source.live, source.streams) == (True, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names nothing"),
        (b"# only\n \n", "names nothing"),
        (b"\xff\xfe\x00", "is not a text file"),
        (b"a.png\nnotes.doc\n", "line 2: 'notes.doc' is neither an address nor a file"),
        (b"a.png\n0\n", "line 2: '0' is a stream, the first entry a file"),
        (b"rtsp://me:secret@host\na.png\n", "line 2: 'a.png' is a file, the first entry a stream"),
        (b"http://[::1\n", "is no address"),
        (b"gopher://host/a\n", "'gopher' is not supported"),
    ],
)
def test_wrong_lists(here, content, message):
    (here / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_source("list.txt")
    assert "secret" not in str(error.value)
