"""Two detectors on the same images: how much better one is, and whether the choice of images could explain it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError, listed
from utils.eval.bootstrap import bootstrap_ap, mean_over_classes, resample_counts
from utils.eval.evaluate import MANY_CLASSES, fitted
from utils.eval.findings import Findings

RESAMPLES = 1000
FEWEST_RESAMPLES = 100
LEVEL = 0.95
FEW_IMAGES = 10  # intervals from fewer images than this are far too narrow: nothing is concluded from them


@dataclass(frozen=True)
class Interval:
    """A measured value, and where the middle ``level`` of its resamples lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One AP of two detectors.

    Attributes:
        first: AP of the first detector, 0..1.
        second: AP of the second.
        gain: second less first.
        beyond_noise: whether the choice of images does not explain the gain.
    """

    first: float
    second: float
    gain: Interval
    beyond_noise: bool


@dataclass(frozen=True)
class Row:
    """Average precision of one class, or its mean over the classes.

    Attributes:
        name: of the class; "all" for the mean.
        images: how many have labels of the class; all images for the mean.
        labels: labels of the class.
        ap50: at IoU 0.50.
        ap50_95: averaged over IoU 0.50 to 0.95.
    """

    name: str
    images: int
    labels: int
    ap50: Difference
    ap50_95: Difference


@dataclass(frozen=True)
class Comparison:
    """Two detectors on the same images.

    Attributes:
        titles: what the first and the second are called.
        overall: means over the classes.
        classes: one row a class that has labels.
        resamples: how often the images were drawn anew.
        level: share of the resamples that an interval holds.
    """

    titles: tuple[str, str]
    overall: Row
    classes: list[Row]
    resamples: int
    level: float

    def verdict(self) -> str:
        """Return one sentence for people in a hurry."""
        first, second = self.titles
        found, images = self.overall.ap50_95, self.overall.images
        gain = found.gain
        if gain.value == 0:
            return f"{second} and {first} have the same mAP50-95 on these {images:,} images."
        word = "better" if gain.value > 0 else "worse"
        low, high = sorted((abs(gain.low), abs(gain.high)))
        if found.beyond_noise:
            return (
                f"{second} is {word} than {first} by {abs(gain.value):.3f} mAP50-95 [{low:.3f}, {high:.3f}]: beyond "
                f"noise over these {images:,} images (of one training each; other seeds may differ)."
            )
        apart = f"{second} is {gain.value:+.3f} mAP50-95 from {first}"
        if images < FEW_IMAGES:
            return f"{apart}, but {images} images are too few to say more; {FEW_IMAGES} are the least."
        return f"{apart} [{gain.low:+.3f}, {gain.high:+.3f}]: within noise, {images:,} images do not tell them apart."

    def lines(self, every_class: bool = False) -> list[str]:
        """Return the table side by side, how to read it, and the verdict.

        Args:
            every_class: list the classes although there are 50 or more of them; else those that differ beyond noise.
        """
        short = not every_class and len(self.classes) >= MANY_CLASSES
        rows = [row for row in self.classes if not short or row.ap50.beyond_noise or row.ap50_95.beyond_noise]
        judged = sum(row.images >= FEW_IMAGES for row in self.classes)
        lines = [f"A: {self.titles[0]}", f"B: {self.titles[1]}", *_header(), _line(self.overall), *map(_line, rows)]
        if len(rows) < len(self.classes):
            left_out = len(self.classes) - len(rows)
            lines.append(f"{left_out} classes are not listed: no difference beyond noise, or few (--verbose: all).")
        return [
            *lines,
            f"[ ]: {self.level * 100:g} % of {self.resamples:,} draws of the images; each class on its own.",
            f"*: beyond noise with {judged} classes judged at once, which asks for more than [ ] does.",
            f"few: in fewer than {FEW_IMAGES} images, not judged.",
            self.verdict(),
        ]


def _header() -> list[str]:
    groups = "".join(f"{name:^46}" for name in ("mAP@.5:.95", "mAP@.5"))
    columns = f"{'A':>8}{'B':>8}{'B - A':>8}{'':22}"
    return [f"{'':36}{groups}".rstrip(), f"{'Class':>20}{'Images':>8}{'Labels':>8}{columns * 2}".rstrip()]


def _line(row: Row) -> str:
    text = f"{fitted(row.name)}{row.images:>8}{row.labels:>8}"
    for found in (row.ap50_95, row.ap50):
        mark = "few" if row.images < FEW_IMAGES else "*" if found.beyond_noise else ""
        numbers = f"{found.first:>8.3f}{found.second:>8.3f}{found.gain.value:>+8.3f}"
        text += f"{numbers} [{found.gain.low:+.3f}, {found.gain.high:+.3f}] {mark:<4}"
    return text.rstrip()


def compare(
    first: Findings,
    second: Findings,
    titles: tuple[str, str] = ("first", "second"),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """Compare two detectors by a paired bootstrap: both are measured on the same draws of the images.

    The difference of the means is beyond noise if its percentile interval leaves out 0. In simulations that interval
    held the true difference in 91 (of 128 images) to 95 (of 500) of 100 cases. Differences of classes have to be larger
    than the largest deviation among all classes judged, in units of each one's standard error, is in ``level`` of the
    draws: so the chance of even one false alarm is 1 - ``level``.

    Args:
        first: evaluation of the detector compared with.
        second: evaluation of the other one, on the same images in any order.
        titles: what they are called.
        resamples: how often the images are drawn anew, at least 100.
        seed: of the draws.
        level: share of the resamples that an interval holds, 0..1.

    Raises:
        UserError: images, labels or classes are not the same; there is no image; ``resamples`` is below 100.
    """
    places = _places(first, second, titles)
    counts = _draw(first, resamples, seed)
    pairs = zip(_samples(first, counts), _samples(second, counts[:, places]), strict=True)
    images = np.array([len(first), *_images_per_class(first)])
    overall, *classes = _rows(first, *(_differences(*pair, images, level) for pair in pairs))
    return Comparison(titles, overall, classes, resamples, level)


def _draw(findings: Findings, resamples: int, seed: int) -> np.ndarray:
    """Return (1 + R, I) counts, the first of which are those of the images as they are."""
    if not len(findings):
        raise UserError("there is no image to draw from; check the 'val' entry of the data set YAML")
    if resamples < FEWEST_RESAMPLES:
        raise UserError(f"got {resamples} resamples, but intervals need at least {FEWEST_RESAMPLES}")
    counts = resample_counts(len(findings), resamples, np.random.default_rng(seed))
    return np.concatenate([np.ones_like(counts[:1]), counts])


def _samples(findings: Findings, counts: np.ndarray) -> list[np.ndarray]:
    """Return AP50 and AP50-95, each (1 + R, 1 + C): as measured and of each draw, mean and classes."""
    found = bootstrap_ap(findings, counts)
    return [np.column_stack([mean_over_classes(ap), ap]) for ap in (found.ap50, found.ap50_95)]


def _intervals(samples: np.ndarray, level: float) -> list[Interval]:
    low, high = np.nanquantile(samples[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*map(float, numbers)) for numbers in zip(samples[0], low, high, strict=True)]


def _differences(first: np.ndarray, second: np.ndarray, images: np.ndarray, level: float) -> list[Difference]:
    """Return the difference of the means, and those of the classes.

    Args:
        first: (1 + R, 1 + C) of `_samples`.
        second: the same of the other detector.
        images: (1 + C,) images that each column is drawn from.
        level: as for `compare`.
    """
    gains = second - first
    found = _intervals(gains, level)
    beyond = np.zeros(len(found), bool)
    beyond[0] = found[0].low > 0 or found[0].high < 0
    judged = np.flatnonzero(images[1:] >= FEW_IMAGES) + 1
    beyond[judged] = _stand_out(gains[:, judged], level)
    beyond &= images >= FEW_IMAGES
    rows = zip(first[0], second[0], found, beyond, strict=True)
    return [Difference(float(a), float(b), gain, bool(clear)) for a, b, gain, clear in rows]


def _stand_out(gains: np.ndarray, level: float) -> np.ndarray:
    """Say of each column of (1 + R, C) whether its first value is far from 0, allowing for the number of columns.

    The single-step method on the largest of all statistics (Westfall and Young, 1993).
    """
    if not gains.shape[1]:
        return np.zeros(0, bool)
    error = np.nanstd(gains[1:], axis=0)  # (C,)
    scale = np.where(error > 0, error, 1)
    largest = np.nan_to_num(np.abs(gains[1:] - gains[0]) / scale).max(1)  # (R,)
    return np.abs(gains[0]) > np.quantile(largest, level) * scale


def _images_per_class(findings: Findings) -> np.ndarray:
    """Return (C,) how many images have labels of each class that has any."""
    pairs = np.unique(np.stack([findings.label_classes, findings.label_image]), axis=1)
    return np.unique(pairs[0], return_counts=True)[1]


def _rows(findings: Findings, ap50: Sequence[Difference], ap50_95: Sequence[Difference]) -> list[Row]:
    classes, counts = np.unique(findings.label_classes, return_counts=True)
    names = ["all", *(findings.names[int(index)] for index in classes)]
    images = [len(findings), *map(int, _images_per_class(findings))]
    labels = [int(counts.sum()), *map(int, counts)]
    return [Row(*fields) for fields in zip(names, images, labels, ap50, ap50_95, strict=True)]


def _places(first: Findings, second: Findings, titles: tuple[str, str]) -> np.ndarray:
    """Return (I,) where each image of ``second`` is in ``first``."""
    if dict(first.names) != dict(second.names):
        classes = [listed(list(one.names.values())) for one in (first, second)]
        raise UserError(
            f"{titles[0]} has been measured on the classes {classes[0]} and {titles[1]} on {classes[1]}; "
            "compare detectors on one data set"
        )
    orders = [np.array(sorted(range(len(one)), key=one.paths.__getitem__), dtype=int) for one in (first, second)]
    paths = [[str(one.paths[index]) for index in order] for one, order in zip((first, second), orders, strict=True)]
    if paths[0] != paths[1]:
        apart = sorted(set(paths[0]) ^ set(paths[1])) or ["a repeated image"]
        raise UserError(
            f"{titles[0]} has been measured on {len(first)} images and {titles[1]} on {len(second)}, and they are not "
            f"the same ({apart[0]}); compare detectors on one data set"
        )
    if not np.array_equal(first.label_counts[orders[0]], second.label_counts[orders[1]]):
        raise UserError(f"the labels were not the same for {titles[0]} and {titles[1]}; measure both anew")
    places = np.empty(len(first), int)
    places[orders[1]] = orders[0]
    return places
