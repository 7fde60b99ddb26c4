"""Charts of an analysis: errors by kind, calibration, object sizes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from utils.eval.analysis.calibration import Calibration
from utils.eval.analysis.errors import KINDS, SIDES, ErrorBreakdown
from utils.eval.analysis.sizes import SizeResult
from utils.eval.plots import INK, lighten, save_figure

DOTS_PER_INCH = 120
ACCENT, QUIET = "#f58231", "#9aa5b8"
EXPLAINED = {
    "classification": "right box, wrong class",
    "localisation": "right class, box off",
    "both": "wrong class, box off",
    "duplicate": "object found before",
    "background": "nothing there",
    "missed": "object not found",
    "false positives": "all wrong detections",
    "false negatives": "all objects not found",
}


def save_errors(errors: ErrorBreakdown, confidence: float, path: Path) -> None:
    """Write bars of what each kind of error costs, with how many there are.

    Args:
        errors: from `break_down`.
        confidence: operating confidence, 0..1.
        path: ``.png`` file.
    """
    figure = Figure(figsize=(9, 4.8))
    axes = figure.add_axes((0.22, 0.12, 0.5, 0.72))
    names, rows = (*KINDS, *SIDES), [0, 1, 2, 3, 4, 5, 6.6, 7.6]  # a gap before the sums
    costs = [100 * errors.costs[name] for name in names]
    dearest = max(costs[: len(KINDS)])
    colours = [ACCENT if cost == dearest > 0 else INK for cost in costs[: len(KINDS)]] + [QUIET] * len(SIDES)
    axes.barh(rows, costs, color=colours, height=0.72)
    axes.set(ylim=(rows[-1] + 0.6, -0.6), xlim=(0, max(1.12 * max(costs), 1)), yticks=[])
    axes.set_xlabel("points of mAP50 (of 100) that mending this kind alone would gain")
    lighten(axes, "x")
    title = f"What errors cost: mAP50 is {100 * errors.map50:.1f} of 100"
    figure.text(0.02, 0.93, title, weight="bold", size=12)
    beside = axes.get_yaxis_transform()  # x as a fraction of the axes, y as rows
    columns = ((1.28, f"confidence ≥ {confidence:.2f}", errors.counts_used), (1.5, "in all", errors.counts))
    for x, header, _ in columns:
        axes.text(x, -0.75, header, transform=beside, ha="right", va="bottom", color="0.45", size=9)
    for row, name, cost in zip(rows, names, costs, strict=True):
        _note(axes, f"{cost:.1f}", (cost, row), (4, 0), ha="left")
        _note(axes, name, (0, row), (-8, 6))
        _note(axes, EXPLAINED[name], (0, row), (-8, -6), color="0.45", size=8)
        for x, _, counts in columns:
            axes.text(x, row, f"{counts[name]:,}", transform=beside, ha="right", va="center")
    save_figure(figure, path, DOTS_PER_INCH)


def _note(axes: Axes, text: str, place: tuple[float, float], points: tuple[float, float], **style: Any) -> None:
    """Write beside a place in data coordinates, so many points off."""
    axes.annotate(text, place, points, textcoords="offset points", va="center", **{"ha": "right"} | style)


def save_calibration(calibration: Calibration, confidence: float, path: Path) -> None:
    """Write the reliability diagram: precision against confidence, and how many detections each bar stands for.

    Args:
        calibration: from `calibrate`.
        confidence: operating confidence, 0..1.
        path: ``.png`` file.
    """
    figure = Figure(figsize=(6.4, 6.4))
    upper = figure.add_axes((0.13, 0.34, 0.83, 0.52))
    lower = figure.add_axes((0.13, 0.09, 0.83, 0.2), sharex=upper)
    bins = len(calibration.counts)
    centres, known = (np.arange(bins) + 0.5) / bins, calibration.counts > 0
    upper.bar(centres, np.nan_to_num(calibration.precision), 0.92 / bins, color="#c9d3e6", label="precision")
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1.2, label="precision = confidence")
    points = calibration.confidence[known], calibration.precision[known]
    upper.plot(*points, color=INK, marker="o", label="at the mean confidence")
    upper.axvline(confidence, color=ACCENT, linewidth=1.5, linestyle=":", label=f"operating point {confidence:.2f}")
    upper.set(ylim=(0, 1.02), xlim=(0, 1), ylabel="precision at IoU 0.5")
    upper.tick_params(labelbottom=False)
    upper.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), frameon=False, ncols=2)
    errors = (calibration.expected_error(), calibration.expected_error(first_bin=1))
    title = f"Calibration error {errors[0]:.3f}, from confidence {1 / bins:.1f} on {errors[1]:.3f}"
    figure.text(0.02, 0.955, title, weight="bold", size=12)
    lower.bar(centres, calibration.counts, 0.92 / bins, color=QUIET)
    lower.set_yscale("log")
    lower.set(ylim=(0.8, 3 * max(calibration.counts.max(), 10)), xlabel="confidence", ylabel="detections")
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    lower.minorticks_off()
    for axes in (upper, lower):
        lighten(axes, "y")
    save_figure(figure, path, DOTS_PER_INCH)


def save_sizes(sizes: Sequence[SizeResult], path: Path) -> None:
    """Write bars of average precision by object size; a size without objects has none.

    Args:
        sizes: from `by_size`.
        path: ``.png`` file.
    """
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.add_axes((0.11, 0.15, 0.86, 0.68))
    places = np.arange(len(sizes))
    for shift, colour, name, values in (
        (-0.2, INK, "AP50", [size.ap50 for size in sizes]),
        (0.2, ACCENT, "AP50-95", [size.ap50_95 for size in sizes]),
    ):
        axes.bar(places + shift, np.nan_to_num(values), 0.36, color=colour, label=name)
        for place, value in zip(places + shift, values, strict=True):
            if np.isfinite(value):
                axes.annotate(f"{value:.3f}", (place, value), (0, 3), textcoords="offset points", ha="center")
    borders = ("up to 32² px", "32² to 96² px", "96² px and more")
    entries = zip(sizes, borders, strict=True)
    axes.set_xticks(places, [f"{size.name}, {border}\n{size.labels:,} objects" for size, border in entries])
    axes.set(ylim=(0, 1.02), xlim=(-0.5, len(sizes) - 0.5), ylabel="mean average precision")
    figure.text(0.02, 0.93, "Average precision by size of the object", weight="bold", size=12)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), frameon=False, ncols=2)
    lighten(axes, "y")
    axes.tick_params(axis="x", length=0)
    save_figure(figure, path, DOTS_PER_INCH)
