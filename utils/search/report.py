"""What a hyperparameter search leaves in its folder: ``evolve.csv``, ``evolve.png`` and ``hyp_evolve.yaml``."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from utils.eval.metrics import fitness
from utils.files import atomic_write
from utils.search.plot import save_search_plot
from utils.train.hyperparameters import Hyperparameters

RESULT_KEYS = (
    *("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"),
    *("val/box_loss", "val/obj_loss", "val/cls_loss"),
)
HYP_KEYS = tuple(
    field.name for field in dataclasses.fields(Hyperparameters) if field.name != "label_smoothing"
)  # label smoothing is a command-line option, and no key of a hyp file


@dataclass(frozen=True)
class CompleteTrial:
    """A training that came to its end.

    Attributes:
        number: of the trial in its study, from 0.
        results: seven, named by ``RESULT_KEYS``.
        hyperparameters: that it was trained with, by name.
    """

    number: int
    results: tuple[float, ...]
    hyperparameters: Mapping[str, float]

    @property
    def fitness(self) -> float:
        """Return what the search maximises, v6.1's fitness."""
        return fitness(*self.results[:4])


def best_of(trials: Sequence[CompleteTrial]) -> CompleteTrial:
    """Return the trial with the highest fitness, the first of equal ones."""
    return max(trials, key=lambda trial: trial.fitness)


def write_search_files(
    folder: Path,
    trials: Sequence[CompleteTrial],
    ranges: Mapping[str, tuple[float, float]],
    logarithmic: Collection[str],
    counts: str,
    draws: bool = True,
) -> None:
    """Write the files of a search, each atomically; nothing as long as no trial is complete.

    Args:
        folder: of the search.
        trials: complete ones, by rising number.
        ranges: lowest and highest value of what is searched, by name.
        logarithmic: names whose axis is logarithmic.
        counts: how many trials there are, in words.
        draws: leave the picture, too.
    """
    if not trials:
        return
    _write_csv(folder / "evolve.csv", trials)
    _write_best(folder / "hyp_evolve.yaml", best_of(trials), counts)
    if not draws:
        return
    values = {key: [trial.hyperparameters.get(key, math.nan) for trial in trials] for key in ranges}
    save_search_plot(values, [trial.fitness for trial in trials], ranges, logarithmic, folder / "evolve.png")


def _write_csv(path: Path, trials: Sequence[CompleteTrial]) -> None:
    """Write one row a trial: results, then hyperparameters; in the layout of results.csv, as v6.1 does."""
    keys = [key for key in HYP_KEYS if any(key in trial.hyperparameters for trial in trials)]
    lines = [",".join(f"{name:>20}" for name in (*RESULT_KEYS, *keys))]
    for trial in trials:
        row = [*trial.results, *(trial.hyperparameters.get(key, math.nan) for key in keys)]
        lines.append(",".join(f"{value:20.5g}" for value in row))
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_best(path: Path, best: CompleteTrial, counts: str) -> None:
    """Write the hyperparameters of ``best`` as a file for --hyp."""
    lines = [
        "The best hyperparameters of a search, for --hyp",
        f"best trial: {best.number}",
        f"trials: {counts}",
        f"fitness: {best.fitness:.5g}",
        *(f"{name}: {value:.5g}" for name, value in zip(RESULT_KEYS, best.results, strict=True)),
    ]
    header = "".join(f"# {line}\n" for line in lines)
    content = {key: best.hyperparameters[key] for key in HYP_KEYS if key in best.hyperparameters}
    with atomic_write(path) as temporary:
        temporary.write_text(header + "\n" + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
