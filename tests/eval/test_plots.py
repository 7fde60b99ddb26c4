import subprocess
import sys

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.eval.confusion import ConfusionMatrix
from utils.eval.metrics import ap_per_class
from utils.eval.plots import (
    plain_text,
    read_results,
    save_confusion_counts,
    save_confusion_matrix,
    save_curves,
    save_label_plot,
    save_results_plot,
)

CURVES = ["F1_curve.png", "PR_curve.png", "P_curve.png", "R_curve.png"]
COLUMNS = [
    *("epoch", "train/box_loss", "train/obj_loss", "train/cls_loss", "metrics/precision", "metrics/recall"),
    *("metrics/mAP_0.5", "metrics/mAP_0.5:0.95", "val/box_loss", "val/obj_loss", "val/cls_loss"),
    *("x/lr0", "x/lr1", "x/lr2"),
]


def _metrics(classes):
    generator = np.random.default_rng(classes)
    correct = generator.random((200, 10)) < np.linspace(0.8, 0.1, 10)
    found, true = generator.integers(0, classes, 200), generator.integers(0, classes, 150)
    return ap_per_class(correct, generator.random(200), found, true)


def _size(path):
    height, width, _ = cv2.imread(str(path)).shape
    return width, height


@pytest.mark.parametrize("classes", [2, 40])
def test_curves(tmp_path, classes):
    save_curves(_metrics(classes), {index: f"c${index} $" for index in range(classes)}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == CURVES
    assert {_size(tmp_path / name) for name in CURVES} == {(9 * 250, 6 * 250)}


def test_no_labels_no_curves(tmp_path):
    metrics = ap_per_class(np.zeros((0, 10), bool), np.zeros(0), np.zeros(0), np.zeros(0))
    save_curves(metrics, {0: "a"}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [1, 12, 120])
def test_confusion_matrix(tmp_path, classes):
    fractions = ConfusionMatrix(classes).normalised()
    fractions[:classes, :classes] = np.eye(classes) * 0.75
    path = tmp_path / "confusion_matrix.png"
    save_confusion_matrix(fractions, {index: str(index) for index in range(classes)}, path)
    assert _size(path) == (12 * 250, 9 * 250)


@pytest.mark.parametrize("classes, empty", [(1, True), (1, False), (12, False), (120, False)])
def test_confusion_counts(tmp_path, classes, empty):
    confusion = ConfusionMatrix(classes)
    confusion.matrix[:] = 0 if empty else np.arange((classes + 1) ** 2).reshape(classes + 1, classes + 1)
    path = tmp_path / "confusion_matrix_counts.png"
    save_confusion_counts(confusion.matrix, {index: f"${index} ü" for index in range(classes)}, path)
    assert _size(path) == (12 * 150, 9 * 150)
    cells = cv2.imread(str(path))[200:-300, 400:-300]
    assert (cells.min() < 120) != empty  # dark cells, and numbers, only where something was counted


def test_the_darkest_cell_is_that_of_the_highest_count(tmp_path):
    matrix = np.array([[90, 1, 0], [2, 5, 0], [0, 0, 0]])
    path = tmp_path / "counts.png"
    save_confusion_counts(matrix, {0: "a", 1: "b"}, path)
    cells = cv2.blur(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (101, 101))[:, :1600]  # without the colour scale
    row, column = np.unravel_index(cells.argmin(), cells.shape)
    assert row < 500 and column < 800


def test_a_long_legend_takes_its_room_from_the_curves(tmp_path):
    widths = []
    for name in ("a", "a class with quite a long name"):
        save_curves(_metrics(2), {0: name, 1: "b"}, tmp_path)
        ink = cv2.imread(str(tmp_path / "PR_curve.png")).min(2) < 60
        assert not ink[:, -10:].any()  # nothing is cut off
        axis = ink[ink.sum(1).argmax()]  # the row with most ink, below the curves
        widths.append(axis.nonzero()[0].max())
    assert widths[1] < widths[0]


@pytest.mark.parametrize("objects", [0, 1, 1500])
def test_label_plot(tmp_path, objects):
    generator = np.random.default_rng(0)
    labels = np.column_stack([generator.integers(0, 3, objects), generator.random((objects, 4))])
    save_label_plot(labels, {0: "a", 1: "b", 2: "ü"}, tmp_path / "labels.jpg")
    assert _size(tmp_path / "labels.jpg") == (2000, 2000)


@pytest.mark.parametrize("epochs", [1, 30])
def test_results_plot(tmp_path, epochs):
    rows = np.random.default_rng(0).random((epochs, len(COLUMNS)))
    rows[:, 0], rows[0, 8] = np.arange(epochs), np.nan
    lines = [",".join(f"{name:>20}" for name in COLUMNS)]
    lines += [",".join(f"{value:20.5g}" for value in row) for row in rows]
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    assert save_results_plot(tmp_path / "results.csv") == tmp_path / "results.png"
    assert _size(tmp_path / "results.png") == (12 * 200, 6 * 200)


def test_results_are_read_with_their_gaps(tmp_path):
    (tmp_path / "results.csv").write_text("  epoch,  loss, map\n 0, 0.5, \n\n 1, nan, 0.25\n")
    names, values = read_results(tmp_path / "results.csv")
    assert names == ["epoch", "loss", "map"]
    assert np.array_equal(values, [[0, 0.5, np.nan], [1, np.nan, 0.25]], equal_nan=True)


@pytest.mark.parametrize("content", [None, "", "epoch,loss\n0,1\n", "a,b\n1\n", ",".join(COLUMNS) + "\n"])
def test_a_wrong_results_file_is_explained(tmp_path, content):
    path = tmp_path / "results.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"results\.csv"):
        save_results_plot(path)


def test_plotting_leaves_pyplot_alone():
    code = "import sys, utils.eval.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("a $b$", r"a \$b\$"),
        ("two\nlines\tlong", "two lines long"),
        ("猫 cat", "□ cat"),
        ("x" * 40, "x" * 23 + "…"),
    ],
)
def test_names_in_charts(name, shown):
    assert plain_text(name) == shown
