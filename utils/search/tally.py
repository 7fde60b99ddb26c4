"""How far the study of a hyperparameter search is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from utils.search.pulse import PulseWatch
from utils.search.report import CompleteTrial, best_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# User attributes of a trial.
BASE = "base"  # the hyperparameters the search began with, on the trial that tries them
OWNER = "owner"  # a mark by which the process that added this trial knows it
HYPERPARAMETERS = "hyperparameters"
RESULTS = "results"
ERROR = "error"


class Tally:
    """The trials of a study at one moment, by what has become of them.

    Args:
        trials: of the study, by rising number.
        pulses: tells which running trials are abandoned; these are left out.

    Attributes:
        pruned, failed, running: trials.
        complete: those that were trained to their end.
        finished: complete, pruned and failed ones. Trials given up without a result or an error are left out.
    """

    def __init__(self, trials: Sequence["FrozenTrial"], pulses: PulseWatch) -> None:
        def within(state: str) -> list["FrozenTrial"]:
            return [trial for trial in trials if trial.state.name == state]

        self.pruned = within("PRUNED")
        self.failed = [trial for trial in within("FAIL") if ERROR in trial.user_attrs]
        self.running = [trial for trial in within("RUNNING") if pulses.is_alive(trial)]
        ended = [trial for trial in within("COMPLETE") if RESULTS in trial.user_attrs]
        self.finished = [*ended, *self.pruned, *self.failed]
        self.complete = [
            CompleteTrial(trial.number, tuple(trial.user_attrs[RESULTS]), trial.user_attrs[HYPERPARAMETERS])
            for trial in ended
        ]

    @property
    def best(self) -> CompleteTrial | None:
        """Return the complete trial with the highest fitness."""
        return best_of(self.complete) if self.complete else None

    def __str__(self) -> str:
        return (
            f"{len(self.finished)} ({len(self.complete)} complete, {len(self.pruned)} pruned, "
            f"{len(self.failed)} failed)"
        )

    def holds_base(self, base: dict[str, float]) -> bool:
        """Tell whether one of the trials is for ``base``."""
        return any(trial.user_attrs.get(BASE) == base for trial in (*self.running, *self.finished))
