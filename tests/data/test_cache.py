"""What is remembered of a scan, and when it is not believed."""

import io
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.label_files import assert_same_scan, scan_images, write_image, write_labels
from utils.data import cache as label_cache
from utils.data import scan as scanning
from utils.data.cache import cache_file, cached_scan
from utils.data.listing import label_path, list_images

LONG_AGO = 10**9  # ns


@pytest.fixture
def split(tmp_path, monkeypatch):
    """Three images: polygons, boxes with a duplicate, and a corrupt one; and the folder caches go to."""
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "caches"))
    folder = tmp_path / "images"
    write_labels(write_image(folder / "a.png"), "0 .1 .1 .4 .1 .4 .5 .1 .5\n1 .1 .1 .4 .1 .4 .5 .1 .5 .2 .3")
    write_labels(write_image(folder / "b.png"), "1 .5 .5 .2 .3\n1 .5 .5 .2 .3\n")
    write_labels(write_image(folder / "c.png"), "bad\n")
    return folder


def scan_of(folder):
    return cached_scan(list_images([folder]), [folder], "test")


def test_cache_recalls_everything(split, tmp_path):
    fresh, recalled = scan_of(split)
    assert not recalled and len(fresh.samples) == 2 and len(fresh.warnings) == 2
    again, recalled = scan_of(split)
    assert recalled
    assert_same_scan(fresh, again)
    assert [file.suffix for file in (tmp_path / "caches").iterdir()] == [".cache"]


@pytest.mark.parametrize("change", ["label edited", "image added", "label removed"])
def test_cache_is_renewed_when_data_change(split, change):
    scan_of(split)
    if change == "label edited":
        write_labels(split / "b.png", "0 .5 .5 .2 .3\n0 .2 .2 .1 .1\n")
    elif change == "image added":
        write_image(split / "d.png")
    else:
        label_path(split / "b.png").unlink()
    scan, recalled = scan_of(split)
    assert not recalled
    assert_same_scan(scan, scan_images(list_images([split]), "test"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04 broken", "half"])
def test_bad_cache_is_rebuilt(split, tmp_path, content):
    fresh, _ = scan_of(split)
    (file,) = (tmp_path / "caches").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    scan, recalled = scan_of(split)
    assert not recalled
    assert_same_scan(fresh, scan)
    assert scan_of(split)[1]


def test_unwritable_cache_does_no_harm(split, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "file"))
    assert len(scan_of(split)[0].samples) == 2


def test_cache_lies_beside_labels_by_default(split, tmp_path, monkeypatch):
    monkeypatch.delenv("YOLOV5_CACHE_DIR")
    scan_of(split)
    assert len(list(tmp_path.glob("labels*.cache"))) == 1


@pytest.fixture
def opened(monkeypatch):
    """Names of the images and label files that were opened since the list was cleared."""
    names = []

    def spy(module, name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path: (names.append(os.path.basename(path)), original(path))[1])

    spy(scanning, "read_ends")
    spy(scanning, "read_content")
    spy(label_cache, "read_content")
    return names


@pytest.fixture
def settled(split, monkeypatch, opened):
    """The same split after a scan that took place long after its files were written."""
    write_labels(write_image(split / "d.png"), "2 .5 .5 .2 .3")
    now = time.time_ns()
    monkeypatch.setattr(label_cache.time, "time_ns", lambda: now + 3600 * LONG_AGO)
    scan_of(split)
    opened.clear()
    return split


def test_nothing_is_opened_when_nothing_changed(settled, opened):
    assert scan_of(settled)[1] and opened == []


def test_one_edited_label_is_the_only_file_opened(settled, opened):
    write_labels(settled / "b.png", "0 .5 .5 .2 .3\n0 .2 .2 .1 .1\n")
    scan, recalled = scan_of(settled)
    assert opened == ["b.txt"] and not recalled
    assert_same_scan(scan, scan_images(list_images([settled]), "test"))
    opened.clear()
    assert scan_of(settled)[1] and opened == []


def test_touched_label_is_read_once_and_believed(settled, opened):
    os.utime(label_path(settled / "b.png"))
    assert scan_of(settled)[1] and opened == ["b.txt"]
    assert scan_of(settled)[1] and opened == ["b.txt"]


def test_edit_that_keeps_size_and_time_is_found(settled, opened):
    """On Windows, where the time of status change means another thing, size and time of change must differ."""
    file = label_path(settled / "d.png")
    status = file.stat()
    file.write_bytes(file.read_bytes().replace(b"2 ", b"3 "))
    if os.name != "nt":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    scan, recalled = scan_of(settled)
    assert not recalled and scan.samples[-1].labels[0, 0] == 3


def test_edit_in_the_moment_of_the_scan_is_found(split, monkeypatch):
    """Files as old as the scan are read again: a later edit could have left size and times as they are."""
    scan_of(split)
    write_labels(split / "b.png", "0 .5 .5 .2 .3\n0 .5 .5 .2 .3\n")
    state = label_cache.file_state(os.stat(label_path(split / "b.png")))
    (file,) = (split.parent / "caches").iterdir()
    memory = label_cache._load(file)
    memory.findings.states[1, 2:] = state
    label_cache._save(file, memory)
    scan, recalled = scan_of(split)
    assert not recalled and scan.samples[1].labels[0, 0] == 0


def test_changed_image_is_looked_at_alone(settled, opened):
    write_image(settled / "d.png", (80, 40))
    scan, _ = scan_of(settled)
    assert sorted(opened) == ["d.png", "d.txt"] and scan.samples[-1].size_hw == (40, 80)


def test_new_and_gone_images_leave_the_others_alone(settled, opened):
    (settled / "b.png").unlink()
    write_labels(write_image(settled / "aa.png"), "7 .5 .5 .2 .3")
    scan, recalled = scan_of(settled)
    assert sorted(opened) == ["aa.png", "aa.txt"] and not recalled
    assert [sample.image.name for sample in scan.samples] == ["a.png", "aa.png", "d.png"]
    assert_same_scan(scan, scan_images(list_images([settled]), "test"))


def test_other_order_of_the_same_images(settled, opened):
    images = list_images([settled])
    scan, recalled = cached_scan(images[::-1], [settled], "test")
    assert recalled and opened == []
    assert_same_scan(scan, scan_images(images[::-1], "test"))


def test_image_listed_twice(settled):
    images = [*list_images([settled])] * 2
    scan, _ = cached_scan(images, [settled], "test")
    assert_same_scan(scan, scan_images(images, "test"))
    assert_same_scan(cached_scan(images, [settled], "test")[0], scan)


def test_images_that_share_a_label_file_are_named(split):
    write_image(split / "b.jpg")
    write_image(split / "lonely.jpg")
    write_image(split / "lonely.png")  # no label file to share
    for _ in range(2):
        scan, _ = scan_of(split)
        (line,) = [line for line in scan.warnings if "2 images" in line]
        assert line.startswith(f"{label_path(split / 'b.jpg')}: labels of 2 images, b.jpg, b.png")


def rewrite(file, change):
    """Let ``change`` work on the arrays of a cache file, and seal it again."""
    with file.open("rb") as stream:
        stream.seek(label_cache.HASH_LETTERS)
        with np.load(stream) as archive:
            arrays = dict(archive)
    change(arrays)
    body = io.BytesIO()
    np.savez(body, **arrays)
    body.seek(0)
    file.write_bytes(label_cache._hash(body) + body.getvalue())


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("points"),
        lambda arrays: arrays.update(labels=arrays["labels"][:-1]),
        lambda arrays: arrays.update(labels=arrays["labels"].astype(np.float64)),
        lambda arrays: arrays.update(labels=arrays["labels"] * np.nan),
        lambda arrays: arrays.update(labels=arrays["labels"] + 2),
        lambda arrays: arrays.update(label_counts=-arrays["label_counts"]),
        lambda arrays: arrays.update(outline_counts=np.roll(arrays["outline_counts"], 1)),
        lambda arrays: arrays.update(point_counts=arrays["point_counts"][:-1]),
        lambda arrays: arrays.update(status=arrays["status"][:-1]),
        lambda arrays: arrays.update(states=arrays["states"][:, :4]),
        lambda arrays: arrays.update(states=arrays["states"][:1]),
        lambda arrays: arrays.update(images=arrays["images"][:-1]),
        lambda arrays: arrays.update(label_notes=np.zeros(0, np.uint8)),
        lambda arrays: arrays.update(sizes_hw=-arrays["sizes_hw"]),
        lambda arrays: arrays.update(time_ns=np.zeros(0, np.int64)),
        lambda arrays: arrays.update(time_ns=np.array(0)),
        lambda arrays: arrays.update(status=np.array([object()])),
    ],
)
def test_lying_arrays_are_not_believed(split, tmp_path, change):
    fresh, _ = scan_of(split)
    (file,) = (tmp_path / "caches").iterdir()
    rewrite(file, change)
    scan, recalled = scan_of(split)
    assert not recalled
    assert_same_scan(fresh, scan)


def test_honest_arrays_are_believed(split, tmp_path):
    scan_of(split)
    (file,) = (tmp_path / "caches").iterdir()
    rewrite(file, lambda arrays: None)
    assert scan_of(split)[1]


def test_cache_of_another_version_is_renewed(split, monkeypatch):
    scan_of(split)
    monkeypatch.setattr(label_cache, "VERSION", label_cache.VERSION + 1)
    assert not scan_of(split)[1] and scan_of(split)[1]


@settings(max_examples=60, deadline=None, database=None)
@given(st.data())
def test_no_damage_goes_unseen(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        write_labels(write_image(folder / "images" / "a.png"), "0 .1 .1 .4 .1 .4 .5 .1 .5\n1 .1 .1 .4 .1 .4 .5 .1 .5")
        write_labels(write_image(folder / "images" / "b.png"), "bad\n")
    entries = [folder / "images"]
    fresh, _ = cached_scan(list_images(entries), entries, "test")
    file = cache_file(list_images(entries), entries)
    content = bytearray(file.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[position] ^= data.draw(st.integers(1, 255))
    del content[data.draw(st.integers(0, 2 * len(content))) :]
    file.write_bytes(content)
    assert_same_scan(cached_scan(list_images(entries), entries, "test")[0], fresh)
