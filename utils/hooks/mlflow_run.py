"""MLflow: a run in a local store, ``<project>/mlruns``, or on the server that MLFLOW_TRACKING_URI names."""

import os
import time
from typing import TYPE_CHECKING, Any

from utils.hooks.base import EpochReport, Hook
from utils.hooks.facts import RunFacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID_FILE = "mlflow_run_id.txt"
EXPERIMENT = "YOLOv5-NAM"
LONGEST_VALUE = 500  # characters of a parameter that every version of MLflow takes
LARGEST_BATCH = 100  # parameters a request


class MLflowRun(Hook):
    """Records options and hyperparameters once, figures every epoch, and pictures and the place of best.pt at the end.

    Nothing leaves the machine unless MLFLOW_TRACKING_URI says so; MLflow's own usage statistics stay off unless the
    environment sets MLFLOW_DISABLE_TELEMETRY otherwise. MLFLOW_EXPERIMENT_NAME names another experiment.

    Args:
        facts: the run.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self._client: MlflowClient | None = None
        self._run = ""

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Begin the run in MLflow, or go on with it."""
        if self._client is None:
            self._client = self._connect()
            self._run = self._find_run(self._client) or self._create_run(self._client)

    def _connect(self) -> "MlflowClient":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while MLflow is imported
        from mlflow import MlflowClient

        store = self.facts.project.resolve() / "mlruns"
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            store.mkdir(parents=True, exist_ok=True)
            address = f"sqlite:///{(store / 'mlflow.db').as_posix()}"  # MLflow 3 refuses plain folders
        return MlflowClient(tracking_uri=address)

    def _find_run(self, client: "MlflowClient") -> str | None:
        """Return the id of the run that is resumed, if the store still has it."""
        saved = self.facts.saved_id(ID_FILE)
        if saved is None:
            return None
        from mlflow.exceptions import MlflowException

        try:
            client.update_run(saved, status="RUNNING")
        except MlflowException:
            return None
        return saved

    def _create_run(self, client: "MlflowClient") -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = client.get_experiment_by_name(name)
        identity = experiment.experiment_id if experiment else self._create_experiment(client, name)
        run = client.create_run(identity, run_name=self.facts.folder.name).info.run_id
        self.facts.save_id(ID_FILE, run)
        self._log_parameters(client, run)
        return run

    def _create_experiment(self, client: "MlflowClient", name: str) -> str:
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = (self.facts.project.resolve() / "mlruns" / "artifacts").as_uri() if local else None
        return client.create_experiment(name, artifact_location=artifacts)

    def _log_parameters(self, client: "MlflowClient", run: str) -> None:
        from mlflow.entities import Param

        values: dict[str, Any] = {**self.facts.options}
        values |= {f"hyp/{name}": value for name, value in self.facts.hyperparameters.items()}
        entries = [Param(name, str(value)[:LONGEST_VALUE]) for name, value in values.items()]
        for start in range(0, len(entries), LARGEST_BATCH):
            client.log_batch(run, params=entries[start : start + LARGEST_BATCH])

    def epoch_end(self, report: EpochReport) -> None:
        """Record an epoch; names lose their colons, which MLflow does not take on Windows."""
        if self._client is not None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            scalars = self.facts.scalars(report).items()
            metrics = [Metric(name.replace(":", "-"), value, now, report.epoch) for name, value in scalars]
            self._client.log_batch(self._run, metrics=metrics)

    def training_failed(self) -> None:
        """End the run in MLflow; it can be taken up again."""
        if self._client is not None:
            self._client.set_terminated(self._run, status="KILLED")

    def training_end(self) -> None:
        """Record pictures and where best.pt is, and end the run."""
        if self._client is not None:
            for picture in self.facts.pictures():
                self._client.log_artifact(self._run, str(picture))
            self._client.set_tag(self._run, "best.pt", str(self.facts.best.resolve()))
            self._client.set_terminated(self._run)
