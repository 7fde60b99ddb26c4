"""The chart of NAM's scales: how large they are before and after training."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utils.eval.plots import INK, lighten, read_results, save_figure

COLOURS = (INK, "#f58231", "#17805f", "#8e3cca")
SYMBOLS = {"Channel_Att": "γ", "Spatial_Att": "λ"}  # of the paper


def save_scale_plot(
    start: Mapping[str, np.ndarray], end: Mapping[str, np.ndarray], csv_path: Path, share_column: str, path: Path
) -> None:
    """Write a chart with one panel a layer, its scales from large to small, and one with the share of small scales.

    Args:
        start: scales before training, by their names in the model's state, such as model.24.Channel_Att.bn2.weight;
            those that are not known are left out.
        end: scales after training.
        csv_path: the run's results.csv.
        share_column: its column with the share of small scales, 0 to 1.
        path: ``.png`` file.
    """
    layers: dict[str, list[str]] = {}
    for name in end:
        layers.setdefault(name.split(".")[1], []).append(name)
    columns = math.ceil(math.sqrt(len(layers) + 1))
    rows = math.ceil((len(layers) + 1) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (row, names) in zip(panels, layers.items(), strict=False):
        _draw_layer(axes, row, names, start, end)
    _draw_share(panels[len(layers)], csv_path, share_column)
    for axes in panels[len(layers) + 1 :]:
        axes.remove()
    save_figure(figure, path, 200)


def _draw_layer(
    axes: Axes, row: str, names: list[str], start: Mapping[str, np.ndarray], end: Mapping[str, np.ndarray]
) -> None:
    """Draw the scales of one layer, each kind over its own rank from 0 to 1, so that γ and λ share an axis."""
    for index, (name, colour) in enumerate(zip(names, itertools.cycle(COLOURS), strict=False)):
        dots = (3 * index, (2, 4))  # γ and λ both start from 1: the dots of one lie between those of the other
        for values, when, style in ((start.get(name), "before", dots), (end[name], "after", "solid")):
            if values is not None:
                rank = np.linspace(0, 100, len(values))
                label = f"|{_symbol(name)}| {when} training"
                axes.plot(rank, np.sort(np.abs(values))[::-1], linestyle=style, color=colour, linewidth=2, label=label)
    counts = " and ".join(f"{len(end[name])} {_symbol(name)}" for name in names)
    axes.set(title=f"layer {row}: {counts}", xlabel="rank, % of the scales", ylabel="size of the scale")
    axes.set(xlim=(0, 100), ylim=(0, None))
    _finish(axes)
    axes.legend(frameon=False, fontsize=9)


def _draw_share(axes: Axes, csv_path: Path, column: str) -> None:
    names, values = read_results(csv_path)
    axes.plot(
        values[:, names.index("epoch")],
        values[:, names.index(column)],
        color=INK,
        marker=".",
        markersize=5,
        linewidth=1.5,
    )
    axes.set(title=f"scales {column.split('/')[-1].replace('_', ' ')}", xlabel="epoch", ylabel="share of all scales")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    _finish(axes)


def _symbol(name: str) -> str:
    """Return γ or λ for the branches of NAM, the place in its layer for others."""
    _, _, *inside, _ = name.split(".")
    known = [SYMBOLS[part] for part in inside if part in SYMBOLS]
    return known[0] if known else ".".join(inside) or "scale"


def _finish(axes: Axes) -> None:
    lighten(axes)
