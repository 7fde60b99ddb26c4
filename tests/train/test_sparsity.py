"""The penalty on NAM's scales: its value and gradient, what it covers, and whole runs with it."""

import copy
import csv
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import train
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.files import ROOT
from utils.train import fit as fit_module
from utils.train.hyperparameters import Hyperparameters, read_hyperparameters
from utils.train.loss import DetectionLoss
from utils.train.sparsity import PenalisedLoss, sparse_scales

FAST = {"imgsz": 64, "batch_size": 64, "workers": 0, "device": "cpu", "weights": "", "warmup": 0, "log_to": "none"}
TARGETS = torch.tensor([[0, 3, 0.3, 0.4, 0.3, 0.2], [1, 1, 0.5, 0.5, 0.6, 0.6]])
V61_COLUMNS = 14
EPOCHS = 8  # of one step each


@pytest.fixture(scope="module")
def model(tiny_nam_config) -> Model:
    """A network with both branches, whose scales are neither equal nor of one sign."""
    torch.manual_seed(0)
    model = Model(tiny_nam_config).train()
    for scale in sparse_scales(model).values():
        nn.init.normal_(scale)
    return model


def detection_loss(model: Model) -> DetectionLoss:
    return DetectionLoss(model.detect.anchors, 10, model.stride.tolist(), 0.05, 1.0, 0.5)


def test_only_the_scales_of_nam_are_pressed(model):
    scales = sparse_scales(model)
    assert {name: len(scale) for name, scale in scales.items()} == {
        "model.24.Channel_Att.bn2.weight": 128,
        "model.24.Spatial_Att.norm.weight": 400,
    }
    assert scales["model.24.Channel_Att.bn2.weight"] is model.model[24].Channel_Att.bn2.weight
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.model[0].modules())


def test_networks_without_nam_have_none(tiny_config):
    assert sparse_scales(Model(tiny_config)) == {}


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("weight", [1e-4, 0.5])
def test_value_and_gradient_by_hand(model, images, weight):
    plain = detection_loss(model)
    scales = list(sparse_scales(model).values())
    outputs = [torch.zeros(images, 3, side, side, 15, requires_grad=True) for side in (8, 4, 2)]
    targets = TARGETS[:images]
    total, parts = PenalisedLoss(plain, weight, scales)(outputs, targets)
    expected_total, expected_parts = plain(outputs, targets)
    by_hand = weight * sum(abs(value) for scale in scales for value in scale.tolist())
    assert total.item() == pytest.approx(expected_total.item() + by_hand * images, rel=1e-5)
    assert torch.equal(parts[:3], expected_parts)
    assert parts[3].item() == pytest.approx(by_hand, rel=1e-5)
    for scale, gradient in zip(scales, torch.autograd.grad(total, scales), strict=True):
        torch.testing.assert_close(gradient, weight * scale.sign().detach() * images)


def test_a_scale_of_zero_stays(model):
    changed = copy.deepcopy(model)
    scale = changed.model[24].Channel_Att.bn2.weight
    nn.init.zeros_(scale)
    outputs = [torch.zeros(1, 3, side, side, 15) for side in (8, 4, 2)]
    total, _ = PenalisedLoss(detection_loss(changed), 1.0, [scale])(outputs, TARGETS[:1])
    assert not torch.autograd.grad(total, scale)[0].any()


def test_files_of_v61_do_not_miss_it(tmp_path, capsys):
    for file in sorted((ROOT / "data/hyps").glob("*.yaml")):
        content = yaml.safe_load(file.read_text()) | {"nam_l1": 0.0}
        del content["nam_l1"]
        (tmp_path / file.name).write_text(yaml.safe_dump(content))
        assert read_hyperparameters(tmp_path / file.name).nam_l1 == 0
    assert "nam_l1" not in capsys.readouterr().out
    assert Hyperparameters().nam_l1 == 0


@pytest.mark.parametrize("value", ["-0.1", ".nan", "strong"])
def test_a_wrong_weight_is_named(tmp_path, value):
    (tmp_path / "hyp.yaml").write_text(f"nam_l1: {value}\n")
    with pytest.raises(UserError, match=r"hyp\.yaml: nam_l1 is"):
        read_hyperparameters(tmp_path / "hyp.yaml")


def run(data: Path, cfg: Path, folder: Path, nam_l1: float | None = None, **options) -> Path:
    hyp = folder / "hyp.yaml"
    folder.mkdir(exist_ok=True)
    hyp.write_text("lr0: 0.1\nlrf: 1.0\nwarmup_epochs: 0.0\n" + ("" if nam_l1 is None else f"nam_l1: {nam_l1:f}\n"))
    train.run(**{**FAST, "data": str(data), "cfg": str(cfg), "hyp": str(hyp), "project": str(folder), **options})
    return folder / "exp"


def table_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "results.csv").open() as file:
        return [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def size_of_scales(folder: Path) -> float:
    state = read_checkpoint(folder / "weights/last.pt").state
    return sum(
        state[f"model.24.{name}.weight"].float().abs().sum().item() for name in ("Channel_Att.bn2", "Spatial_Att.norm")
    )


@pytest.fixture(scope="module")
def plain(tiny_dataset, tiny_nam_cfg, tmp_path_factory) -> Path:
    return run(tiny_dataset, tiny_nam_cfg, tmp_path_factory.mktemp("plain"), epochs=EPOCHS)


@pytest.fixture(scope="module")
def penalised(tiny_dataset, tiny_nam_cfg, tmp_path_factory) -> Path:
    return run(tiny_dataset, tiny_nam_cfg, tmp_path_factory.mktemp("penalised"), nam_l1=1e-4, epochs=EPOCHS)


def test_the_penalty_is_reported_after_the_columns_of_v61(penalised, plain):
    names = list(table_of(penalised)[0])
    assert names[:V61_COLUMNS] == list(table_of(plain)[0])[:V61_COLUMNS]
    assert names[V61_COLUMNS:] == ["train/nam_loss", "nam/below_0.01"]
    assert "train/nam_loss" not in table_of(plain)[0]
    first = table_of(penalised)[0]["train/nam_loss"]
    assert first == pytest.approx(1e-4 * (128 + 400), rel=1e-3)  # every scale starts from 1


def test_the_penalty_makes_scales_smaller(penalised, plain):
    assert size_of_scales(penalised) < size_of_scales(plain) - 1
    losses = [row["train/nam_loss"] for row in table_of(penalised)]
    assert losses[-1] < losses[0]


def test_zero_is_no_penalty_to_the_last_bit(plain, tiny_dataset, tiny_nam_cfg, tmp_path):
    zero = run(tiny_dataset, tiny_nam_cfg, tmp_path, nam_l1=0.0, epochs=EPOCHS)
    assert (zero / "results.csv").read_bytes() == (plain / "results.csv").read_bytes()
    one, two = (read_checkpoint(folder / "weights/last.pt").state for folder in (zero, plain))
    assert all(torch.equal(one[key], two[key]) for key in two)


def test_the_console_has_a_column_for_it(tiny_dataset, tiny_nam_cfg, tmp_path, capsys):
    run(tiny_dataset, tiny_nam_cfg, tmp_path, nam_l1=0.001, epochs=1)
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "gpu_mem" in line)
    assert header.split() == ["Epoch", "gpu_mem", "box", "obj", "cls", "nam", "labels", "img_size"]
    assert next(line for line in lines if line.strip().startswith("0/0")).split()[5] == "0.528"
    assert "NAM scales below 0.01: 0.0 % of 528" in lines
    assert not any(line.startswith("WARNING: nam_l1") for line in lines)


def test_without_nam_it_is_a_warning(tiny_dataset, tiny_cfg, tmp_path, capsys):
    folder = run(tiny_dataset, tiny_cfg, tmp_path, nam_l1=0.5, epochs=1)
    warnings = [line for line in capsys.readouterr().out.splitlines() if "nam_l1" in line and "WARNING" in line]
    assert len(warnings) == 1 and "no NAM layers" in warnings[0] and "--cfg" in warnings[0]
    assert len(table_of(folder)[0]) == V61_COLUMNS
    assert not list(folder.glob("nam_*"))


def test_an_interrupted_run_resumes_exactly(penalised, tiny_dataset, tiny_nam_cfg, tmp_path, monkeypatch):
    real, steps = fit_module._LossCheck.add, iter(range(100))

    def interrupt(*arguments):
        if next(steps) == EPOCHS // 2:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module._LossCheck, "add", interrupt)
        run(tiny_dataset, tiny_nam_cfg, tmp_path, nam_l1=1e-4, epochs=EPOCHS)
    train.run(resume=str(tmp_path / "exp"))
    for name in ("results.csv", "nam_start.npz", "nam_scales.png"):
        assert (tmp_path / "exp" / name).read_bytes() == (penalised / name).read_bytes(), name
    assert size_of_scales(tmp_path / "exp") == size_of_scales(penalised)


def test_a_penalty_that_is_not_finite_is_named(tiny_dataset, tiny_nam_cfg, tmp_path):
    with pytest.raises(UserError, match=r"not finite .*\(box .*obj .*cls .*nam inf\)"):
        run(tiny_dataset, tiny_nam_cfg, tmp_path, nam_l1=1e38, epochs=1)
