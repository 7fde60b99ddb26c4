"""Which items make up an epoch, in which batches, for which process: decided by the run's seed and the epoch alone."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

from utils.data.dataset import SeededKey

TILES_BESIDE = 3  # a mosaic shows the asked-for image and this many others


class SeededBatches(Sampler[list[SeededKey]]):
    """Lists of (index, seed) for one epoch, decided by the seed of the run and the number of the epoch alone.

    Args:
        length: number of items in the data set.
        batch_size: items a batch, over all processes; the last one may be smaller.
        shuffle: new order each epoch, else 0 to ``length`` - 1.
        seed: seed of the run.
        share: rank and number of the processes that train together; this one gets its part of every batch.
        group: items that stay together, in one process.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
        group: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.shuffle = shuffle
        self.seed = seed
        self.share = share
        self.group = group
        self.epoch = 0
        self.weights: np.ndarray | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and seeds the next iteration yields."""
        self.epoch = epoch

    def set_weights(self, weights: np.ndarray | None) -> None:
        """Have the next epochs draw ``length`` items with replacement, as likely as their (n,) ``weights`` say.

        The other tiles of mosaics are drawn so, too. None, or weights that are all 0, bring every item back once.
        """
        if weights is not None and np.shape(weights) != (self.length,):
            raise ValueError(f"weights of shape {np.shape(weights)} for {self.length} items")
        self.weights = weights if weights is not None and np.any(weights) else None

    @property
    def total(self) -> int:
        """Number of batches of all processes together."""
        return -(-self.length // self.batch_size)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[list[SeededKey]]:
        for keys in self.whole_batches():
            yield part_of_batch(keys, self.share, self.group)

    def whole_batches(self) -> Iterator[list[SeededKey]]:
        """Yield the epoch's batches as one process alone would load them."""
        keys = self._keys()
        for start in range(0, self.length, self.batch_size):
            yield keys[start : start + self.batch_size]

    def _keys(self) -> list[SeededKey]:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.weights is not None:
            chances = self.weights / self.weights.sum()
            drawn = generator.choice(self.length, (self.length, 1 + TILES_BESIDE), p=chances)
        elif self.shuffle:
            drawn = generator.permutation(self.length)[:, None]
        else:
            drawn = np.arange(self.length)[:, None]
        seeds = generator.integers(2**63, size=self.length).tolist()
        return [(index, seed, *tiles) for (index, *tiles), seed in zip(drawn.tolist(), seeds, strict=True)]


class DealtBatches(SeededBatches):
    """Whole batches, dealt to the processes in turn: batch i is the batch i // size of process i % size.

    What a process gets may be one batch less than what others get, or none at all.

    Args:
        length: number of items in the data set, which come in their order.
        batch_size: items a batch, at most.
        share: rank and number of the processes.
        runs: lengths of runs of items that no batch may reach across; they add up to ``length``. None for one run.
    """

    def __init__(
        self, length: int, batch_size: int, share: tuple[int, int] = (0, 1), runs: Sequence[int] | None = None
    ) -> None:
        super().__init__(length, batch_size, share=share)
        self.runs = [length] if runs is None else runs

    @property
    def total(self) -> int:
        """Number of batches of all processes together."""
        return sum(-(-run // self.batch_size) for run in self.runs)

    def whole_batches(self) -> Iterator[list[SeededKey]]:
        """Yield the batches as one process alone would load them."""
        keys = iter(self._keys())
        for run in self.runs:
            for left in range(run, 0, -self.batch_size):
                yield list(islice(keys, min(left, self.batch_size)))

    def __len__(self) -> int:
        rank, size = self.share
        return len(range(rank, self.total, size))

    def __iter__(self) -> Iterator[list[SeededKey]]:
        rank, size = self.share
        return islice(self.whole_batches(), rank, None, size)


def part_of_batch(keys: list[SeededKey], share: tuple[int, int], group: int = 1) -> list[SeededKey]:
    """Return the keys of one batch that a process loads; together the processes load all of them.

    Args:
        keys: the whole batch.
        share: rank and number of processes.
        group: this many consecutive keys stay together; the last group may be smaller.

    Returns:
        every size-th group, from the rank-th on. A batch of fewer groups than processes is dealt out again from its
        start, so that nobody is left empty-handed.
    """
    rank, size = share
    groups = [keys[start : start + group] for start in range(0, len(keys), group)]
    mine = groups[rank::size] or [groups[rank % len(groups)]]
    return [key for keys in mine for key in keys]


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how rare each class is: 1 / its number of objects, as (classes,) float64 that add up to 1 (v6.1).

    Args:
        labels: (n, 5) rows that begin with the class. A class without objects counts as one with a single object.
        classes: number of classes.
    """
    counts = np.bincount(labels[:, 0].astype(int), minlength=classes).clip(1)
    return (1 / counts) / (1 / counts).sum()


def difficulty_weights(rarity: np.ndarray, ap: np.ndarray) -> np.ndarray:
    """Return (classes,) weights that are high for classes both rare and badly detected: rarity x (1 - AP)^2 (v6.1).

    Args:
        rarity: (classes,) what :func:`class_weights` returns.
        ap: (classes,) average precision, 0..1, from the latest validation; 0 before the first.
    """
    return rarity * (1 - ap) ** 2


def image_weights(labels: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n,) float64 how much there is to learn from each image: the sum of its objects' class weights (v6.1).

    Args:
        labels: (m, 5) rows that begin with the class, image by image.
        counts: (n,) how many of them each image has.
        weights: (classes,) what :func:`difficulty_weights` returns.
    """
    of_image = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(of_image, weights[labels[:, 0].astype(int)], minlength=len(counts))
