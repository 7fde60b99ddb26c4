"""The formats of v6.1's shipped data sets, on made examples."""

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
from utils.data.convert import CONVERTERS, convert
from utils.errors import UserError

BOX = [4, 2, 24, 12]  # of every example: left, top, right, bottom


def argoverse(folder):
    write_image(folder / "Argoverse-1.1/tracking/train/log1/ring/a.jpg")
    images = [{"id": 0, "sid": 0, "fid": 0, "name": "a.jpg"}, {"id": 1, "sid": 9, "name": "b.jpg"}]
    content = {
        "categories": [{"id": 0, "name": "person"}, {"id": 1, "name": "bicycle"}],
        "images": images,
        "seq_dirs": ["train/log1/ring"],
        "annotations": [{"id": 4, "image_id": 0, "category_id": 1, "bbox": [4, 2, 20, 10], "iscrowd": 0}],
    }
    write_json(folder / "Argoverse-HD/annotations/train.json", content)


def objects365(folder):
    write_image(folder / "images/patch0/objects365_v2_1.jpg")
    write_image(folder / "patch44/objects365_v2_2.jpg")
    content = {
        "categories": [{"id": 1, "name": "Person"}, {"id": 2, "name": "Sneakers"}],
        "images": [
            {"id": 1, "file_name": "images/v2/patch0/objects365_v2_1.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": "images/v2/patch44/objects365_v2_2.jpg", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [4, 2, 20, 10], "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [4, 2, 20, 10], "iscrowd": 1},
        ],
    }
    write_json(folder / "zhiyuan_objv2_train.json", content)


def sku110k(folder):
    write_image(folder / "SKU110K_fixed/images/train_0.jpg")
    rows = f"train_0.jpg,4,2,24,12,object,{WIDTH},{HEIGHT}\ntrain_0.jpg,4,2,4,12,object,{WIDTH},{HEIGHT}\n"
    write_text(folder / "SKU110K_fixed/annotations/annotations_train.csv", f"{rows}train_0.jpg,1,2\n")


def globalwheat2020(folder):
    write_image(folder / "train/a.png")
    write_image(folder / "test/b.png")
    rows = f'a,{WIDTH},{HEIGHT},"[4.0, 2.0, 20.0, 10.0]",usask_1\na,{WIDTH},{HEIGHT},"[4.0, x]",usask_1\n'
    write_text(folder / "train.csv", f"image_id,width,height,bbox,source\n{rows}")
    write_text(folder / "test.csv", "image_name,BoxesString,domain\nb.png,4 2 24 12;1 1 1 1,x\nc.png,no_box,x\n")


def xview(folder):
    write_image(folder / "train_images/1036.tif")
    features = [
        {"properties": {"image_id": "1036.tif", "bounds_imcoords": "4,2,24,12", "type_id": 18}},
        {"properties": {"image_id": "1036.tif", "bounds_imcoords": "4,2,24,12", "type_id": 75}},
        {"properties": {"image_id": "1395.tif", "bounds_imcoords": "4,2,24,12", "type_id": 18}},
        {"properties": {}},
    ]
    write_json(folder / "xView_train.geojson", {"type": "FeatureCollection", "features": features})


MAKERS = {maker.__name__: maker for maker in (argoverse, globalwheat2020, objects365, sku110k, xview)}
CASES = [
    ("argoverse", 1, "train/log1/ring/a.jpg", 2, ["the image is missing"]),
    ("objects365", 1, "train/objects365_v2_1.jpg", 2, ["crowd region"]),
    ("sku110k", 0, "train/train_0.jpg", 1, ["no area", "3 values, expected 8"]),
    ("globalwheat2020", 0, "train/a.png", 1, ["no area", "not 4 numbers", "the image is missing"]),
    (
        "xview",
        5,
        "train/1036.tif",
        60,
        ["type without a class", "its image is left out", "no image_id", "the image is missing"],
    ),
]


@pytest.mark.parametrize(("kind", "index", "image", "classes", "lost"), CASES)
def test_made_examples(tmp_path, kind, index, image, classes, lost):
    MAKERS[kind](tmp_path / "in")
    report = convert_and_count(kind, tmp_path / "in", tmp_path / "out")
    assert image in images_of(tmp_path / "out")
    (row,) = labels_of(tmp_path / "out")[image.rsplit(".", 1)[0] + ".txt"]
    assert row[0] == index
    assert box_in_px(row) == pytest.approx(BOX, abs=1e-5)
    assert len(report.categories) == classes
    assert sorted(reasons(report)) == sorted(lost)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_nothing_to_convert_is_one_line(tmp_path, kind):
    with pytest.raises(UserError, match="holds no"):
        convert(kind, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a,b\n1,2\n", "train.csv:1: columns a, b; expected image_id"), (b"\xff\xfe", "is not UTF-8")],
)
def test_a_table_that_is_none(tmp_path, content, message):
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        convert("globalwheat2020", tmp_path, tmp_path / "out")


def test_every_format_is_tried_here_or_beside():
    assert set(CONVERTERS) - set(MAKERS) == {"coco", "voc", "visdrone", "labelme", "yolo"}
