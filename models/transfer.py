"""Starting a network from another one's weights, aligned by structure, whatever was inserted, removed or replaced.

Rows of the two model YAMLs are matched in order: as many of equal type as possible, and among these choices the one
with most equal arguments and tensor shapes. Tensors are copied between matched rows only, so that a shape that two
layers happen to share never carries weights from one to the other. In Detect, the rows of box and objectness are taken
over and those of the classes by class name. The first layer is fitted to images of other channels.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.align import TensorRow, align, shape_of, tensor_rows
from models.parser import as_list
from models.yolo import Detect, Model
from utils.checkpoint import Checkpoint
from utils.log import LOGGER

NAMES_SHOWN = 3  # class names in a line of the report


@dataclass
class RowTransfer:
    """What one row of the new network got.

    Attributes:
        index: of the row. type: of its layer.
        origin: index of its counterpart in the old network, None for a new row.
        taken: tensors copied, total: tensors it has.
        note: what was not taken or not as it was, and why.
    """

    index: int
    type: str
    origin: int | None
    taken: int = 0
    total: int = 0
    note: str = ""


@dataclass
class Transfer:
    """What was taken over.

    Attributes:
        rows: of the new network.
        unused: rows of the old network without a counterpart, as "9 SPPF".
    """

    rows: list[RowTransfer]
    unused: list[str] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """Number of tensors copied, in whole or, in Detect, in part."""
        return sum(row.taken for row in self.rows)

    @property
    def total(self) -> int:
        """Number of tensors of the new network."""
        return sum(row.total for row in self.rows)


def transfer_weights(model: Model, source: Checkpoint, with_anchors: bool = False) -> Transfer:
    """Copy what ``source`` has for the layers of ``model``.

    Args:
        model: takes the tensors; its ``names`` decide which class rows it takes.
        source: offers them.
        with_anchors: take the anchors too; otherwise they stay the new network's own and are not counted.
    """
    old, new = tensor_rows(source.yaml, source.state), tensor_rows(model.yaml, model.state_dict())
    if not with_anchors:
        new[-1].tensors.pop("anchors")
    origins, reader = align(old, new), _image_reader(model)
    rows = []
    with torch.no_grad():
        for index, (row, origin) in enumerate(zip(new, origins, strict=True)):
            report = RowTransfer(index, row.type, origin, total=len(row.tensors), note="new" if origin is None else "")
            if origin is not None and isinstance(model.model[index], Detect):
                _take_head(report, row, old[origin], _matching_levels(origins, source.yaml, model), source, model)
            elif origin is not None and index == reader:
                _take_first_layer(report, row.tensors, old[origin].tensors, source.channels, model.channels)
            elif origin is not None:
                _take_layer(report, row.tensors, old[origin].tensors)
            rows.append(report)
    unused = [f"{index} {row.type}" for index, row in enumerate(old) if index not in origins]
    return Transfer(rows, unused)


def _image_reader(model: Model) -> int:
    """Return the index of the row that reads the image, perhaps through gates."""
    return next(row.index for row in model.rows if not row.is_gate)


def fit_channels(weight: Tensor, before: int, now: int) -> Tensor:
    """Return the weight of a convolution that reads images for images of ``now`` instead of ``before`` channels.

    The first channels keep their filters. What was seen in channels that are gone is shared out among those that stay,
    and what a single one saw among all, so that an image whose channels are all alike, such as a grey one, gives what
    it gave before. Filters of other additional channels are zero: the network begins with what it made of the first.

    Args:
        weight: (out, n * before, height, width); n is 1, or 4 after the patches of a Focus.
        before: channels of the images that it was trained on.
        now: channels of those to come.

    Returns:
        (out, n * now, height, width).
    """
    filters = weight.float().unflatten(1, (-1, before))  # (out, n, before, height, width)
    if before == 1:
        return (filters / now).repeat(1, 1, now, 1, 1).flatten(1, 2)
    gone = filters[:, :, now:].sum(2, keepdim=True)
    more = max(now - before, 0)
    return F.pad(filters[:, :, :now] + gone / now, (0, 0, 0, 0, 0, more)).flatten(1, 2)


def _take_first_layer(
    report: RowTransfer, new: dict[str, Tensor], old: dict[str, Tensor], before: int, now: int
) -> None:
    """Copy the tensors of the layer that reads images, its convolutions fitted to their channels."""
    fitted = {}
    for key, tensor in new.items():
        given = old.get(key)
        if given is not None and given.ndim == 4 and given.shape != tensor.shape and given.shape[1] % before == 0:
            candidate = fit_channels(given, before, now)
            if candidate.shape == tensor.shape:
                fitted[key] = candidate
    _take_layer(report, new, old | fitted)
    if fitted:
        note = f"{', '.join(fitted)} fitted from {before} to {now} image channels"
        report.note = "; ".join(filter(None, (note, report.note)))


def _take_layer(report: RowTransfer, new: dict[str, Tensor], old: dict[str, Tensor]) -> None:
    """Copy the tensors of equal name and shape.

    A norm is of no use without the convolution it was trained with, nor are counters on their own.
    """
    same_shape = {key for key, tensor in new.items() if shape_of(old.get(key)) == tensor.shape}
    fitting = [key for key in new if key in same_shape and _convolution_of(key, new) in {None, *same_shape}]
    if any(new[key].ndim for key in fitting):
        for key in fitting:
            new[key].copy_(old[key])
        report.taken = len(fitting)
    left = [key for key in new if key not in fitting]
    if left:
        first, *others = left
        theirs = f"{_written(old[first])} there" if first in old else "not in the file"
        more = f" (and {len(others)} more)" if others else ""
        report.note = f"{first} is {_written(new[first])} here, {theirs}{more}"


def _convolution_of(key: str, tensors: dict[str, Tensor]) -> str | None:
    """Return the key of the convolution before the norm that ``key`` belongs to; None when it belongs to no Conv's."""
    prefix, norm, _ = key.rpartition("bn.")
    convolution = f"{prefix}conv.weight"
    return convolution if norm and convolution in tensors else None


def _written(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _matching_levels(origins: list[int | None], old_config: dict[str, Any], model: Model) -> dict[int, int]:
    """Return the old level of each new level of Detect: the one that reads the counterpart of the same layer."""
    old_sources = as_list([*old_config["backbone"], *old_config["head"]][-1][0])
    levels = {}
    for level, source in enumerate(model.rows[-1].sources):
        while origins[source] is None and len(model.rows[source].sources) == 1 and model.rows[source].is_gate:
            source = model.rows[source].sources[0]  # look through what was inserted
        if origins[source] in old_sources:
            levels[level] = old_sources.index(origins[source])
    if len(model.rows[-1].sources) == len(old_sources):  # a replaced layer below does not change the level's meaning
        free = set(range(len(old_sources))) - set(levels.values())
        levels = {level: level for level in free} | levels
    return levels


def _take_head(
    report: RowTransfer, new: TensorRow, old: TensorRow, levels: dict[int, int], source: Checkpoint, model: Model
) -> None:
    """Copy box and objectness rows of every matching level, and the class rows of the names both networks know."""
    classes = _classes_in_common(source.names, model.names)
    merged: dict[str, Tensor | None] = {}
    if "anchors" in new.tensors:
        fits = shape_of(old.tensors.get("anchors")) == shape_of(new.tensors["anchors"])
        merged["anchors"] = old.tensors["anchors"] if fits else None
    for level in range(model.detect.nl):
        for kind in ("weight", "bias"):
            key, origin = f"m.{level}.{kind}", old.tensors.get(f"m.{levels.get(level)}.{kind}")
            merged[key] = _merge_rows(new.tensors[key], origin, classes, (model.detect.na, len(source.names)))
        if merged[f"m.{level}.weight"] is None:
            merged[f"m.{level}.bias"] = None  # means nothing without its weight
    taken = {key: tensor for key, tensor in merged.items() if tensor is not None}
    for key, tensor in taken.items():
        new.tensors[key].copy_(tensor)
    report.taken = len(taken)
    notes = []
    if taken and len(classes) < len(model.names):
        notes.append(_strangers([name for index, name in model.names.items() if index not in classes], model))
    if len(taken) < len(merged):
        notes.append(f"{', '.join(key for key in merged if key not in taken)}: nothing there fits")
    report.note = "; ".join(notes)


def _classes_in_common(theirs: dict[int, str], ours: dict[int, str]) -> dict[int, int]:
    """Return their index by ours, for the names that both have; case and outer spaces do not count."""
    by_name = {name.strip().casefold(): index for index, name in reversed(theirs.items())}
    found = {index: by_name.get(name.strip().casefold()) for index, name in ours.items()}
    return {index: origin for index, origin in found.items() if origin is not None}


def _strangers(names: list[str], model: Model) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    return f"{len(names)} of {len(model.names)} classes, not among the file's ({shown})"


def _merge_rows(
    new: Tensor, old: Tensor | None, classes: dict[int, int], anchors_and_classes: tuple[int, int]
) -> Tensor | None:
    """Return ``new``, (anchors * (5 + classes), ...), with the rows that ``old`` has for it; None when it does not fit.

    Args:
        new: weight or bias of a level.
        old: its counterpart, with another number of classes.
        classes: old class by new class.
        anchors_and_classes: anchors a level, and classes of ``old``.
    """
    anchors, old_classes = anchors_and_classes
    if old is None or old.shape[0] != anchors * (5 + old_classes) or old.shape[1:] != new.shape[1:]:
        return None
    merged, rows = new.clone().unflatten(0, (anchors, -1)), old.to(new).unflatten(0, (anchors, -1))
    merged[:, :5] = rows[:, :5]
    merged[:, [5 + index for index in classes]] = rows[:, [5 + index for index in classes.values()]]
    return merged.flatten(0, 1)


def log_transfer(transfer: Transfer, source: str) -> None:
    """Print what came from where, and what was not taken and why; rows taken whole are gathered into ranges.

    Args:
        transfer: the result.
        source: the weights file, as the user knows it.
    """
    LOGGER.info(f"Transferred {transfer.taken} of {transfer.total} tensors from {source}")
    lines = [("layer", "taken from", "tensors", "remarks")]
    for rows in _gathered(transfer.rows):
        first, last = rows[0], rows[-1]
        if first is last:
            name, origin = f"{first.index} {first.type}", "-" if first.origin is None else str(first.origin)
        else:
            name, origin = f"{first.index}-{last.index}", f"{first.origin}-{last.origin}"
        tensors = f"{sum(row.taken for row in rows)}/{sum(row.total for row in rows)}"
        lines.append((name, origin, tensors, first.note))
    for line in lines:
        LOGGER.info(f"  {line[0]:<22}{line[1]:<12}{line[2]:<10}{line[3]}".rstrip())
    if transfer.unused:
        LOGGER.info(f"  layers of the file that have no place here: {', '.join(transfer.unused)}")


def _gathered(rows: list[RowTransfer]) -> list[list[RowTransfer]]:
    """Put rows without a note together while their origins follow each other."""
    groups: list[list[RowTransfer]] = []
    expected: int | None = None  # origin that would continue the last group
    for row in rows:
        if row.origin is not None and row.origin == expected and not row.note:
            groups[-1].append(row)
        else:
            groups.append([row])
        expected = None if row.origin is None or row.note else row.origin + 1
    return groups
