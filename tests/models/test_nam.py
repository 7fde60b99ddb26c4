"""NAM against its formulas, written out by hand."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from models.nam import NAMAttention, PixelNorm, Spatial_Att
from models.yolo import Model
from utils.errors import UserError
from utils.files import ROOT

VARIANTS = [
    {"gate": gate, "weights": weights, "detach": detach}
    for gate in ("paper", "identity")
    for weights in ("sum", "mean")
    for detach in (True, False)
]


def randomised(layer: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value of its own, scales of both signs."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in layer.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(generator=generator)
    return layer


def reference(layer: NAMAttention, x: torch.Tensor, gate: str, weights: str) -> torch.Tensor:
    """Return the output of evaluation mode, from the paper's formulas; the map has the size of the grid."""
    gain = 2 if gate == "identity" else 1

    def importance(scale: torch.Tensor) -> torch.Tensor:
        return scale.abs() / (scale.abs().sum() if weights == "sum" else scale.abs().mean())

    norm = layer.Channel_Att.bn2
    y = (x - norm.running_mean.view(1, -1, 1, 1)) / (norm.running_var.view(1, -1, 1, 1) + norm.eps).sqrt()
    y = y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    x = gain * torch.sigmoid(importance(norm.weight).view(1, -1, 1, 1) * y) * x
    if layer.Spatial_Att is None:
        return x
    norm = layer.Spatial_Att.norm
    pixels = x.flatten(2)  # (B, C, H * W)
    z = (pixels - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return (gain * torch.sigmoid(importance(norm.weight) * z) * pixels).view_as(x)


@pytest.mark.parametrize("no_spatial", [True, False])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_evaluation_follows_the_formulas(variant, no_spatial):
    layer = randomised(NAMAttention(16, no_spatial=no_spatial, grid=6, **variant)).double().eval()
    x = torch.randn(3, 16, 6, 6, dtype=torch.float64)
    expected = reference(layer, x, variant["gate"], variant["weights"])
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_folding_changes_no_output_and_leaves_only_elementwise_steps(variant):
    layer = randomised(NAMAttention(16, **variant)).eval()
    x = torch.randn(2, 16, 7, 5)
    expected = layer(x)
    layer.Channel_Att.fold()
    layer.Channel_Att.fold()
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)
    graph = torch.export.export(layer, (x,)).graph
    steps = {str(node.target).split(".")[1] for node in graph.nodes if node.op == "call_function"}
    assert steps <= {"addcmul", "mul", "sigmoid"}


def test_fusing_a_model_folds_nam():
    model = Model("yolov5-NAM.yaml").eval()
    randomised(model.model[24])
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)[1]
        after = model.fuse()(images)[1]
    assert model.model[24].Channel_Att.bn2 is None and not list(model.model[24].parameters())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grid", [1, 5, 20])
def test_on_a_map_of_the_grids_size_pixel_norm_is_batch_norm_over_pixels(grid, training):
    plain = randomised(nn.BatchNorm1d(grid * grid, eps=1e-3, momentum=0.03)).train(training)
    ours = PixelNorm(grid).train(training)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(4, 7, grid, grid, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    normalised = ours(x)
    expected = plain(twin.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(twin)
    torch.testing.assert_close(normalised, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(x)
    (normalised * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.steps(x)[2].flatten(), plain.weight)


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (20, 20), (41, 17)])
@pytest.mark.parametrize("training", [True, False])
def test_maps_of_any_size_are_normalised(size, training):
    layer = Spatial_Att(grid=8).train(training)
    x = torch.randn(2, 6, *size) * 3 + 1
    assert layer(x).shape == x.shape
    assert torch.isfinite(layer(x)).all()
    if training and size != (1, 1):
        normalised = layer.norm(x)
        assert normalised.mean((0, 1)).abs().max() < 1e-5
        assert (normalised.var((0, 1), correction=0) - 1).abs().max() < 1e-2


def test_statistics_of_a_larger_map_reach_the_grid_and_come_back():
    norm = PixelNorm(8, momentum=1.0)
    slope = torch.linspace(-1, 1, 32).view(1, 1, 32, 1).expand(2, 64, 32, 32)
    x = slope * 5 + torch.randn(2, 64, 32, 32)
    trained = norm(x)
    evaluated = norm.eval()(x)
    assert (trained - evaluated).abs().mean() < 0.15  # a smooth mean survives the grid


def test_statistics_of_a_larger_map_are_of_all_its_pixels():
    norm = PixelNorm(20, momentum=1.0)
    x = torch.zeros(2, 4, 160, 160)
    x[..., ::8, :] = 100  # rows that sampling four of 64 pixels would miss or take for all
    norm(x)
    assert norm.running_mean.mean() == pytest.approx(12.5, rel=0.02)


@pytest.mark.parametrize("weights", ["sum", "mean"])
def test_half_precision_on_a_large_map(weights):
    layer = NAMAttention(8, no_spatial=False, weights=weights).eval()
    x = torch.randn(1, 8, 320, 320)
    with torch.no_grad():
        expected, got = layer(x), layer.half()(x.half())
    assert got.dtype == torch.float16
    assert (got.float() - expected).abs().max() < 0.02


@pytest.mark.parametrize("no_spatial", [True, False])
def test_gradient_through_the_weights_only_when_wanted(no_spatial):
    x = torch.randn(2, 8, 5, 5)
    gradients = []
    for detach in (True, False):
        layer = randomised(NAMAttention(8, no_spatial=no_spatial, detach=detach, grid=5)).train()
        (layer(x) * x).sum().backward()
        gradients.append(layer.Channel_Att.bn2.weight.grad)
    assert not torch.allclose(*gradients)


def test_scales_offered_to_the_penalty_are_nams_own():
    model = Model("yolov5n.yaml")
    assert not [module for module in model.modules() if hasattr(module, "sparse_scales")]
    layer = NAMAttention(16, no_spatial=False, grid=4)
    offered = [
        scale for module in layer.modules() if hasattr(module, "sparse_scales") for scale in module.sparse_scales()
    ]
    assert [id(scale) for scale in offered] == [id(layer.Channel_Att.bn2.weight), id(layer.Spatial_Att.norm.weight)]


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_zero_and_equal_scales(scale):
    layer = NAMAttention(4).eval()
    nn.init.constant_(layer.Channel_Att.bn2.weight, scale)
    x = torch.randn(1, 4, 3, 3)
    out = layer(x)
    assert torch.isfinite(out).all()
    if scale == 0:
        torch.testing.assert_close(out, x / 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"out_channels": 8}, "keeps its 16 channels, it cannot give 8"),
        ({"gate": "soft"}, "gate is 'soft', expected one of paper, identity"),
        ({"weights": "max"}, "weights is 'max', expected one of sum, mean"),
        ({"no_spatial": False, "grid": 0}, "grid is 0"),
        ({"no_spatial": "no"}, "no_spatial is 'no', expected True or False"),
        ({"detach": 1}, "detach is 1, expected True or False"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(UserError, match=words):
        NAMAttention(16, **options)


def test_the_file_runs_on_its_own(tmp_path):
    run = subprocess.run([sys.executable, ROOT / "models/nam.py"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == "torch.Size([1, 64, 64, 64])", run.stderr
