import shutil
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.convert.made import (
    HEIGHT,
    WIDTH,
    box_in_px,
    convert_and_count,
    images_of,
    labels_of,
    reasons,
    write_image,
    write_text,
)
from tests.golden_data import shared_path
from utils.data.config import load_dataset_config
from utils.data.convert import convert
from utils.errors import UserError

XML = "<annotation><filename>{filename}</filename>{size}{objects}</annotation>"
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def thing(box=(5, 3, 24, 12), name="cat", extra=""):
    sides = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{escape(name)}</name>{extra}<bndbox>{sides}</bndbox></object>"


def make(folder: Path, files: dict[str, str], lists: dict[str, list[str]] | None = None) -> Path:
    """Write one XML file and image for each of ``files``: stem -> objects."""
    for stem, objects in files.items():
        write_image(folder / f"JPEGImages/{stem}.jpg")
        text = XML.format(filename=f"{stem}.jpg", size=SIZE, objects=objects)
        write_text(folder / f"Annotations/{stem}.xml", text)
    for split, stems in (lists or {}).items():
        write_text(folder / f"ImageSets/Main/{split}.txt", "\n".join(stems) + "\n")
    return folder


def test_coordinates_count_from_one_and_include_the_last_pixel(tmp_path):
    objects = thing((1, 1, WIDTH, HEIGHT)) + thing((5, 3, 24, 12))
    convert_and_count("voc", make(tmp_path / "in", {"a": objects}), tmp_path / "out")
    whole, other = labels_of(tmp_path / "out")["train/a.txt"]
    assert whole == [0, 0.5, 0.5, 1, 1]
    assert box_in_px(other) == pytest.approx([4, 2, 24, 12], abs=1e-5)


def test_a_zero_says_that_they_count_from_zero(tmp_path):
    source = make(tmp_path / "in", {"a": thing((0, 0, 40, 20)), "b": thing((4, 2, 24, 12))})
    report = convert_and_count("voc", source, tmp_path / "out")
    assert box_in_px(labels_of(tmp_path / "out")["train/b.txt"][0]) == pytest.approx([4, 2, 24, 12], abs=1e-5)
    assert "1 boxes begin at 0" in report.notes[0]


def test_splits_and_their_union(tmp_path):
    lists = {"train": ["a"], "val": ["b"], "test": ["c", "a"], "trainval": ["a", "b", "d"]}
    source = make(tmp_path / "in", {stem: thing() for stem in "abcde"}, lists)
    report = convert_and_count("voc", source, tmp_path / "out")
    assert report.images_out == {"train": 2, "val": 1, "test": 1}
    assert images_of(tmp_path / "out") == ["test/c.jpg", "train/a.jpg", "train/d.jpg", "val/b.jpg"]
    assert any("1 images are in two lists" in note for note in report.notes)
    assert any("1 XML files are in no list" in note for note in report.notes)


def test_only_trainval(tmp_path):
    source = make(tmp_path / "in", {"a": thing(), "b": thing()}, {"trainval": ["a", "b"]})
    assert convert_and_count("voc", source, tmp_path / "out").images_out == {"train": 2}


def test_several_years_become_one_data_set(tmp_path):
    make(tmp_path / "in/VOC2007", {"a": thing()}, {"train": ["a"]})
    make(tmp_path / "in/VOC2012", {"b": thing(name="ant"), "c": thing()}, {"train": ["b"], "val": ["c"]})
    report = convert_and_count("voc", tmp_path / "in", tmp_path / "out")
    assert report.images_out == {"train": 2, "val": 1}
    assert list(report.categories.values()) == ["ant", "cat"]


def test_xml_files_beside_their_images(tmp_path):
    for split in ("train", "valid"):
        write_image(tmp_path / f"in/{split}/{split}1.jpg")
        write_text(tmp_path / f"in/{split}/{split}1.xml", XML.format(filename="x", size=SIZE, objects=thing()))
    convert_and_count("voc", tmp_path / "in", tmp_path / "out")
    assert images_of(tmp_path / "out") == ["train/train1.jpg", "valid/valid1.jpg"]
    config = load_dataset_config(str(tmp_path / "out/out.yaml"))
    assert [path.name for paths in config.splits.values() for path in paths] == ["train", "valid"]


@pytest.mark.parametrize(
    ("names", "classes", "lost"),
    [
        (None, {"train/a.txt": [2, 0, 1]}, 0),
        (["zebra", "cat", "ant"], {"train/a.txt": [0, 2, 1]}, 0),
        (["zebra"], {"train/a.txt": [0]}, 2),
    ],
)
def test_names(tmp_path, names, classes, lost):
    source = make(tmp_path / "in", {"a": thing(name="zebra") + thing(name="ant") + thing(name=" cat ")})
    report = convert_and_count("voc", source, tmp_path / "out", **({"names": names} if names else {}))
    assert {file: [row[0] for row in rows] for file, rows in labels_of(tmp_path / "out").items()} == classes
    assert len(report.lost_boxes) == lost


def test_a_name_given_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="a class is named twice"):
        convert("voc", make(tmp_path / "in", {"a": thing()}), tmp_path / "out", names=["cat", "cat"])


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (thing(extra="<difficult>1</difficult>"), "marked as difficult (kept with --keep-difficult)"),
        (thing((24, 3, 5, 12)), "its corners are exchanged"),
        (thing((60, 3, 70, 12)), "outside the image"),
        (thing(("a", 1, 2, 3)), "no box of four numbers"),
        (thing(("nan", 1, 2, 3)), "no box of four numbers"),
        ("<object><name>cat</name></object>", "no box of four numbers"),
        ("<object><bndbox/></object>", "it has no name"),
    ],
)
def test_dropped_boxes(tmp_path, objects, reason):
    source = make(tmp_path / "in", {"a": objects + thing()})
    report = convert_and_count("voc", source, tmp_path / "out")
    assert reasons(report) == [reason]
    assert "object 1" in report.lost_boxes[0].where


def test_difficult_objects_are_kept_when_asked_for(tmp_path):
    source = make(tmp_path / "in", {"a": thing(extra="<difficult>1</difficult>")})
    assert convert_and_count("voc", source, tmp_path / "out", keep_difficult=True).boxes_out.total() == 1


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
)
@pytest.mark.parametrize("filename", ["a.jpg", "a", "other.png", "", "sub\\a.bmp", "a.PNG"])
def test_size_and_file_name_may_be_wrong(tmp_path, size, filename):
    source = make(tmp_path / "in", {"a": thing()})
    write_text(source / "Annotations/a.xml", XML.format(filename=filename, size=size, objects=thing()))
    convert_and_count("voc", source, tmp_path / "out")
    assert box_in_px(labels_of(tmp_path / "out")["train/a.txt"][0]) == pytest.approx([4, 2, 24, 12], abs=1e-5)


def test_the_file_name_counts_where_no_image_is_called_like_the_xml(tmp_path):
    source = make(tmp_path / "in", {"a": thing()})
    (source / "JPEGImages/a.jpg").rename(source / "JPEGImages/photo.jpg")
    write_text(source / "Annotations/a.xml", XML.format(filename="photo", size=SIZE, objects=thing()))
    convert_and_count("voc", source, tmp_path / "out")
    assert images_of(tmp_path / "out") == ["train/photo.jpg"]


DOCTYPE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "malformed XML"),
        (b"<annotation><object>", "malformed XML"),
        (b"\xff\xfe\x00<", "malformed XML"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "malformed XML"),
        (b"<html><body>Not found</body></html>", "no VOC file"),
        (f"{DOCTYPE}<annotation><name>&x;</name></annotation>".encode(), "the XML has a DOCTYPE, which is not read"),
        (f"{LAUGHS}<annotation>&c;</annotation>".encode(), "the XML has a DOCTYPE, which is not read"),
        (f"{LAUGHS}<annotation>&c;</annotation>".encode("utf-16"), "the XML has a DOCTYPE, which is not read"),
    ],
)
def test_a_bad_xml_file_costs_its_image_only(tmp_path, content, reason):
    source = make(tmp_path / "in", {"a": thing(), "b": thing()})
    (source / "Annotations/b.xml").write_bytes(content)
    report = convert_and_count("voc", source, tmp_path / "out")
    assert reasons(report) == [reason]
    assert images_of(tmp_path / "out") == ["train/a.jpg"]


def test_missing_images_and_xml_files(tmp_path):
    source = make(tmp_path / "in", {"a": thing(), "b": thing()}, {"train": ["a", "b", "c"]})
    (source / "JPEGImages/b.jpg").unlink()
    report = convert_and_count("voc", source, tmp_path / "out")
    assert reasons(report) == ["the image is missing", "listed in ImageSets/Main, but there is no such XML file"]


@pytest.mark.parametrize("name", ["nothing", "a.xml"])
def test_unusable_sources_are_one_line(tmp_path, name):
    (tmp_path / "nothing").mkdir()
    write_text(tmp_path / "a.xml", "<a/>")
    with pytest.raises(UserError, match=r"expected .*Annotations"):
        convert("voc", tmp_path / name, tmp_path / "out")


boxes = st.tuples(st.integers(1, WIDTH), st.integers(1, HEIGHT), st.integers(1, WIDTH), st.integers(1, HEIGHT)).map(
    lambda sides: (min(sides[0::2]), min(sides[1::2]), max(sides[0::2]), max(sides[1::2]))
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(boxes, st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8))))
def test_voc_to_yolo_gives_back_every_pixel_and_name(objects):
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(thing(box, name) for box, name in objects)
        source = make(Path(folder) / "in", {"a": text})
        report = convert_and_count("voc", source, Path(folder) / "out")
        config = load_dataset_config(str(Path(folder) / "out/out.yaml")) if objects else None
        rows = labels_of(Path(folder) / "out")["train/a.txt"]
        assert not report.lost_boxes and not report.changes
        for row, (box, name) in zip(rows, objects, strict=True):
            left, top, right, bottom = box_in_px(row)
            assert [left + 1, top + 1, right, bottom] == pytest.approx(box, abs=1e-5)
            assert config is not None and config.names[int(row[0])] == name


def test_bccd(tmp_path):
    """The real data set: 364 images, and no box lost."""
    source = shared_path("datasets/bccd_voc")
    shutil.copytree(source, tmp_path / "in")  # the images may be on a disk that is not written to
    report = convert_and_count("voc", tmp_path / "in", tmp_path / "out")
    assert report.images_out == {"train": 205, "val": 87, "test": 72}
    named = {report.categories[category]: count for category, count in report.boxes_out.items()}
    assert named == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert not report.lost_boxes and not report.lost_images
