"""Which row of one network is which row of another, whatever was inserted, removed or replaced between them."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class TensorRow:
    """A row of a model YAML with the tensors of its layer.

    Attributes:
        type: of the layer, as written. arguments: as written.
        tensors: by key below the layer, such as ``conv.weight``.
    """

    type: str
    arguments: list[Any]
    tensors: dict[str, Tensor]

    def likeness(self, other: "TensorRow") -> tuple[int, float]:
        """Return how well two rows match, for comparison as a pair; (0, 0) when they cannot."""
        if self.type != other.type:
            return 0, 0.0
        keys = self.tensors.keys() | other.tensors.keys()
        equal = sum(shape_of(self.tensors.get(key)) == shape_of(other.tensors.get(key)) for key in keys)
        return 1, (self.arguments == other.arguments) + equal / max(len(keys), 1)


def shape_of(tensor: Tensor | None) -> tuple[int, ...] | None:
    """Return the shape, or None where there is no tensor."""
    return None if tensor is None else tuple(tensor.shape)


def tensor_rows(config: dict[str, Any], state: dict[str, Tensor]) -> list[TensorRow]:
    """Return the rows of a model YAML with the tensors that ``state``, keyed ``model.<row>.<rest>``, has for them."""
    rows = [TensorRow(row[2], row[3], {}) for row in [*config["backbone"], *config["head"]]]
    for key, tensor in state.items():
        _, index, rest = key.split(".", 2)
        rows[int(index)].tensors[rest] = tensor
    return rows


def align(old: list[TensorRow], new: list[TensorRow]) -> list[int | None]:
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
