"""Learning rates, momentum, accumulation, averages and stopping against v6.1."""

import numpy as np
import pytest
import torch
from torch import nn

from models.yolo import Model
from tests.golden_data import load_golden
from utils.errors import UserError
from utils.train.ema import ModelAverage, decay_after
from utils.train.hyperparameters import Hyperparameters, scale_gains
from utils.train.optim import apply_settings, group_parameters, make_optimizer
from utils.train.schedule import EarlyStopper, Schedule, scaled_weight_decay, warmup_iterations

GOLDEN = load_golden("schedule.json")


def schedule_of(run: dict) -> Schedule:
    return Schedule(
        epochs=run["epochs"],
        batches=run["iters_per_epoch"],
        batch_size=run["batch_size"],
        hyp=Hyperparameters(**run["hyp"]),
        cosine=run["cos_lr"],
        warmup=run["warmup_iters"],
    )


@pytest.mark.parametrize("number", range(len(GOLDEN["runs"])))
def test_every_iteration_equals_v61(number):
    run = GOLDEN["runs"][number]
    schedule = schedule_of(run)
    if run["warmup_iters_is_default_rule"]:
        epochs = run["hyp"].get("warmup_epochs", 3.0)
        assert warmup_iterations("1000", epochs, run["epochs"], run["iters_per_epoch"]) == run["warmup_iters"]
    for position, iteration in enumerate(run["ni"]):
        settings = schedule.at(iteration)
        rates = [settings.learning_rates[name] for name in ("norm", "weight", "bias")]
        assert rates == pytest.approx(run["lr"][position], rel=1e-9, abs=1e-12)
        assert settings.accumulate == round(run["accumulate"][position])
        if run["optimizer"] == "SGD":
            assert settings.momentum == pytest.approx(run["momentum"][position], rel=1e-9)


@pytest.mark.parametrize("run", [run for run in GOLDEN["runs"] if run["record_every"] == 1])
def test_steps_happen_when_v61_steps(run):
    schedule, last_step, updates = schedule_of(run), -1, 0
    for position, iteration in enumerate(run["ni"]):
        step = iteration - last_step >= schedule.at(iteration).accumulate
        assert step == run["step"][position]
        if step:
            last_step, updates = iteration, updates + 1
        assert updates == run["ema_updates"][position]


@pytest.mark.parametrize("row", GOLDEN["warmup_iters_table"])
def test_warmup_length(row):
    for least, version in (("1000", "v61"), ("100", "master")):
        assert warmup_iterations(least, row["warmup_epochs"], 100, row["nb"]) == row[version]


@pytest.mark.parametrize(
    ("epochs", "batches", "expected"),
    [(300, 1000, 3000), (100, 60, 180), (100, 20, 100), (20, 13, 65), (3, 32, 24), (1, 4, 1)],
)
def test_automatic_warmup_leaves_most_of_the_run(epochs, batches, expected):
    assert warmup_iterations("auto", 3.0, epochs, batches) == expected


def test_warmup_that_is_no_number():
    with pytest.raises(UserError, match="--warmup 'long'"):
        warmup_iterations("long", 3.0, 10, 10)


@pytest.mark.parametrize("row", GOLDEN["batch_table"])
def test_weight_decay_follows_the_batch_size(row):
    assert scaled_weight_decay(0.0005, row["batch_size"]) == pytest.approx(row["scaled_weight_decay"], rel=1e-9)


@pytest.mark.parametrize("row", GOLDEN["loss_gains"])
def test_loss_gains(row):
    base = Hyperparameters(**GOLDEN["loss_gains_base"])
    scaled = scale_gains(base, row["nl"], row["nc"], row["imgsz"])
    assert [scaled.box, scaled.cls, scaled.obj] == pytest.approx([row["box"], row["cls"], row["obj"]], rel=1e-9)


def test_average_decay_equals_v61():
    table = GOLDEN["ema_decay"]
    assert [decay_after(updates) for updates in table["updates"]] == pytest.approx(table["decay"], rel=1e-9)


def test_average_follows_v61s_trace():
    trace = GOLDEN["ema_trace"]
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))

    def fill(time: int) -> None:
        for i, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                values = np.random.RandomState(100 * time + i).randn(*tensor.shape).astype(np.float32)
                tensor.copy_(torch.from_numpy(values))
            elif time:
                tensor += 1

    fill(0)
    average = ModelAverage(model)
    for time, expected in enumerate(trace["after"], 1):
        fill(time)
        average.update(model)
        state = average.model.state_dict()
        for key in trace["keys"]:
            if state[key].is_floating_point():
                np.testing.assert_allclose(state[key], expected[key], atol=1e-6)


@pytest.mark.parametrize("case", GOLDEN["early_stopping"])
def test_early_stopping(case):
    stopper = EarlyStopper(case["patience"])
    for epoch, (fitness, expected) in enumerate(zip(case["fitness"], case["stop_possible_best"], strict=True)):
        stopper.update(epoch, fitness)
        assert [stopper.should_stop(epoch), stopper.best_epoch] == [expected[0], expected[2]]


@pytest.mark.parametrize("case", [case for case in GOLDEN["param_groups"] if case["optimizer"] == "SGD"])
def test_parameter_groups(case):
    model = Model(f"{case['model']}.yaml", nc=case["nc"])
    decay = scaled_weight_decay(0.0005, case["batch_size"])
    optimizer = make_optimizer(model, Hyperparameters(), decay)
    groups = optimizer.param_groups
    assert [len(group["params"]) for group in groups] == case["n_tensors"]
    assert [sum(p.numel() for p in group["params"]) for group in groups] == case["n_elements"]
    assert [group["weight_decay"] for group in groups] == pytest.approx(case["weight_decay"])
    assert [group["momentum"] for group in groups] == case["momentum"]
    assert [group["nesterov"] for group in groups] == case["nesterov"]


@pytest.mark.parametrize("name", ["yolov5-NAM.yaml", "yolov5s-transformer.yaml", "yolov5s-ghost.yaml"])
def test_every_trainable_parameter_is_in_exactly_one_group(name):
    model = Model(name)
    frozen = next(iter(model.parameters())).requires_grad_(False)
    grouped = [id(parameter) for group in group_parameters(model).values() for parameter in group]
    trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    assert id(frozen) not in grouped


def test_settings_reach_the_optimizer_by_group_name():
    model = Model("yolov5n.yaml")
    optimizer = make_optimizer(model, Hyperparameters(), 0.0005)
    settings = Schedule(10, 8, 16, Hyperparameters()).at(3)
    apply_settings(optimizer, settings)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == settings.learning_rates
    assert {group["momentum"] for group in optimizer.param_groups} == {settings.momentum}
