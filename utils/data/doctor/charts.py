"""Charts of the page as inline SVG; colours come from the page's style."""

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 440, 270  # of a chart
LEFT, TOP, RIGHT, BOTTOM = 44, 14, 12, 40  # margins
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
HEAT_CELLS = 32  # a side


class Axis(NamedTuple):
    """Numbers along a side of a chart.

    Attributes:
        low: value at the start; its logarithm with base 2 where ``is_log``.
        high: value at the end, likewise.
        ticks: values that are written.
        title: what the numbers are.
        is_log: positions go by the logarithm.
    """

    low: float
    high: float
    ticks: Sequence[float]
    title: str
    is_log: bool = True

    def position(self, values: np.ndarray) -> np.ndarray:
        """Return where ``values`` are, from 0 at the start to 1 at the end; not limited to these."""
        scaled = np.log2(np.maximum(values, 2.0**-20)) if self.is_log else values
        return (np.asarray(scaled) - self.low) / (self.high - self.low)


def histogram(series: Mapping[str, np.ndarray], axis: Axis, bins: int, marks: Sequence[float] = ()) -> str:
    """Draw how values are spread: filled for the first series, as lines for the others, in % of each.

    Args:
        series: values by name; those beyond the axis count at its ends.
        axis: of the values.
        bins: number of bars.
        marks: values with a vertical line.
    """
    shares = {name: _shares(axis.position(values), bins) for name, values in series.items()}
    top = max((float(share.max()) for share in shares.values()), default=0.0) or 1.0
    parts = []
    for number, share in enumerate(shares.values()):
        heights = share / top * INNER_HEIGHT
        steps = np.repeat(np.linspace(0, INNER_WIDTH, bins + 1), 2)[1:-1] + LEFT
        points = " ".join(f"{x:.1f},{_base() - y:.1f}" for x, y in zip(steps, np.repeat(heights, 2), strict=True))
        ends = f"{LEFT},{_base()} {points} {LEFT + INNER_WIDTH},{_base()}"
        parts.append(f'<polygon class="series{min(number, 2)}" points="{ends}"/>')
    for value in marks:
        x = LEFT + float(axis.position(np.array(value))) * INNER_WIDTH
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{_base()}"/>')
    parts += [_x_axis(axis), f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{100 * top:.0f} %</text>']
    return _svg(parts, f"{axis.title}: {', '.join(series)}")


def _shares(positions: np.ndarray, bins: int) -> np.ndarray:
    cells = (positions * bins).astype(np.int64).clip(0, bins - 1)
    return np.bincount(cells, minlength=bins) / max(len(cells), 1)


def heat_map(values_xy: np.ndarray, axes: tuple[Axis, Axis], points: np.ndarray | None = None) -> str:
    """Draw where (n, 2) ``values_xy`` gather; ``points``, (k, 2), are marked by crosses."""
    places = [axis.position(values_xy[:, side]) * HEAT_CELLS for side, axis in enumerate(axes)]
    columns, rows = (place.astype(np.int64).clip(0, HEAT_CELLS - 1) for place in places)
    counts = np.bincount(rows * HEAT_CELLS + columns, minlength=HEAT_CELLS**2).reshape(HEAT_CELLS, HEAT_CELLS)
    cell_width, cell_height = INNER_WIDTH / HEAT_CELLS, INNER_HEIGHT / HEAT_CELLS
    strengths = (counts / max(counts.max(), 1)) ** 0.5
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{INNER_WIDTH}" height="{INNER_HEIGHT}"/>']
    for row, column in np.argwhere(counts).tolist():
        x, y = LEFT + column * cell_width, TOP + _place(axes[1], row, cell_height)
        parts.append(
            f'<rect class="heat" x="{x:.1f}" y="{y:.1f}" width="{cell_width:.1f}" height="{cell_height:.1f}" '
            f'fill-opacity="{0.1 + 0.9 * strengths[row, column]:.2f}"><title>{counts[row, column]}</title></rect>'
        )
    for point in np.zeros((0, 2)) if points is None else points:
        x, y = (float(axis.position(value)) for axis, value in zip(axes, point, strict=True))
        x, y = LEFT + x * INNER_WIDTH, _base() - y * INNER_HEIGHT
        parts.append(f'<path class="cross" d="M{x - 5:.1f} {y:.1f}h10M{x:.1f} {y - 5:.1f}v10"/>')
    parts += [_x_axis(axes[0]), _y_axis(axes[1])]
    return _svg(parts, f"{axes[1].title} over {axes[0].title}")


def _place(axis: Axis, row: int, cell_height: float) -> float:
    """Return the upper edge of a row of cells; image coordinates, which are not logarithmic, grow downwards."""
    return (HEAT_CELLS - 1 - row if axis.is_log else row) * cell_height


def _base() -> int:
    return HEIGHT - BOTTOM


def _x_axis(axis: Axis) -> str:
    parts = [f'<line class="axis" x1="{LEFT}" x2="{LEFT + INNER_WIDTH}" y1="{_base()}" y2="{_base()}"/>']
    for tick in axis.ticks:
        x = LEFT + float(axis.position(np.array(tick))) * INNER_WIDTH
        parts.append(f'<text x="{x:.1f}" y="{_base() + 14}" text-anchor="middle">{_number(tick)}</text>')
    middle = LEFT + INNER_WIDTH / 2
    return "".join(
        [*parts, f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(axis.title)}</text>']
    )


def _y_axis(axis: Axis) -> str:
    parts = []
    for tick in axis.ticks:
        position = float(axis.position(np.array(tick)))
        y = _base() - position * INNER_HEIGHT if axis.is_log else TOP + position * INNER_HEIGHT
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    x, y = 11, TOP + INNER_HEIGHT / 2
    turned = f'transform="rotate(-90 {x} {y})"'
    return "".join([*parts, f'<text x="{x}" y="{y}" text-anchor="middle" {turned}>{html.escape(axis.title)}</text>'])


def _number(value: float) -> str:
    return f"1/{1 / value:.0f}" if 0 < value < 1 and (1 / value).is_integer() and value < 0.5 else f"{value:g}"


def _svg(parts: Sequence[str], title: str) -> str:
    label = html.escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
