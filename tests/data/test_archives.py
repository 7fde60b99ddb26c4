import gzip
import io
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.data import archives
from utils.data.archives import DamagedArchive, move_into, readable_size, unpack
from utils.errors import UserError

FILES = {"set/images/a.jpg": b"picture" * 1000, "set/labels/a.txt": b"0 0.5 0.5 0.1 0.1\n", "set/ä.txt": b""}
KINDS = ("zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz")


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, files, extra=()):
    mode = "w:" + {"gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}.get(path.suffix[1:], "")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return path


def make(path, files):
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def content_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def only(folder, *names):
    """Tell whether nothing but ``names`` is in ``folder``, hidden files included."""
    return {path.name for path in folder.iterdir()} == set(names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop_top", [False, True])
def test_unpacks_every_kind_whole(tmp_path, kind, drop_top):
    archive = make(tmp_path / f"x.{kind}", FILES | {"__MACOSX/set/a": b"x", "set/images/._a.jpg": b"x"})
    unpack(archive, tmp_path / "out", drop_top)
    expected = {name.removeprefix("set/") if drop_top else name: content for name, content in FILES.items()}
    assert content_of(tmp_path / "out") == expected
    assert only(tmp_path, archive.name, "out")


def test_single_gz(tmp_path):
    (tmp_path / "boxes.json.gz").write_bytes(gzip.compress(b"{}"))
    unpack(tmp_path / "boxes.json.gz", tmp_path / "out")
    assert content_of(tmp_path / "out") == {"boxes.json": b"{}"}


def test_top_folder_stays_when_something_lies_beside_it(tmp_path):
    archive = make_zip(tmp_path / "x.zip", FILES | {"readme.txt": b"hello"})
    unpack(archive, tmp_path / "out", drop_top=True)
    assert content_of(tmp_path / "out") == FILES | {"readme.txt": b"hello"}


def test_adds_to_a_folder_and_keeps_what_is_there(tmp_path):
    (tmp_path / "out" / "set" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "set" / "labels" / "a.txt").write_bytes(b"mine")
    unpack(make_zip(tmp_path / "x.zip", FILES), tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES | {"set/labels/a.txt": b"mine"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "a/../../evil.txt",
        "/evil.txt",
        "C:/evil.txt",
        "c:evil.txt",
        "..\\evil.txt",
        "a\\..\\..\\e",
        "a/C:/e",
        "a/.. /e",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path, kind, name):
    (tmp_path / "in").mkdir()
    archive = make(tmp_path / "in" / f"x.{kind}", {"good.txt": b"x", name: b"evil"})
    with pytest.raises(UserError, match="leads out of its folder; it was not unpacked"):
        unpack(archive, tmp_path / "in" / "out")
    assert only(tmp_path, "in") and only(tmp_path / "in", archive.name)


def special_entry(kind, name="link", target="/etc/passwd"):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "x.tar", {"good.txt": b"x"}, [special_entry(kind)])
    with pytest.raises(UserError, match="'link', which is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert only(tmp_path, "x.tar")


def test_links_in_zip_are_refused(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="a link or a device"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert only(tmp_path, "x.zip")


@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "HARMLESS_SIZE", 100_000)
    monkeypatch.setattr(archives, "MOST_GROWTH", 0.5 if kind == "tar" else 100)
    archive = make(tmp_path / f"x.{kind}", {f"{number}.txt": bytes(1_000_000) for number in range(3)})
    with pytest.raises(UserError, match="grows beyond"):
        unpack(archive, tmp_path / "out")
    assert only(tmp_path, archive.name)


def test_bomb_in_gz_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS_SIZE", 100_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(UserError, match="grows beyond"):
        unpack(tmp_path / "x.gz", tmp_path / "out")


def test_bomb_in_a_tar_header_is_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "x.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(DamagedArchive):
        unpack(tmp_path / "x.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_too_many_entries(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MOST_ENTRIES", 2)
    with pytest.raises(UserError, match="more than 2 entries"):
        unpack(make(tmp_path / f"x.{kind}", FILES), tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_disk_too_small(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "DISK_RESERVE", 1 << 60)
    with pytest.raises(UserError, match=r"needs .* has 0 B to spare"):
        unpack(make(tmp_path / f"x.{kind}", FILES), tmp_path / "out")


def test_encrypted_zip(tmp_path):
    data = bytearray(make_zip(tmp_path / "x.zip", {"a.txt": b"x"}).read_bytes())
    data[6] |= 1  # flags of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and of the directory
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match="encrypted; unpack it by hand"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", [*KINDS, "gz"])
@pytest.mark.parametrize("keep", [0, 0.3, 0.6, 0.9])
def test_truncated(tmp_path, kind, keep):
    path = tmp_path / f"x.{kind}"
    whole = gzip.compress(b"hello" * 100) if kind == "gz" else make(path, FILES | {"b": bytes(9000)}).read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if kind != "tar" else int(17_000 * keep)])
    with pytest.raises(DamagedArchive, match="damaged or not what its name says"):
        unpack(path, tmp_path / "out")
    assert only(tmp_path, path.name)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_flipped_bytes_are_found(tmp_path, kind):
    path = make(tmp_path / f"x.{kind}", {"a.bin": bytes(range(256)) * 400})
    data = bytearray(path.read_bytes())
    for position in range(len(data) // 2, len(data) // 2 + 8):
        data[position] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(DamagedArchive):
        unpack(path, tmp_path / "out")
    assert only(tmp_path, path.name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("page.zip", b"<!DOCTYPE html>", "not what its name says"),
        ("page.tar.gz", b"<!DOCTYPE html>", "not what its name says"),
        ("page.tar", b"<!DOCTYPE html>" * 100, "not what its name says"),
        ("x.rar", b"Rar!", "no archive known here; expected .zip"),
    ],
)
def test_other_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        unpack(tmp_path / name, tmp_path / "out")


def test_missing_archive_and_folder_in_its_place(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
    with pytest.raises(UserError, match="is no file"):
        unpack(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_file_and_folder_of_one_name(tmp_path, kind):
    archive = make(tmp_path / f"x.{kind}", {"a": b"file", "a/b": b"inside"})
    with pytest.raises(DamagedArchive, match="a file and a folder of one name"):
        unpack(archive, tmp_path / "out")
    assert only(tmp_path, archive.name)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_interrupt_leaves_nothing(tmp_path, monkeypatch, kind):
    archive = make(tmp_path / f"x.{kind}", FILES)
    calls = iter([None, KeyboardInterrupt])

    def interrupted(*_):
        stop = next(calls)
        if stop:
            raise stop

    monkeypatch.setattr(archives._Receiver, "expect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert only(tmp_path, archive.name)


def test_move_into_merges(tmp_path):
    for name, files in {"new": ("a/1", "a/2", "b/3"), "old": ("a/1", "c/4")}.items():
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(name)
    move_into(tmp_path / "new", tmp_path / "old")
    assert content_of(tmp_path / "old") == {"a/1": b"old", "a/2": b"new", "b/3": b"new", "c/4": b"old"}


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (815_585_330, "816 MB"), (19.3e9, "19.3 GB")]
)
def test_readable_size(size, text):
    assert readable_size(size) == text


SEGMENTS = st.sampled_from(["a", "b", "images", "..", ".", "", "/", "C:", "\\", "...", "._x", "~", "con", " "])


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(SEGMENTS, min_size=1, max_size=5), separator=st.sampled_from(["/", "\\"]), kind=st.booleans())
def test_no_name_ever_leaves_the_folder(tmp_path_factory, parts, separator, kind):
    """Whatever an entry is called: it lands inside, is left out, or the archive is refused."""
    folder = tmp_path_factory.mktemp("escape")
    archive = folder / "in" / ("x.zip" if kind else "x.tar")
    archive.parent.mkdir()
    make(archive, {separator.join(parts) or "x": b"content"})
    try:
        unpack(archive, archive.parent / "out")
    except UserError:
        assert only(archive.parent, archive.name)
    else:
        assert only(archive.parent, archive.name, "out")
    assert only(folder, "in")
