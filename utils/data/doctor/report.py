"""What the doctor says in the terminal."""

from collections.abc import Sequence

import numpy as np

from utils.data.doctor.classes import class_counts
from utils.data.doctor.diagnose import Report, fit_of_anchors, shares_below
from utils.data.doctor.files import place
from utils.data.doctor.findings import Example, Finding
from utils.data.doctor.split import Split
from utils.log import bold

LISTED = 3  # examples of a finding
COLUMNS = ("split", "images", "labelled", "empty", "missing", "corrupt", "boxes", "polygons", "classes", "boxes/image")


def report_lines(report: Report) -> list[str]:
    """Return the table of splits, the sizes of boxes, a line or two for each finding, and the verdict."""
    config = report.config
    head = f"{config.file}: {config.nc} class{'es' if config.nc != 1 else ''}, {report.scale.image_size} px"
    lines = [bold(head), "", *_table([COLUMNS, *(split_row(split, config.nc) for split in report.splits)]), ""]
    for split in report.splits:
        lines.append(f"{split.name}: {size_line(split, report)}")
    lines.append("")
    for finding in report.findings:
        lines += _finding_lines(finding)
    return [*lines, *([""] if report.findings else []), bold(f"verdict: {report.verdict()}")]


def split_row(split: Split, classes: int) -> tuple[str, ...]:
    """Return the cells of ``COLUMNS`` for a split."""
    scan, images, boxes = split.scan, len(split.samples), len(split.labels)
    labelled = int(np.count_nonzero(split.samples.label_counts))
    seen = int(np.count_nonzero(class_counts(split, classes)))
    counts = (len(split.listed), labelled, scan.empty, scan.missing, scan.corrupt, boxes, split.polygons, seen)
    return (split.name, *map(str, counts), f"{boxes / images if images else 0:.1f}")


def size_line(split: Split, report: Report) -> str:
    """Say how many boxes are small, and how many an anchor fits."""
    shares = ", ".join(f"{100 * share:.1f} % below {limit:g} px" for limit, share in shares_below(split, report.scale))
    return f"sides of boxes: {shares}; {fit_of_anchors(split, report.scale)}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _finding_lines(finding: Finding) -> list[str]:
    level = "ERROR " if finding.is_error else "remark"
    lines = [f"{level} {finding.split}: {finding}; {finding.mend}"]
    shown = finding.examples[:LISTED]
    lines += [f"         {example_text(example)}" for example in shown]
    if finding.count > len(shown) and shown:
        lines[-1] += " ..."
    return lines


def example_text(example: Example) -> str:
    """Return such as ``"labels/a.txt:3: 1.2 x 0.8 px"``."""
    where = place(example)
    return f"{where}: {example.detail}" if where and example.detail else where or example.detail
