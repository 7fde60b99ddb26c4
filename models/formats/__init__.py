"""Model formats: one row and one file each. ``load_backend`` hides which one a file is."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.formats.backend import Backend, Metadata
from utils.errors import UserError
from utils.log import LOGGER

__all__ = ["FORMATS", "Backend", "Ensemble", "Format", "Metadata", "load_backend"]


@dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes:
        name: as people write it.
        argument: as ``export.py --include`` takes it; empty for what is not exported to.
        suffix: of its files.
        module: where its ``load`` and, unless it is not exported to, ``export`` live; imported when needed.
    """

    name: str
    argument: str
    suffix: str
    module: str


FORMATS = (
    Format("PyTorch", "", ".pt", "models.formats.pytorch"),
    Format("TorchScript", "torchscript", ".torchscript", "models.formats.torchscript"),
)


def format_of(path: Path) -> Format:
    """Return the format of a weights file, by its suffix.

    Raises:
        UserError: no format has that suffix.
    """
    for row in FORMATS:
        if path.name.endswith(row.suffix):
            return row
    known = ", ".join(f"*{row.suffix}" for row in FORMATS)
    raise UserError(f"weights '{path}' are in no known format; known are {known}")


class Ensemble:
    """Several models as one: the predictions of all, side by side, for one suppression (v6.1)."""

    def __init__(self, members: Sequence[Backend]) -> None:
        self.members = members
        for member in members[1:]:
            _check_same_classes(members[0].meta.names, member.meta.names)
        channels = [member.meta.channels for member in members]
        if len(set(channels)) > 1:
            raise UserError(f"the --weights of an ensemble must take the same images, got channels {channels}")
        fixed = {member.meta.input_hw for member in members if member.meta.input_hw}
        if len(fixed) > 1:
            sizes = " and ".join(f"{height}x{width}" for height, width in sorted(fixed))
            raise UserError(f"the --weights of an ensemble must take the same images, got models for {sizes} px only")
        stride = max(member.meta.stride for member in members)
        self.meta = Metadata(stride, members[0].meta.names, fixed.pop() if fixed else None, channels[0])

    def __call__(self, images: Tensor) -> Tensor:
        """Predict; see Backend. N is the sum over the members."""
        return torch.cat([member(images) for member in self.members], 1)


def _check_same_classes(first: dict[int, str], other: dict[int, str]) -> None:
    """Refuse models whose classes do not go together; warn where only the spelling may differ."""
    if len(first) != len(other):
        counts = f"{len(first)} and {len(other)}"
        raise UserError(
            f"the --weights of an ensemble must have the same number of classes, got {counts}; "
            "leave one out, or use --compare to measure each"
        )
    differing = [index for index in first if first[index] != other.get(index)]
    moved = set(first.values()) & {other.get(index) for index in differing}
    if moved:
        name = min(str(name) for name in moved)
        raise UserError(
            f"the --weights of an ensemble must have their classes in the same order, but '{name}' has another number "
            "in one of them; leave that one out"
        )
    if differing:
        index = differing[0]
        LOGGER.warning(
            f"WARNING: class {index} is '{first[index]}' in one of the --weights and '{other.get(index)}' in another; "
            "the names of the first are used"
        )


def load_backend(
    weights: Sequence[str | Path], device: torch.device, half: bool = False, augment: bool = False
) -> Backend:
    """Load one model, or several as an ensemble.

    Args:
        weights: the files.
        device: where to run.
        half: in FP16.
        augment: let each model look at several views of every image, see models/augmented.py.

    Raises:
        UserError: a file is missing, foreign, damaged, in an unknown format, or in one that cannot do ``augment``; or
            the models do not go together.
    """
    members = []
    for path in map(Path, weights):
        if not path.exists():
            raise UserError(f"weights '{path}' do not exist; put the file there or name another with --weights")
        members.append(importlib.import_module(format_of(path).module).load(path, device, half, augment))
    return members[0] if len(members) == 1 else Ensemble(members)
