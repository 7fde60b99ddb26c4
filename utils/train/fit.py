"""The training loop: ``Fit`` is the epochs, ``train_one_epoch`` the batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from utils.data.loader import Batch, BatchLoader
from utils.distributed import Processes
from utils.eval.evaluate import Evaluation
from utils.hooks.base import BatchReport, EpochReport, Hook
from utils.log import LOGGER
from utils.train.optim import apply_settings
from utils.train.schedule import GROUPS, Schedule
from utils.train.state import TrainState
from utils.train.step import TrainingStep

LARGEST_GRADIENT_NORM = 10.0  # as in versions after v6.1
LOSSES_IN_FLIGHT = 32  # batches after which a GPU, or the other processes, are asked whether all losses were finite

Save = Callable[[TrainState, EpochReport, bool, bool], None]  # best epoch so far? last epoch?


def keep_nothing(state: TrainState, report: EpochReport, is_best: bool, is_last: bool) -> None:
    """Write no checkpoint."""


@dataclass(frozen=True)
class Fit:
    """The epochs of a run.

    Attributes:
        loader: training batches; of this process's share of the images.
        step: computes gradients.
        schedule: learning rates and length.
        validate: measures the averaged weights.
        save: writes checkpoints.
        hooks: listeners.
        processes: those that train together; only the main one has ``save`` and ``hooks`` called.
        seed: of the run; what layers draw, such as dropout, follows from it, the epoch and the process.
        every_epoch: validate after each epoch, else after the last one only, and never stop early.
        weigh: turns the average precision of each class into weights by which images are drawn (--image-weights).
    """

    loader: BatchLoader
    step: TrainingStep
    schedule: Schedule
    validate: Callable[[nn.Module], Evaluation]
    save: Save = keep_nothing
    hooks: Sequence[Hook] = ()
    processes: Processes = field(default_factory=Processes)
    seed: int = 0
    every_epoch: bool = True
    weigh: Callable[[Sequence[float]], np.ndarray] | None = None

    def __call__(self, state: TrainState) -> Evaluation | None:
        """Train from ``state.epoch`` to the end of the schedule, or until the stopper stops.

        Returns:
            the last validation, None when there was no epoch left.

        Raises:
            UserError: the loss is not finite.
        """
        evaluation = None
        state.last_step = min(state.last_step, state.epoch * len(self.loader) - 1)  # of a resumed run with less data
        while not self._is_over(state):
            report = self._run_epoch(state)
            evaluation = report.evaluation
            state.epoch += 1
            is_best = evaluation is not None and state.stopper.update(report.epoch, evaluation.fitness)
            state.class_ap = evaluation.class_ap if evaluation else state.class_ap
            if self.processes.is_main:
                for hook in self.hooks:
                    hook.epoch_end(report)
                self.save(state, report, is_best, self._is_over(state))
        if state.epoch < self.schedule.epochs:
            LOGGER.info(
                f"Stopping: no better fitness for {state.stopper.patience} epochs since epoch "
                f"{state.stopper.best_epoch}. Use --patience to wait longer, --patience 0 to never stop early"
            )
        return evaluation

    def _is_over(self, state: TrainState) -> bool:
        """Tell whether no epoch is left; of a resumed run, too, whose last one may have been the one to stop after."""
        stops = self.every_epoch and state.stopper.should_stop(state.epoch - 1)
        return stops or state.epoch >= self.schedule.epochs

    def _run_epoch(self, state: TrainState) -> EpochReport:
        epoch, hooks = state.epoch, self.hooks if self.processes.is_main else ()
        if self.weigh:
            self.loader.set_weights(self.weigh(state.class_ap))
        for hook in hooks:
            hook.epoch_start(epoch, self.schedule.epochs, len(self.loader))
        torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch, self.processes.rank]).generate_state(1)[0]))
        start = time.perf_counter()
        losses, waiting = train_one_epoch(state, self.loader, self.step, self.schedule, hooks, self.processes)
        seconds = time.perf_counter() - start
        evaluation = None
        if self.every_epoch or epoch + 1 == self.schedule.epochs:
            self.processes.copy_from_main(state.average.model.state_dict().values())  # batch norm statistics differ
            evaluation = self.validate(state.average.model)
        rates = self.schedule.at((epoch + 1) * len(self.loader) - 1).learning_rates
        return EpochReport(
            epoch=epoch,
            epochs=self.schedule.epochs,
            losses=losses,
            evaluation=evaluation,
            learning_rates=[rates[name] for name in GROUPS],
            seconds=seconds,
            images=len(self.loader.dataset),
            waiting=waiting,
        )


def train_one_epoch(
    state: TrainState,
    loader: BatchLoader,
    step: TrainingStep,
    schedule: Schedule,
    hooks: Sequence[Hook] = (),
    processes: Processes = Processes(),  # noqa: B008  frozen
) -> tuple[list[float], float]:
    """Run epoch ``state.epoch``; return the mean of each part of the loss, and the seconds of waiting for batches."""
    device = next(state.model.parameters()).device
    part_names = step.criterion.part_names
    loader.set_epoch(state.epoch)
    state.model.train()
    mean = total = torch.zeros(len(part_names), device=device)
    in_flight = 1 if device.type == "cpu" and processes.size == 1 else LOSSES_IN_FLIGHT
    losses = _LossCheck(state.epoch, part_names, in_flight, processes)
    batches = _Timed(loader)
    for number, batch in enumerate(batches):
        iteration = state.epoch * len(loader) + number
        settings = schedule.at(iteration)
        apply_settings(state.optimizer, settings)
        loss, parts = step(state, batch, number)
        losses.add(loss, parts)  # FP16 too: loss scaling mends gradients only
        if iteration - state.last_step >= settings.accumulate:
            optimizer_step(state)
            state.last_step = iteration
        mean = mean + (parts - mean) / (number + 1)
        # The others are only asked at the end; until then those of this process stand for all.
        total = processes.sum(mean) if number == len(loader) - 1 else mean * processes.size
        for hook in hooks:
            hook.batch_end(BatchReport(state.epoch, number, len(loader), batch, total))
    losses.check()
    return total.tolist(), batches.seconds


def optimizer_step(state: TrainState) -> None:
    """Apply the gathered gradients, with their norm limited to 10, and update the average."""
    state.scaler.unscale_(state.optimizer)
    limit_gradients([parameter for group in state.optimizer.param_groups for parameter in group["params"]])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    state.average.update(state.model)


def limit_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Shorten the gradients of all ``parameters`` together to a norm of 10 if they are longer."""
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if norm.device.type != "cpu" or norm > LARGEST_GRADIENT_NORM:  # on a GPU, to look at it would mean to wait for it
        nn.utils.clip_grads_with_norm_(parameters, LARGEST_GRADIENT_NORM, norm)


class _Timed:
    """Iterates over ``items`` and adds up the seconds spent waiting for them."""

    def __init__(self, items: Iterable[Batch]) -> None:
        self.items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        start = time.perf_counter()
        for item in self.items:
            self.seconds += time.perf_counter() - start
            yield item
            start = time.perf_counter()


class _LossCheck:
    """Stops a run whose loss is not finite, on all processes together.

    Reading a loss waits for the GPU to compute it, so that several are read at once.
    """

    def __init__(self, epoch: int, part_names: Sequence[str], in_flight: int, processes: Processes) -> None:
        self._epoch, self._part_names, self._in_flight, self._processes = epoch, part_names, in_flight, processes
        self._checked = 0
        self._pending: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, parts: Tensor) -> None:
        """Take the loss of the next batch, and its parts."""
        self._pending.append((loss, parts))
        if len(self._pending) >= self._in_flight:
            self.check()

    def check(self) -> None:
        """Look at all losses taken since the last time.

        Raises:
            UserError: one is not finite, here or on another process.
        """
        if not self._pending:
            return
        infinite = ~torch.stack([loss for loss, _ in self._pending]).isfinite()
        bad = self._processes.sum(infinite.float()).nonzero().flatten().tolist()
        if bad:
            values = self._processes.sum(self._pending[bad[0]][1]).tolist()
            named = ", ".join(f"{name} {value:.4g}" for name, value in zip(self._part_names, values, strict=True))
            self._processes.fail(
                f"the loss is not finite in epoch {self._epoch}, batch {self._checked + bad[0]} ({named}); "
                "lower lr0 or warmup_bias_lr in the --hyp file, and check the labels"
            )
        self._checked += len(self._pending)
        self._pending.clear()
