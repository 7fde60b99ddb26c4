"""What every plug-in layer must do: each class with ``@layer(gates)`` is here without being named.

Options beside the defaults are listed in ``VARIANTS``.
"""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from models import attention, yolo  # noqa: F401  importing them registers their layers
from models.registry import REGISTRY, gates
from utils.train.optim import group_parameters

CHANNELS = 16
VARIANTS: dict[str, list[dict]] = {
    "NAMAttention": [{}, {"no_spatial": False}, {"gate": "identity", "weights": "mean", "detach": False}],
    "SE": [{}, {"reduction": 2}],
    "ECA": [{}, {"kernel_size": 7}],
    "CBAM": [{}, {"kernel_size": 3}],
    "BAM": [{}, {"reduction": 2, "dilation": 1}],
    "GAM": [{}, {"kernel_size": 3}],
    "TripletAttention": [{}, {"kernel_size": 3}],
}
SHAPES = [(1, 8, 8), (2, 7, 5), (3, 1, 6), (2, 9, 1), (4, 20, 33)]  # B, H, W
TRACED, *OTHERS = [(2, 7, 9), (3, 10, 5), (1, 20, 33)]  # a graph made with the first must run on the others


def plugins() -> list:
    """Return one parameter set, (name, options), for each plug-in and variant."""
    names = [name for name, entry in REGISTRY.layers.items() if entry.plan is gates and not _is_torchs(entry.build)]
    cases = [(name, options) for name in sorted(names) for options in VARIANTS.get(name, [{}])]
    return [pytest.param(*case, id="-".join([case[0], *map(str, case[1].values())])) for case in cases]


def _is_torchs(build: type) -> bool:
    return build.__module__.startswith("torch.")


every_plugin = pytest.mark.parametrize(("name", "options"), plugins())


def build(name: str, options: dict) -> nn.Module:
    torch.manual_seed(0)
    return REGISTRY.find(name).build(CHANNELS, **options)


def settled(name: str, options: dict) -> nn.Module:
    """Return the layer in evaluation mode as after some training: nothing in it is zero, one or neutral."""
    layer = build(name, options).train()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for seed in range(20):
            layer(random_map(4, 12, 10, seed=seed) * 1.5 + 0.3)
    return layer.eval()


def folded(layer: nn.Module) -> nn.Module:
    """Return a copy in its cheaper form, as ``Model.fuse`` makes it."""
    layer = copy.deepcopy(layer)
    for module in list(layer.modules()):
        if callable(getattr(module, "fold", None)):
            module.fold()
    return layer


def random_map(batch: int, height: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn((batch, CHANNELS, height, width), generator=torch.Generator().manual_seed(seed))


@every_plugin
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_shape_stays(name, options, training):
    layer = build(name, options).train(training)
    for shape in SHAPES:
        x = random_map(*shape)
        out = layer(x)
        assert out.shape == x.shape
        assert out.dtype == x.dtype
        assert out.isfinite().all()


@every_plugin
def test_the_input_is_left_as_it_was(name, options):
    layer, x = settled(name, options), random_map(2, 7, 5)
    layer(x)
    assert torch.equal(x, random_map(2, 7, 5))


@every_plugin
def test_gradients_reach_input_and_every_parameter(name, options):
    layer = build(name, options).train()
    for seed in range(4):
        x = random_map(4, 20, 20, seed).requires_grad_()
        layer(x).square().sum().backward()
        assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, f"{key} is not used"
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), f"{key} gets no gradient"


@every_plugin
def test_two_passes_agree(name, options):
    layer, x = settled(name, options), random_map(2, 7, 5)
    assert torch.equal(layer(x), layer(x))


@every_plugin
def test_images_of_a_batch_do_not_meet(name, options):
    layer, x = settled(name, options), random_map(3, 7, 5)
    alone = torch.cat([layer(image[None]) for image in x])
    torch.testing.assert_close(layer(x), alone, rtol=0, atol=1e-5)


@every_plugin
def test_channels_last_stays_and_changes_no_value(name, options):
    layer, x = settled(name, options), random_map(2, 7, 5)
    expected = layer(x)
    out = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


@every_plugin
def test_copies_and_stored_states_agree(name, options):
    layer, x = settled(name, options), random_map(2, 7, 5)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    restored = build(name, options).eval()
    restored.load_state_dict(layer.state_dict())
    assert torch.equal(restored(x), expected)


@every_plugin
def test_every_parameter_is_in_one_optimizer_group(name, options):
    layer = build(name, options)
    grouped = [id(parameter) for group in group_parameters(layer).values() for parameter in group]
    assert sorted(grouped) == sorted(map(id, layer.parameters()))


@every_plugin
def test_a_neutral_start_is_stated_in_numbers(name, options):
    layer = build(name, options)
    if not hasattr(layer, "start_neutral"):
        pytest.skip(f"{name} has no neutral start")
    factor = layer.start_neutral()
    assert isinstance(factor, float) and 0 < factor <= 2
    x = random_map(4, 20, 20)
    torch.testing.assert_close(layer.train()(x).norm() / x.norm(), torch.tensor(factor), rtol=0.05, atol=0)


@every_plugin
def test_folding_changes_no_value(name, options):
    layer = settled(name, options)
    cheap = folded(layer)
    again = folded(cheap)
    for shape in SHAPES:
        x = random_map(*shape)
        torch.testing.assert_close(cheap(x), layer(x), rtol=1e-6, atol=1e-6)
        assert torch.equal(again(x), cheap(x))


@every_plugin
def test_a_torchscript_trace_runs_on_other_shapes(name, options):
    layer = settled(name, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but a format that users have
        trace = torch.jit.trace(folded(layer), random_map(*TRACED))
    for shape in OTHERS:
        x = random_map(*shape)
        torch.testing.assert_close(trace(x), layer(x), rtol=1e-4, atol=1e-4)


@every_plugin
def test_onnx_runtime_runs_other_shapes(name, options):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} writes ONNX files")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX files")
    layer = settled(name, options)
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            folded(layer),
            (random_map(*TRACED),),
            dynamo=True,
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
            verbose=False,
        )
    session = runtime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in OTHERS:
        x = random_map(*shape)
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), layer(x).detach(), rtol=1e-4, atol=1e-4)
