"""Classes: which have boxes, how many, in which split; and class ids that cannot be right."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from utils.data.doctor.findings import MOST_EXAMPLES, Example, Finding
from utils.data.doctor.split import Split

RARE_SHARE = 0.01  # a class with fewer boxes than this share of the commonest one's is rare
RARE_BOXES = 100  # and has fewer than this


def class_counts(split: Split, classes: int) -> np.ndarray:
    """Return (classes,) boxes of each class; ids outside are left out."""
    ids = split.labels[:, 0]
    return np.bincount(ids[ids < classes].astype(np.int64), minlength=classes)[:classes]


def class_findings(splits: Sequence[Split], names: Mapping[int, str]) -> list[Finding]:
    """Check class ids and balance. Reads no file.

    Args:
        splits: of the data set, each once.
        names: class names by index, from 0.
    """
    classes, found = len(names), []
    one_based = counts_from_one(splits, classes)
    for split in splits:
        ids = split.labels[:, 0]
        beyond = np.flatnonzero(ids >= classes)

        def described(box: int, ids: np.ndarray = ids) -> str:
            return f"class {ids[box]:g}; names has 0 to {classes - 1}"

        found += split.found_boxes("class-one-based" if one_based else "class-beyond", beyond, described)
        found += split.found_boxes("class-fraction", np.flatnonzero(ids != np.floor(ids)), described)
    return found + _balance(splits, names)


def counts_from_one(splits: Sequence[Split], classes: int) -> bool:
    """Tell whether the ids seem to be 1 to ``classes`` instead of 0 to ``classes - 1``."""
    ids = np.concatenate([np.zeros(0, np.float32), *(split.labels[:, 0] for split in splits)])
    return len(ids) > 0 and ids.min() >= 1 and ids.max() == classes


def _balance(splits: Sequence[Split], names: Mapping[int, str]) -> list[Finding]:
    counts = {split.name: class_counts(split, len(names)) for split in splits}
    train = counts.pop("train", None)
    if train is None:
        return []
    elsewhere = np.sum([np.zeros(len(names), np.int64), *counts.values()], axis=0)
    untrained = np.flatnonzero((train == 0) & (elsewhere > 0))
    absent = np.flatnonzero((train == 0) & (elsewhere == 0))
    most = int(train.max(initial=0))
    rare = np.flatnonzero((train > 0) & (train < RARE_BOXES) & (train < RARE_SHARE * most))
    rare = rare[np.argsort(train[rare], kind="stable")]
    others = ", ".join(counts)
    return [
        *_named("class-untrained", others, untrained, lambda index: f"{names[index]} ({elsewhere[index]} in {others})"),
        *_named("class-absent", "train", absent, lambda index: names[index]),
        *_named("class-rare", "train", rare, lambda index: f"{names[index]} ({train[index]}; others up to {most})"),
    ]


def _named(kind: str, split: str, classes: np.ndarray, describe: Callable[[int], str]) -> list[Finding]:
    if not len(classes):
        return []
    examples = [Example(None, describe(index)) for index in classes[:MOST_EXAMPLES].tolist()]
    return [Finding(kind, split, len(classes), examples)]
