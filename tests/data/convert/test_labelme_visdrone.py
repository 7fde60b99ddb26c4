import base64
import re

import pytest

from tests.data.convert.made import (
    HEIGHT,
    WIDTH,
    box_in_px,
    convert_and_count,
    images_of,
    labels_of,
    reasons,
    write_image,
    write_json,
    write_text,
)
from utils.data.convert import convert
from utils.data.convert.visdrone import NAMES
from utils.errors import UserError

HUGE_PNG = base64.b64encode(
    bytes.fromhex("89504e470d0a1a0a0000000d49484452000f4240000f42400802000000d30faf2a")
).decode()


def shape(kind="rectangle", points=((4, 2), (24, 12)), label="cat"):
    return {"label": label, "shape_type": kind, "points": points}


def labelme(folder, objects, name="a.json", **changed):
    write_image(folder / "a.png")
    content = {"shapes": objects, "imagePath": "a.png", "imageWidth": WIDTH, "imageHeight": HEIGHT, "imageData": None}
    return write_json(folder / name, content | changed).parent


@pytest.mark.parametrize(
    ("given", "row"),
    [
        (shape(), [0, 0.35, 0.35, 0.5, 0.5]),
        (shape(points=((24, 12), (4, 2))), [0, 0.35, 0.35, 0.5, 0.5]),
        (shape(points=((4, 2), (24, 2), (24, 12), (4, 12))), [0, 0.35, 0.35, 0.5, 0.5]),
        (shape("mask"), [0, 0.35, 0.35, 0.5, 0.5]),
        (shape("polygon", ((4, 4), (20, 4), (4, 12))), [0, 0.1, 0.2, 0.5, 0.2, 0.1, 0.6, 0.1, 0.6]),
        (shape(None, ((4, 4), (20, 4), (4, 12))), [0, 0.1, 0.2, 0.5, 0.2, 0.1, 0.6, 0.1, 0.6]),
    ],
)
def test_labelme_shapes(tmp_path, given, row):
    convert_and_count("labelme", labelme(tmp_path / "in", [given]), tmp_path / "out")
    assert labels_of(tmp_path / "out")["train/a.txt"] == [pytest.approx(row, abs=1e-6)]


def test_labelme_circle_keeps_its_box(tmp_path):
    source = labelme(tmp_path / "in", [shape("circle", ((20, 10), (20, 15)))])
    convert_and_count("labelme", source, tmp_path / "polygon")
    row = labels_of(tmp_path / "polygon")["train/a.txt"][0]
    assert [min(row[1::2]), min(row[2::2]), max(row[1::2]), max(row[2::2])] == pytest.approx([0.375, 0.25, 0.625, 0.75])
    convert_and_count("labelme", source, tmp_path / "box", boxes_only=True)
    assert box_in_px(labels_of(tmp_path / "box")["train/a.txt"][0]) == pytest.approx([15, 5, 25, 15], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (shape("line"), "shape without area"),
        (shape("point", ((1, 1),)), "shape without area"),
        (shape("linestrip"), "shape without area"),
        (shape("polygon"), "not a polygon of 3 or more points"),
        (shape(points=None), "its points are no pairs of numbers"),
        (shape(points=((1, 2, 3), (4, 5, 6))), "its points are no pairs of numbers"),
        (shape(points=(("a", 1), (2, 3))), "its points are no pairs of numbers"),
        (shape(points=((4, 2), (4, 12))), "no area"),
        (shape(label=""), "it has no label"),
        ("cat", "it has no label"),
    ],
)
def test_labelme_dropped_shapes(tmp_path, given, reason):
    report = convert_and_count("labelme", labelme(tmp_path / "in", [given, shape()]), tmp_path / "out")
    assert reasons(report) == [reason]
    assert "shape 1" in report.lost_boxes[0].where


@pytest.mark.parametrize(
    ("suffix", "written"), [(".png", "train/sub/a.png"), (".jpg", "train/sub/a.jpg"), (".bmp", "train/sub/a.bmp")]
)
def test_labelme_image_inside_the_json(tmp_path, suffix, written):
    data = write_image(tmp_path / f"x{suffix}").read_bytes()
    source = labelme(
        tmp_path / "in", [shape()], "sub/a.json", imagePath="gone.jpg", imageData=base64.b64encode(data).decode()
    )
    convert_and_count("labelme", source.parent, tmp_path / "out")
    assert images_of(tmp_path / "out") == [written]
    assert (tmp_path / "out/images" / written).read_bytes() == data


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"imagePath": "gone.png"}, "the image is missing"),
        ({"imagePath": 5}, "the image is missing"),
        ({"imagePath": "gone.png", "imageData": "%%%"}, "its imageData holds no image"),
        ({"imagePath": "gone.png", "imageData": "aGVsbG8="}, "its imageData holds no image"),
        ({"imagePath": "gone.png", "imageData": HUGE_PNG}, "its imageData holds no image"),
        ({"shapes": None}, "unusable JSON"),
    ],
)
def test_labelme_bad_file_costs_its_image_only(tmp_path, changed, reason):
    labelme(tmp_path / "in", [shape()], "good.json")
    source = labelme(tmp_path / "in", [shape()], "bad.json", **changed)
    report = convert_and_count("labelme", source, tmp_path / "out")
    assert [loss.reason.split(":")[0] for loss in report.lost_images] == [reason]
    assert report.images_out == {"train": 1}


def test_labelme_splits_by_folder(tmp_path):
    labelme(tmp_path / "in/train", [shape()])
    labelme(tmp_path / "in/val", [shape()])
    labelme(tmp_path / "in/more", [shape(label="dog")])
    report = convert_and_count("labelme", tmp_path / "in", tmp_path / "out", names=["cat"])
    assert images_of(tmp_path / "out") == ["train/a.png", "train/more/a.png", "val/a.png"]
    assert reasons(report) == ["class 'dog' is not in --names"]


def test_labelme_without_files(tmp_path):
    with pytest.raises(UserError, match="holds no JSON files"):
        convert("labelme", tmp_path, tmp_path / "out")


def visdrone(folder, text, split="VisDrone2019-DET-train"):
    write_image(folder / split / "images/a.jpg")
    write_text(folder / split / "annotations/a.txt", text)
    return folder


def test_visdrone_rows(tmp_path):
    text = "4,2,20,10,1,4,0,0\n0,0,40,20,1,1,0,0,\n1,1,5,5,1,10,1,2\n"
    report = convert_and_count("visdrone", visdrone(tmp_path / "in", text), tmp_path / "out")
    rows = labels_of(tmp_path / "out")["train/a.txt"]
    assert [row[0] for row in rows] == [3, 0, 9]
    assert box_in_px(rows[0]) == pytest.approx([4, 2, 24, 12], abs=1e-5)
    assert list(report.categories.values()) == list(NAMES)
    assert len(NAMES) == 10


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4,2,20,10,0,4,0,0", "ignored region or object (category or score 0)"),
        ("4,2,20,10,1,0,0,0", "ignored region or object (category or score 0)"),
        ("4,2,20,10,1,11,0,0", "category 11 (others)"),
        ("4,2,20,10,1,12,0,0", "unknown category"),
        ("4,2,0,10,1,4,0,0", "no area"),
        ("4,2,20", "3 values, expected 8"),
        ("4,2,20,x,1,4,0,0", "not all numbers"),
    ],
)
def test_visdrone_dropped_rows(tmp_path, line, reason):
    report = convert_and_count("visdrone", visdrone(tmp_path / "in", f"{line}\n4,2,20,10,1,4,0,0\n"), tmp_path / "out")
    assert reasons(report) == [reason]
    assert "line 1" in report.lost_boxes[0].where


def test_visdrone_splits_and_files_without_partner(tmp_path):
    row = "4,2,20,10,1,4,0,0\n"
    for split in ("VisDrone2019-DET-train", "VisDrone2019-DET-val", "VisDrone2019-DET-test-dev"):
        visdrone(tmp_path / "in", row, split)
    for name in ("background.jpg", "a.png"):  # the latter has the objects of a.jpg
        write_image(tmp_path / "in/VisDrone2019-DET-val/images" / name)
    write_text(tmp_path / "in/VisDrone2019-DET-val/annotations/gone.txt", row)
    report = convert_and_count("visdrone", tmp_path / "in", tmp_path / "out")
    assert report.images_out == {"test": 1, "train": 1, "val": 3}
    assert re.match("its image is left out: the image is missing: 'gone'", report.lost_boxes[0].reason)
    single = convert_and_count("visdrone", tmp_path / "in/VisDrone2019-DET-val", tmp_path / "one")
    assert single.images_out == {"val": 3}


def test_visdrone_without_annotations(tmp_path):
    with pytest.raises(UserError, match="holds no folder 'annotations'"):
        convert("visdrone", tmp_path, tmp_path / "out")
