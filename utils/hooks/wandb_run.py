"""Weights & Biases: a run kept offline in the run folder, or sent to the server if WANDB_MODE=online says so."""

import os
import secrets
from typing import Any

from utils.errors import UserError
from utils.hooks.base import EpochReport, Hook
from utils.hooks.facts import RunFacts
from utils.log import LOGGER

ID_FILE = "wandb_run_id.txt"
PROJECT = "YOLOv5-NAM"
WITHOUT_SERVER = ("offline", "dryrun", "disabled")


class WandbRun(Hook):
    """Records options and hyperparameters once, figures every epoch, and pictures and the place of best.pt at the end.

    Never asks for anything: without a stored login, WANDB_MODE=online is an error. WANDB_PROJECT names another
    project, WANDB_ENTITY whose it is.

    Args:
        facts: the run.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self._run: Any = None
        self._mode: Any = os.environ.get("WANDB_MODE") or "offline"

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Begin the run in W&B, or go on with it."""
        if self._run is None:
            self._run = self._begin()

    def _begin(self) -> Any:
        if self._mode in WITHOUT_SERVER:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read while wandb is imported
        import wandb

        if self._mode not in WITHOUT_SERVER and not wandb.login(prompt=False):
            raise UserError(f"WANDB_MODE={self._mode} needs a login; run 'wandb login' or set WANDB_API_KEY")
        identity = self.facts.saved_id(ID_FILE) or secrets.token_hex(4)
        self.facts.save_id(ID_FILE, identity)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=self.facts.folder.name,
            dir=str(self.facts.folder),
            id=identity,
            resume="allow",
            mode=self._mode,
            config={"options": dict(self.facts.options), "hyperparameters": dict(self.facts.hyperparameters)},
            # its lines would run into the progress bar, and its capture of the console would hide the terminal
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )

    def epoch_end(self, report: EpochReport) -> None:
        """Record an epoch."""
        if self._run is not None:
            self._run.log(self.facts.scalars(report), step=report.epoch)

    def training_failed(self) -> None:
        """End the run in W&B; it can be taken up again."""
        if self._run is not None:
            self._run.finish(exit_code=1)

    def training_end(self) -> None:
        """Record pictures and where best.pt is, and end the run."""
        if self._run is None:
            return
        import wandb

        pictures = {picture.stem: wandb.Image(str(picture)) for picture in self.facts.pictures()}
        self._run.log(pictures)
        self._run.summary["best.pt"] = str(self.facts.best.resolve())
        self._run.finish()
        if self._mode in ("offline", "dryrun"):
            LOGGER.info(f"W&B: recorded offline; send it with: wandb sync '{self.facts.folder}'/wandb/offline-run-*")
