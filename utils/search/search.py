"""Hyperparameter search, ``--evolve``: one Optuna study, worked on by any number of processes."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from utils.errors import UserError
from utils.interrupts import interrupts_held_back
from utils.log import LOGGER
from utils.search.pulse import PulseWatch, beating
from utils.search.report import CompleteTrial, write_search_files
from utils.search.study import import_optuna, open_study, storage_error
from utils.search.tally import BASE, ERROR, HYPERPARAMETERS, OWNER, RESULTS, Tally
from utils.train.hyperparameters import Hyperparameters, as_dict

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import FloatDistribution
    from optuna.trial import Trial

RANGES = {  # v6.1's; its keys with mutation gain 0 (iou_t, fl_gamma, perspective, fliplr) are not searched
    "lr0": (1e-5, 1e-1),
    "lrf": (0.01, 1.0),
    "momentum": (0.6, 0.98),
    "weight_decay": (0.0, 0.001),
    "warmup_epochs": (0.0, 5.0),
    "warmup_momentum": (0.0, 0.95),
    "warmup_bias_lr": (0.0, 0.2),
    "box": (0.02, 0.2),
    "cls": (0.2, 4.0),
    "cls_pw": (0.5, 2.0),
    "obj": (0.2, 4.0),
    "obj_pw": (0.5, 2.0),
    "anchor_t": (2.0, 8.0),
    "anchors": (2.0, 10.0),
    "hsv_h": (0.0, 0.1),
    "hsv_s": (0.0, 0.9),
    "hsv_v": (0.0, 0.9),
    "degrees": (0.0, 45.0),
    "translate": (0.0, 0.9),
    "scale": (0.0, 0.9),
    "shear": (0.0, 10.0),
    "flipud": (0.0, 1.0),
    "mosaic": (0.0, 1.0),
    "mixup": (0.0, 1.0),
    "copy_paste": (0.0, 1.0),
}
LOGARITHMIC = ("lr0",)
MOST_FAILURES = 5  # in a row
POLL = 1.0  # s between looks at trials of other processes


class Pruned(Exception):
    """A trial ends early: at the same epoch, half of the others were better."""


Report = Callable[[int, float], None]
Objective = Callable[[Hyperparameters, Report], tuple[float, ...]]


def search(
    folder: Path,
    base: Hyperparameters,
    trials: int,
    objective: Objective,
    *,
    storage: str = "",
    study: str = "yolov5-nam",
    seed: int = 0,
    draws: bool = True,
) -> Hyperparameters:
    """Search for better hyperparameters, until the study holds ``trials`` finished trials.

    Finished are trials that were trained to their end, were pruned or failed, whoever ran them and whenever: a second
    call with the same folder or storage goes on, and processes that share a storage share the work. When what is
    missing is being trained elsewhere, a process waits for it. Trials that were interrupted, or whose process died,
    do not count and are made up for. The first trial is ``base`` itself, and is never pruned. What is proposed follows
    from the seed, the trial's number and the results so far: one process finds the same each time.

    After each trial ``hyp_evolve.yaml``, ``evolve.csv`` (complete trials) and ``evolve.png`` are written anew.

    Args:
        folder: where the files go, and the study when no storage is given.
        base: where to begin; values out of v6.1's ranges are moved to their ends. ``anchors`` is searched only if it
            is set here, because a number of anchors replaces those of the model and of its weights.
        trials: in all, at least 1.
        objective: trains once and returns v6.1's seven results: precision, recall, mAP@0.5, mAP@0.5:0.95 and
            validation losses box, obj, cls. It calls ``report(epoch, fitness)`` after each epoch, epochs from 0, and
            lets the Pruned through that this may raise. A UserError fails the trial, and the search goes on.
        storage: see open_study.
        study: name of the study in its storage.
        seed: of the proposals.
        draws: leave ``evolve.png``, too.

    Returns:
        The best hyperparameters.

    Raises:
        UserError: Optuna is missing, the storage does not work, more than five trials in a row failed, or none is
            complete in the end.
        KeyboardInterrupt: interrupted; the files hold all trials finished before.
    """
    optuna = import_optuna()
    shared = open_study(folder, storage, study, seed)
    try:
        return _Search(folder, _within_ranges(base), trials, objective, shared, draws).run()
    except optuna.exceptions.StorageInternalError as error:
        raise storage_error(storage or str(folder), error) from error


def _within_ranges(base: Hyperparameters) -> Hyperparameters:
    values = {key: value for key, value in as_dict(base).items() if key in RANGES}
    moved = {key: min(max(value, RANGES[key][0]), RANGES[key][1]) for key, value in values.items()}
    changed = ", ".join(f"{key} {values[key]:g} to {value:g}" for key, value in moved.items() if value != values[key])
    if changed:
        LOGGER.warning(f"The search begins within its ranges: {changed}")
    return dataclasses.replace(base, **moved)


class _Search:
    """One process's work on a study."""

    def __init__(
        self, folder: Path, base: Hyperparameters, trials: int, objective: Objective, study: "Study", draws: bool
    ) -> None:
        self.folder = folder
        self.base = base
        self.total = trials
        self.objective = objective
        self.study = study
        self.draws = draws
        self.ranges = {key: limits for key, limits in RANGES.items() if getattr(base, key) is not None}
        self.states = import_optuna().trial.TrialState
        self.pulses = PulseWatch()

    def run(self) -> Hyperparameters:
        """Work until the study is finished."""
        failures = 0
        while (trial := self._next_trial()) is not None:
            error = self._attempt(trial)
            failures = failures + 1 if error else 0
            if failures > MOST_FAILURES:
                raise UserError(f"{failures} trials in a row failed, the last one by: {error}") from error
        tally = self._write_files()  # once more, for what other processes finished meanwhile
        if tally.best is None:
            error_text = tally.failed[-1].user_attrs[ERROR]
            raise UserError(f"none of {self.total} trials came to its end; the last one failed by: {error_text}")
        best = tally.best
        LOGGER.info(f"Best of {tally}: trial {best.number}, fitness {best.fitness:.5g}; see {self.folder}")
        return Hyperparameters(**best.hyperparameters)

    def _tally(self, before: int | None = None) -> Tally:
        """Look at the study, or at its trials with numbers below ``before`` only."""
        return Tally(self.study.get_trials(deepcopy=False)[:before], self.pulses)

    def _next_trial(self) -> "Trial | None":
        """Return a trial that this process is to train, or None when the study is finished."""
        told = False
        while len((tally := self._tally()).finished) < self.total:
            if len(tally.finished) + len(tally.running) >= self.total:
                if not told:
                    numbers = ", ".join(str(trial.number) for trial in tally.running)
                    LOGGER.info(f"Waiting for trials that other processes train: {numbers}")
                told = True
                time.sleep(POLL)
                continue
            trial = self.study.ask() if tally.holds_base(as_dict(self.base)) else self._begin_base()
            if not self._is_surplus(trial):
                return trial
            self.study.tell(trial, state=self.states.FAIL)
        return None

    def _begin_base(self) -> "Trial":
        """Add the trial that tries the base, as one that is already running.

        Optuna's queue of waiting trials would do, but with SQLite two processes may take the same trial from it.
        """
        base, owner = as_dict(self.base), uuid4().hex
        trial = import_optuna().trial
        self.study.add_trial(
            trial.create_trial(
                state=self.states.RUNNING,
                params={key: base[key] for key in self.ranges},
                distributions={key: self._distribution(key) for key in self.ranges},
                user_attrs={BASE: base, OWNER: owner},
            )
        )
        added = next(one for one in self.study.get_trials(deepcopy=False) if one.user_attrs.get(OWNER) == owner)
        return trial.Trial(self.study, added._trial_id)

    def _distribution(self, key: str) -> "FloatDistribution":
        low, high = self.ranges[key]
        return import_optuna().distributions.FloatDistribution(low, high, log=key in LOGARITHMIC)

    def _is_surplus(self, trial: "Trial") -> bool:
        """Tell whether another process began the last trial, or the base, earlier."""
        earlier, base = self._tally(before=trial.number), trial.user_attrs.get(BASE)
        taken = len(earlier.finished) + len(earlier.running)
        return taken >= self.total or (base is not None and earlier.holds_base(base))

    def _attempt(self, trial: "Trial") -> UserError | None:
        """Train, and enter what comes of it into the study and the files; return the error when it failed."""
        complete, error = None, None
        try:
            hyp = self._propose(trial)
            trial.set_user_attr(HYPERPARAMETERS, as_dict(hyp))
            with beating(trial):
                results = self.objective(hyp, self._reporter(trial))
            complete = self._complete_trial(trial.number, results, as_dict(hyp))
            outcome = f"fitness {complete.fitness:.5g}"
        except Pruned as stop:
            outcome = f"pruned {stop}"
        except UserError as failure:
            error, outcome = failure, f"failed: {failure}"
        except BaseException:
            with suppress(Exception):  # what happened matters more
                self.study.tell(trial, state=self.states.FAIL)
            raise
        self._enter(trial, outcome, complete, error)
        return error

    @staticmethod
    def _complete_trial(number: int, results: Sequence[float], hyperparameters: dict[str, float]) -> CompleteTrial:
        trial = CompleteTrial(number, tuple(float(value) for value in results), hyperparameters)
        if not math.isfinite(trial.fitness):
            raise UserError(f"the fitness is not a number; the results are {trial.results}")
        return trial

    def _propose(self, trial: "Trial") -> Hyperparameters:
        """Return the trial's hyperparameters, to the five digits that evolve.csv shows; the base's as they are."""
        if BASE in trial.user_attrs:
            return Hyperparameters(**trial.user_attrs[BASE])
        values = {
            key: trial.suggest_float(key, low, high, log=key in LOGARITHMIC) for key, (low, high) in self.ranges.items()
        }
        return dataclasses.replace(self.base, **{key: float(f"{value:.5g}") for key, value in values.items()})

    def _reporter(self, trial: "Trial") -> Report:
        def report(epoch: int, fitness: float) -> None:
            trial.report(fitness, epoch)
            if BASE not in trial.user_attrs and trial.should_prune():
                raise Pruned(f"after epoch {epoch} at fitness {fitness:.5g}")

        return report

    def _enter(self, trial: "Trial", outcome: str, complete: CompleteTrial | None, error: UserError | None) -> None:
        """Tell the study, write the files and a line; Ctrl-C waits until this is done."""
        with interrupts_held_back():
            if complete:
                trial.set_user_attr(RESULTS, list(complete.results))
                self.study.tell(trial, complete.fitness)
            elif error:
                trial.set_user_attr(ERROR, str(error))
                self.study.tell(trial, state=self.states.FAIL)
            else:
                self.study.tell(trial, state=self.states.PRUNED)
            tally = self._write_files()
            best = f", best {tally.best.fitness:.5g} (trial {tally.best.number})" if tally.best else ""
            line = f"evolve {len(tally.finished)}/{self.total}: trial {trial.number} {outcome}{best}"
            (LOGGER.warning if error else LOGGER.info)(line)

    def _write_files(self) -> Tally:
        tally = self._tally()
        write_search_files(self.folder, tally.complete, self.ranges, LOGARITHMIC, str(tally), self.draws)
        return tally
