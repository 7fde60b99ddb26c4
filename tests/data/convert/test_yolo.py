import json
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.convert.made import convert_and_count, images_of, labels_of, reasons, write_image, write_text
from tests.golden_data import load_golden, shared_path
from utils.data.convert import convert
from utils.errors import UserError

NAMES = ["cat", "no", "7", "é"]


def make(folder: Path, labels: dict[str, str], val: str = "images/train", size_wh=(97, 31)) -> Path:
    """Write images/train and labels/train: stem -> text of the label file."""
    for stem, text in labels.items():
        write_image(folder / f"images/train/{stem}.png", size_wh)
        write_text(folder / f"labels/train/{stem}.txt", text)
    content = {"path": ".", "train": "images/train", "val": val, "names": NAMES}
    write_text(folder / "data.yaml", yaml.safe_dump(content))
    return folder


def there_and_back(source: Path, folder: Path):
    """Return the counted reports of YOLO to COCO and COCO to YOLO; the results are in ``folder``."""
    there = convert_and_count("yolo", source, folder / "coco")
    return there, convert_and_count("coco", folder / "coco", folder / "yolo")


@st.composite
def box_rows(draw):
    """A ``class x y width height`` row inside the image, of 7 digits, as other tools write."""
    left, top = draw(st.floats(0, 0.99)), draw(st.floats(0, 0.99))
    width, height = draw(st.floats(0.001, 1 - left)), draw(st.floats(0.001, 1 - top))
    values = [left + width / 2, top + height / 2, width, height]
    return [draw(st.integers(0, len(NAMES) - 1)), *(round(value, 7) for value in values)]


@st.composite
def polygon_rows(draw):
    """A polygon of 4 to 9 points with an area, of 7 digits."""
    fractions = st.floats(0, 1).map(lambda value: round(value, 7))
    points = draw(st.lists(st.tuples(fractions, fractions), min_size=3, max_size=8))
    ground = [(0.2, 0.2), (0.3, 0.25)]
    return [draw(st.integers(0, len(NAMES) - 1)), *(value for point in [*ground, *points] for value in point)]


def to_text(rows):
    return "".join(
        " ".join(f"{value:.7f}" if place else str(value) for place, value in enumerate(row)) + "\n" for row in rows
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.one_of(st.lists(box_rows(), max_size=5), st.lists(polygon_rows(), max_size=5)), min_size=1, max_size=3),
    st.tuples(st.integers(10, 5000), st.integers(10, 50)),
)
def test_yolo_to_coco_to_yolo_is_exact(files, size_wh):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make(
            folder / "in", {f"im{number}": to_text(rows) for number, rows in enumerate(files)}, size_wh=size_wh
        )
        there, back = there_and_back(source, folder)
        assert not there.lost_boxes and not back.lost_boxes
        assert yaml.safe_load((folder / "yolo/yolo.yaml").read_text(encoding="utf-8"))["names"] == NAMES
        before, after = labels_of(source), labels_of(folder / "yolo")
        assert list(before) == list(after)
        for old, new in zip(before.values(), after.values(), strict=True):
            assert len(old) == len(new)
            for old_row, new_row in zip(old, new, strict=True):
                assert new_row == pytest.approx(old_row, abs=1e-6, rel=0)


def test_triangles_alone_stay_polygons(tmp_path):
    text = "0 0.1 0.1 0.5 0.1 0.1 0.6 0.1 0.6\n1 0.2 0.2 0.5 0.2 0.2 0.6\n"
    there_and_back(make(tmp_path / "in", {"a": text}), tmp_path)
    rows = labels_of(tmp_path / "yolo")["train/a.txt"]
    assert [len(row) for row in rows] == [9, 7]
    assert rows[1] == pytest.approx([1, 0.2, 0.2, 0.5, 0.2, 0.2, 0.6], abs=1e-6)


def test_what_the_json_holds(tmp_path):
    source = make(
        tmp_path / "in", {"12": "1 0.5 0.5 0.5 0.5\n", "7": "0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n"}, size_wh=(40, 20)
    )
    convert_and_count("yolo", source, tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text(encoding="utf-8"))
    assert [image["id"] for image in content["images"]] == [12, 7]
    assert content["images"][0] == {"id": 12, "file_name": "12.png", "width": 40, "height": 20}
    assert content["categories"] == [{"id": index, "name": name} for index, name in enumerate(NAMES)]
    box, polygon = content["annotations"]
    assert (box["image_id"], box["category_id"], box["bbox"], box["area"]) == (12, 1, [10, 5, 20, 10], 200)
    assert (box["segmentation"], box["iscrowd"]) == ([], 0)
    assert polygon["segmentation"] == [pytest.approx([4, 2, 20, 2, 20, 12, 4, 12])]
    assert polygon["bbox"] == pytest.approx([4, 2, 16, 10]) and polygon["area"] == pytest.approx(160)
    assert len({annotation["id"] for annotation in content["annotations"]}) == 2
    convert("yolo", source, tmp_path / "boxes", boxes_only=True)
    content = json.loads((tmp_path / "boxes/annotations/instances_train.json").read_text(encoding="utf-8"))
    assert all(annotation["segmentation"] == [] for annotation in content["annotations"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0.5 0.5 0.5", "4 values, expected class x y width height"),
        ("0 0.5 0.5 a 0.5", "not 5 numbers"),
        ("0 0.5 0.5 nan 0.5", "not 5 numbers"),
        ("4 0.5 0.5 0.5 0.5", "class outside names"),
        ("1.5 0.5 0.5 0.5 0.5", "class outside names"),
        ("-1 0.5 0.5 0.5 0.5", "class outside names"),
        ("0 40 10 20 20", "coordinates beyond 0 to 1"),
        ("0 0.5 0.5 -0.5 0.5", "coordinates beyond 0 to 1"),
    ],
)
def test_dropped_rows(tmp_path, row, reason):
    source = make(tmp_path / "in", {"a": f"0 0.5 0.5 0.5 0.5\n\n{row}\n"})
    report = convert_and_count("yolo", source, tmp_path / "out")
    assert reasons(report) == [reason]
    assert "line 3" in report.lost_boxes[0].where


def test_polygons_count_by_their_boxes_and_rounding_does_not_count(tmp_path):
    """As in training, which looks at the box of a polygon, and at single precision."""
    rows = {"a": "0 -0.1 0.5 0.9 0.2 0.9 0.9 0.5 0.95\n", "b": "0 0.5 0.5 1.00000001 0.5\n"}
    report = convert_and_count("yolo", make(tmp_path / "in", rows), tmp_path / "out")
    assert report.boxes_out == {0: 2} and not report.lost_boxes


def test_an_image_without_labels_is_kept_and_a_broken_one_is_not(tmp_path):
    source = make(tmp_path / "in", {"a": "", "b": "0 0.5 0.5 0.5 0.5\n", "c": ""})
    (source / "labels/train/a.txt").unlink()
    write_text(source / "images/train/b.png", "no image")
    (source / "labels/train/c.txt").write_bytes(b"\xff\xfe0")
    report = convert_and_count("yolo", source, tmp_path / "out")
    assert images_of(tmp_path / "out") == ["train/a.png"]
    assert reasons(report) == ["the image cannot be read", "its label file is no text"]


def test_the_same_images_are_written_once(tmp_path):
    report = convert_and_count("yolo", make(tmp_path / "in", {"a": ""}), tmp_path / "out")
    assert report.images_out == {"train": 1}
    assert report.notes == ["val names the same images as train; they were written once, as train"]


@pytest.mark.parametrize(
    ("names", "message"), [([], "holds no YAML file"), (["a.yaml", "b.yml"], r"2 YAML files \(a.yaml, b.yml\)")]
)
def test_which_yaml(tmp_path, names, message):
    (tmp_path / "in").mkdir()
    for name in names:
        write_text(tmp_path / "in" / name, "path: .")
    with pytest.raises(UserError, match=message):
        convert("yolo", tmp_path / "in", tmp_path / "out")


@pytest.fixture
def coco128_yaml(tmp_path):
    folder = shared_path("datasets/coco128")
    names = {index: str(index) for index in range(80)}
    content = {"path": str(folder), "train": "images/train2017", "val": "images/train2017", "names": names}
    return write_text(tmp_path / "coco128.yaml", yaml.safe_dump(content))


def test_coco128_there_and_back(tmp_path, coco128_yaml):
    there, back = there_and_back(coco128_yaml, tmp_path)
    for report in (there, back):
        assert (report.images_in, report.images_out.total()) == (128, 128)
        assert (report.boxes_in.total(), report.boxes_out.total()) == (929, 929)
    after = labels_of(tmp_path / "yolo")
    for file in sorted(shared_path("datasets/coco128/labels/train2017").glob("*.txt")):
        before = [list(map(float, line.split())) for line in file.read_text().splitlines()]
        for old, new in zip(before, after.get(f"train/{file.name}", before), strict=True):
            assert new == pytest.approx(old, abs=1e-6, rel=0)


def test_coco128_as_json_is_the_ground_truth_of_the_golden_numbers(tmp_path, coco128_yaml):
    truth = load_golden("coco_gt.json.gz")
    convert("yolo", coco128_yaml, tmp_path / "coco")
    content = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text(encoding="utf-8"))
    assert [image["id"] for image in content["images"]] == [image["id"] for image in truth["images"]]
    assert content["categories"] == truth["categories"]

    def in_order(document):
        return sorted((a["image_id"], a["category_id"], *a["bbox"]) for a in document["annotations"])

    for own, golden in zip(in_order(content), in_order(truth), strict=True):
        assert own == pytest.approx(golden, abs=2e-3)
