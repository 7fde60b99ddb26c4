"""The training loop: ``fit`` is the epochs, ``train_one_epoch`` the steps."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from utils.data.loader import BatchLoader, normalise
from utils.errors import UserError
from utils.eval.evaluate import Evaluation
from utils.hooks.base import BatchReport, EpochReport, Hook
from utils.log import LOGGER
from utils.train.optim import apply_settings
from utils.train.schedule import GROUPS, Schedule
from utils.train.state import TrainState

LARGEST_GRADIENT_NORM = 10.0  # as in versions after v6.1


class Criterion(Protocol):
    """A loss made of parts, as DetectionLoss is."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Name the parts."""

    def __call__(self, outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scalar to minimise, and the parts, detached."""


def fit(
    state: TrainState,
    loader: BatchLoader,
    criterion: Criterion,
    schedule: Schedule,
    validate: Callable[[nn.Module], Evaluation],
    save: Callable[[TrainState, EpochReport, bool], None],
    hooks: Sequence[Hook],
) -> None:
    """Train from ``state.epoch`` to the end of the schedule, or until the stopper stops.

    Args:
        state: what is trained; moves on in place.
        loader: training batches.
        criterion: the loss.
        schedule: learning rates and length.
        validate: measures the averaged weights after each epoch.
        save: writes checkpoints; told whether the epoch is the best so far.
        hooks: listeners.

    Raises:
        UserError: the loss is not finite.
    """
    for epoch in range(state.epoch, schedule.epochs):
        start = time.perf_counter()
        losses = train_one_epoch(state, loader, criterion, schedule, hooks)
        seconds = time.perf_counter() - start
        evaluation = validate(state.average.model)
        rates = schedule.at((epoch + 1) * len(loader) - 1).learning_rates
        report = EpochReport(
            epoch, schedule.epochs, losses, evaluation, [rates[name] for name in GROUPS], seconds, len(loader.dataset)
        )
        state.epoch = epoch + 1
        is_best = state.stopper.update(epoch, evaluation.fitness)
        for hook in hooks:
            hook.epoch_end(report)
        save(state, report, is_best)
        if state.stopper.should_stop(epoch):
            LOGGER.info(
                f"Stopping: no better fitness for {state.stopper.patience} epochs since epoch "
                f"{state.stopper.best_epoch}. Use --patience to wait longer, --patience 0 to never stop early"
            )
            return


def train_one_epoch(
    state: TrainState, loader: BatchLoader, criterion: Criterion, schedule: Schedule, hooks: Sequence[Hook]
) -> list[float]:
    """Run epoch ``state.epoch`` and return the mean of each part of the loss."""
    device = next(state.model.parameters()).device
    loader.set_epoch(state.epoch)
    state.model.train()
    mean = torch.zeros(len(criterion.part_names), device=device)
    for hook in hooks:
        hook.epoch_start(state.epoch, schedule.epochs, len(loader))
    for number, batch in enumerate(loader):
        iteration = state.epoch * len(loader) + number
        settings = schedule.at(iteration)
        apply_settings(state.optimizer, settings)
        batch = batch.to_device(device)
        with torch.autocast(device.type, torch.float16) if state.scaler.is_enabled() else nullcontext():
            outputs = state.model(normalise(batch.images))
        loss, parts = criterion([output.float() for output in outputs], batch.targets)
        position = f"epoch {state.epoch}, batch {number}"
        _require_finite(loss, criterion.part_names, parts, position)  # FP16 too: loss scaling mends gradients only
        state.scaler.scale(loss).backward()
        if iteration - state.last_step >= settings.accumulate:
            optimizer_step(state)
            state.last_step = iteration
        mean += (parts - mean) / (number + 1)
        for hook in hooks:
            hook.batch_end(BatchReport(state.epoch, number, len(loader), batch, mean))
    return mean.tolist()


def optimizer_step(state: TrainState) -> None:
    """Apply the gathered gradients, with their norm limited to 10, and update the average."""
    state.scaler.unscale_(state.optimizer)
    nn.utils.clip_grad_norm_(state.model.parameters(), LARGEST_GRADIENT_NORM)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    state.average.update(state.model)


def _require_finite(loss: Tensor, names: Sequence[str], parts: Tensor, position: str) -> None:
    if not torch.isfinite(loss):
        named = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, parts.tolist(), strict=True))
        raise UserError(
            f"the loss is not finite in {position} ({named}); "
            "lower lr0 or warmup_bias_lr in the --hyp file, and check the labels"
        )
