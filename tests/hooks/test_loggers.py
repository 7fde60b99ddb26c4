"""TensorBoard, MLflow and W&B: on their own, with stand-ins for their packages, and never in the way of a run."""

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.hooks.reports import batch_report, epoch_report
from utils.errors import UserError
from utils.hooks.base import Hook
from utils.hooks.facts import RunFacts
from utils.hooks.guarded import Guarded
from utils.hooks.loggers import LOGGERS, check_loggers, is_installed, make_loggers
from utils.hooks.mlflow_run import MLflowRun
from utils.hooks.tensorboard import TensorBoard
from utils.hooks.wandb_run import WandbRun
from utils.log import LOGGER

OPTIONS, HYP = {"epochs": 3, "label_smoothing": 0.1}, {"lr0": 0.01, "label_smoothing": 0.1}


def fake_module(monkeypatch, name: str, **content) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin="test")
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    logged: list[str] = []
    monkeypatch.setattr(LOGGER, "warning", logged.append)
    return logged


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):  # set for good by the hooks, so undone here
        monkeypatch.setenv(name, "true" if name.startswith("MLFLOW") else "false")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run folder with two pictures."""
    folder = tmp_path / "exp"
    folder.mkdir()
    for name in ("train_batch0.jpg", "results.png"):
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    (folder / "results.csv").write_text("")
    return folder


def facts_of(folder: Path, first_epoch: int = 0, **more) -> RunFacts:
    return RunFacts(folder, folder.parent, OPTIONS, HYP, first_epoch, **more)


def play(hook: Hook, epochs=(0, 1), end: bool = True) -> None:
    for epoch in epochs:
        hook.epoch_start(epoch, 3, 1)
        hook.batch_end(batch_report(epoch))
        hook.epoch_end(epoch_report(epoch, evaluation=None) if epoch == 0 else epoch_report(epoch))
    if end:
        hook.epochs_done()
        hook.training_end()


# Choosing


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_named_with_the_command_that_helps(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"--log-to {name}.*pip install {name}"):
        check_loggers([name])


def test_without_tensorboard_there_is_silence(monkeypatch, folder, warned):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert make_loggers(["tensorboard"], RunFacts(folder, folder.parent)) == [] and not warned


def test_an_unknown_logger_is_named_with_a_near_one():
    with pytest.raises(UserError, match=r"'tensorbord'.*'tensorboard'"):
        check_loggers(["tensorbord"])


def test_a_folder_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "no_such_logger").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("no_such_logger")


@pytest.mark.parametrize(
    ("names", "made"),
    [([], 1), (["none"], 0), (["tensorboard", "none"], 0), (["mlflow", "wandb"], 3), (["wandb", "wandb"], 2)],
)
def test_loggers_are_made_by_name(monkeypatch, folder, names, made):
    for name in LOGGERS:
        fake_module(monkeypatch, name)
    hooks = make_loggers(names, RunFacts(folder, folder.parent, OPTIONS, HYP))
    assert len(hooks) == made and all(isinstance(hook, Guarded) for hook in hooks)


# Failing


class Failing(Hook):
    """Fails in one method, and counts its calls."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.calls = 0
        self.error = error
        setattr(self, method, self._fail)

    def _fail(self, *_: object) -> None:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("method", ["epoch_start", "batch_end", "epoch_end", "epochs_done", "training_end"])
def test_a_failing_logger_is_left_out_with_one_warning(warned, method):
    hook = Failing(method, OSError("no space\nleft"))
    guarded = Guarded(hook, "mlflow")
    play(guarded)
    assert hook.calls == 1
    assert warned == ["WARNING: mlflow failed and is left out from here on: no space left"]


def test_an_interrupt_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        play(Guarded(Failing("batch_end", KeyboardInterrupt()), "mlflow"))


# What all record


def test_scalars_have_the_names_of_the_csv_and_no_gaps(folder):
    facts = facts_of(folder, figures={"nam/x": lambda report: report.seconds})
    full, gap = facts.scalars(epoch_report(1)), facts.scalars(epoch_report(1, evaluation=None))
    assert full["metrics/mAP_0.5:0.95"] == 0 and full["x/lr2"] == 0.03 and full["nam/x"] == 20 and "epoch" not in full
    assert set(full) - set(gap) == {name for name in full if name.startswith(("metrics/", "val/"))}


def test_ids_belong_to_a_run_that_goes_on(folder):
    facts_of(folder).save_id("id.txt", "abc")
    assert facts_of(folder, 1).saved_id("id.txt") == "abc"
    assert facts_of(folder, 0).saved_id("id.txt") is None
    assert facts_of(folder, 1).saved_id("other.txt") is None


# TensorBoard


class Network(nn.Module):
    """Has statistics and a draw at random, which a run would notice to have moved."""

    def __init__(self, traceable: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
        self.traceable = traceable

    def forward(self, x):
        if not self.traceable:
            raise RuntimeError("cannot be traced")
        return self.layers(x) + torch.rand(1), [x]


@pytest.mark.parametrize("traceable", [True, False])
def test_tensorboard_records_a_run_that_does_not_notice(folder, warned, traceable, capsys):
    pytest.importorskip("torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = Network(traceable).train()
    before, random_state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    play(Guarded(TensorBoard(facts_of(folder, model=model)), "tensorboard"))
    events = EventAccumulator(str(folder)).Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("train/box_loss")] == [(0, 0.1), (1, 0.1)]
    assert [e.step for e in events.Scalars("metrics/mAP_0.5:0.95")] == [1]
    assert events.Tags()["images"] == ["train_batch0", "results"]
    assert events.Tags()["graph"] is traceable
    assert model.training and torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not warned and capsys.readouterr().out == ""


def test_tensorboard_hides_what_an_interrupted_epoch_left(folder):
    pytest.importorskip("torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    play(TensorBoard(facts_of(folder)), (0, 1, 2), end=False)
    play(TensorBoard(facts_of(folder, 1)), (1, 2))
    assert [e.step for e in EventAccumulator(str(folder)).Reload().Scalars("train/box_loss")] == [0, 1, 2]


# MLflow


class FakeClient:
    """Keeps what it is told."""

    made: list["FakeClient"]
    known: set[str]

    def __init__(self, tracking_uri: str) -> None:
        self.address = tracking_uri
        self.calls: list[tuple] = []
        self.made.append(self)

    def __getattr__(self, name):
        return lambda *arguments, **named: self.calls.append((name, arguments, named))

    def get_experiment_by_name(self, name):
        self.experiment = name

    def create_experiment(self, name, artifact_location):
        self.artifacts = artifact_location
        return "7"

    def create_run(self, experiment, run_name):
        identity = f"run{len(self.known)}"
        self.known.add(identity)
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=identity))

    def update_run(self, identity, status):
        assert status == "RUNNING"
        if identity not in self.known:
            raise sys.modules["mlflow.exceptions"].MlflowException("gone")

    def logged(self, kind: str) -> list[tuple]:
        entries = [entry for name, _, named in self.calls if name == "log_batch" for entry in named.get(kind, [])]
        return entries


@pytest.fixture
def mlflow(monkeypatch) -> type[FakeClient]:
    client = type("Client", (FakeClient,), {"made": [], "known": set()})
    fake_module(monkeypatch, "mlflow", MlflowClient=client)
    fake_module(monkeypatch, "mlflow.exceptions", MlflowException=type("MlflowException", (Exception,), {}))
    fake_module(monkeypatch, "mlflow.entities", Param=lambda *a: a, Metric=lambda *a: a)
    return client


def test_mlflow_records_options_figures_and_pictures(folder, mlflow):
    play(MLflowRun(facts_of(folder)))
    (client,) = mlflow.made
    assert client.address.startswith("sqlite:///") and client.address.endswith("/mlruns/mlflow.db")
    assert client.artifacts.startswith("file://") and client.experiment == "YOLOv5-NAM"
    expected = {("epochs", "3"), ("label_smoothing", "0.1"), ("hyp/lr0", "0.01"), ("hyp/label_smoothing", "0.1")}
    assert set(client.logged("params")) == expected
    steps = [(name, step) for name, _, _, step in client.logged("metrics")]
    assert ("metrics/mAP_0.5-0.95", 1) in steps and ("metrics/mAP_0.5-0.95", 0) not in steps
    assert [Path(a[1]).name for name, a, _ in client.calls if name == "log_artifact"] == [
        "results.png",
        "train_batch0.jpg",
    ]
    assert [name for name, _, _ in client.calls][-2:] == ["set_tag", "set_terminated"]


@pytest.mark.parametrize("forgotten", [False, True])
def test_mlflow_goes_on_with_its_run_while_the_store_knows_it(folder, mlflow, forgotten):
    play(MLflowRun(facts_of(folder)), (0,), end=False)
    if forgotten:
        mlflow.known.clear()
        mlflow.known.add("another")
    play(MLflowRun(facts_of(folder, 1)), (1,))
    second = mlflow.made[1]
    assert bool(second.logged("params")) is forgotten
    assert {a[0] for name, a, _ in second.calls if name == "log_batch"} == {"run1" if forgotten else "run0"}


def test_mlflow_goes_where_its_address_says(folder, mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    play(MLflowRun(facts_of(folder)), (0,))
    (client,) = mlflow.made
    assert (client.address, client.experiment, client.artifacts) == ("http://localhost:1", "mine", None)
    assert not (folder.parent / "mlruns").exists()


def test_mlflow_for_real(folder, warned):
    mlflow = pytest.importorskip("mlflow")
    for first, epochs in ((0, (0, 1)), (2, (2,))):
        play(Guarded(MLflowRun(facts_of(folder, first)), "mlflow"), epochs)
    assert not warned
    client = mlflow.MlflowClient(f"sqlite:///{(folder.parent / 'mlruns/mlflow.db').as_posix()}")
    (run,) = client.search_runs([client.get_experiment_by_name("YOLOv5-NAM").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["hyp/lr0"] == "0.01"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/box_loss")] == [0, 1, 2]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"results.png", "train_batch0.jpg"}


# W&B


@pytest.fixture
def wandb(monkeypatch) -> types.ModuleType:
    module = fake_module(monkeypatch, "wandb", begun=[], logged=[], finished=[], key=None)
    module.login = lambda prompt: not prompt and module.key is not None

    def init(**settings):
        module.begun.append(settings)
        return types.SimpleNamespace(
            log=lambda values, step=None: module.logged.append((step, values)),
            summary={},
            finish=lambda: module.finished.append(True),
        )

    module.init, module.Image, module.Settings = init, lambda path: Path(path).name, lambda **settings: settings
    return module


def test_wandb_stays_offline(folder, wandb):
    play(WandbRun(facts_of(folder)))
    (begun,) = wandb.begun
    assert begun["mode"] == "offline" and begun["dir"] == str(folder) and begun["project"] == "YOLOv5-NAM"
    assert begun["config"] == {"options": OPTIONS, "hyperparameters": HYP}
    assert [step for step, _ in wandb.logged] == [0, 1, None]
    assert wandb.logged[1][1]["metrics/mAP_0.5:0.95"] == 0
    assert wandb.logged[2][1] == {"results": "results.png", "train_batch0": "train_batch0.jpg"}
    assert wandb.finished == [True]


def test_wandb_goes_on_with_its_run(folder, wandb):
    play(WandbRun(facts_of(folder)), (0,), end=False)
    play(WandbRun(facts_of(folder, 1)), (1,))
    play(WandbRun(facts_of(folder)), (0,))
    first, second, third = (begun["id"] for begun in wandb.begun)
    assert first == second != third


@pytest.mark.parametrize(("key", "begun"), [(None, 0), ("secret", 1)])
def test_wandb_online_needs_a_login_and_never_asks_for_one(folder, wandb, monkeypatch, warned, key, begun):
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.key = key
    play(Guarded(WandbRun(facts_of(folder)), "wandb"))
    assert len(wandb.begun) == begun and all(settings["mode"] == "online" for settings in wandb.begun)
    assert len(warned) == 1 - begun and all("wandb login" in line for line in warned)


def test_wandb_for_real(folder, warned, capfd):
    pytest.importorskip("wandb")
    play(Guarded(WandbRun(facts_of(folder)), "wandb"))
    assert not warned
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1
    said = capfd.readouterr()
    assert said.err == "" and not [line for line in said.out.splitlines() if not line.startswith("W&B: ")]
