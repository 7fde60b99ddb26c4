"""Starting a network from another one's weights, aligned by structure, whatever was inserted, removed or replaced.

Rows of the two model YAMLs are matched in order: as many of equal type as possible, and among these choices the one
with most equal arguments and tensor shapes. Tensors are copied between matched rows only, so that a shape that two
layers happen to share never carries weights from one to the other. In Detect, the rows of box and objectness are taken
over and those of the classes by class name.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
        note: what was not taken, and why.
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

    @property
    def new_rows(self) -> list[int]:
        """Indices of rows without a counterpart."""
        return [row.index for row in self.rows if row.origin is None]


@dataclass(frozen=True)
class _Row:
    """A row as the alignment sees it."""

    type: str
    arguments: list[Any]
    tensors: dict[str, Tensor]  # by key below the layer

    def likeness(self, other: "_Row") -> tuple[int, float]:
        """Return how well two rows match, for comparison as a pair; (0, 0) when they cannot."""
        if self.type != other.type:
            return 0, 0.0
        keys = self.tensors.keys() | other.tensors.keys()
        equal = sum(_shape(self.tensors.get(key)) == _shape(other.tensors.get(key)) for key in keys)
        return 1, (self.arguments == other.arguments) + equal / max(len(keys), 1)


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _rows_of(config: dict[str, Any], state: dict[str, Tensor]) -> list[_Row]:
    rows = [_Row(row[2], row[3], {}) for row in [*config["backbone"], *config["head"]]]
    for key, tensor in state.items():
        _, index, rest = key.split(".", 2)
        rows[int(index)].tensors[rest] = tensor
    return rows


def align(old: list[_Row], new: list[_Row]) -> list[int | None]:
    """Return for each new row the index of its old counterpart: the order-preserving matching of greatest likeness.

    Where an inserted row equals the one before it, the first is taken for the old one.
    """
    best = [[(0, 0.0)] * (len(new) + 1) for _ in range(len(old) + 1)]  # of old[i:] and new[j:]

    def matched(i: int, j: int) -> tuple[int, float]:
        one, rest = old[i].likeness(new[j]), best[i + 1][j + 1]
        return (one[0] + rest[0], one[1] + rest[1]) if one[0] else (-1, 0.0)

    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            best[i][j] = max(matched(i, j), best[i + 1][j], best[i][j + 1])
    origins: list[int | None] = [None] * len(new)
    i = j = 0
    while i < len(old) and j < len(new):
        if best[i][j] == matched(i, j):
            origins[j] = i
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return origins


def transfer_weights(model: Model, source: Checkpoint, with_anchors: bool = False) -> Transfer:
    """Copy what ``source`` has for the layers of ``model``.

    Args:
        model: takes the tensors; its ``names`` decide which class rows it takes.
        source: offers them.
        with_anchors: take the anchors too; otherwise they stay the new network's own and are not counted.
    """
    old, new = _rows_of(source.yaml, source.state), _rows_of(model.yaml, model.state_dict())
    if not with_anchors:
        new[-1].tensors.pop("anchors")
    origins = align(old, new)
    rows = []
    with torch.no_grad():
        for index, (row, origin) in enumerate(zip(new, origins, strict=True)):
            report = RowTransfer(index, row.type, origin, total=len(row.tensors), note="new" if origin is None else "")
            if origin is not None and isinstance(model.model[index], Detect):
                _take_head(report, row, old[origin], _matching_levels(origins, source.yaml, model), source, model)
            elif origin is not None:
                _take_layer(report, row.tensors, old[origin].tensors)
            rows.append(report)
    unused = [f"{index} {row.type}" for index, row in enumerate(old) if index not in origins]
    return Transfer(rows, unused)


def _take_layer(report: RowTransfer, new: dict[str, Tensor], old: dict[str, Tensor]) -> None:
    """Copy the tensors of equal name and shape; a layer of which only counters would fit keeps those as well."""
    fitting = [key for key, tensor in new.items() if key in old and old[key].shape == tensor.shape]
    if all(new[key].ndim == 0 for key in fitting):
        fitting = []
    for key in fitting:
        new[key].copy_(old[key])
    report.taken = len(fitting)
    left = [key for key in new if key not in fitting and not (key in old and new[key].ndim == 0)]
    if left:
        first = left[0]
        theirs = "x".join(map(str, old[first].shape)) + " there" if first in old else "not in the file"
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        report.note = f"{first} is {'x'.join(map(str, new[first].shape))} here, {theirs}{more}"


def _matching_levels(origins: list[int | None], old_config: dict[str, Any], model: Model) -> dict[int, int]:
    """Return the old level of each new level of Detect: the one that reads the counterpart of the same layer."""
    old_sources = as_list([*old_config["backbone"], *old_config["head"]][-1][0])
    levels = {}
    for level, source in enumerate(model.rows[-1].sources):
        while origins[source] is None and len(model.rows[source].sources) == 1 and model.rows[source].is_gate:
            source = model.rows[source].sources[0]  # look through what was inserted
        if origins[source] in old_sources:
            levels[level] = old_sources.index(origins[source])
    if len(model.rows[-1].sources) == len(old_sources):  # nothing to choose, even where a layer below was replaced
        return {level: levels.get(level, level) for level in range(len(old_sources))}
    return levels


def _take_head(
    report: RowTransfer, new: _Row, old: _Row, levels: dict[int, int], source: Checkpoint, model: Model
) -> None:
    """Copy box and objectness rows of every matching level, and the class rows of the names both networks know."""
    theirs = {name.strip().casefold(): index for index, name in reversed(source.names.items())}
    classes = {index: theirs.get(name.strip().casefold()) for index, name in model.names.items()}
    known = {index: origin for index, origin in classes.items() if origin is not None}
    taken: dict[str, Tensor | None] = {}
    if "anchors" in new.tensors:
        fits = _shape(old.tensors.get("anchors")) == _shape(new.tensors["anchors"])
        taken["anchors"] = old.tensors["anchors"] if fits else None
    for level in range(model.detect.nl):
        merged = {}
        for kind in ("weight", "bias"):
            theirs_here = old.tensors.get(f"m.{levels.get(level)}.{kind}")
            key = f"m.{level}.{kind}"
            merged[key] = _merge_rows(new.tensors[key], theirs_here, known, (model.detect.na, len(source.names)))
        whole = all(tensor is not None for tensor in merged.values())
        taken |= merged if whole else dict.fromkeys(merged)  # a bias means nothing without its weight
    unfit = [key for key, tensor in taken.items() if tensor is None]
    for key, tensor in taken.items():
        if tensor is not None:
            new.tensors[key].copy_(tensor)
    report.taken = len(taken) - len(unfit)
    notes = []
    if report.taken and len(known) < len(classes):
        missing = [model.names[index] for index in classes if index not in known]
        shown = ", ".join(missing[:NAMES_SHOWN]) + (", ..." if len(missing) > NAMES_SHOWN else "")
        notes.append(f"{len(missing)} of {len(classes)} classes, not among the file's ({shown})")
    if unfit:
        notes.append(f"{', '.join(unfit)}: no level there has their shape")
    report.note = "; ".join(notes)


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
    lines = [("layer", "taken from", "tensors", "not taken")]
    for rows in _gathered(transfer.rows):
        first, last = rows[0], rows[-1]
        name = f"{first.index} {first.type}" if first is last else f"{first.index}-{last.index}"
        origin = (
            "-" if first.origin is None else str(first.origin) if first is last else f"{first.origin}-{last.origin}"
        )
        tensors = f"{sum(row.taken for row in rows)}/{sum(row.total for row in rows)}"
        lines.append((name, origin, tensors, first.note))
    for line in lines:
        LOGGER.info(f"  {line[0]:<22}{line[1]:<12}{line[2]:<10}{line[3]}".rstrip())
    if transfer.unused:
        LOGGER.info(f"  layers of the file that have no place here: {', '.join(transfer.unused)}")


def _gathered(rows: list[RowTransfer]) -> list[list[RowTransfer]]:
    groups: list[list[RowTransfer]] = []
    for row in rows:
        last = groups[-1][-1] if groups else None
        follows = last is not None and None not in (row.origin, last.origin) and row.origin == last.origin + 1  # type: ignore[operator]
        if last is not None and follows and not row.note and not last.note:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
