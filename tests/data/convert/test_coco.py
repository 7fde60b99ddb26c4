import numpy as np
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
from utils.data.config import load_dataset_config
from utils.data.convert import convert
from utils.data.convert.coco import split_of
from utils.data.convert.geometry import join_polygons
from utils.data.convert.images import RENAMED
from utils.errors import UserError

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
TRIANGLE = [4, 4, 20, 4, 4, 12]


def make(folder, annotations, images=({"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},)):
    write_image(folder / "images/train/a.png")
    content = {"images": list(images), "annotations": annotations, "categories": CATEGORIES}
    write_json(folder / "annotations/instances_train.json", content)
    return folder


def annotation(**changed):
    return {"id": 5, "image_id": 1, "category_id": 3, "bbox": [4, 2, 20, 10], "iscrowd": 0} | changed


def test_names_keep_the_order_of_ids_and_boxes_their_place(tmp_path):
    source = make(tmp_path / "in", [annotation(), annotation(id=6, category_id=7, bbox=[0, 0, 40, 20])])
    report = convert_and_count("coco", source, tmp_path / "out")
    config = load_dataset_config(str(tmp_path / "out/out.yaml"))
    assert config.names == {0: "dog", 1: "cat"}
    first, second = labels_of(tmp_path / "out")["train/a.txt"]
    assert (first[0], second[0]) == (0, 1)
    assert box_in_px(first) == pytest.approx([4, 2, 24, 12], abs=1e-5)
    assert box_in_px(second) == pytest.approx([0, 0, 40, 20], abs=1e-5)
    assert (report.images_in, report.boxes_in.total(), len(report.categories)) == (1, 2, 2)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [20, 40]}}, "crowd region"),
        ({"bbox": [4, 2, 0, 10]}, "no area"),
        ({"bbox": [4, 2, -3, 10]}, "no area"),
        ({"bbox": [50, 2, 5, 5]}, "outside the image"),
        ({"bbox": [1, 2, 3]}, "not 4 numbers"),
        ({"bbox": None}, "not 4 numbers"),
        ({"bbox": ["a", 1, 2, 3]}, "not 4 numbers"),
        ({"bbox": [float("nan"), 1, 2, 3]}, "not 4 numbers"),
        ({"category_id": 99}, "unknown category"),
        ({"category_id": None}, "unknown category"),
        ({"category_id": [1]}, "unknown category"),
        ({"image_id": 2}, "unknown image"),
        ({"image_id": None}, "no image_id"),
        ({"bbox": None, "segmentation": [[50, 50, 60, 50, 60, 60]]}, "outside the image"),
    ],
)
def test_dropped_boxes_are_listed_with_their_reason(tmp_path, changed, reason):
    source = make(tmp_path / "in", [annotation(**changed), annotation(id=6)])
    report = convert_and_count("coco", source, tmp_path / "out")
    assert reasons(report) == [reason]
    assert "annotation" in report.lost_boxes[0].where
    assert report.boxes_out.total() == 1


@pytest.mark.parametrize(
    ("changed", "row", "change"),
    [
        ({"bbox": [-4, 2, 20, 10]}, [0, 8 / 40, 7 / 20, 16 / 40, 0.5], "reached beyond the image and were clipped"),
        ({"bbox": [-0.001, 0, 40, 20]}, [0, 0.4999875, 0.5, 0.999975, 1], None),
        ({"segmentation": {"counts": "abc", "size": [20, 40]}}, [0, 0.35, 0.35, 0.5, 0.5], "masks in run lengths"),
        ({"segmentation": [[1, 1, 2, 2]]}, [0, 0.35, 0.35, 0.5, 0.5], "malformed outlines"),
        ({"segmentation": [[5, 5, 9, 5, 7, 5]]}, [0, 0.35, 0.35, 0.5, 0.5], "polygons without area"),
        ({"segmentation": [TRIANGLE]}, [0, 0.1, 0.2, 0.5, 0.2, 0.1, 0.6, 0.1, 0.6], None),
        ({"segmentation": TRIANGLE}, [0, 0.1, 0.2, 0.5, 0.2, 0.1, 0.6, 0.1, 0.6], None),
        ({"segmentation": [TRIANGLE, [1, 1]]}, [0, 0.1, 0.2, 0.5, 0.2, 0.1, 0.6, 0.1, 0.6], "outlines with parts"),
        ({"segmentation": [[-4, 4, 20, 4, 4, 30]]}, [0, 0, 0.2, 0.5, 0.2, 0.1, 1, 0.1, 1], "reached beyond"),
        ({"bbox": None, "segmentation": [TRIANGLE]}, [0, 0.1, 0.2, 0.5, 0.2, 0.1, 0.6, 0.1, 0.6], None),
    ],
)
def test_one_annotation_and_what_was_changed(tmp_path, changed, row, change):
    report = convert_and_count("coco", make(tmp_path / "in", [annotation(**changed)]), tmp_path / "out")
    assert labels_of(tmp_path / "out")["train/a.txt"] == [pytest.approx(row, abs=1e-6)]
    assert list(map(str.split, report.changes)) == ([] if change is None else [next(iter(report.changes)).split()])
    assert change is None or next(iter(report.changes)).startswith(change)


def test_boxes_only_takes_the_box_as_annotated(tmp_path):
    source = make(tmp_path / "in", [annotation(segmentation=[TRIANGLE])])
    report = convert_and_count("coco", source, tmp_path / "out", boxes_only=True)
    assert box_in_px(labels_of(tmp_path / "out")["train/a.txt"][0]) == pytest.approx([4, 2, 24, 12], abs=1e-5)
    assert report.changes == {"polygons left out (--boxes-only)": 1}


def test_a_box_beside_a_polygon_is_written_as_one(tmp_path):
    source = make(tmp_path / "in", [annotation(segmentation=[TRIANGLE]), annotation(id=6)])
    report = convert_and_count("coco", source, tmp_path / "out")
    triangle, box = labels_of(tmp_path / "out")["train/a.txt"]
    assert (len(triangle), len(box)) == (7, 9)
    assert [min(box[1::2]), min(box[2::2]), max(box[1::2]), max(box[2::2])] == pytest.approx([0.1, 0.1, 0.6, 0.6])
    assert sum(report.changes.values()) == 1


def test_parts_of_an_outline_are_joined_where_they_are_nearest():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    other = square + np.array([6, 1])
    joined = join_polygons([square, other])
    assert {tuple(point) for point in joined.tolist()} == {tuple(p) for p in [*square.tolist(), *other.tolist()]}
    assert len(joined) == len(square) + len(other) + 2
    x, y = joined.T
    assert abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 == 32  # the bridge has no area
    steps = np.hypot(*(joined - np.roll(joined, 1, 0)).T)
    assert steps.max() == 4  # no bridge is longer than the sides, and the nearest points are sqrt(5) apart


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([{"id": 2, "file_name": "gone.png"}], "the image is missing"),
        ([{"id": 2, "file_name": "broken.png"}], "the image cannot be read"),
        ([{"id": 2, "file_name": "movie.gif"}], "training reads no '.gif' images"),
        ([{"id": 1, "file_name": "b.png"}], "the id is used twice"),
        ([{"file_name": "b.png"}], "no id or file_name"),
        (["b.png"], "no id or file_name"),
    ],
)
def test_dropped_images_are_listed_with_their_boxes(tmp_path, images, reason):
    whole = {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
    source = make(tmp_path / "in", [annotation(), annotation(id=6, image_id=2)], [whole, *images])
    write_text(source / "images/train/broken.png", "no image")
    write_image(source / "images/train/movie.gif")
    write_image(source / "images/train/b.png")
    report = convert_and_count("coco", source, tmp_path / "out")
    assert [loss.reason.split(":")[0] for loss in report.lost_images] == [reason]
    assert report.boxes_out.total() == 1 and len(report.lost_boxes) == 1


def test_an_image_without_annotations_gets_an_empty_label_file(tmp_path):
    source = make(tmp_path / "in", [])
    convert_and_count("coco", source, tmp_path / "out")
    assert labels_of(tmp_path / "out") == {"train/a.txt": []}


def test_repeated_annotation_ids_are_told_and_kept(tmp_path):
    report = convert_and_count("coco", make(tmp_path / "in", [annotation(), annotation()]), tmp_path / "out")
    assert report.boxes_out.total() == 2
    assert "1 annotation ids are used twice (5)" in report.notes[0]


@pytest.mark.parametrize(
    ("stated", "box", "change"),
    [
        ((80, 40), [8, 4, 48, 24], "images were annotated at another scale"),  # box of twice the size in a double image
        ((20, 40), [4, 2, 24, 12], "images have another size and shape than annotated"),
        ((None, None), [4, 2, 24, 12], None),
        (("x", 0), [4, 2, 24, 12], None),
    ],
)
def test_which_size_counts(tmp_path, stated, box, change):
    image = {"id": 1, "file_name": "a.png", "width": stated[0], "height": stated[1]}
    left, top, right, bottom = box
    source = make(tmp_path / "in", [annotation(bbox=[left, top, right - left, bottom - top])], [image])
    report = convert_and_count("coco", source, tmp_path / "out")
    assert box_in_px(labels_of(tmp_path / "out")["train/a.txt"][0]) == pytest.approx([4, 2, 24, 12], abs=1e-5)
    assert [changed.startswith(change) for changed in report.changes] == ([True] if change else [])


def test_images_with_equal_stems_get_label_files_of_their_own(tmp_path):
    images = [
        {"id": number, "file_name": name} for number, name in enumerate(["a.png", "a.jpg", "A.png", "up/../a.bmp"])
    ]
    source = make(tmp_path / "in", [annotation(image_id=number, id=number) for number in range(4)], images)
    for name in ("a.jpg", "A.png", "a.bmp"):
        write_image(source / "images/train" / name)
    report = convert_and_count("coco", source, tmp_path / "out")
    assert images_of(tmp_path / "out") == ["train/A_3.png", "train/a.png", "train/a_2.jpg", "train/up/a.bmp"]
    assert report.changes == {RENAMED: 2}


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("instances_train.json", "train/a.png"),
        ("annotations/instances_train.json", "images/a.png"),
        ("annotations/instances_train.json", "train/a.png"),
        ("train/_annotations.coco.json", "train/a.png"),
        ("labels.json", "a.png"),
    ],
)
def test_layouts(tmp_path, file, image):
    write_image(tmp_path / "in" / image)
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [annotation()], "categories": CATEGORIES}
    write_json(tmp_path / "in" / file, content)
    report = convert_and_count("coco", tmp_path / "in", tmp_path / "out")
    assert report.images_out == {"train": 1}
    report = convert_and_count("coco", tmp_path / "in" / file, tmp_path / "out2")
    assert report.boxes_out.total() == 1


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/annotations_test.json", "test"),
        ("valid/_annotations.coco.json", "valid"),
        ("x/my_val_labels.json", "val"),
        ("x/all.json", "train"),
    ],
)
def test_splits_are_told_by_names(tmp_path, file, split):
    assert split_of(tmp_path / file) == split


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [\n1,', r"instances_train.json:2: malformed JSON"),
        ("[1, 2]", "holds a list, expected a JSON object"),
        ("[" * 100_000, "malformed JSON"),
        ('{"a": 1}', "'categories' is missing; the file has: a"),
        ('{"images": [], "annotations": [], "categories": []}', "'categories' is empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category .* has no id or name"),
        ('{"images": {}, "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "'images' is no list"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "none of 0 images"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category id 1 is called 'a' and 'b'",
        ),
    ],
)
def test_unusable_files_are_one_line(tmp_path, text, message):
    write_text(tmp_path / "in/annotations/instances_train.json", text)
    with pytest.raises(UserError, match=message) as caught:
        convert("coco", tmp_path / "in", tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]  # nothing half-written


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(UserError, match="is not UTF-8 text"):
        convert("coco", tmp_path / "a.json", tmp_path / "out")
