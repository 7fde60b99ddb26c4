"""The chart of a hyperparameter search: fitness over each value that was searched."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.eval.plots import INK, lighten, save_figure

BEST = "#f58231"


def save_search_plot(
    values: Mapping[str, Sequence[float]],
    fitness: Sequence[float],
    ranges: Mapping[str, tuple[float, float]],
    logarithmic: Collection[str],
    path: Path,
) -> None:
    """Write a chart with one panel a hyperparameter, a dot a trial: later trials are darker, the best is marked.

    Args:
        values: by hyperparameter, one value a trial, in the order of the trials; not empty.
        fitness: one a trial; the first of equal ones is the best.
        ranges: lowest and highest value searched, by hyperparameter.
        logarithmic: hyperparameters whose axis is logarithmic.
        path: ``.png`` file.
    """
    best = int(np.argmax(fitness))
    columns = math.ceil(math.sqrt(len(values)))
    rows = math.ceil(len(values) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (name, column) in zip(panels, values.items(), strict=False):
        if name in logarithmic:
            axes.set_xscale("log")
        _draw_panel(axes, column, fitness, best)
        axes.set_title(f"{name} = {column[best]:.4g}", fontsize=10)
        axes.set_xlim(*_widened(*ranges[name], name in logarithmic))
    for axes in panels[len(values) :]:
        axes.remove()
    figure.supylabel("fitness")
    figure.suptitle(f"{len(fitness)} complete trials, best fitness {fitness[best]:.4g}, and the values that gave it")
    save_figure(figure, path, 130)


def _draw_panel(axes: Axes, values: Sequence[float], fitness: Sequence[float], best: int) -> None:
    order = np.arange(len(values))
    axes.scatter(values, fitness, s=14, c=order, cmap="Blues", vmin=-0.6 * len(values) - 1, linewidth=0)
    axes.scatter(values[best], fitness[best], s=70, marker="X", color=BEST, edgecolor=INK, linewidth=0.6, zorder=3)
    axes.tick_params(labelsize=8)
    lighten(axes)


def _widened(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    """Return limits that leave dots at the ends of the range whole."""
    if logarithmic:
        margin = (high / low) ** 0.05
        return low / margin, high * margin
    margin = 0.05 * (high - low)
    return low - margin, high + margin
