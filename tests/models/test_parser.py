"""What model YAML rows may say, and what is said of wrong ones."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from models.registry import REGISTRY, Registry, gates, layer, parse_activation
from models.yolo import Detect, Model
from utils.errors import UserError


def config(*rows: list, **keys: Any) -> dict:
    """Return a small model: two Convs (8 and 16 channels), the rows given, and a head on the last layer."""
    start = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 4]]]
    head = [[[1 + len(rows)], 1, "Detect", ["nc", "anchors"]]]
    base = {"nc": 3, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13, 16, 30]]}
    return base | {"backbone": start, "head": [*rows, *head]} | keys


def test_a_small_model_runs():
    model = Model(config([-1, 1, "NAMAttention", [16]])).eval()
    decoded, raw = model(torch.rand(2, 3, 64, 96))
    assert model.stride.tolist() == [8.0]
    assert decoded.shape == (2, 8 * 12 * 2, 8)
    assert [tuple(output.shape) for output in raw] == [(2, 2, 8, 12, 8)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([-1, 1, "NAMAtention", [16]], ["row 2 NAMAtention", "unknown layer", "'NAMAttention'"]),
        ([-1, 1, "nn.upsample", [None, 2, "nearest"]], ["row 2", "nn.Upsample"]),
        ([-1, 1, "os.system", ["true"]], ["row 2", "unknown layer 'os.system'"]),
        ([-1, 1, "NAMAttention", [64]], ["row 2 NAMAttention", "declares 64 channels", "16 arrive"]),
        ([7, 1, "Conv", [16, 1, 1]], ["row 2 Conv", "reads layer 7", "only layers 0 to 1"]),
        ([-4, 1, "Conv", [16, 1, 1]], ["row 2 Conv", "reads layer -4"]),
        (["x", 1, "Conv", [16, 1, 1]], ["row 2", "from is 'x'"]),
        ([-1, 0, "Conv", [16, 1, 1]], ["row 2", "number is 0"]),
        ([-1, 1, "Conv", ["many"]], ["row 2 Conv", "output channels are 'many'"]),
        ([-1, 1, "Conv", [16, 1, 1, None, 1, 1, 1, 1]], ["row 2 Conv", "does not accept arguments"]),
        ([-1, 1, "Conv", [16, 1, 1, None, 5]], ["row 2 Conv", "does not accept arguments"]),
        ([-1, 1, "NAMAttention", [{"spatial": True}]], ["row 2 NAMAttention", "does not accept arguments"]),
        ([-1, 1, "Conv"], ["row 2", "is not a row"]),
        ("Conv", ["row 2", "is not a row"]),
        ([-1, 1, "nn.LeakyReLU", ["nn.Oops(0.1)"]], ["row 2", "nn.Oops(0.1)"]),
    ],
)
def test_wrong_rows_are_named(row, said):
    with pytest.raises(UserError) as error:
        Model(config(row))
    for words in said:
        assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nc": None}, "nc is None"),
        ({"nc": 0}, "nc is 0"),
        ({"width_multiple": "wide"}, "width_multiple is 'wide'"),
        ({"depth_multiple": -1}, "depth_multiple is -1"),
        ({"anchors": [[1, 2], [3, 4, 5]]}, "anchors must be"),
        ({"anchors": "none"}, "anchors must be"),
        ({"anchors": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "2 rows of anchors but 1 inputs"),
        ({"backbone": "Conv"}, "backbone must be a list"),
        ({"head": []}, "expected Detect"),
        ({"widthmultiple": 1}, "unknown key 'widthmultiple'; did you mean 'width_multiple'"),
    ],
)
def test_wrong_keys_are_named(change, said):
    with pytest.raises(UserError, match="model YAML") as error:
        Model(config() | change)
    assert said in str(error.value)


@pytest.mark.parametrize("key", ["nc", "anchors", "backbone", "head", "depth_multiple", "width_multiple"])
def test_missing_keys_are_named(key):
    content = config()
    del content[key]
    with pytest.raises(UserError, match=f"key '{key}' is missing"):
        Model(content)


def test_arguments_override_the_yaml_and_leave_it_as_it_was():
    content = config()
    before = copy.deepcopy(content)
    model = Model(content, nc=7, anchors=4.2)
    assert (model.detect.nc, model.detect.na) == (7, 4)
    assert content == before


@pytest.mark.parametrize("text", ["nn.LeakyReLU(0.1)", "torch.nn.LeakyReLU(negative_slope=0.1)"])
def test_activation_of_the_yaml_reaches_every_conv(text):
    model = Model(config([-1, 2, "C3", [16]], activation=text))
    activations = [module.act for module in model.modules() if hasattr(module, "act")]
    assert activations
    assert all(isinstance(act, nn.LeakyReLU) and act.negative_slope == 0.1 for act in activations)


@pytest.mark.parametrize(
    "text", ["nn.Linear(1, 2)", "__import__('os')", "nn.ReLU(open('x'))", "nn.ReLU", "nn.ReLU(0)(1)"]
)
def test_activation_text_is_never_run(text):
    with pytest.raises(UserError, match="activation"):
        parse_activation(text)


def test_a_plug_in_is_a_class_with_a_decorator():
    @layer(gates)
    class ScaleBy(nn.Module):
        def __init__(self, channels: int, factor: float = 1.0) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    try:
        model = Model(config([-1, 1, "ScaleBy", [{"factor": 3.0}]]))
        assert model.model[2].factor == 3.0
    finally:
        del REGISTRY.layers["ScaleBy"]


def test_a_taken_layer_name_is_refused():
    registry = Registry()
    registry.add("Detect", Detect, gates)
    with pytest.raises(UserError, match="'Detect' is taken by"):
        registry.add("Detect", nn.Conv2d, gates)


def test_anchor_levels_are_put_in_stride_order():
    levels = [[100, 100, 120, 120], [10, 13, 16, 30]]
    rows = [[-1, 1, "Conv", [16, 3, 2]], [[1, 2], 1, "Detect", ["nc", "anchors"]]]
    content = config() | {"anchors": levels, "head": rows}
    detect = Model(content).detect
    sizes = detect.anchors * detect.stride.view(-1, 1, 1)
    assert sizes[0].flatten().tolist() == pytest.approx(levels[1])
    assert sizes[0].prod(-1).mean() < sizes[1].prod(-1).mean()


def test_all_zero_scales_of_nam_give_numbers():
    attention = REGISTRY.find("NAMAttention").build(4)
    nn.init.zeros_(attention.Channel_Att.bn2.weight)
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(attention(x), x * 0.5)


def test_nam_keeps_its_channels():
    with pytest.raises(UserError, match="keeps its 4 channels"):
        REGISTRY.find("NAMAttention").build(4, 8)
