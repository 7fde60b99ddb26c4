"""A comparison of two detectors as a table file and a chart."""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.eval.compare import FEW_IMAGES, Comparison, Difference, Row
from utils.eval.plots import INK, lighten, plain_text, save_figure
from utils.files import atomic_write

SHOWN_CLASSES = 60  # classes in the chart, those in most images
WORSE = "#c4511b"
UNSURE = "0.6"
COLUMNS = ("first", "second", "gain", "low", "high", "beyond_noise")


def save_comparison(comparison: Comparison, folder: Path, stem: str = "compare") -> None:
    """Write ``compare.csv``, all rows, and ``compare.png``, the differences in mAP50-95 with their intervals, sorted.

    Args:
        comparison: what to write.
        folder: where to.
        stem: of both files, for more than one comparison in a folder.
    """
    _save_table(comparison, folder / f"{stem}.csv")
    _save_chart(comparison, folder / f"{stem}.png")


def _save_table(comparison: Comparison, path: Path) -> None:
    numbers = [f"{kind}_{column}" for kind in ("ap50_95", "ap50") for column in COLUMNS]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "class", "images", "labels", *numbers])
        for row in (comparison.overall, *comparison.classes):
            found = (*_numbers(row.ap50_95), *_numbers(row.ap50))
            writer.writerow([*comparison.titles, row.name, row.images, row.labels, *found])


def _numbers(found: Difference) -> tuple[str | bool, ...]:
    values = (found.first, found.second, found.gain.value, found.gain.low, found.gain.high)
    return (*(f"{value:.6f}" for value in values), found.beyond_noise)


def _save_chart(comparison: Comparison, path: Path) -> None:
    known = sorted(comparison.classes, key=lambda row: -row.images)[:SHOWN_CLASSES]
    rows = [*sorted(known, key=lambda row: row.ap50_95.gain.value), comparison.overall]  # from below to above
    figure = Figure(figsize=(9, 1.8 + 0.21 * len(rows)), layout="constrained")
    first, second = map(plain_text, comparison.titles)
    axes = figure.add_subplot(xlabel=f"AP50-95 of {second}\nless that of {first}", ylim=(-0.8, len(rows) - 0.2))
    for height, row in enumerate(rows):
        _draw_row(axes, height, row)
    axes.axhline(len(known) - 0.5, color="0.8", linewidth=0.8)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(rows)), [f"{plain_text(row.name)}  ({row.images})" for row in rows], fontsize=8)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    left_out = len(comparison.classes) - len(known)
    rest = f"; without the {left_out} classes in fewest images" if left_out else ""
    axes.set_title(f"Lines: {comparison.level * 100:g} % of the draws. (Images with the class){rest}", fontsize=9)
    lighten(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _explain(axes, figure)
    save_figure(figure, path, 150)


def _draw_row(axes: Axes, height: int, row: Row) -> None:
    found, judged = row.ap50_95, row.images >= FEW_IMAGES
    gain = found.gain
    colour = (INK if gain.value > 0 else WORSE) if found.beyond_noise else UNSURE
    width = 3 if row.name == "all" else 1.5
    axes.plot([gain.low, gain.high], [height, height], color=colour, linewidth=width, alpha=0.9 if judged else 0.5)
    axes.plot(gain.value, height, "o", color=colour, markerfacecolor=colour if judged else "white", markersize=5)


def _explain(axes: Axes, figure: Figure) -> None:
    for colour, filled, text in (
        (INK, True, "better, beyond noise"),
        (WORSE, True, "worse, beyond noise"),
        (UNSURE, True, "not beyond noise"),
        (UNSURE, False, f"fewer than {FEW_IMAGES} images: not judged"),
    ):
        axes.plot([], [], "o-", color=colour, markerfacecolor=colour if filled else "white", markersize=5, label=text)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
