"""Charts of a run: curves, confusion matrix, label statistics, training history. Draws without a display."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
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
INK = "#1f3b73"


def save_evaluation_plots(evaluation: Evaluation, folder: Path) -> None:
    """Write ``PR_curve.png``, ``F1_curve.png``, ``P_curve.png``, ``R_curve.png`` and ``confusion_matrix.png``."""
    save_curves(evaluation.metrics, evaluation.names, folder)
    save_confusion_matrix(evaluation.confusion.normalised(), evaluation.names, folder / "confusion_matrix.png")


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
    entries = [f"{_plain(names[index])} {ap:.3f}" for index, ap in zip(metrics.classes, metrics.ap50, strict=True)]
    _draw_classes(axes, metrics, curve, entries)
    mean = f"all classes {metrics.mean('ap50'):.3f} mAP@0.5"
    axes.plot(metrics.confidence_axis, curve.mean(0), color=INK, linewidth=3, label=mean)
    _finish_curves(figure, axes, path)


def _save_over_confidence(
    metrics: ClassMetrics, curve: np.ndarray, label: str, names: Mapping[int, str], path: Path
) -> None:
    figure, axes = _curve_figure("Confidence", label)
    _draw_classes(axes, metrics, curve, [_plain(names[index]) for index in metrics.classes])
    mean = smooth(curve.mean(0))[: len(metrics.confidence_axis)]
    best = int(mean.argmax())
    entry = f"all classes {mean[best]:.2f} at {metrics.confidence_axis[best]:.3f}"
    axes.plot(metrics.confidence_axis, mean, color=INK, linewidth=3, label=entry)
    _finish_curves(figure, axes, path)


def _curve_figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_classes(axes: Axes, metrics: ClassMetrics, curves: np.ndarray, entries: list[str]) -> None:
    """Draw one thin line a class; coloured and named when there are few of them."""
    few = len(metrics.classes) < LEGEND_CLASSES
    for index, curve, entry in zip(metrics.classes, curves, entries, strict=True):
        style = {"color": _rgb(index), "label": entry} if few else {"color": "0.8"}
        axes.plot(metrics.confidence_axis, curve, linewidth=1, **style)


def _finish_curves(figure: Figure, axes: Axes, path: Path) -> None:
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False, borderaxespad=0)
    save_figure(figure, path, 250)


def save_confusion_matrix(fractions: np.ndarray, names: Mapping[int, str], path: Path) -> None:
    """Write the picture of a confusion matrix.

    Args:
        fractions: (classes + 1, classes + 1) from `ConfusionMatrix.normalised`, rows predicted, columns true.
        names: class index to name.
        path: ``.png`` file.
    """
    count = len(fractions)
    shown = np.where(fractions < 0.005, np.nan, fractions)
    figure = Figure(figsize=(12, 9), layout="constrained")
    axes = figure.add_subplot(xlabel="True", ylabel="Predicted", title="Confusion matrix")
    image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).outline.set_visible(False)  # type: ignore[operator]
    if count - 1 < NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(~np.isnan(shown)), strict=True):
            value = shown[row, column]
            ink, size = ("white" if value > 0.5 else "black"), min(12, 160 / count)
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=size)
    if 0 < len(names) < NAMED_CLASSES and len(names) == count - 1:
        ticks, size = [*(_plain(names[index]) for index in range(count - 1)), "background"], min(11, 480 / count)
        axes.set_xticks(range(count), ticks, rotation=90, fontsize=size)
        axes.set_yticks(range(count), ticks, fontsize=size)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.93", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    save_figure(figure, path, 250)


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
        axes.set_xticks(range(len(names)), [_plain(names[index]) for index in range(len(names))], rotation=90)
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


def save_results_plot(csv_path: Path) -> Path:
    """Draw ``results.png`` beside a ``results.csv`` and return its path.

    Each panel shows one column over the epochs, with a dotted line smoothed by a Gaussian (σ = 3 epochs). Epochs that
    were not validated have gaps (NaN), over which the lines go on.

    Raises:
        UserError: the file is missing, empty or lacks columns.
    """
    try:
        table = pd.read_csv(csv_path, skipinitialspace=True)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"cannot read '{csv_path}' ({error}); expected the results.csv of a training run") from error
    table.columns = table.columns.str.strip()
    if table.shape[1] <= max(RESULT_COLUMNS) or table.empty:
        raise UserError(f"'{csv_path}' has {table.shape[1]} columns and {len(table)} rows, expected 14 and at least 1")
    epochs = table.iloc[:, 0].to_numpy(float)
    figure = Figure(figsize=(12, 6), layout="constrained")
    for axes, column in zip(figure.subplots(2, 5).ravel(), RESULT_COLUMNS, strict=True):
        values = table.iloc[:, column].to_numpy(float)
        known = np.isfinite(values)
        smoothed = _gaussian_smooth(values, 3)[known]
        axes.plot(epochs[known], values[known], color=INK, marker=".", markersize=5, linewidth=1.5, label="results")
        axes.plot(epochs[known], smoothed, color="#f58231", linestyle=":", linewidth=2, label="smooth")
        axes.set_title(table.columns[column], fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
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


def _plain(name: str) -> str:
    """Keep matplotlib from reading dollar signs as mathematics."""
    return name.replace("$", r"\$")


def _rgb(index: int) -> tuple[float, float, float]:
    """Return a class colour for matplotlib."""
    blue, green, red = class_colour(int(index))
    return red / 255, green / 255, blue / 255


def save_figure(figure: Figure, path: Path, dots_per_inch: int) -> None:
    """Write a figure, atomically; the suffix of ``path`` says as what."""
    FigureCanvasAgg(figure)  # Agg whatever backend the user has configured
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dots_per_inch)
