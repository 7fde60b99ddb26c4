"""Optimizers and frozen layers."""

import pytest
import torch
from torch import nn

from models.yolo import Model
from tests.golden_data import load_golden
from utils.errors import UserError
from utils.files import ROOT
from utils.train.hyperparameters import Hyperparameters
from utils.train.optim import apply_settings, freeze_layers, group_parameters, make_optimizer
from utils.train.schedule import GROUPS, StepSettings, scaled_weight_decay

CASES = load_golden("schedule.json")["param_groups"]
KINDS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


@pytest.fixture(scope="module")
def models():
    """Networks by name and number of classes."""
    made = {}
    for name, classes in {(case["model"], case["nc"]) for case in CASES}:
        made[name, classes] = Model(ROOT / f"models/{name}.yaml", nc=classes)
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']}-{case['optimizer']}-{case['batch_size']}")
def test_groups_equal_v61(models, case):
    model = models[case["model"], case["nc"]]
    decay = scaled_weight_decay(0.0005, case["batch_size"])
    optimizer = make_optimizer(model, Hyperparameters(), decay, case["optimizer"])
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert type(optimizer) is KINDS[case["optimizer"]] and tuple(groups) == GROUPS
    for place, name in enumerate(GROUPS):
        group = groups[name]
        assert len(group["params"]) == case["n_tensors"][place]
        assert sum(parameter.numel() for parameter in group["params"]) == case["n_elements"][place]
        for key in ("lr", "momentum", "nesterov"):
            assert group.get(key) == case[key][place]
        assert list(group.get("betas") or []) == (case["betas"][place] or [])
        # v6.1's AdamW lets norms and biases decay by torch's default; later versions and we do not
        expected = case["weight_decay"][place] if name == "weight" else 0.0
        assert group["weight_decay"] == pytest.approx(expected, rel=1e-12)
        if case["optimizer"] == "AdamW" and name != "weight":
            assert case["weight_decay"][place] == 0.01
    assert sum(case["n_tensors"]) == len(list(model.parameters()))


class Odd(nn.Module):
    """Parameters of all kinds: names that v6.1 forgets, one that is used twice, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.mix = nn.MultiheadAttention(4, 2)
        self.norms = nn.ModuleList(
            [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4), nn.InstanceNorm1d(4, affine=True)]
        )
        self.scale = nn.Parameter(torch.ones(1))
        self.fixed = nn.Linear(4, 4).requires_grad_(False)


def test_every_parameter_that_needs_a_gradient_is_in_one_group():
    model = Odd()
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {kind: [named[id(one)] for one in members] for kind, members in group_parameters(model).items()}
    assert groups["norm"] == [f"norms.{place}.weight" for place in range(4)]
    assert set(groups["weight"]) == {"scale", "first.weight", "mix.in_proj_weight", "mix.out_proj.weight"}
    norms = [f"norms.{place}.bias" for place in range(4)]
    assert set(groups["bias"]) == {"first.bias", "mix.in_proj_bias", "mix.out_proj.bias", *norms}


@pytest.mark.parametrize("kind", KINDS)
def test_only_weights_decay(kind):
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    optimizer = make_optimizer(model, Hyperparameters(lr0=0.1), 0.5, kind)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if (parameter != 1).any()}
    assert moved == {"0.weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_an_iteration(kind):
    optimizer = make_optimizer(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), Hyperparameters(), 0.0, kind)
    apply_settings(optimizer, StepSettings({"norm": 0.1, "weight": 0.2, "bias": 0.3}, 0.5, 1))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.3]
    if kind == "SGD":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.5}
    else:
        assert {group["betas"] for group in optimizer.param_groups} == {(0.937, 0.999)}  # v6.1: only SGD warms up


@pytest.mark.parametrize("kind", KINDS)
def test_groups_that_are_empty_are_left_out(kind):
    optimizer = make_optimizer(nn.Linear(3, 3, bias=False), Hyperparameters(), 0.0, kind)
    assert [group["name"] for group in optimizer.param_groups] == ["weight"]


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [([0], set()), ([1], {0}), ([10], set(range(10))), ([0, 3], {0, 3}), ([24, 24], {24})],
)
def test_frozen_layers(tiny_config, layers, frozen):
    model = Model(tiny_config)
    names = freeze_layers(model, layers)
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert set(names) == still and {int(name.split(".")[1]) for name in still} == {
        place for place in frozen if list(model.model[place].parameters())
    }


@pytest.mark.parametrize("layers", [[26], [0, 25]])
def test_layers_that_are_not_there(tiny_config, layers):
    with pytest.raises(UserError, match=r"--freeze .*the layers 0 to 24"):
        freeze_layers(Model(tiny_config), layers)


@pytest.mark.parametrize("layers", [[25], list(range(25))])
def test_nothing_left_to_train(tiny_config, layers):
    with pytest.raises(UserError, match=r"--freeze .*leaves no layer to train"):
        freeze_layers(Model(tiny_config), layers)
