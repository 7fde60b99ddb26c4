"""Each attention layer against its paper's formula, its neutral start, and what is said of wrong options."""

import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import attention
from models.attention.eca import adaptive_kernel_size
from models.registry import REGISTRY
from models.yolo import Model
from utils.errors import UserError

CHANNELS = 24
TRAINING = (False, True)


def build(name: str, channels: int = CHANNELS, **options) -> nn.Module:
    return REGISTRY.find(name).build(channels, **options)


def randomise(layer: nn.Module) -> nn.Module:
    """Give every parameter and running statistic a value of its own."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.normal_(0.1, 0.4, generator=generator)
        for name, tensor in layer.named_buffers():
            if tensor.is_floating_point():
                tensor.uniform_(0.5 if name.endswith("var") else -0.5, 1.5, generator=generator)
    return layer


def random_map(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


# The formulas, written plainly. `normalise(values, norm)` is batch norm over all axes but the second.


def se(x, layer, normalise):
    squeeze, excite = layer.squeeze.weight[:, :, 0, 0], layer.excite.weight[:, :, 0, 0]
    gates = [torch.sigmoid(excite @ torch.relu(squeeze @ image.flatten(1).mean(1))) for image in x]
    return x * torch.stack(gates)[:, :, None, None]


def eca(x, layer, normalise):
    kernel = layer.slide.weight.flatten()
    column = F.conv1d(x.mean(3).mean(2)[:, None], kernel[None, None], padding=len(kernel) // 2)
    return x * torch.sigmoid(column[:, 0])[:, :, None, None]


def cbam(x, layer, normalise):
    def perceptron(vectors):
        return torch.relu(vectors @ layer.squeeze.weight.flatten(1).T) @ layer.excite.weight.flatten(1).T

    flat = x.flatten(2)
    x = x * torch.sigmoid(perceptron(flat.mean(2)) + perceptron(flat.max(2).values))[:, :, None, None]
    planes = torch.stack((x.mean(1), x.max(1).values), 1)
    return x * torch.sigmoid(F.conv2d(planes, layer.place.weight, layer.place.bias, padding="same"))


def bam(x, layer, normalise):
    hidden = torch.relu(x.flatten(2).mean(2) @ layer.squeeze.weight.flatten(1).T + layer.squeeze.bias)
    channel = normalise(hidden @ layer.excite.conv.weight.flatten(1).T, layer.excite.bn)
    y = x
    for convolution in (layer.surround[0], layer.surround[2], layer.surround[4]):
        dilation = 1 if convolution.kernel_size == (1, 1) else 4
        y = torch.relu(F.conv2d(y, convolution.weight, convolution.bias, padding="same", dilation=dilation))
    place = normalise(F.conv2d(y, layer.place.conv.weight), layer.place.bn)
    return x + x * torch.sigmoid(channel[:, :, None, None] + place)


def coordatt(x, layer, normalise):
    height = x.shape[2]
    pooled = torch.cat((x.mean(3), x.mean(2)), 2)  # (B, C, H + W)
    f = normalise(torch.einsum("oc,bcp->bop", layer.squeeze.conv.weight[:, :, 0, 0], pooled), layer.squeeze.bn)
    f = f * torch.clamp(f + 3, 0, 6) / 6
    rows = torch.einsum("oc,bcp->bop", layer.rows.weight[:, :, 0, 0], f[:, :, :height]) + layer.rows.bias[:, None]
    columns = torch.einsum("oc,bcp->bop", layer.columns.weight[:, :, 0, 0], f[:, :, height:])
    columns = columns + layer.columns.bias[:, None]
    return x * torch.sigmoid(rows)[:, :, :, None] * torch.sigmoid(columns)[:, :, None, :]


def simam(x, layer, normalise):
    values, out, regularisation = x.numpy(), np.empty(x.shape), 1e-4
    for image, channel in np.ndindex(x.shape[:2]):
        plane = values[image, channel]
        energy = 4 * (plane.var() + regularisation)
        energy = energy / ((plane - plane.mean()) ** 2 + 2 * plane.var() + 2 * regularisation)
        out[image, channel] = plane / (1 + np.exp(-1 / energy))
    return torch.from_numpy(out)


def gam(x, layer, normalise):
    rows = x.permute(0, 2, 3, 1)  # channels last, for a perceptron over them
    rows = torch.relu(rows @ layer.squeeze.weight.flatten(1).T + layer.squeeze.bias)
    rows = rows @ layer.excite.weight.flatten(1).T + layer.excite.bias
    x = x * torch.sigmoid(rows).permute(0, 3, 1, 2)
    y = torch.relu(normalise(F.conv2d(x, layer.gather.conv.weight, padding="same"), layer.gather.bn))
    return x * torch.sigmoid(normalise(F.conv2d(y, layer.place.conv.weight, padding="same"), layer.place.bn))


def triplet(x, layer, normalise):
    def attend(rotated, branch):
        planes = torch.stack((rotated.max(1).values, rotated.mean(1)), 1)
        plane = F.conv2d(planes, branch.conv.weight, padding="same")
        return rotated * torch.sigmoid(normalise(plane, branch.bn))

    over_rows = attend(x.permute(0, 2, 1, 3), layer.over_rows).permute(0, 2, 1, 3)
    over_columns = attend(x.permute(0, 3, 2, 1), layer.over_columns).permute(0, 3, 2, 1)
    return (attend(x, layer.over_channels) + over_rows + over_columns) / 3


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "SE": se,
    "ECA": eca,
    "CBAM": cbam,
    "BAM": bam,
    "CoordAtt": coordatt,
    "SimAM": simam,
    "GAM": gam,
    "TripletAttention": triplet,
    "Identity": lambda x, layer, normalise: x,
    "ConstantGate": lambda x, layer, normalise: x / 2,
}
NEUTRAL = {
    "SE": 0.5,
    "ECA": 0.5,
    "CBAM": 0.25,
    "BAM": 1.5,
    "CoordAtt": 0.25,
    "GAM": 0.25,
    "TripletAttention": 0.5,
    "Identity": 1.0,
    "ConstantGate": 0.5,
}


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_layer_is_its_papers_formula(name, training):
    def normalise(values, norm):
        axes, shape = [axis for axis in range(values.ndim) if axis != 1], [1, -1, *[1] * (values.ndim - 2)]
        mean = values.mean(axes) if training else norm.running_mean
        variance = values.var(axes, correction=0) if training else norm.running_var
        scaled = (values - mean.view(shape)) / torch.sqrt(variance.view(shape) + norm.eps)
        return scaled * norm.weight.view(shape) + norm.bias.view(shape)

    layer = randomise(build(name)).double().train(training)
    x = random_map(3, CHANNELS, 5, 8)
    with torch.no_grad():
        expected = FORMULAS[name](x, layer, normalise)  # first: in training a pass moves the running statistics
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", TRAINING)
@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_start_is_one_constant(name, training):
    layer = build(name)
    assert layer.start_neutral() == NEUTRAL[name]
    x = random_map(2, CHANNELS, 7, 4).float()
    layer(x)  # moves running statistics, which must not matter
    assert torch.equal(layer.train(training)(x), x * NEUTRAL[name])


@pytest.mark.parametrize("name", [name for name in NEUTRAL if name not in ("Identity", "ConstantGate")])
def test_a_neutral_layer_still_learns(name):
    torch.manual_seed(0)
    layer = build(name)
    layer.start_neutral()
    before = {key: value.detach().clone() for key, value in layer.named_parameters()}
    for _ in range(4):
        x = torch.randn(4, CHANNELS, 6, 6)
        ((layer(x) * torch.randn_like(x)).sum() / 10).backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    assert [key for key, value in layer.named_parameters() if torch.equal(value, before[key])] == []


def test_simam_has_no_neutral_start():
    assert not hasattr(build("SimAM"), "start_neutral")
    assert not list(build("SimAM").parameters())


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (8, 3), (64, 3), (127, 3), (128, 5), (512, 5), (2048, 7)])
def test_eca_adapts_its_kernel(channels, size):
    assert adaptive_kernel_size(channels) == size
    assert build("ECA", channels).slide.weight.shape == (1, 1, size, 1)


@pytest.mark.parametrize(
    ("name", "options", "hidden"),
    [("SE", {}, 16), ("SE", {"reduction": 8}, 32), ("SE", {"reduction": 999}, 8), ("CoordAtt", {}, 8), ("GAM", {}, 64)],
)
def test_reduction_leaves_eight_channels(name, options, hidden):
    squeeze = build(name, 256, **options).squeeze
    assert getattr(squeeze, "conv", squeeze).out_channels == hidden


@pytest.mark.parametrize("name", ["SE", "ECA", "CBAM", "BAM", "CoordAtt", "SimAM", "Identity", "ConstantGate"])
def test_one_image_of_one_pixel_trains(name):
    layer, x = build(name), random_map(1, CHANNELS, 1, 1).float()
    assert layer.train()(x).isfinite().all()


def test_bam_takes_running_statistics_for_a_single_image():
    layer, x = randomise(build("BAM")), random_map(1, CHANNELS, 5, 3).float()
    before = layer.excite.bn.running_mean.clone(), layer.place.bn.running_mean.clone()
    layer.train()(x)
    assert torch.equal(layer.excite.bn.running_mean, before[0])
    assert not torch.equal(layer.place.bn.running_mean, before[1])
    layer.place.bn.eval()
    assert torch.equal(layer(x), layer.eval()(x))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("SE", {"reduction": 0}, "SE: reduction is 0, expected a whole number"),
        ("SE", {"reduction": True}, "SE: reduction is True"),
        ("SE", {"channels": 0}, "SE: channels is 0"),
        ("CBAM", {"reduction": -4}, "CBAM: reduction is -4"),
        ("CBAM", {"kernel_size": 4}, "CBAM: kernel_size is 4, expected an odd number"),
        ("BAM", {"reduction": 1.5}, "BAM: reduction is 1.5"),
        ("BAM", {"dilation": 0}, "BAM: dilation is 0"),
        ("CoordAtt", {"reduction": "32"}, "CoordAtt: reduction is '32'"),
        ("ECA", {"kernel_size": 2}, "ECA: kernel_size is 2, expected an odd number"),
        ("ECA", {"channels": -8}, "ECA: channels is -8"),
        ("GAM", {"kernel_size": -3}, "GAM: kernel_size is -3"),
        ("TripletAttention", {"kernel_size": "7"}, "TripletAttention: kernel_size is '7'"),
        ("SimAM", {"regularisation": 0}, "SimAM: regularisation is 0, expected a number above 0, at most 1"),
        ("ConstantGate", {"value": 0}, "ConstantGate: value is 0, expected a number above 0, at most 2"),
        ("ConstantGate", {"value": 2.5}, "ConstantGate: value is 2.5"),
        ("ConstantGate", {"value": float("nan")}, "ConstantGate: value is nan"),
    ],
)
def test_wrong_options_are_named(name, options, said):
    with pytest.raises(UserError) as error:
        build(name, **({"channels": CHANNELS} | options))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def small_network(*rows: list) -> dict:
    """Return a model YAML with the rows between one Conv of 16 channels and the head."""
    head = [[len(rows)], 1, "Detect", ["nc", "anchors"]]
    base = {"nc": 3, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13, 16, 30]]}
    return base | {"backbone": [[-1, 1, "Conv", [16, 3, 8]]], "head": [*rows, head]}


def test_rows_of_a_model_yaml_name_the_layers():
    model = Model(small_network(*([-1, 1, name, [16]] for name in FORMULAS)))
    assert [type(layer).__name__ for layer in model.model[1:-1]] == list(FORMULAS)
    x = torch.rand(2, 3, 64, 96)
    plain = model.eval()(x)[0]
    torch.testing.assert_close(model.fuse()(x)[0], plain, rtol=1e-5, atol=1e-5)


def test_a_row_with_a_wrong_option_is_named():
    with pytest.raises(UserError, match=r"row 1 SE.*reduction is 0"):
        Model(small_network([-1, 1, "SE", [16, {"reduction": 0}]]))


def test_importing_the_package_imports_every_layer():
    modules = {module.name for module in pkgutil.iter_modules(attention.__path__)}
    assert set(attention.__all__) == modules - {"shared"}
