"""Which weights a command uses when the user names none."""

from pathlib import Path

from utils.errors import UserError
from utils.files import ROOT, runs_dir

PRETRAINED = "yolov5s.pt"


def pretrained_weights() -> Path | None:
    """Return ``yolov5s.pt`` of the working folder or the project, or None."""
    return next((path for path in (Path(PRETRAINED), ROOT / PRETRAINED) if path.is_file()), None)


def newest_weights() -> Path:
    """Return the newest ``runs/train/*/weights/best.pt``, else ``yolov5s.pt``.

    Raises:
        UserError: there is neither.
    """
    trained = sorted(runs_dir("train").glob("*/weights/best.pt"), key=lambda path: path.stat().st_mtime)
    found = trained[-1] if trained else pretrained_weights()
    if found is None:
        raise UserError(
            f"no --weights given, and there is neither runs/train/*/weights/best.pt nor {PRETRAINED}; "
            "train first, or name a .pt file with --weights"
        )
    return found
