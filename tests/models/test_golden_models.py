"""Every shipped model YAML against the figures of v6.1."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.summary import count_gflops, layer_table, summary_line
from models.yolo import Model
from tests.golden_data import load_golden
from utils.files import ROOT

GRAPHS = sorted(key for key in load_golden("models.json")["models"])


def yaml_path(name: str) -> Path:
    """Return the YAML of a golden model name, from models/ or models/hub/."""
    stem = name.split("@")[0]
    return next(
        path for path in (ROOT / "models" / f"{stem}.yaml", ROOT / "models/hub" / f"{stem}.yaml") if path.exists()
    )


def build_on_meta(name: str) -> Model:
    with torch.device("meta"):
        return Model(yaml_path(name), nc=int(name.split("@nc")[1]))


@pytest.mark.parametrize("name", GRAPHS)
def test_structure_equals_v61(name):
    expected = load_golden("models.json")["models"][name]
    model = build_on_meta(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected["n_params"]
    assert len(list(model.modules())) == expected["n_modules_total"]
    assert model.save == sorted(set(expected["save_indices"]))
    assert model.stride.tolist() == expected["strides"]
    assert list(model.detect.anchors.shape) == [expected["nl"], expected["na"], 2]
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == set(expected["bn_eps"])
    assert {norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == set(
        expected["bn_momentum"]
    )
    for row, layer in zip(model.rows, expected["layers"], strict=True):
        assert (row.index, row.source, row.parameters) == (layer["index"], layer["frm"], layer["params"])
        assert row.type.removeprefix("nn.") == layer["type"].removeprefix("nn.")


@pytest.mark.parametrize("name", GRAPHS)
def test_state_keys_shapes_and_order_equal_v61(name):
    expected = load_golden("models_state.json.gz")[name]
    model = build_on_meta(name)
    state = [
        [key, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for key, tensor in model.state_dict().items()
    ]
    assert state == expected["state"]
    assert [key for key, _ in model.named_parameters()] == expected["param_order"]
    fused = [[key, list(tensor.shape)] for key, tensor in model.fuse().state_dict().items()]
    # v6.1 leaves NAM's norm as it is; here it becomes two constants a channel
    assert [pair for pair in fused if "Channel_Att" not in pair[0]] == [
        pair for pair in expected["fused_state"] if "Channel_Att" not in pair[0]
    ]


@pytest.mark.parametrize(
    "name", ["yolov5n@nc80", "yolov5-NAM@nc10", "yolov5-p34@nc80", "yolov5-fpn@nc10", "yolov3-tiny@nc80"]
)
def test_output_shapes_and_anchors_equal_v61(name):
    expected = load_golden("models.json")["models"][name]
    model = Model(yaml_path(name), nc=int(name.split("@nc")[1]))
    np.testing.assert_allclose(model.detect.anchors.numpy(), expected["anchors_grid_units"], rtol=1e-6)
    shapes = {}
    for module in model.model[:-1]:
        module.register_forward_hook(lambda module, _, output: shapes.update({module.i: output.shape}))
    model.eval()(torch.zeros(1, 3, 256, 256))
    for layer in expected["layers"][:-1]:
        assert shapes[layer["index"]][1] == layer["out_channels"]
        assert shapes[layer["index"]][2] == round(256 / layer["downscale"])


def test_bias_prior_equals_v61():
    expected = load_golden("models.json")["models"]["yolov5n@nc80"]["bias_prior"]
    detect = Model(yaml_path("yolov5n@nc80")).detect
    for convolution in detect.m:
        nn.init.zeros_(convolution.bias)
    detect.initialise_biases()
    for level, convolution in enumerate(detect.m):
        bias = convolution.bias.detach().view(3, -1)
        np.testing.assert_allclose(bias[:, 4], expected["obj_added_per_level"][level], rtol=1e-6)
        np.testing.assert_allclose(bias[:, 5:], expected["cls_added"], rtol=1e-6)
        assert (bias[:, :4] == 0).all()


@pytest.mark.parametrize(
    "name", ["yolov5n@nc80", "yolov5s@nc80", "yolov5s-ghost@nc80", "yolov3-tiny@nc80", "yolov5n6@nc80"]
)
def test_operations_equal_those_of_v61s_convolutions(name):
    expected = load_golden("models.json")["models"][name]["conv2d_gflops_at_640"]
    model = Model(yaml_path(name), nc=80).eval()
    assert count_gflops(model, model.largest_stride, 3) == pytest.approx(expected, rel=1e-6)


def test_summary_and_table_name_every_row(tiny_config):
    model = Model(tiny_config)
    assert summary_line(model).startswith("Model Summary: 270 layers, ")
    assert model.training
    lines = layer_table(model).splitlines()
    assert len(lines) == 26
    assert lines[-1].split()[:4] == ["24", "[17,", "20,", "23]"] and "Detect" in lines[-1]


def test_a_network_that_looks_at_values_has_a_summary_without_operations(tiny_config):
    model = Model(tiny_config)
    model.model[9].register_forward_hook(lambda *_: _[2].sum().item())
    assert "GFLOPs" not in summary_line(model) and "parameters" in summary_line(model)
