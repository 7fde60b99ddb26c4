"""Learning rate, momentum and accumulation as pure functions of the iteration (v6.1's rules)."""

import math
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.train.hyperparameters import Hyperparameters

NOMINAL_BATCH = 64  # images a step that hyperparameters are tuned for
AUTO_LEAST = 100  # iterations of --warmup auto, unless the run is too short for them
AUTO_SHARE = 0.25  # of the run, at most
GROUPS = ("norm", "weight", "bias")  # optimizer groups, in the order of results.csv's lr0, lr1, lr2


@dataclass(frozen=True)
class StepSettings:
    """What one iteration runs with."""

    learning_rates: dict[str, float]  # by optimizer group
    momentum: float
    accumulate: int  # iterations per optimizer step


@dataclass(frozen=True)
class Schedule:
    """A run's schedule.

    Attributes:
        epochs: of the whole run.
        batches: iterations an epoch.
        batch_size: images an iteration.
        hyp: lr0, lrf, momentum and the warm-up values are read.
        warmup: number of warm-up iterations, see warmup_iterations.
        cosine: cosine instead of linear decay.
    """

    epochs: int
    batches: int
    batch_size: int
    hyp: Hyperparameters
    warmup: int = 0
    cosine: bool = False

    def decay(self, epoch: int) -> float:
        """Return the factor on lr0 in ``epoch``: 1 at the start, lrf at the end of the run."""
        progress = epoch / self.epochs
        if self.cosine:
            return (1 - math.cos(math.pi * progress)) / 2 * (self.hyp.lrf - 1) + 1
        return (1 - progress) * (1 - self.hyp.lrf) + self.hyp.lrf

    def at(self, iteration: int) -> StepSettings:
        """Return the settings of a global iteration, counted from 0 over all epochs."""
        epoch = iteration // self.batches
        full = NOMINAL_BATCH / self.batch_size
        if iteration > self.warmup or self.warmup == 0:
            # v6.1's scheduler runs one epoch behind; the epoch in which warm-up ends goes on with its last rate
            lag = 0 if epoch in (0, self.warmup // self.batches) else 1
            rates = dict.fromkeys(GROUPS, self.hyp.lr0 * self.decay(epoch - lag))
            return StepSettings(rates, self.hyp.momentum, max(round(full), 1))
        target = self.hyp.lr0 * self.decay(epoch)
        span = [0, self.warmup]
        start = {"norm": 0.0, "weight": 0.0, "bias": self.hyp.warmup_bias_lr}
        return StepSettings(
            learning_rates={name: float(np.interp(iteration, span, [start[name], target])) for name in GROUPS},
            momentum=float(np.interp(iteration, span, [self.hyp.warmup_momentum, self.hyp.momentum])),
            accumulate=max(1, round(float(np.interp(iteration, span, [1, full])))),
        )


def warmup_iterations(request: str, warmup_epochs: float, epochs: int, batches: int) -> int:
    """Return how many iterations warm-up takes.

    Args:
        request: fewest of them, as a number (v6.1: 1000, later versions: 100); or ``"auto"``: hyperparameter
            ``warmup_epochs``, but between 100 iterations and a quarter of the run, which has the last word.
        warmup_epochs: hyperparameter of that name.
        epochs: of the whole run.
        batches: iterations an epoch.

    Raises:
        UserError: ``request`` is neither.
    """
    wanted = round(warmup_epochs * batches)
    if request == "auto":
        return min(max(wanted, AUTO_LEAST), round(AUTO_SHARE * epochs * batches))
    if not request.isdecimal():
        raise UserError(f"--warmup '{request}' is not understood; give the fewest iterations as a number, or auto")
    return max(wanted, int(request))


def scaled_weight_decay(weight_decay: float, batch_size: int) -> float:
    """Return the weight decay for the images that one optimizer step really sees."""
    accumulate = max(round(NOMINAL_BATCH / batch_size), 1)
    return weight_decay * batch_size * accumulate / NOMINAL_BATCH


@dataclass
class EarlyStopper:
    """Stops a run when fitness has not improved for ``patience`` epochs; 0 never stops (v6.1)."""

    patience: int
    best_fitness: float = 0.0
    best_epoch: int = 0

    def update(self, epoch: int, fitness: float) -> bool:
        """Note the fitness of an epoch and tell whether none was better.

        As good as the best so far counts as better, so that early epochs at zero neither stop a run nor stay its best.
        """
        is_best = fitness >= self.best_fitness
        if is_best:
            self.best_fitness, self.best_epoch = fitness, epoch
        return is_best

    def should_stop(self, epoch: int) -> bool:
        """Tell whether the run is over after ``epoch``."""
        return self.patience > 0 and epoch - self.best_epoch >= self.patience
