"""Finding the run to go on with, and the options to do so."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from utils.errors import UserError
from utils.log import LOGGER
from utils.options import given_options, make_options
from utils.train.options import CHANGEABLE, NEWEST, TrainOptions

WEIGHTS, LAST, BEST = "weights", "last.pt", "best.pt"  # where a run keeps its checkpoints


@dataclass(frozen=True)
class Resumable:
    """A run that can go on.

    Attributes:
        file: its checkpoint.
        folder: its run folder; None for any checkpoint but its ``last.pt``, and for one that was taken out of it: these
            go on in a folder of their own, so that nothing of the run is overwritten.
        checkpoint: what ``file`` holds.
    """

    file: Path
    folder: Path | None
    checkpoint: Checkpoint

    @property
    def epochs_done(self) -> int:
        """Epochs that are over."""
        return epochs_done(self.checkpoint)

    @property
    def plugins(self) -> Path:
        """Folder that may hold the run's own copies of its plug-in files."""
        return (self.file.parents[1] if self.file.parent.name == WEIGHTS else self.file.parent) / "plugins"


def epochs_done(checkpoint: Checkpoint) -> int:
    """Return how many epochs of its run were over when ``checkpoint`` was written; 0 when it says nothing of a run."""
    return int((checkpoint.training or checkpoint.finished or {"epoch": 0})["epoch"])


def find_resumable(request: str, project: Path) -> Resumable:
    """Return the run that ``--resume`` means.

    Args:
        request: a run folder, one of its checkpoints wherever it lies, or ``"newest"``.
        project: where the newest run is looked for.

    Raises:
        UserError: there is none, or it is a checkpoint that no run of ours left.
    """
    if request == NEWEST:
        found = sorted(project.glob(f"**/{WEIGHTS}/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"--resume: no run with weights/last.pt in '{project}'; name its folder or last.pt")
        path = found[-1]
    else:
        path = Path(request) / WEIGHTS / LAST if Path(request).is_dir() else Path(request)
        if not path.is_file():
            raise UserError(f"--resume: '{path}' does not exist; name the folder of an interrupted run or its last.pt")
    path = path.resolve()
    checkpoint = read_checkpoint(path)
    if checkpoint.training is None and checkpoint.finished is None:
        raise UserError(f"--resume: '{path}' does not know the run it is from; to start from it use --weights '{path}'")
    in_place = (path.parent.name, path.name) == (WEIGHTS, LAST)
    return Resumable(path, path.parents[1] if in_place else None, checkpoint)


def resumed_options(run: Resumable, options: TrainOptions) -> TrainOptions:
    """Return the options that ``run`` goes on with: its own, and those of ``options`` that may change and were given.

    Raises:
        UserError: an option was given that would make it another run, or no epoch is left.
    """
    given = given_options(options) - {"resume"}
    fixed = sorted(given - CHANGEABLE)
    if fixed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in fixed)
        raise UserError(f"--resume goes on with the options of the run, which {flags} would change; leave them out")
    known = {field.name for field in dataclasses.fields(TrainOptions)}
    stored = {name: value for name, value in run.checkpoint.options.items() if name in known}
    changed = make_options(TrainOptions, stored | {name: getattr(options, name) for name in given})
    done, finished = run.epochs_done, run.checkpoint.training is None
    if (finished and "epochs" not in given) or ("epochs" in given and changed.epochs <= done):
        place = shlex.quote(str(run.folder or run.file))
        epochs = changed.epochs if changed.epochs > done else 2 * done  # more than done when it stopped early
        raise UserError(
            f"'{run.file}' is of {'a finished run of' if finished else 'an interrupted run after'} {done} epochs; to "
            f"train on give a larger number of all epochs: python train.py --resume {place} --epochs {epochs}; to "
            f"start a new run from its weights: --weights {shlex.quote(str(run.file))}"
        )
    return changed


def bring_best(run: Resumable, folder: Path) -> None:
    """Copy the best weights so far into ``folder``, where a run of another folder goes on.

    They are in the checkpoint itself or in a ``best.pt`` beside it. Without them, a later epoch has to be better.
    """
    if run.epochs_done == 0:
        return
    state = run.checkpoint.training or run.checkpoint.finished or {}
    wanted = state["stopper"]["best_epoch"]
    for file in (run.file, run.file.with_name(BEST)):
        checkpoint = read_checkpoint(file) if file.is_file() else None
        if checkpoint and epochs_done(checkpoint) == wanted + 1 and _identity(checkpoint) == _identity(run.checkpoint):
            write_checkpoint(folder / WEIGHTS / BEST, checkpoint)
            return
    LOGGER.warning(f"WARNING: the best weights so far, of epoch {wanted}, are not beside '{run.file}' and stay behind")


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the options that make a run what it is."""
    return {name: value for name, value in checkpoint.options.items() if name not in CHANGEABLE}


def require_same_classes(before: dict[int, str], now: dict[int, str], file: Path) -> None:
    """See that a data set still has the classes with which a run began.

    Raises:
        UserError: it has more or fewer, or one has another name.
    """
    if len(now) != len(before):
        raise UserError(f"{file} has {len(now)} classes now, but the run began with {len(before)}")
    for index, name in before.items():
        if now[index] != name:
            raise UserError(f"{file} calls class {index} '{now[index]}' now, but the run began with '{name}'")


def require_same_channels(before: int, now: int, file: Path) -> None:
    """See that the images of a data set still have the channels with which a run began.

    Raises:
        UserError: they have more or fewer.
    """
    if now != before:
        raise UserError(f"{file} has images of {now} channels now ('ch'), but the run began with {before}")


def find_restarted(folder: Path) -> Resumable | None:
    """Return the run of ``folder``, which a restart by torchrun goes on with; None when it had no checkpoint yet.

    Raises:
        UserError: it is over; what failed was to measure it.
    """
    file = folder / WEIGHTS / LAST
    if not file.is_file():
        return None
    checkpoint = read_checkpoint(file)
    if checkpoint.training is None:
        raise UserError(f"the run in '{folder}' is over; measure it with val.py --weights '{file}'")
    return Resumable(file, folder, checkpoint)
