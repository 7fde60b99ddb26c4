"""The lines that a run begins with: its data, and what is unusual about its hyperparameters."""

import dataclasses
from collections.abc import Mapping, Sequence

from utils.data.samples import Sample, Samples
from utils.train.hyperparameters import Hyperparameters
from utils.train.sanity import count_classes

LISTED = 5  # names that are written out


def describe_run(hyp: Hyperparameters, samples: Mapping[str, Sequence[Sample]], names: Mapping[int, str]) -> list[str]:
    """Return lines about data and hyperparameters; the model has its own, see models/summary.py.

    Args:
        hyp: as read, before gains are scaled.
        samples: usable images by split.
        names: class names by index.
    """
    lines = [_data_line(samples, names)]
    counts = count_classes(samples["train"], len(names))
    absent = [names[index] for index, count in enumerate(counts) if not count]
    if absent:
        rest = f" and {len(absent) - LISTED} more" if len(absent) > LISTED else ""
        lines.append(f"data: no box in the training images is a {', '.join(absent[:LISTED])}{rest}")
    return [*lines, _hyp_line(hyp)]


def _data_line(samples: Mapping[str, Sequence[Sample]], names: Mapping[int, str]) -> str:
    splits = []
    for split, found in samples.items():
        splits.append(f"{split} {len(Samples.of(found).labels)} boxes in {len(found)} images")
    return f"data: {len(names)} class{'es' if len(names) != 1 else ''}; {'; '.join(splits)}"


def _hyp_line(hyp: Hyperparameters) -> str:
    """Return the values that are not v6.1's, with v6.1's in brackets."""
    usual, own = dataclasses.asdict(Hyperparameters()), dataclasses.asdict(hyp)
    changed = [f"{name}={_show(own[name])} ({_show(usual[name])})" for name in own if own[name] != usual[name]]
    return f"hyp: {', '.join(changed)}" if changed else "hyp: v6.1's defaults"


def _show(value: float | None) -> str:
    return "not set" if value is None else f"{value:g}"
