"""Every plug-in layer, in a whole network, does in the exported file what it does in PyTorch."""

import pytest
import torch
from torch import nn

from models.formats import load_backend
from models.yolo import Model
from tests.formats.runtimes import CPU, SHAPES, assert_same, written
from tests.models.recipes import random_images
from tests.models.test_every_plugin import every_plugin
from utils.checkpoint import Checkpoint, write_checkpoint

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
CHANNELS = 16


def small_network(name: str, options: dict) -> dict:
    """Return a model YAML of five convolutions, a plug-in behind the third."""
    rows = [[-1, 1, "Conv", [CHANNELS, 3, 2]] for _ in range(5)]
    gate = [-1, 1, name, [CHANNELS, options] if options else [CHANNELS]]
    anchors = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
    return {
        "nc": 2,
        "depth_multiple": 1.0,
        "width_multiple": 1.0,
        "anchors": anchors,
        "backbone": [*rows[:3], gate, *rows[3:]],
        "head": [[[3, 4, 5], 1, "Detect", ["nc", "anchors"]]],
    }


def settled(config: dict) -> Model:
    """Return a network as after some training: nothing in its plug-in is zero, one or neutral."""
    torch.manual_seed(0)
    model = Model(config).train()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 0.5
    with torch.no_grad():
        for parameter in model.model[3].parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for seed in range(8):
            model(random_images(seed, 4, 64, 96))
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", PACKAGES)
@every_plugin
def test_an_exported_network_sees_the_same(name, options, runtime, tmp_path):
    for package in PACKAGES[runtime]:
        pytest.importorskip(package, reason=f"needs {package} (requirements-dev.txt)")
    model = settled(small_network(name, options))
    weights = tmp_path / "small.pt"
    write_checkpoint(weights, Checkpoint(model.state_dict(), model.yaml, model.names, model.stride.tolist()))
    source = load_backend([weights], CPU)
    exported = load_backend([written(runtime, weights, tmp_path, dynamic=True)], CPU)
    assert_same(exported, source)
    image = random_images(0, *SHAPES[0])
    plain = exported(image)
    assert plain[..., 4:].std() > 1e-3, "the network tells nothing"
