"""Whole training runs on a tiny data set: repeatable, resumable, and stopped when the loss is not finite."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

import train
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.eval.evaluate import Evaluation
from utils.train import fit as fit_module
from utils.train.ema import ModelAverage
from utils.train.hyperparameters import Hyperparameters
from utils.train.loss import DetectionLoss
from utils.train.optim import make_optimizer
from utils.train.schedule import EarlyStopper
from utils.train.state import TrainState

FAST = {"imgsz": 64, "batch_size": 4, "workers": 0, "device": "cpu", "weights": "", "warmup": 4}
QUIET = {"noplots": True, "log_to": "none"}
RUN_FILES = {
    *("opt.yaml", "hyp.yaml", "results.csv", "results.png", "labels.jpg", "confusion_matrix.png"),
    *("train_batch0.jpg", "train_batch1.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"),
    *("PR_curve.png", "F1_curve.png", "P_curve.png", "R_curve.png", "weights/last.pt", "weights/best.pt"),
    *("confusion_matrix_counts.png", "errors.png", "calibration.png", "size_ap.png", "report.html"),
}


def run(tiny_dataset: Path, tiny_cfg: Path, project: Path, **options) -> Path:
    train.run(**{**FAST, **QUIET, "data": str(tiny_dataset), "cfg": str(tiny_cfg), "project": str(project), **options})
    return project / options.get("name", "exp")


def state_of(path: Path) -> dict:
    return read_checkpoint(path).state


def same(first: Path, second: Path) -> bool:
    one, two = state_of(first), state_of(second)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def rows_of(folder: Path) -> list[dict]:
    with (folder / "results.csv").open() as file:
        return [{key.strip(): value.strip() for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tiny_dataset, tiny_cfg, tmp_path_factory) -> Path:
    """A run of three epochs."""
    return run(tiny_dataset, tiny_cfg, tmp_path_factory.mktemp("runs"), epochs=3, noplots=False, log_to="tensorboard")


def test_a_run_leaves_everything_it_should(finished):
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert RUN_FILES <= files
    assert not any(Path(name).name.startswith(".") for name in files)


def test_the_page_of_a_run_has_its_curves_and_settings(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    for words in ("Losses and results by epoch", "Statistics of the labels", "Training batch 1", "epochs: 3", "lr0:"):
        assert words in page


def test_results_have_v61s_columns_and_an_epoch_a_row(finished):
    rows = rows_of(finished)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    expected = "epoch,train/box_loss,train/obj_loss,train/cls_loss,metrics/precision,metrics/recall,metrics/mAP_0.5,"
    expected += "metrics/mAP_0.5:0.95,val/box_loss,val/obj_loss,val/cls_loss,x/lr0,x/lr1,x/lr2"
    assert ",".join(rows[0]) == expected
    assert all(float(row[name]) > 0 for row in rows for name in ("train/box_loss", "val/obj_loss", "x/lr2"))
    header = (finished / "results.csv").read_text().splitlines()[0]
    assert {len(cell) for cell in header.split(",")} == {20}


def test_finished_checkpoints_are_stripped(finished):
    for name in ("last.pt", "best.pt"):
        checkpoint = read_checkpoint(finished / "weights" / name)
        assert checkpoint.training is None and checkpoint.epoch == -1
        assert {t.dtype for t in checkpoint.state.values() if t.is_floating_point()} == {torch.float16}
        assert checkpoint.names[0] == "circle" and checkpoint.hyperparameters["lr0"] == 0.01
        assert checkpoint.options["epochs"] == 3 and "mAP_0.5" in checkpoint.metrics


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_run(finished, tiny_dataset, tiny_cfg, tmp_path, workers):
    again = run(tiny_dataset, tiny_cfg, tmp_path, epochs=3, workers=workers)
    assert (again / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    assert same(again / "weights/last.pt", finished / "weights/last.pt")


def test_another_seed_another_run(finished, tiny_dataset, tiny_cfg, tmp_path):
    other = run(tiny_dataset, tiny_cfg, tmp_path, epochs=3, seed=1)
    assert (other / "results.csv").read_bytes() != (finished / "results.csv").read_bytes()


def interrupt_at(iteration: int, monkeypatch, start) -> None:
    """Call ``start`` with a Ctrl-C in the given iteration."""
    steps = iter(range(100))
    real = fit_module._LossCheck.add

    def interrupt(*arguments):
        if next(steps) == iteration:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module._LossCheck, "add", interrupt)
        start()


@pytest.mark.parametrize("iteration", [0, 1, 3, 4])
def test_an_interrupted_run_resumes_to_the_same_weights(
    finished, tiny_dataset, tiny_cfg, tmp_path, monkeypatch, iteration
):
    interrupt_at(iteration, monkeypatch, lambda: run(tiny_dataset, tiny_cfg, tmp_path, epochs=3))
    folder = tmp_path / "exp"
    assert read_checkpoint(folder / "weights/last.pt").epoch == iteration // 2 - 1  # two batches an epoch
    train.run(resume=str(folder))
    assert (folder / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    assert same(folder / "weights/last.pt", finished / "weights/last.pt")
    assert not (folder / "report.html").exists()  # --noplots


def test_an_interrupted_run_has_no_page_yet(tiny_dataset, tiny_cfg, tmp_path, monkeypatch):
    interrupt_at(2, monkeypatch, lambda: run(tiny_dataset, tiny_cfg, tmp_path, epochs=2, noplots=False))
    assert (tmp_path / "exp/labels.jpg").exists() and (tmp_path / "exp/results.csv").exists()
    assert not (tmp_path / "exp/report.html").exists() and not (tmp_path / "exp/results.png").exists()


def test_a_finished_run_is_not_resumed(finished):
    with pytest.raises(UserError, match=r"finished run.*--weights"):
        train.run(resume=str(finished))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_parts(tiny_dataset, tiny_cfg, tmp_path):
    hyp = tmp_path / "hyp.yaml"
    hyp.write_text("lr0: 1.0e+38\nwarmup_bias_lr: 1.0e+38\n")
    with pytest.raises(UserError, match=r"not finite in epoch \d, batch \d \(box .*obj .*cls .*\).*lr0"):
        run(tiny_dataset, tiny_cfg, tmp_path / "runs", epochs=3, hyp=str(hyp))
    assert read_checkpoint(tmp_path / "runs/exp/weights/last.pt").training is not None


def test_without_any_fitness_the_last_epoch_is_the_best(tiny_dataset, tiny_cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluation, "fitness", property(lambda _: 0.0))
    folder = run(tiny_dataset, tiny_cfg, tmp_path, epochs=2)
    assert same(folder / "weights/best.pt", folder / "weights/last.pt")


@pytest.mark.parametrize("with_cfg", [True, False])
def test_weights_start_a_run(tiny_dataset, tiny_cfg, tiny_weights, tmp_path, with_cfg, capsys):
    options = {"weights": str(tiny_weights), "cfg": str(tiny_cfg) if with_cfg else ""}
    folder = run(tiny_dataset, tiny_cfg, tmp_path, epochs=1, **options)
    assert f"Transferred {348 if with_cfg else 349} of {348 if with_cfg else 349} tensors" in capsys.readouterr().out
    start, moved = state_of(tiny_weights), state_of(folder / "weights/last.pt")
    key = "model.0.conv.weight"
    assert (moved[key].float() - start[key]).abs().max() < 0.1 * start[key].abs().max()


def test_resume_without_a_name_takes_the_newest_run(finished, tiny_dataset, tiny_cfg, tmp_path, monkeypatch):
    interrupt_at(1, monkeypatch, lambda: run(tiny_dataset, tiny_cfg, tmp_path, epochs=3))
    train.run(resume=True, project=str(tmp_path))
    assert same(tmp_path / "exp/weights/last.pt", finished / "weights/last.pt")


def test_early_stopping(tiny_dataset, tiny_cfg, tmp_path, monkeypatch):
    scores = iter([0.3, 0.2, 0.2, 0.2, 0.2])
    monkeypatch.setattr(Evaluation, "fitness", property(lambda _: next(scores)))
    folder = run(tiny_dataset, tiny_cfg, tmp_path, epochs=5, patience=2)
    assert len(rows_of(folder)) == 3


@pytest.mark.parametrize(
    ("options", "classes"), [({"single_cls": True}, 1), ({"cos_lr": True}, 10), ({"label_smoothing": 0.1}, 10)]
)
def test_options_take_effect(finished, tiny_dataset, tiny_cfg, tmp_path, options, classes):
    folder = run(tiny_dataset, tiny_cfg, tmp_path, epochs=3, **options)
    assert len(read_checkpoint(folder / "weights/best.pt").names) == classes
    assert rows_of(folder)[2] != rows_of(finished)[2]


def test_the_network_learns_what_it_sees(tiny_config):
    torch.manual_seed(0)
    model = Model(tiny_config).train()
    criterion = DetectionLoss(model.detect.anchors, 10, model.stride.tolist(), 0.05, 1.0, 0.5)
    optimizer = make_optimizer(model, Hyperparameters(lr0=0.02), 0.0)
    images = torch.rand(2, 3, 64, 64)
    targets = torch.tensor([[0, 3, 0.3, 0.4, 0.3, 0.2], [0, 7, 0.7, 0.6, 0.2, 0.5], [1, 1, 0.5, 0.5, 0.6, 0.6]])
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = []
    for _ in range(60):
        loss, _ = criterion(model(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, start[name])] == []


def test_gradients_are_limited():
    model = nn.Linear(4, 4)
    optimizer = make_optimizer(model, Hyperparameters(lr0=1.0, momentum=0.9), 0.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(model, ModelAverage(model), optimizer, scaler, EarlyStopper(0))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    (model(torch.full((1, 4), 1e4)).sum() * 1e4).backward()
    fit_module.optimizer_step(state)
    moved = torch.cat([(new - old).flatten() for new, old in zip(model.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(10.0 * 1.9, rel=1e-4)  # Nesterov's first step is 1 + momentum long
    assert state.average.updates == 1
