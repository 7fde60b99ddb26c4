"""Finding the run to go on with, and the options to do so."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from utils.checkpoint import Checkpoint, read_checkpoint
from utils.errors import UserError
from utils.options import given_options, make_options
from utils.train.options import CHANGEABLE, NEWEST, TrainOptions


@dataclass(frozen=True)
class Resumable:
    """A run that can go on.

    Attributes:
        file: its checkpoint.
        folder: its run folder; None for a checkpoint that was taken out of it, which goes on in a folder of its own.
        checkpoint: what ``file`` holds.
    """

    file: Path
    folder: Path | None
    checkpoint: Checkpoint

    @property
    def epochs_done(self) -> int:
        """Epochs that are over."""
        return int((self.checkpoint.training or self.checkpoint.finished or {})["epoch"])


def find_resumable(request: str, project: Path) -> Resumable:
    """Return the run that ``--resume`` means.

    Args:
        request: a run folder, one of its checkpoints wherever it lies, or ``"newest"``.
        project: where the newest run is looked for.

    Raises:
        UserError: there is none, or it is a checkpoint that no run of ours left.
    """
    if request == NEWEST:
        found = sorted(project.glob("*/weights/last.pt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"--resume: no run with weights/last.pt in '{project}'; name its folder or last.pt")
        path = found[-1]
    else:
        path = Path(request) / "weights" / "last.pt" if Path(request).is_dir() else Path(request)
        if not path.is_file():
            raise UserError(f"--resume: '{path}' does not exist; name the folder of an interrupted run or its last.pt")
    path = path.resolve()
    checkpoint = read_checkpoint(path)
    if checkpoint.training is None and checkpoint.finished is None:
        raise UserError(f"--resume: '{path}' does not know the run it is from; to start from it use --weights '{path}'")
    return Resumable(path, path.parents[1] if path.parent.name == "weights" else None, checkpoint)


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
    if changed.epochs <= run.epochs_done and (run.checkpoint.training is None or "epochs" in given):
        extend = f"--resume {shlex.quote(str(run.folder or run.file))} --epochs {2 * run.epochs_done}"
        raise UserError(
            f"'{run.file}' is of a finished run of {run.epochs_done} epochs; to train on give a larger number of all "
            f"epochs: {extend}; to start a new run from its weights: --weights {shlex.quote(str(run.file))}"
        )
    return changed


def find_restarted(options: TrainOptions) -> Resumable | None:
    """Return the unfinished run that a restart by torchrun goes on with: the newest one with these very options."""
    wanted = dataclasses.asdict(options) | {"data": "", "batch_size": 0}  # these two are resolved when a run begins
    for file in sorted(Path(options.project).glob("*/weights/last.pt"), key=lambda path: -path.stat().st_mtime):
        checkpoint = read_checkpoint(file)
        if checkpoint.training and checkpoint.options | {"data": "", "batch_size": 0} == wanted:
            return Resumable(file.resolve(), file.resolve().parents[1], checkpoint)
    return None
