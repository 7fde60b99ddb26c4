"""A memory for the images decoded last: a mosaic shows four, so that each is wanted four times an epoch."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from utils.memory import available_memory

MOST = 1 << 30  # bytes over all loader processes
SHARE = 0.1  # of the memory that is free, at most


class RecentImages:
    """Images by index, those used last, as many as fit.

    Unlike ``--cache``, it needs neither time nor room in advance, and big data sets just gain little.
    """

    def __init__(self, budget: int) -> None:
        """Keep at most ``budget`` bytes of pixels."""
        self.budget = budget
        self._images: OrderedDict[int, np.ndarray] = OrderedDict()
        self._used = 0

    def get(self, index: int, make: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return image ``index``, read-only, from ``make`` if it is not remembered."""
        image = self._images.pop(index, None)
        if image is None:
            image = make(index)
            image.flags.writeable = False
            self._used += image.nbytes
        self._images[index] = image  # the newest now
        while self._used > self.budget and self._images:
            _, oldest = self._images.popitem(last=False)
            self._used -= oldest.nbytes
        return image


def recent_budget(processes: int) -> int:
    """Return the bytes for each of so many loader processes of a machine, a fair part of what is free."""
    return int(min(MOST, SHARE * available_memory())) // processes
