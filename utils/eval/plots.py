"""Charts of a run: curves, confusion matrix, label statistics, training history. Draws without a display."""

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from utils.errors import UserError
from utils.eval.draw import class_colour
from utils.eval.evaluate import Evaluation
from utils.eval.metrics import ClassMetrics, smooth
from utils.files import atomic_write

LEGEND_CLASSES = 21  # fewer classes than this get a line and a legend entry each
NUMBERED_CLASSES = 30  # fewer classes than this get numbers in the confusion matrix
NAMED_CLASSES = 99  # fewer classes than this get names on its axes
SHOWN_BOXES = 1000  # boxes drawn in the label statistics
RESULT_COLUMNS = (1, 2, 3, 4, 5, 8, 9, 10, 6, 7)  # columns of results.csv, in the order of the panels
FEW_CLASSES = 6  # up to this number, background included, there is room for larger letters
LONGEST_NAME = 24  # characters
INK = "#1f3b73"
PNG_SETTINGS = [cv2.IMWRITE_PNG_COMPRESSION, 2, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]  # fast for charts


def save_evaluation_plots(evaluation: Evaluation, folder: Path) -> None:
    """Write the PR, F1, P and R curves and the confusion matrix, as fractions of the true class and as counts."""
    save_curves(evaluation.metrics, evaluation.names, folder)
    confusion, names = evaluation.confusion, evaluation.names
    save_confusion_matrix(confusion.normalised(), names, folder / "confusion_matrix.png")
    save_confusion_counts(confusion.matrix, names, folder / "confusion_matrix_counts.png")


def save_curves(metrics: ClassMetrics, names: Mapping[int, str], folder: Path) -> None:
    """Write the precision-recall curve and the precision, recall and F1 curves over confidence, all at IoU 0.5.

    A data set without labels has no curves, and nothing is written.
    """
    if not len(metrics.classes):
        return
    _save_precision_recall(metrics, names, folder / "PR_curve.png")
    curves = {"F1": metrics.f1_curve, "Precision": metrics.precision_curve, "Recall": metrics.recall_curve}
    for label, curve in curves.items():
        short = label if label == "F1" else label[0]
        _save_over_confidence(metrics, curve, label, names, folder / f"{short}_curve.png")


def _save_precision_recall(metrics: ClassMetrics, names: Mapping[int, str], path: Path) -> None:
    figure, axes = _curve_figure("Recall", "Precision")
    curve = metrics.precision_by_recall
    entries = [f"{plain_text(names[index])} {ap:.3f}" for index, ap in zip(metrics.classes, metrics.ap50, strict=True)]
    _draw_classes(axes, metrics, curve, entries)
    mean = f"all classes {metrics.mean('ap50'):.3f} mAP@0.5"
    axes.plot(metrics.confidence_axis, curve.mean(0), color=INK, linewidth=3, label=mean)
    _finish_curves(figure, axes, path)


def _save_over_confidence(
    metrics: ClassMetrics, curve: np.ndarray, label: str, names: Mapping[int, str], path: Path
) -> None:
    figure, axes = _curve_figure("Confidence", label)
    _draw_classes(axes, metrics, curve, [plain_text(names[index]) for index in metrics.classes])
    mean = smooth(curve.mean(0))
    best = int(mean.argmax())
    entry = f"all classes {mean[best]:.2f} at {metrics.confidence_axis[best]:.3f}"
    axes.plot(metrics.confidence_axis, mean, color=INK, linewidth=3, label=entry)
    _finish_curves(figure, axes, path)


def _curve_figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 6))
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02))
    lighten(axes)
    return figure, axes


def _draw_classes(axes: Axes, metrics: ClassMetrics, curves: np.ndarray, entries: list[str]) -> None:
    """Draw one thin line a class; coloured and named when there are few of them."""
    if len(metrics.classes) >= LEGEND_CLASSES:
        lines = [np.column_stack([metrics.confidence_axis, curve]) for curve in curves]
        axes.add_collection(LineCollection(lines, colors="0.8", linewidths=1))
        return
    for index, curve, entry in zip(metrics.classes, curves, entries, strict=True):
        axes.plot(metrics.confidence_axis, curve, linewidth=1, color=_rgb(index), label=entry)


def _finish_curves(figure: Figure, axes: Axes, path: Path) -> None:
    """Give the legend, at the right, the width it needs, and the axes the rest; layout engines take far longer."""
    legend = axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False, borderaxespad=0)
    width = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / figure.bbox.width
    left, right = 0.065, max(0.965 - width, 0.4)
    axes.set_position((left, 0.09, right - left, 0.89))
    save_figure(figure, path, 250)


def save_confusion_matrix(fractions: np.ndarray, names: Mapping[int, str], path: Path) -> None:
    """Write the picture of a confusion matrix.

    Args:
        fractions: (classes + 1, classes + 1) from `ConfusionMatrix.normalised`, rows predicted, columns true.
        names: class index to name.
        path: ``.png`` file.
    """
    shown = np.where(fractions < 0.005, np.nan, fractions)
    figure, axes = _matrix_figure(shown, names, Normalize(0, 1), "Confusion matrix")
    if len(shown) - 1 < NUMBERED_CLASSES:
        _number_cells(figure, axes, shown, shown > 0.5, "{:.2f}")
    save_figure(figure, path, 250)


def save_confusion_counts(matrix: np.ndarray, names: Mapping[int, str], path: Path) -> None:
    """Write the picture of a confusion matrix with the number of labels and detections in each cell.

    Args:
        matrix: (classes + 1, classes + 1) whole numbers of `ConfusionMatrix`, rows predicted, columns true.
        names: class index to name.
        path: ``.png`` file.
    """
    shown = np.where(matrix > 0, matrix, np.nan)
    most = max(int(matrix.max()), 2)
    norm = PowerNorm(0.4, 0, most)  # so that what is rare can be told from nothing
    figure, axes = _matrix_figure(shown, names, norm, "Confusion matrix, counts")
    if len(shown) - 1 < NUMBERED_CLASSES:
        _number_cells(figure, axes, shown, np.asarray(norm(matrix)) > 0.5, "{:.0f}")
    save_figure(figure, path, 150)


def _matrix_figure(shown: np.ndarray, names: Mapping[int, str], norm: Normalize, title: str) -> tuple[Figure, Axes]:
    """Draw the cells of a confusion matrix (NaN is empty) with their grid, names and colour scale."""
    count = len(shown)
    figure = Figure(figsize=(12, 9))
    axes = figure.add_subplot()
    image = axes.imshow(shown, cmap="Blues", norm=norm, aspect="auto", interpolation="nearest")
    edges, ends = np.arange(count + 1) - 0.5, (-0.5, count - 0.5)
    upright = [np.array([(edge, ends[0]), (edge, ends[1])]) for edge in edges]
    grid = upright + [line[:, ::-1] for line in upright]
    axes.add_collection(LineCollection(grid, colors="0.93", linewidths=0.5))
    axes.set(xlim=ends, ylim=ends[::-1])
    left, bottom = _name_cells(figure, axes, names, count)
    axes.set_position((left, bottom, 0.9 - left, 0.95 - bottom))
    axes.set_title(title)
    figure.text((left + 0.9) / 2, 0.01, "True", ha="center", va="bottom")
    figure.text(0.008, (bottom + 0.95) / 2, "Predicted", rotation=90, ha="left", va="center")
    bar = figure.add_axes((0.92, bottom, 0.022, 0.95 - bottom))
    figure.colorbar(image, cax=bar).outline.set_visible(False)  # type: ignore[operator]
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _name_cells(figure: Figure, axes: Axes, names: Mapping[int, str], count: int) -> tuple[float, float]:
    """Write the classes at the axes, as texts of the figure (80 ticks take far longer); return where the axes begin."""
    if not (0 < len(names) < NAMED_CLASSES and len(names) == count - 1):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return 0.07, 0.07
    axes.set(xticks=[], yticks=[])
    entries = [*(plain_text(names[index]) for index in range(count - 1)), "background"]
    size = min(11 if count > FEW_CLASSES else 13, 480 / count)
    below, beside = axes.get_xaxis_transform(), axes.get_yaxis_transform()
    columns = [
        figure.text(place, -0.006, name, rotation=90, ha="center", va="top", fontsize=size, transform=below)
        for place, name in enumerate(entries)
    ]
    for place, name in enumerate(entries):
        figure.text(-0.005, place, name, ha="right", va="center", fontsize=size, transform=beside)
    renderer = FigureCanvasAgg(figure).get_renderer()
    longest = max(text.get_window_extent(renderer).height for text in columns)
    longest = min(longest, 0.3 * figure.bbox.height)  # px
    return 0.035 + longest / figure.bbox.width, 0.04 + longest / figure.bbox.height


def _number_cells(figure: Figure, axes: Axes, shown: np.ndarray, dark: np.ndarray, form: str) -> None:
    """Write the number of each cell into it; texts of a figure are made faster than those of axes."""
    style: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": min(12 if len(shown) > FEW_CLASSES else 22, 160 / len(shown)),
        "transform": axes.transData,
    }
    for row, column in zip(*np.nonzero(~np.isnan(shown)), strict=True):
        ink = "white" if dark[row, column] else "black"
        figure.text(column, row, form.format(shown[row, column]), color=ink, **style)


def save_label_plot(labels: np.ndarray, names: Mapping[int, str], path: Path) -> None:
    """Write ``labels.jpg``: objects a class, box shapes, where boxes are and how large they are.

    Args:
        labels: (n, 5) class, centre x, y, width, height in 0..1 of the image.
        names: class index to name.
        path: ``.jpg`` or ``.png`` file.
    """
    figure = Figure(figsize=(10, 10), layout="constrained")
    counts_axes, shapes_axes, places_axes, sizes_axes = figure.subplots(2, 2).ravel()
    _draw_class_counts(counts_axes, labels[:, 0].astype(int), names)
    _draw_shapes(shapes_axes, labels[:SHOWN_BOXES])
    _draw_density(places_axes, labels[:, 1:3], "x", "y")
    places_axes.invert_yaxis()  # as on the image
    _draw_density(sizes_axes, labels[:, 3:5], "width", "height")
    save_figure(figure, path, 200)


def _draw_class_counts(axes: Axes, classes: np.ndarray, names: Mapping[int, str]) -> None:
    counts = np.bincount(classes, minlength=len(names))
    axes.bar(range(len(counts)), counts, color=[_rgb(index) for index in range(len(counts))])
    axes.set(ylabel="objects", title=f"{len(classes)} objects in {np.count_nonzero(counts)} classes")
    axes.spines[["top", "right"]].set_visible(False)
    if 0 < len(names) < NUMBERED_CLASSES:
        axes.set_xticks(range(len(names)), [plain_text(names[index]) for index in range(len(names))], rotation=90)
    else:
        axes.set_xlabel("class")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_shapes(axes: Axes, labels: np.ndarray) -> None:
    boxes = [Rectangle((0.5 - w / 2, 0.5 - h / 2), w, h) for w, h in labels[:, 3:5]]
    colours = [_rgb(int(index)) for index in labels[:, 0]]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colours, linewidth=0.6, alpha=0.6))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[], title=f"shapes of {len(labels)} boxes")


def _draw_density(axes: Axes, points: np.ndarray, x_label: str, y_label: str) -> None:
    axes.hist2d(points[:, 0], points[:, 1], bins=50, range=[[0, 1], [0, 1]], cmap="Blues", norm=PowerNorm(0.4, vmin=0))
    axes.set(xlabel=x_label, ylabel=y_label, aspect="equal", title=f"{x_label} and {y_label}")


def read_results(csv_path: Path) -> tuple[list[str], np.ndarray]:
    """Return the names and the (epochs, columns) values of a ``results.csv``; cells without a number are NaN.

    Raises:
        UserError: the file is missing, holds no epoch, or its rows differ in length.
    """
    try:
        with csv_path.open(encoding="utf-8", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read '{csv_path}' ({error}); expected the results.csv of a training run") from error
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        raise UserError(f"'{csv_path}' is no results.csv of a training run: expected a row of names and one an epoch")
    return rows[0], np.array([[_number(cell) for cell in row] for row in rows[1:]])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def save_results_plot(csv_path: Path) -> Path:
    """Draw ``results.png`` beside a ``results.csv`` and return its path.

    Each panel shows one column over the epochs, with a dotted line smoothed by a Gaussian (σ = 3 epochs). Epochs that
    were not validated have gaps (NaN), over which the lines go on.

    Raises:
        UserError: the file is missing, empty or lacks columns.
    """
    names, values = read_results(csv_path)
    if len(names) <= max(RESULT_COLUMNS):
        raise UserError(f"'{csv_path}' has {len(names)} columns, expected the 14 of a training run's results.csv")
    epochs = values[:, 0]
    figure = Figure(figsize=(12, 6), layout="constrained")
    for axes, column in zip(figure.subplots(2, 5).ravel(), RESULT_COLUMNS, strict=True):
        series = values[:, column]
        known = np.isfinite(series)
        smoothed = _gaussian_smooth(series, 3)[known]
        axes.plot(epochs[known], series[known], color=INK, marker=".", markersize=5, linewidth=1.5, label="results")
        axes.plot(epochs[known], smoothed, color="#f58231", linestyle=":", linewidth=2, label="smooth")
        axes.set_title(names[column], fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        lighten(axes)
    figure.axes[1].legend(frameon=False)
    path = csv_path.with_suffix(".png")
    save_figure(figure, path, 200)
    return path


def _gaussian_smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth (n,) values, repeating the ends; gaps (NaN) stay out of the weights."""
    radius = round(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, radius, mode="edge")
    known = np.isfinite(padded)
    weight = np.convolve(known, kernel, mode="valid")
    total = np.convolve(np.where(known, padded, 0), kernel, mode="valid")
    return np.divide(total, weight, out=np.full_like(values, np.nan), where=weight > 0)


def lighten(axes: Axes, lines: Literal["both", "x", "y"] = "both") -> None:
    """Leave of axes a pale grid behind the data, at the ticks of x, y or both, and no frame above and at the right."""
    axes.grid(axis=lines, color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_text(name: str) -> str:
    """Return a class or file name for a chart.

    It is on one line and not too long, dollar signs are no mathematics, and what the font lacks is a box.
    """
    name = "".join(letter if ord(letter) in _drawable() else "□" for letter in " ".join(name.split()))
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return name.replace("$", r"\$")


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """Return the characters that matplotlib's own font has."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _rgb(index: int) -> tuple[float, float, float]:
    """Return a class colour for matplotlib."""
    blue, green, red = class_colour(int(index))
    return red / 255, green / 255, blue / 255


def save_figure(figure: Figure, path: Path, dots_per_inch: int) -> None:
    """Write a figure, atomically; the suffix of ``path`` says as what."""
    canvas = FigureCanvasAgg(figure)  # Agg whatever backend the user has configured
    with atomic_write(path) as temporary:
        if path.suffix != ".png":
            figure.savefig(temporary, dpi=dots_per_inch)
            return
        figure.set_dpi(dots_per_inch)
        canvas.draw()
        picture = cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
        temporary.write_bytes(cv2.imencode(".png", picture, PNG_SETTINGS)[1].tobytes())
