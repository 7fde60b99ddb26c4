"""Forward values, gradients and batch statistics against v6.1."""

import numpy as np
import pytest
import torch
from torch import nn

from models.nam import NAMAttention
from models.yolo import Model
from tests.golden_data import load_golden, meta_of
from tests.models.recipes import calibrate_norms, fill_with_seeded_weights, random_images
from tests.models.test_golden_models import yaml_path
from utils.files import read_yaml

NAM = load_golden("forward_nam.npz")
NAM_CASES = meta_of(NAM)["cases"]
NAM_BASE = meta_of(NAM)["models"]["nam"]["weight_seed_base"]
HUB = load_golden("forward_hub.npz")
HUB_MODELS = meta_of(HUB)["models"]


def assert_close(actual, expected, tolerance: float) -> None:
    """Compare relative to the largest expected magnitude."""
    actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1.0))


def nam_model() -> Model:
    model = Model(yaml_path("yolov5-NAM"))
    fill_with_seeded_weights(model, NAM_BASE, scale_by_fan_in=False)
    return model


def images_of(case: dict) -> torch.Tensor:
    return random_images(case["seed"], case["batch"], case["h"], case["w"])


@pytest.mark.parametrize("size", ["64x64", "96x160"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_nam_network_in_evaluation_mode(size, channels_last):
    model, images = nam_model().eval(), images_of(NAM_CASES[f"nam_eval_{size}"])
    if channels_last:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        decoded, raw = model(images)
    for level, output in enumerate(raw):
        assert_close(output, NAM[f"nam_evalraw_{size}_p{level}"], 1e-5)
    assert_close(decoded, NAM[f"nam_eval_{size}"], 1e-5)


@pytest.mark.parametrize("case", ["nam_train_64x64_b2", "nam_train_96x160_b1"])
def test_nam_network_in_training_mode(case):
    model = nam_model().train().double()  # the sum below is of terms 500 times its size: FP32 rounds it by processor
    raw = model(images_of(NAM_CASES[case]).double())
    for level, output in enumerate(raw):
        assert_close(output, NAM[f"{case}_p{level}"], 1e-4)  # batch statistics of 2x2 maps
    weights = [np.random.RandomState(500 + i).standard_normal(output.shape) for i, output in enumerate(raw)]
    scalar = sum(
        (output * torch.from_numpy(w.astype(np.float32)).double()).sum() for output, w in zip(raw, weights, strict=True)
    )
    scalar.backward()
    assert scalar.item() == pytest.approx(NAM_CASES[case]["scalar"], rel=1e-4)
    parameters, state = dict(model.named_parameters()), model.state_dict()
    for entry in NAM.files:
        if entry.startswith(f"{case}_grad::"):
            assert_close(
                parameters[entry.split("::")[1]].grad / np.abs(NAM[entry]).max(),
                NAM[entry] / np.abs(NAM[entry]).max(),
                2e-4,
            )
        elif entry.startswith(f"{case}_after::"):
            assert_close(state[entry.split("::")[1]], NAM[entry], 1e-5)


@pytest.mark.parametrize("block", ["block0", "block1", "block2"])
def test_nam_block_alone(block):
    values = {name.split("_", 1)[1]: torch.from_numpy(NAM[name]) for name in NAM.files if name.startswith(f"{block}_")}
    attention = NAMAttention(len(values["gamma"]))
    norm = attention.Channel_Att.bn2
    with torch.no_grad():
        for tensor, name in (
            (norm.weight, "gamma"),
            (norm.bias, "beta"),
            (norm.running_mean, "mean"),
            (norm.running_var, "var"),
        ):
            tensor.copy_(values[name])
        assert_close(attention.eval()(values["x"]), values["y_eval"].numpy(), 1e-6)
    x = values["x"].clone().requires_grad_()
    y = attention.train()(x)
    y.backward(values["gout"])
    assert_close(y, values["y_train"].numpy(), 1e-6)
    assert_close(x.grad, values["dx_train"].numpy(), 1e-6)
    assert_close(norm.weight.grad, values["dgamma_train"].numpy(), 1e-5)
    assert_close(norm.bias.grad, values["dbeta_train"].numpy(), 1e-5)


@pytest.mark.parametrize("name", HUB_MODELS)
def test_every_graph_shrunk(name):
    case = HUB_MODELS[name]
    config = read_yaml(yaml_path(name)) | {key: case[key] for key in ("depth_multiple", "width_multiple", "nc")}
    model = Model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == case["n_params"]
    fill_with_seeded_weights(model, 2000, scale_by_fan_in=True)
    calibrate_norms(model, random_images(case["seed_calibrate"], 4, case["h"], case["w"]))
    with torch.no_grad():
        decoded, raw = model(random_images(case["seed_eval"], 1, case["h"], case["w"]))
    assert decoded.shape[1] == case["rows"]
    assert_close(decoded[0, HUB[f"{name}_rows_idx"]], HUB[f"{name}_rows"], 1e-3)
    summary = [[r.double().mean(), r.double().std(), r.double().abs().sum()] for r in raw]
    np.testing.assert_allclose(summary, HUB[f"{name}_rawabs"], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        raw = model.train()(random_images(case["seed_train"], 2, case["h"], case["w"]))
    summary = [[r.double().mean(), r.double().std(), r.double().abs().sum()] for r in raw]
    np.testing.assert_allclose(summary, HUB[f"{name}_trainraw"], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["yolov5-NAM", "yolov5s-ghost", "yolov5n6"])
def test_fusing_changes_no_output(name):
    case = HUB_MODELS[name]
    config = read_yaml(yaml_path(name)) | {key: case[key] for key in ("depth_multiple", "width_multiple", "nc")}
    model = Model(config)
    calibrate_norms(model, random_images(1, 4, case["h"], case["w"]))
    images = random_images(2, 1, case["h"], case["w"])
    with torch.no_grad():
        plain, _ = model(images)
        fused, _ = model.fuse()(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for name, module in model.named_modules() if name.endswith(".bn"))
    assert_close(fused, plain.numpy(), 1e-3)  # random weights: v6.1 itself moves by up to 0.3 px here
