"""Input sizes that a network can take."""

import math
from collections.abc import Sequence

from utils.errors import UserError
from utils.log import LOGGER


def fit_size(size: int, stride: int, floor: int = 0) -> int:
    """Round ``size`` px up to a multiple of ``stride``, at least ``floor``; say so when that changes it.

    Raises:
        UserError: not above 0.
    """
    if size <= 0:
        raise UserError(f"--imgsz {size}: expected a size above 0 px, such as 640")
    fitted = max(math.ceil(size / stride) * stride, floor)
    if fitted != size:
        wanted = f"a multiple of the model's stride {stride}" + (f", at least {floor}" if floor else "")
        LOGGER.warning(f"WARNING: --imgsz {size} is not {wanted}; using {fitted}")
    return fitted


def input_size(sizes: Sequence[int], stride: int) -> tuple[int, int]:
    """Return height and width in px, both multiples of ``stride``, from one or two numbers.

    Raises:
        UserError: more than two numbers, or one not above 0.
    """
    if len(sizes) > 2:
        raise UserError(f"--imgsz takes one side or height and width, got {len(sizes)} numbers")
    height, width = sizes[0], sizes[-1]
    return (fit_size(height, stride),) * 2 if len(sizes) == 1 else (fit_size(height, stride), fit_size(width, stride))
