"""Finding the run to go on with."""

from pathlib import Path

from utils.checkpoint import Checkpoint, read_checkpoint
from utils.errors import UserError
from utils.train.options import NEWEST


def find_resumable(request: str, project: Path) -> tuple[Path, Checkpoint]:
    """Return the folder and the checkpoint of an interrupted run.

    Args:
        request: a run folder, its ``last.pt``, or ``"newest"``.
        project: where the newest run is looked for.

    Raises:
        UserError: there is none, or the run is finished.
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
    if path.resolve().parent.name != "weights":
        raise UserError(f"--resume: '{path}' is not in the weights folder of a run; to start from it use --weights")
    checkpoint = read_checkpoint(path)
    if checkpoint.training is None:
        raise UserError(
            f"--resume: '{path}' belongs to a finished run or to inference, there is nothing to go on with; "
            f"to train further start a new run with --weights '{path}'"
        )
    return path.resolve().parents[1], checkpoint
