"""What the doctor says on a page: one HTML file that needs nothing else."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from utils.data.doctor.charts import Axis, heat_map, histogram
from utils.data.doctor.classes import class_counts
from utils.data.doctor.diagnose import Report
from utils.data.doctor.findings import Finding
from utils.data.doctor.gallery import figure, split_pictures
from utils.data.doctor.report import COLUMNS, example_text, size_line, split_row
from utils.data.doctor.split import Split
from utils.page import cards, document, escape, save_page, section, table

STYLE_FILE = Path(__file__).with_name("page.css")
MOST_CLASSES = 120  # bars; the commonest and the rarest of more classes
BINS = 40
ASPECT_TICKS = (1 / 16, 1 / 4, 1, 4, 16)


def write_page(file: Path, report: Report) -> None:
    """Write the page, whole or not at all."""
    save_page(file, render_page(report))


def render_page(report: Report) -> str:
    """Return the page."""
    body = "".join(
        [
            _head(report),
            section("Splits", _split_table(report)),
            section("Findings", "".join(_finding(finding, report) for finding in report.findings) or _clean()),
            section("Boxes of each class", _class_bars(report)),
            section("Sizes of boxes", _charts(report)),
            section("A look at each split", _split_figures(report)) if report.decoded else "",
        ]
    )
    return document(f"Doctor: {report.config.file.name}", body, STYLE_FILE.read_text(encoding="utf-8"))


def _head(report: Report) -> str:
    level = "error" if report.errors else "remark" if report.remarks else "fine"
    images = sum(len(split.listed) for split in report.splits)
    boxes = sum(len(split.labels) for split in report.splits)
    figures = {
        "images": images,
        "boxes": boxes,
        "classes": report.config.nc,
        "errors": len({finding.kind for finding in report.errors}),
        "remarks": len({finding.kind for finding in report.remarks}),
    }
    counts = cards({label: f"{count:,}" for label, count in figures.items()})
    file, verdict = escape(str(report.config.file)), escape(report.verdict())
    return (
        f'<header><h1>Data set doctor</h1><p class="file">{file}, at {report.scale.image_size} px</p>'
        f'<p class="verdict {level}">{verdict}</p>{counts}</header>\n'
    )


def _clean() -> str:
    return '<p class="note">Nothing to say.</p>'


def _split_table(report: Report) -> str:
    rows = table(COLUMNS, [split_row(split, report.config.nc) for split in report.splits])
    notes = "".join(f"<li>{escape(f'{split.name}: {size_line(split, report)}')}</li>" for split in report.splits)
    return f'{rows}<ul class="note">{notes}</ul>'


def _finding(finding: Finding, report: Report) -> str:
    level = "error" if finding.is_error else "remark"
    examples = "".join(f"<li>{escape(example_text(example))}</li>" for example in finding.examples)
    more = finding.count - len(finding.examples)
    rest = f"<li>and {more:,} more</li>" if more > 0 and finding.examples else ""
    pictures = ""
    if report.decoded:
        config = report.config
        pictures = "".join(
            figure(picture, config.names, config.channels, example.detail if len(example.pictures) == 1 else "")
            for example in finding.examples
            for picture in example.pictures
        )
    return (
        f'<article class="{level}"><h3><span class="badge">{level}</span> {escape(str(finding))} '
        f'<small>{escape(finding.split)}</small></h3><p class="mend">{escape(finding.mend)}</p>'
        f'<ul class="examples">{examples}{rest}</ul>{_grid(pictures)}</article>\n'
    )


def _grid(figures: str) -> str:
    return f'<div class="pictures">{figures}</div>' if figures else ""


def _class_bars(report: Report) -> str:
    counts = {split.name: class_counts(split, report.config.nc) for split in report.splits}
    if not counts:
        return _clean()
    first = next(iter(counts.values()))
    order = np.argsort(-first, kind="stable").tolist()
    cut = len(order) > MOST_CLASSES
    shown = [*order[: MOST_CLASSES // 2], *order[-MOST_CLASSES // 2 :]] if cut else order
    most = {name: max(int(count.max()), 1) for name, count in counts.items()}
    rows = ""
    for index in shown:
        bars = "".join(
            f'<span class="bar series{min(number, 2)}" style="width:{100 * count[index] / most[name]:.2f}%"></span>'
            for number, (name, count) in enumerate(counts.items())
            if count[index]
        )
        numbers = " / ".join(f"{count[index]:,}" for count in counts.values())
        absent = ' class="absent"' if not first[index] else ""
        name = escape(report.config.names[index])
        rows += f'<li{absent}><span class="name" title="{name}">{index} {name}</span><span class="bars">{bars}</span>'
        rows += f'<span class="count">{numbers}</span></li>'
    note = f" The commonest and the rarest {MOST_CLASSES // 2} of {len(order)} classes." if cut else ""
    scale = f"{_legend(list(counts))}. Each split's longest bar is its commonest class.{note}"
    return f'<p class="note">{scale}</p><ol class="classes">{rows}</ol>'


def _legend(names: Sequence[str]) -> str:
    return " ".join(
        f'<span class="key series{min(number, 2)}"></span>{escape(name)}' for number, name in enumerate(names)
    )


def _charts(report: Report) -> str:
    splits = [split for split in report.splits if len(split.labels)]
    if not splits:
        return _clean()
    drawn = "".join(f"<figure>{chart}</figure>" for chart in _drawn(report, splits))
    note = "Sizes are those at the image size of training. Dotted lines are strides, crosses are anchors."
    return f'<p class="note">{_legend([split.name for split in splits])}. {note}</p><div class="charts">{drawn}</div>'


def _drawn(report: Report, splits: Sequence[Split]) -> Iterator[str]:
    size = report.scale.image_size
    sides = {split.name: split.sides_px(size) for split in splits}
    top = float(np.ceil(np.log2(size)))
    ticks = [2.0**power for power in range(0, int(top) + 1, 2)]
    length = Axis(-1, top, ticks, "square root of the area, px")
    yield histogram({name: np.sqrt(side.prod(1)) for name, side in sides.items()}, length, BINS, report.scale.strides)
    aspect = Axis(-5, 5, ASPECT_TICKS, "width / height")
    ratios = {name: side[:, 0] / np.maximum(side[:, 1], 1e-6) for name, side in sides.items()}
    yield histogram(ratios, aspect, BINS)
    axes = (Axis(-1, top, ticks, "width, px"), Axis(-1, top, ticks, "height, px"))
    yield heat_map(np.concatenate(list(sides.values())), axes, report.scale.anchors)
    place = (Axis(0, 1, (0, 0.5, 1), "centre x", False), Axis(0, 1, (0, 0.5, 1), "centre y", False))
    yield heat_map(np.concatenate([split.labels[:, 1:3] for split in splits]), place)


def _split_figures(report: Report) -> str:
    config = report.config
    figures = [figure(one, config.names, config.channels) for split in report.splits for one in split_pictures(split)]
    return _grid("".join(figures))
