"""All that the doctor knows of a data set: counts, shares, findings; and the one line for training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from utils.data.config import DatasetConfig
from utils.data.doctor.boxes import SMALLEST_SIDE, box_findings
from utils.data.doctor.classes import class_findings
from utils.data.doctor.files import file_findings
from utils.data.doctor.findings import Finding, in_order, summarise
from utils.data.doctor.images import image_findings, size_findings
from utils.data.doctor.split import Split, read_splits, same_entries
from utils.data.samples import Sample, Samples
from utils.train.anchors import GOOD_RECALL, AnchorFit, measure_anchors

SMALL_SIDE = 8.0  # px
DEFAULT_SIZE = 640  # px
RATIO_LIMIT = 4.0  # v6.1's hyperparameter anchor_t


@dataclass(frozen=True, eq=False)
class Scale:
    """What boxes are compared with.

    Attributes:
        image_size: px of the long side when trained.
        strides: px a cell of each level.
        anchors: (k, 2) widths and heights in px.
    """

    image_size: int
    strides: Sequence[int]
    anchors: np.ndarray


@dataclass(frozen=True, eq=False)
class Report:
    """The state of a data set.

    Attributes:
        config: the data set.
        scale: what its boxes were compared with.
        splits: each once.
        findings: errors first.
        decoded: whether the images were looked at.
    """

    config: DatasetConfig
    scale: Scale
    splits: list[Split]
    findings: list[Finding] = field(default_factory=list)
    decoded: bool = True

    @property
    def errors(self) -> list[Finding]:
        """What is wrong."""
        return [finding for finding in self.findings if finding.is_error]

    @property
    def remarks(self) -> list[Finding]:
        """What is worth a look."""
        return [finding for finding in self.findings if not finding.is_error]

    def verdict(self) -> str:
        """Return the outcome in one line."""
        if not self.findings:
            return f"{self.config.file.name}: clean"
        remarks = summarise(self.remarks, "remark")
        if not self.errors:
            return f"{self.config.file.name}: no errors, {remarks}"
        return f"{self.config.file.name}: {summarise(self.errors, 'error')}{f', {remarks}' if self.remarks else ''}"


def examine(config: DatasetConfig, scale: Scale, decodes: bool = True) -> Report:
    """Look at all of a data set.

    Args:
        config: the data set.
        scale: what its boxes are compared with.
        decodes: look at the images, too, for copies and for files that cannot be decoded.
    """
    splits, findings = read_splits(config)
    findings += label_findings(splits, config.names, scale.image_size)
    findings += file_findings(splits)
    findings += [finding for split in splits for finding in anchor_findings(split, scale)]
    if decodes:
        findings += image_findings(splits, config.channels)
    return Report(config, scale, splits, in_order(findings), decodes)


def label_findings(splits: Sequence[Split], names: Mapping[int, str], image_size: int) -> list[Finding]:
    """Return all that labels and image sizes tell without reading a file.

    Args:
        splits: of the data set, each once.
        names: class names by index.
        image_size: px of the long side when trained.
    """
    found = class_findings(splits, names)
    for split in splits:
        found += [*box_findings(split, image_size), *size_findings(split)]
    return found


def fit_of_anchors(split: Split, scale: Scale) -> AnchorFit:
    """Return how well the anchors suit the boxes of a split, by v6.1's rule with a ratio of 4."""
    return measure_anchors(split.sides_px(scale.image_size), scale.anchors, RATIO_LIMIT)


def anchor_findings(split: Split, scale: Scale) -> list[Finding]:
    """Find the boxes that no anchor fits, if they are more than 2 %."""
    fit, sides = fit_of_anchors(split, scale), split.sides_px(scale.image_size)
    if fit.recall > GOOD_RECALL:
        return []
    ratio = np.maximum(sides[:, None] / scale.anchors, scale.anchors / np.maximum(sides[:, None], 1e-6)).max(2).min(1)
    alone = np.flatnonzero(ratio >= RATIO_LIMIT)
    alone = alone[np.argsort(-ratio[alone], kind="stable")]
    return split.found_boxes("anchors-poor", alone, lambda box: f"{sides[box][0]:.3g} x {sides[box][1]:.3g} px")


def shares_below(split: Split, scale: Scale) -> list[tuple[float, float]]:
    """Return (px, share of boxes with a side below it) for 2 px, 8 px and the strides, each once and in order."""
    least = split.sides_px(scale.image_size).min(1, initial=np.inf)
    limits = sorted({SMALLEST_SIDE, SMALL_SIDE, *map(float, scale.strides)})
    return [(limit, float((least < limit).mean()) if len(least) else 0.0) for limit in limits]


def verdict(samples: Mapping[str, Sequence[Sample]], config: DatasetConfig, image_size: int) -> str:
    """Return one line about the labels of a data set for those who train on it. Reads no file.

    Args:
        samples: usable images by split.
        config: the data set.
        image_size: px of the long side when trained.
    """
    names = [name for name in samples if name == "train" or not same_entries(config, "train", name)]
    splits = [Split(name, Samples.of(samples[name])) for name in names]
    findings = label_findings(splits, config.names, image_size)
    if not findings:
        return "data: labels without findings"
    size = "" if image_size == DEFAULT_SIZE else f" --imgsz {image_size}"
    shown = f"python -m utils.data.doctor '{config.file}'{size} shows them"
    return f"data: {summarise(findings, 'finding')}; {shown}"
