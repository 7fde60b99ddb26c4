"""Which predictions answer for which objects (v6.1's assignment)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NEIGHBOURS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))  # own cell, left, top, right, bottom


@dataclass(frozen=True)
class Positives:
    """The matched predictions of one level; n of them, one row each."""

    image: Tensor  # (n,) index in the batch
    anchor: Tensor  # (n,) index in the level
    row: Tensor  # (n,)
    column: Tensor  # (n,)
    box: Tensor  # (n, 4) x, y relative to the cell's corner, w, h; in grid units
    classes: Tensor  # (n,) int64
    anchor_wh: Tensor  # (n, 2) in grid units

    def to(self, device: torch.device) -> "Positives":
        """Return them on ``device``, without waiting for it."""
        if self.image.device == device:
            return self
        return Positives(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def assign_targets(
    targets: Tensor, grids_hw: list[tuple[int, int]], anchors: Tensor, ratio_limit: float
) -> list[Positives]:
    """Match objects to anchors and cells, for every level.

    An anchor matches when neither side differs from the object's by more than ``ratio_limit``. The cell that holds the
    object's centre is positive, and so are the one or two neighbours nearest to the centre, inside the map.

    Args:
        targets: (n, 6) image index, class, x, y, w, h; xywh in [0, 1].
        grids_hw: rows and columns of each level's map.
        anchors: (levels, anchors, 2) in grid units.
        ratio_limit: hyperparameter ``anchor_t``.

    Returns:
        One Positives a level, ordered: own cells, then left, top, right, bottom neighbours; by anchor, then target.
    """
    return [_assign_level(targets, grid, level, ratio_limit) for grid, level in zip(grids_hw, anchors, strict=True)]


def _assign_level(targets: Tensor, grid_hw: tuple[int, int], anchors: Tensor, ratio_limit: float) -> Positives:
    rows, columns = grid_hw
    size = targets.new_tensor([columns, rows])
    centres, sides = targets[:, 2:4] * size, targets[:, 4:6] * size  # (n, 2) in grid units

    ratio = sides[None] / anchors[:, None]  # (anchors, n, 2)
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < ratio_limit
    anchor, target = fits.nonzero(as_tuple=True)  # by anchor, then target
    centre = centres[target]

    from_end = size - centre
    near_start = ((centre % 1 < 0.5) & (centre > 1)).T  # left, top
    near_end = ((from_end % 1 < 0.5) & (from_end > 1)).T  # right, bottom
    chosen = torch.cat((torch.ones_like(near_start[:1]), near_start, near_end))  # (5, matches)
    neighbour, match = chosen.nonzero(as_tuple=True)

    anchor, target, centre = anchor[match], target[match], centre[match]
    cell = (centre - centre.new_tensor(NEIGHBOURS)[neighbour]).long()
    column, row = cell[:, 0].clamp(0, columns - 1), cell[:, 1].clamp(0, rows - 1)
    corner = torch.stack((column, row), 1).to(centre.dtype)
    return Positives(
        image=targets[target, 0].long(),
        anchor=anchor,
        row=row,
        column=column,
        box=torch.cat((centre - corner, sides[target]), 1),
        classes=targets[target, 1].long(),
        anchor_wh=anchors[anchor],
    )
