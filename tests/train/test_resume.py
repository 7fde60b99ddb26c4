"""Runs that are killed, interrupted or over, and what becomes of them: the same as without, or what was asked for."""

import dataclasses
import errno
import importlib
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import train
from benchmarks.kill_resume import kill_run, run_to_end, same_outcome
from tests.train.test_fit import FAST, interrupt_at, rows_of, same, state_of
from utils.checkpoint import read_checkpoint, strip_checkpoint
from utils.errors import UserError
from utils.eval.evaluate import Evaluation
from utils.files import atomic_write, remove_leftovers
from utils.hooks.csv_file import CsvFile
from utils.train import run as _run  # noqa: F401  for the child processes, which have it from here
from utils.train import saving
from utils.train.hyperparameters import Hyperparameters
from utils.train.options import CHANGEABLE, TrainOptions
from utils.train.schedule import EarlyStopper, Schedule

REAL_UPDATE = EarlyStopper.update
QUICK = FAST | {"noplots": True, "log_to": "none"}
BATCHES = 2  # an epoch

# Plug-in layer of these tests: what it drops is drawn anew for every batch.
DROPOUT = """
from torch import Tensor, nn
from models.registry import gates, layer

@layer(gates)
class TestDropout(nn.Dropout2d):
    def __init__(self, channels: int) -> None:
        super().__init__(0.5)
"""

# Where processes are killed, one after the other: a function, and which call of it is the last of the process.
KILLS = [
    ("utils.train.saving.CheckpointWriter.start", 1),  # nothing is there yet
    ("utils.train.fit._LossCheck.add", 2),  # within the first epoch
    ("utils.train.saving.CheckpointWriter.__call__", 1),  # the epoch is in results.csv, but in no checkpoint
    ("utils.train.saving.shutil.copyfile", 1),  # it is in best.pt, but not in last.pt
    ("utils.checkpoint.torch.save", 3),  # while best.pt of epoch 1 is written, after last.pt at the start and an epoch
    ("utils.train.saving.shutil.copyfile", 1),  # the epoch that will be the best
    ("utils.train.validation.Validator.__call__", 1),
    ("utils.train.saving.strip_checkpoint", 2),  # the run is over, best.pt has been reduced and last.pt has not
]

FEATURES: dict[str, dict[str, Any]] = {
    "image weights": {"image_weights": True, "save_period": 1},
    "multi-scale, quad, Adam, label smoothing": {
        **{"multi_scale": True, "quad": True, "optimizer": "Adam", "label_smoothing": 0.1},
    },
    "rect, AdamW, frozen layers, cosine, nam_l1": {
        **{"rect": True, "optimizer": "AdamW", "freeze": [3], "cos_lr": True, "hyp": "nam_l1: 0.01"},
    },
}


def scored_update(stopper: EarlyStopper, epoch: int, _fitness: float) -> bool:
    """Note that epoch 1 is the best, where all epochs of tiny runs are equally bad."""
    return REAL_UPDATE(stopper, epoch, (0.2, 0.5, 0.1, 0.4)[epoch])


class Runs:
    """Starts runs in ``project``."""

    def __init__(self, project: Path, data: Path, cfg: Path) -> None:
        self.project, self.data, self.cfg = project, data, cfg

    def options(self, **options: Any) -> dict[str, Any]:
        return {**QUICK, "data": str(self.data), "cfg": str(self.cfg), "project": str(self.project), **options}

    def __call__(self, name: str = "exp", **options: Any) -> Path:
        train.run(**self.options(name=name, **options))
        return self.project / name


@pytest.fixture
def runs(tmp_path, tiny_dataset, tiny_cfg) -> Runs:
    return Runs(tmp_path / "runs", tiny_dataset, tiny_cfg)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_dataset, tiny_cfg) -> Path:
    """A run of three epochs, left alone."""
    return Runs(tmp_path_factory.mktemp("whole"), tiny_dataset, tiny_cfg)(epochs=3)


@pytest.fixture(scope="module")
def scored_whole(tmp_path_factory, tiny_dataset, tiny_cfg) -> Path:
    """A run of four epochs with ``scored_update`` that keeps each of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EarlyStopper, "update", scored_update)
        runs = Runs(tmp_path_factory.mktemp("scored"), tiny_dataset, tiny_cfg)
        return runs(epochs=4, save_period=1)


@pytest.fixture
def scored(monkeypatch):
    monkeypatch.setattr(EarlyStopper, "update", scored_update)


def assert_same(run: Path, other: Path, files: tuple[str, ...] = ("last.pt", "best.pt")) -> None:
    assert (run / "results.csv").read_bytes() == (other / "results.csv").read_bytes()
    for name in files:
        assert same(run / "weights" / name, other / "weights" / name), name
    assert not [path for path in run.glob("**/.*") if path.is_file()]


# Killed


def die_in(place: str, call: int) -> None:
    """Have this process and its children killed in the given call of a function, counted from 1."""
    path, name = place.rsplit(".", 1)
    owner: Any = None
    for part in path.split("."):
        owner = getattr(owner, part) if hasattr(owner, part) else importlib.import_module(_joined(owner, part))
    real, calls = getattr(owner, name), iter(range(1, 10_000))

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            os.killpg(0, signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, name, wrapped)


def _joined(package: Any, part: str) -> str:
    return f"{package.__name__}.{part}" if package else part


def run_in_child(options: dict[str, Any], kill: tuple[str, int] | None) -> None:
    """Train in this process, which is a child of the test's, and die there."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # loader processes start as they do in commands
    torch.set_num_threads(1)
    EarlyStopper.update = scored_update  # type: ignore[method-assign]
    if kill:
        die_in(*kill)
    train.run(**options)


def in_child(options: dict[str, Any], kill: tuple[str, int] | None = None) -> int | None:
    """Return the exit code of a run in a process of its own."""
    context = multiprocessing.get_context("forkserver")  # imports once, forks from there
    context.set_forkserver_preload([__name__, "models.start", "models.formats.pytorch", "utils.eval.report"])
    child = context.Process(target=run_in_child, args=(options, kill))
    child.start()
    child.join(120)
    return child.exitcode


@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
@pytest.mark.parametrize(
    ("workers", "kills"), [(0, KILLS), (2, KILLS[1:4:2]), pytest.param(2, KILLS, marks=pytest.mark.slow)]
)
def test_a_run_killed_at_all_the_worst_moments_ends_as_if_it_had_not_been(runs, scored, scored_whole, workers, kills):
    options = runs.options(epochs=4, workers=workers, exist_ok=True, save_period=1)
    folder = runs.project / "exp"
    leftovers = 0
    for place, call in kills:
        assert in_child(options, (place, call)) == -signal.SIGKILL, place
        leftovers += len(list(folder.glob("**/.*")))
        if (folder / "weights/last.pt").exists():
            options = {"resume": str(folder)}
    assert leftovers  # else no kill hit a write
    train.run(resume=str(folder))
    assert_same(folder, scored_whole, ("last.pt", "best.pt", "epoch1.pt", "epoch2.pt", "epoch3.pt"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
def test_a_run_killed_in_each_of_its_writes(runs, scored):
    whole = runs("whole", epochs=2)
    for write in range(1, 100):
        name = f"exp{write}"
        options = runs.options(epochs=2, name=name, exist_ok=True)
        code = in_child(options, ("utils.files.os.fsync", write))
        if code == 0:
            break
        last = runs.project / name / "weights/last.pt"
        if not last.exists():
            train.run(**options)
        elif read_checkpoint(last).training:
            train.run(resume=str(last))
        remove_leftovers(last.parents[1])  # of pictures made after training, which a finished run leaves
        assert_same(runs.project / name, whole)
    assert write > 10


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_command_killed_at_five_random_times(tmp_path, tiny_dataset, tiny_cfg, workers):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # shown when the test fails
    generator = random.Random(seed)
    words = [word for name, value in FAST.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--data", str(tiny_dataset), "--cfg", str(tiny_cfg), "--epochs", "12", "--noplots"]
    words += ["--workers", str(workers)]
    whole, seconds = run_to_end([*words, "--project", str(tmp_path), "--name", "whole"], tmp_path / "whole")
    for number in range(5):
        kill = kill_run(words, tmp_path, f"killed{number}", generator.uniform(0, seconds))
        assert same_outcome(kill.folder, whole), kill


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("stop", ["SIGTERM", "two SIGINT"])
@pytest.mark.slow
def test_a_stopped_command_fails_and_leaves_no_process(tmp_path, tiny_dataset, tiny_cfg, stop):
    words = [word for name, value in FAST.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--data", str(tiny_dataset), "--cfg", str(tiny_cfg), "--workers", "2", "--epochs", "200", "--noplots"]
    line = [sys.executable, "train.py", *words, "--project", str(tmp_path)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    assert process.stdout
    for printed in process.stdout:
        if printed.strip().startswith(b"2/199"):
            break
    if stop == "SIGTERM":
        process.send_signal(signal.SIGTERM)  # the main process alone
    else:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
    process.stdout.read()
    assert process.wait(30) != 0
    deadline = time.monotonic() + 20  # loader processes look for their parent every five seconds
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.2)
    folder = tmp_path / "exp"
    done = read_checkpoint(folder / "weights/last.pt").epoch + 1
    assert done >= 2
    train.run(resume=str(folder), epochs=done + 1)
    assert len(rows_of(folder)) == done + 1


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path):
    kept = [".git", ".gitignore", "last.pt", ".last-1234.pt", "a-0123abcd.pt", ".last-0123ABCD.pt"]
    for name in [*kept, ".last-0123abcd.pt", ".results-00000000.csv", ".LICENSE-ffffffff"]:
        (tmp_path / name).write_text("")
    (tmp_path / ".folder-0123abcd").mkdir()
    with pytest.raises(KeyError), atomic_write(tmp_path / "last.pt") as temporary:
        remove_leftovers(tmp_path)
        assert not temporary.exists()  # the pattern is that of atomic_write's names
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".folder-0123abcd"])


# From a checkpoint alone


def assert_resumes_alone(runs: Runs, tmp_path: Path, monkeypatch, iteration: int, **options: Any) -> Path:
    """Interrupt a run, keep a copy of last.pt only, go on with that, and compare with the run that is whole.

    More processes load the images after the interruption than before it.
    """
    whole = runs("whole", **options)
    interrupt_at(iteration, monkeypatch, lambda: runs(**options))
    copy = tmp_path / "elsewhere/copy.pt"
    copy.parent.mkdir()
    shutil.move(runs.project / "exp/weights/last.pt", copy)
    saved = copy.read_bytes()
    shutil.rmtree(runs.project / "exp")
    train.run(resume=str(copy), workers=2, **({"plugins": options["plugins"]} if "plugins" in options else {}))
    assert_same(runs.project / "exp", whole)
    assert copy.read_bytes() == saved and len(list(copy.parent.iterdir())) == 1
    return whole


@pytest.mark.parametrize("name", FEATURES)
def test_a_checkpoint_alone_is_enough(runs, tmp_path, monkeypatch, tiny_nam_cfg, name):
    options = FEATURES[name]
    if "hyp" in options:
        hyp = tmp_path / "hyp.yaml"
        hyp.write_text(options["hyp"])
        options = options | {"hyp": str(hyp), "cfg": str(tiny_nam_cfg)}
    whole = assert_resumes_alone(runs, tmp_path, monkeypatch, 3, epochs=3, **options)
    assert (runs.project / "exp/model.yaml").read_bytes() == (whole / "model.yaml").read_bytes()
    if "hyp" in options:
        assert all(float(row["train/nam_loss"]) > 0 for row in rows_of(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for many in FEATURES.values() for name, value in many.items() if name != "hyp"),
        *({"cache": place} for place in ("ram", "disk", "val")),
        *({name: True} for name in ("single_cls", "noval", "noautoanchor")),
        {"hyp": "hyp.scratch-high.yaml"},
        {"batch_size": 3},
        {"seed": 5, "workers": 1},
    ],
    ids=str,
)
def test_a_checkpoint_alone_is_enough_with_any_option(runs, tmp_path, monkeypatch, options):
    assert_resumes_alone(runs, tmp_path, monkeypatch, 3, epochs=3, **options)


def test_what_layers_draw(runs, tmp_path, monkeypatch):
    plugin = tmp_path / "test_dropout.py"
    plugin.write_text(DROPOUT)
    options = {"plugins": [str(plugin)], "insert": ["TestDropout@9"], "epochs": 3}
    assert_resumes_alone(runs, tmp_path, monkeypatch, 3, **options)


def test_gradients_that_wait_for_their_step_are_kept(runs, whole, monkeypatch):
    interrupt_at(5, monkeypatch, lambda: runs(epochs=3))
    training = read_checkpoint(runs.project / "exp/weights/last.pt").training
    assert training["last_step"] < 2 * BATCHES - 1
    assert any(gradient.abs().max() > 0 for gradient in training["gradients"].values())
    train.run(resume=str(runs.project / "exp"))
    assert_same(runs.project / "exp", whole)


def test_a_kept_epoch_goes_on_in_a_folder_of_its_own(runs, scored, scored_whole):
    before = {path: path.read_bytes() for path in scored_whole.rglob("*") if path.is_file()}
    train.run(resume=str(scored_whole / "weights/epoch1.pt"), project=str(runs.project))
    again = runs.project / "exp"
    assert before == {path: path.read_bytes() for path in scored_whole.rglob("*") if path.is_file()}
    assert_same(again, scored_whole, ("last.pt", "epoch2.pt", "epoch3.pt"))
    opt = [yaml.safe_load((folder / "opt.yaml").read_text()) for folder in (scored_whole, again)]
    assert opt[0] | {"project": str(runs.project), "save_dir": str(again)} == opt[1]


@pytest.mark.parametrize("beside", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_best_weights_of_before(runs, tmp_path, monkeypatch, beside, capsys):
    scores = iter([0.5, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1])
    monkeypatch.setattr(Evaluation, "fitness", property(lambda _: next(scores)))
    whole = runs("whole", epochs=3)
    interrupt_at(5, monkeypatch, lambda: runs(epochs=3))
    taken = tmp_path / "taken"
    shutil.copytree(runs.project / "exp/weights", taken)
    if not beside:
        (taken / "best.pt").unlink()
    train.run(resume=str(taken / "last.pt"))
    assert_same(runs.project / "exp2", whole, ("last.pt", "best.pt") if beside else ("last.pt",))
    assert (runs.project / "exp2/weights/best.pt").exists() == beside
    assert ("the best weights so far, of epoch 0, are not beside" in capsys.readouterr().out) != beside


# Early stopping


def test_patience_counts_across_interruptions(runs, monkeypatch):
    scores = iter([0.3, 0.2, 0.2, 0.3, 0.2, 0.2])
    monkeypatch.setattr(Evaluation, "fitness", property(lambda _: next(scores)))
    whole = runs("whole", epochs=6, patience=2)
    assert len(rows_of(whole)) == 3
    interrupt_at(3, monkeypatch, lambda: runs(epochs=6, patience=2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # once more, after the last epoch
        strips = iter((strip_checkpoint, interrupted))
        patch.setattr(saving, "strip_checkpoint", lambda path: next(strips)(path))
        train.run(resume=str(runs.project / "exp"))
    train.run(resume=str(runs.project / "exp"))
    assert_same(runs.project / "exp", whole)
    with pytest.raises(UserError, match=r"finished run of 3 epochs.*--epochs 6"):
        train.run(resume=str(whole))


def interrupted(_path: Path) -> None:
    raise KeyboardInterrupt


# Longer runs


def rates(epochs: int, row: int) -> list[float]:
    schedule = Schedule(epochs, BATCHES, QUICK["batch_size"], Hyperparameters(), warmup=int(QUICK["warmup"]))
    hyp = yaml.safe_load(Path(TrainOptions().hyp).read_text())
    schedule = dataclasses.replace(schedule, hyp=Hyperparameters(**hyp), warmup=max(4, round(3 * BATCHES)))
    return list(schedule.at((row + 1) * BATCHES - 1).learning_rates.values())


def written_rates(row: dict[str, str]) -> list[float]:
    return [float(row[f"x/lr{index}"]) for index in range(3)]


def test_more_epochs_for_an_interrupted_run(runs, monkeypatch):
    interrupt_at(3, monkeypatch, lambda: runs(epochs=3))
    interrupt_at(1, monkeypatch, lambda: train.run(resume=str(runs.project / "exp"), epochs=5))
    with pytest.raises(UserError, match=r"an interrupted run after 1 epochs.*python train.py --resume"):
        train.run(resume=str(runs.project / "exp"), epochs=1)
    train.run(resume=str(runs.project / "exp"))  # remembers that it is longer now
    rows = rows_of(runs.project / "exp")
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4"]
    for number, row in enumerate(rows):
        assert written_rates(row) == pytest.approx(rates(5 if number else 3, number), rel=1e-4)
    assert yaml.safe_load((runs.project / "exp/opt.yaml").read_text())["epochs"] == 5


def test_a_finished_run_says_how_to_go_on_and_does(runs, monkeypatch, capsys):
    folder = runs(epochs=2)
    first = (folder / "results.csv").read_text().splitlines()
    averaged = state_of(folder / "weights/last.pt")
    with pytest.raises(UserError, match="is of a finished run of 2 epochs") as error:
        train.run(resume=str(folder))
    command = str(error.value).split("epochs: python ")[1].split(";")[0]
    script, flag, place, *more = shlex.split(command)
    assert (script, flag, more) == ("train.py", "--resume", ["--epochs", "4"])
    start: list[dict[str, Any]] = []
    monkeypatch.setattr(saving.CheckpointWriter, "start", note_start(start))
    train.run(resume=place, epochs=int(more[1]))
    assert "going on from its averaged weights" in capsys.readouterr().out
    assert all(torch.equal(start[0][name], tensor.to(start[0][name].dtype)) for name, tensor in averaged.items())
    lines = (folder / "results.csv").read_text().splitlines()
    assert lines[:3] == first and len(lines) == 5
    for number, row in enumerate(rows_of(folder)):
        assert written_rates(row) == pytest.approx(rates(2 if number < 2 else 4, number), rel=1e-4)


def note_start(noted: list[dict[str, Any]]) -> Callable[..., None]:
    real = saving.CheckpointWriter.start

    def start(writer: saving.CheckpointWriter, state: Any, *others: Any) -> None:
        noted.append({name: tensor.clone() for name, tensor in state.model.state_dict().items()})
        real(writer, state, *others)

    return start


@pytest.mark.slow
def test_less_data_than_before(runs, tmp_path, tiny_dataset, monkeypatch):
    content = yaml.safe_load(tiny_dataset.read_text())
    images = sorted(str(path) for path in (tiny_dataset.parent / "images/train").iterdir())
    listed = tmp_path / "train.txt"
    listed.write_text("\n".join(images))
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content | {"train": str(listed)}))
    options = {"data": str(tmp_path / "data.yaml"), "epochs": 40, "noval": True}
    interrupt_at(35, monkeypatch, lambda: runs(**options))
    before = read_checkpoint(runs.project / "exp/weights/last.pt").training
    assert (before["epoch"], before["last_step"]) == (17, 32)
    listed.write_text("\n".join(images[:4]))  # 1 batch an epoch in place of 2
    interrupt_at(17, monkeypatch, lambda: train.run(resume=str(runs.project / "exp")))
    after = read_checkpoint(runs.project / "exp/weights/last.pt").training
    assert (after["epoch"], after["last_step"]) == (34, 32) and after["updates"] == before["updates"] + 1


# What may be asked for


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, tiny_dataset, tiny_cfg) -> Path:
    """A run interrupted in its second epoch; only to be read."""
    runs = Runs(tmp_path_factory.mktemp("unfinished"), tiny_dataset, tiny_cfg)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(3, patch, lambda: runs(epochs=3, optimizer="Adam"))
    return runs.project / "exp"


def test_a_new_run_takes_nothing_but_weights_from_a_checkpoint(unfinished, runs, tmp_path, monkeypatch):
    training = read_checkpoint(unfinished / "weights/last.pt")
    bare = tmp_path / "bare.pt"
    shutil.copy(unfinished / "weights/last.pt", bare)
    content = torch.load(bare, weights_only=True)
    content |= {"training": None, "model": content["ema"], "ema": None, "metrics": {}, "epoch": -1}
    torch.save(content, bare)
    first = runs("first", weights=str(unfinished / "weights/last.pt"), epochs=1)
    second = runs("second", weights=str(bare), epochs=1)
    assert training.training["updates"] > 0
    assert_same(first, second)
    assert len(rows_of(first)) == 1
    finished = read_checkpoint(first / "weights/last.pt").finished
    assert finished["epoch"] == 1 and finished["updates"] <= BATCHES


@pytest.mark.parametrize(
    "options",
    [
        *({"batch_size": 4}, {"imgsz": 64}, {"optimizer": "SGD"}, {"seed": 0}, {"weights": ""}, {"cos_lr": True}),
        *({"hyp": "other.yaml"}, {"name": "other"}, {"rect": True}, {"warmup": "4"}),
    ],
    ids=str,
)
def test_options_that_would_make_it_another_run_are_refused_by_name(unfinished, options):
    flag = f"--{next(iter(options)).replace('_', '-')} would change"
    with pytest.raises(UserError, match=flag):
        train.run(resume=str(unfinished), **options)


def test_device_workers_and_patience_may_change(unfinished, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(unfinished, folder)
    train.run(resume=str(folder), device="cpu", workers=1, patience=7, save_period=2)
    finished = read_checkpoint(folder / "weights/last.pt")
    assert (finished.options["workers"], finished.options["patience"], finished.options["epochs"]) == (1, 7, 3)
    assert (folder / "weights/epoch2.pt").exists()
    assert {"device", "workers", "patience", "epochs"} <= CHANGEABLE


# Full disks


@pytest.mark.parametrize(
    ("owner", "name"),
    [(saving.shutil, "copyfile"), (CsvFile, "_write")],
    ids=["copy of best.pt", "results.csv"],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(runs, whole, monkeypatch, owner, name):
    real, calls = getattr(owner, name), iter(range(1, 100))

    def full(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(OSError) as error:
        patch.setattr(owner, name, full)
        runs(epochs=3)
    assert error.value.errno == errno.ENOSPC
    folder = runs.project / "exp"
    assert read_checkpoint(folder / "weights/last.pt").epoch == 0
    assert not [path for path in folder.glob("**/.*")]
    train.run(resume=str(folder))
    assert_same(folder, whole)


def test_a_data_set_may_move_but_not_change_its_classes(unfinished, tiny_dataset, tmp_path):
    content = yaml.safe_load(tiny_dataset.read_text())
    renamed = tmp_path / "renamed.yaml"
    renamed.write_text(yaml.safe_dump(content | {"names": ["other", *content["names"][1:]]}))
    with pytest.raises(UserError, match="calls class 0 'other' now, but the run began with 'circle'"):
        train.run(resume=str(unfinished), data=str(renamed))
    with pytest.raises(UserError, match=r"does not exist.*if it has moved, name it with --data"):
        train.run(resume=str(unfinished), data=str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("options", "said"), [({"resume": ""}, "--resume '': name"), ({"name": " "}, "--name is empty")]
)
def test_empty_names_are_refused(tiny_dataset, tiny_cfg, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        train.run(cfg=str(tiny_cfg), weights="", data=str(tiny_dataset), project=str(tmp_path), imgsz=64, **options)
