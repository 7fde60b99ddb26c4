"""Each finding on a data set with that fault, and none on a data set without."""

import shutil

import cv2
import numpy as np
import pytest

from tests.data.doctor.conftest import IMAGE_HW, ROWS, MadeSet, picture, write_image
from utils.data.config import load_dataset_config
from utils.data.doctor import run
from utils.data.doctor.command import ANCHORS
from utils.data.doctor.diagnose import Report, Scale, examine
from utils.data.doctor.findings import KINDS, MOST_EXAMPLES
from utils.data.doctor.report import example_text, report_lines


def diagnose(made: MadeSet, image_size: int = 128, decodes: bool = True) -> Report:
    scale = Scale(image_size, [8, 16, 32], np.array(ANCHORS).reshape(-1, 2))
    return examine(load_dataset_config(str(made.yaml)), scale, decodes)


def corners() -> str:
    """Return 12 rows of left, top, right, bottom."""
    boxes = np.random.default_rng(0).uniform([0.0, 0, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4], (12, 4))
    return "".join(f"0 {x:.4f} {y:.4f} {x + w:.4f} {y + h:.4f}\n" for x, y, w, h in boxes)


def left_top() -> str:
    """Return 12 rows of left, top, width, height."""
    boxes = np.random.default_rng(0).uniform([0.0, 0, 0.1, 0.1], [0.6, 0.6, 0.4, 0.4], (12, 4))
    return "".join(f"0 {x:.4f} {y:.4f} {w:.4f} {h:.4f}\n" for x, y, w, h in boxes)


def in_pixels(made):
    made.write("0 50 40 20 30\n1 90 20 20 10\n", index=1)


def class_last(made):
    made.write(".5 .5 .2 .3 2\n.4 .4 .1 .2 7\n", index=1)


def one_based(made):
    made.write_all("1 .3 .4 .2 .3\n2 .6 .5 .3 .4\n3 .5 .6 .15 .2\n")
    made.write_all("1 .3 .4 .2 .3\n", "val")


def broken_png(made):
    png = made.image(index=2).with_suffix(".png")
    write_image(png, picture(5))
    made.image(index=2).unlink()
    png.write_bytes(png.read_bytes()[: png.stat().st_size // 2])


def copied(source, target):
    def change(made):
        shutil.copy(made.image(*source), made.image(*target))

    return change


def reencoded(source, target, quality=60, size_hw=(72, 96)):
    def change(made):
        image = cv2.resize(cv2.imread(str(made.image(*source))), size_hw[::-1], interpolation=cv2.INTER_AREA)
        write_image(made.image(*target), image, quality)

    return change


def same_stem(made):
    write_image(made.image().with_suffix(".png"), picture(77))


def listed_in_both(made):
    (made.root / "val.txt").write_text(f"./images/val/val0.jpg\n{made.image()}\n")
    made.configure(val="val.txt")


def odd_image(size_hw):
    return lambda made: write_image(made.image(), picture(9, size_hw))


def written(text, split="train", index=0):
    return lambda made: made.write(text, split, index)


def orphan(made):
    made.labels(index=99).write_text(ROWS[0])
    (made.labels().parent / "classes.txt").write_text("cat\ndog\ncow\n")


def no_val_images(made):
    shutil.rmtree(made.root / "images/val")
    (made.root / "images/val").mkdir()


CASES = {
    "split-unusable": (no_val_images, "val", 1, "no images in"),
    "split-same": (lambda made: made.configure(val="images/train"), "val", 1, "val is the same folder as train"),
    "split-unlabelled": (lambda made: made.write_all("", "val"), "val", 1, "val0.txt: expected there"),
    "image-corrupt": (lambda made: made.image(index=2).write_bytes(b"no image"), "train", 1, "train2.jpg: "),
    "image-corrupt png": (broken_png, "train", 1, "train2.png: "),
    "labels-corrupt": (written("0 .5 .5 .2 .2\n0 .5 .5\n"), "train", 1, "train0.txt:2: 3 values"),
    "labels-corrupt last": (class_last, "train", 1, "is the class the last column?"),
    "labels-pixels": (in_pixels, "train", 1, "train1.txt:1: pixels?"),
    "labels-shared": (same_stem, "train", 1, "train0.txt: of train0.jpg and train0.png"),
    "class-beyond": (written("\n".join([*ROWS, "7 .5 .5 .2 .2"]), "val", 1), "val", 1, "val1.txt:4: class 7"),
    "class-one-based": (one_based, "train", 6, "train0.txt:3: class 3"),
    "class-fraction": (written("\n".join([*ROWS, "1.5 .5 .5 .2 .2"])), "train", 1, "train0.txt:4: class 1.5"),
    "class-untrained": (lambda made: made.write_all("\n".join(ROWS[:2])), "val", 1, "cow (4 in val)"),
    "box-corners": (written(corners(), index=3), "train", 12, "train3.txt:1: "),
    "box-left-top": (lambda made: made.write_all(left_top()), "train", 72, "train0.txt:1: "),
    "box-empty": (written("\n".join([*ROWS, "0 .5 .5 0 .2"])), "train", 1, "train0.txt:4: "),
    "leak": (copied(("train", 0), ("val", 1)), "train, val", 1, "= val: val/val1.jpg"),
    "leak listed": (listed_in_both, "train, val", 1, "train0.jpg"),
    "leak-near": (reencoded(("train", 0), ("val", 1)), "train, val", 1, "= val: val/val1.jpg"),
    "labels-missing": (lambda made: made.labels().unlink(), "train", 1, "train0.jpg"),
    "labels-orphan": (orphan, "train, val", 1, "train99.txt"),
    "backgrounds": (lambda made: [made.write("", index=index) for index in range(4)], "train", 4, "train0.jpg"),
    "class-absent": (
        lambda made: [made.write_all("\n".join(ROWS[:2]), split) for split in ("train", "val")],
        "train",
        1,
        "cow",
    ),
    "class-rare": (
        lambda made: [
            made.write_all("".join(f"0 .5 .5 .2 {index / 1000}\n" for index in range(100, 300))),
            made.write("\n".join(ROWS)),
        ],
        "train",
        2,
        "dog (1; others up to 1001)",
    ),
    "box-tiny": (written("\n".join([*ROWS, "0 .5 .5 .01 .2"])), "train", 1, "train0.txt:4: 1.28 x 19.2 px"),
    "box-huge": (written("\n".join([*ROWS, "0 .5 .5 1 .99"])), "train", 1, "train0.txt:4: 128 x 95 px"),
    "box-outside": (written("\n".join([*ROWS, "0 .1 .5 .4 .2"])), "train", 1, "train0.txt:4: by 10.0 %"),
    "box-twice": (written("\n".join([*ROWS, "1 .601 .5 .301 .4"])), "train", 1, "train0.txt:4: IoU 0.99"),
    "row-twice": (written("\n".join([*ROWS, ROWS[0], ROWS[0]])), "train", 2, "train0.txt: 2 repeated rows"),
    "anchors-poor": (lambda made: made.write_all("\n".join([*ROWS, "0 .5 .5 .9 .02"])), "train", 6, "115 x 1.92 px"),
    "image-twice": (copied(("train", 0), ("train", 4)), "train", 1, "= train: train/train4.jpg"),
    "image-near": (reencoded(("train", 0), ("train", 4)), "train", 1, "= train: train/train4.jpg"),
    "image-odd thin": (odd_image((40, 400)), "train", 1, "train0.jpg: 400 x 40 px"),
    "image-odd small": (odd_image((40, 50)), "train", 1, "train0.jpg: 50 x 40 px"),
    "image-incomplete": (
        lambda made: made.image().write_bytes(made.image().read_bytes() + b"rest"),
        "train",
        1,
        "train0.jpg: JPEG without end marker",
    ),
    "row-doubtful": (
        written("0 .1 .1 .5 .1 .5 .5 .1 .5\n1 .2 .2 .4 .4\n"),
        "train",
        1,
        "train0.txt:2: a row of fewer than 3 points",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_found_where_it_is(case, made):
    change, split, count, text = CASES[case]
    change(made)
    kind = case.split()[0]
    report = diagnose(made)
    (finding,) = [one for one in report.findings if one.kind == kind]
    assert (finding.split, finding.count) == (split, count)
    assert text in example_text(finding.examples[0])
    assert len(finding.examples) <= MOST_EXAMPLES
    assert finding in (report.errors if KINDS[kind].is_error else report.remarks)


def test_every_kind_has_a_case():
    assert set(KINDS) == {case.split()[0] for case in CASES}


def test_a_clean_set_has_no_finding(made):
    report = diagnose(made)
    assert (report.findings, report.verdict()) == ([], "set.yaml: clean")
    assert [(split.name, len(split.samples)) for split in report.splits] == [("train", 6), ("val", 4)]


def test_a_usual_set_has_no_finding_either(tiny_dataset, tmp_path):
    """Scenes of one making, some of them empty, some crowded: look-alikes only to a careless eye."""
    assert run(data=tiny_dataset, imgsz=416, output=tmp_path / "page.html").errors == []


@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        (("train", 0), ("val", 1), {"quality": 30, "size_hw": IMAGE_HW}),
        (("train", 0), ("val", 1), {"quality": 90, "size_hw": (192, 256)}),
        (("train", 3), ("val", 2), {"quality": 75, "size_hw": (50, 67)}),
    ],
)
def test_copies_are_found_however_they_were_written(source, target, options, made):
    reencoded(source, target, **options)(made)
    kinds = [finding.kind for finding in diagnose(made).errors]
    assert kinds == ["leak-near"]


def test_what_looks_alike_from_afar_is_no_copy(made):
    """Flat pictures, and the same backdrop with another thing before it."""
    for index, level in enumerate((100, 101, 102)):
        write_image(made.image(index=index), np.full((*IMAGE_HW, 3), level, np.uint8))
    backdrop = picture(7)
    for index, left in ((3, 10), (4, 90)):
        image = backdrop.copy()
        image[30:60, left : left + 25] = (0, 0, 255)
        write_image(made.image(index=index), image)
    assert diagnose(made).findings == []


def test_copies_in_a_split_that_is_train_again_are_not_reported(made):
    made.configure(val="images/train")
    assert [finding.kind for finding in diagnose(made).findings] == ["split-same"]


def test_without_images_nothing_is_decoded(made, monkeypatch):
    copied(("train", 0), ("val", 1))(made)
    monkeypatch.setattr(cv2, "imdecode", None)
    report = diagnose(made, decodes=False)
    assert report.findings == [] and not report.decoded


def test_the_same_fault_in_pixels_and_in_columns_is_judged_once(made):
    """Boxes in columns of another order are not reported as leaving their image as well."""
    made.write_all(corners())
    kinds = {finding.kind for finding in diagnose(made).findings if finding.split == "train"}
    assert "box-corners" in kinds and "box-outside" not in kinds


def test_the_terminal_gets_table_findings_and_verdict(made):
    made.write("\n".join([*ROWS, "9 .5 .5 .2 .2", "0 .5 .5 .001 .2"]))
    lines = report_lines(diagnose(made))
    table = [line.split() for line in lines[2:5]]
    assert table[0][:3] == ["split", "images", "labelled"] and table[0][-1] == "boxes/image"
    assert table[1] == ["train", "6", "6", "0", "0", "0", "20", "0", "3", "3.3"]
    assert any(line.startswith("ERROR  train: 1 box of a class outside names; ") for line in lines)
    assert any(line.startswith("remark train: 1 box below 2 px; ") for line in lines)
    remarks = "2 remarks (1 box that no anchor fits, 1 box below 2 px)"
    assert lines[-1] == f"verdict: set.yaml: 1 error (1 box of a class outside names), {remarks}"


def test_images_of_other_channels_than_the_data_set_says(made):
    made.configure(ch=4)
    findings = [finding for finding in diagnose(made).errors if finding.kind == "image-corrupt"]
    assert sum(finding.count for finding in findings) == 10
    assert "4 channels of 'ch'" in findings[0].examples[0].detail
