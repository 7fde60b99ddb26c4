"""New gates in a pretrained network start without changing what it computes."""

from pathlib import Path

import pytest
import torch
from torch import nn

import val
from models.common import C3, SPPF, Bottleneck, Conv, DWConv
from models.insertion import insert_layers
from models.preserve import entry_convolutions, preserve_function
from models.start import StartRequest, start_model
from models.transfer import transfer_weights
from models.yolo import Model
from tests.golden_data import shared_path
from tests.models.recipes import calibrate_norms, fill_with_seeded_weights, random_images
from utils.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from utils.errors import UserError

EXACT = ("CBAM", "SE", "ECA", "BAM", "CoordAtt", "GAM", "TripletAttention", "Identity", "ConstantGate(0.25)")
NAM = ("", "(gate=identity)", "(no_spatial=False)", "(weights=mean)", "(weights=mean,no_spatial=False,gate=identity)")


@pytest.fixture(scope="module")
def trained(tiny_config) -> Model:
    """Return a network whose every convolution matters, with activations of the usual size."""
    torch.manual_seed(0)
    model = Model(tiny_config)
    fill_with_seeded_weights(model, 100, scale_by_fan_in=True)
    images = random_images(1, 4, 256, 256)  # no map so small that a norm's variance is a matter of luck
    calibrate_norms(model, images)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    calibrate_norms(model, images)
    return model.eval()


def as_checkpoint(model: Model) -> Checkpoint:
    return Checkpoint(model.state_dict(), model.yaml, model.names, model.stride.tolist())


def with_inserted(trained: Model, *rules: str, preserve: bool = True) -> tuple[Model, list[str]]:
    model = Model(insert_layers(trained.yaml, rules, "tiny"))
    transfer = transfer_weights(model, as_checkpoint(trained), with_anchors=True)
    problems = preserve_function(model, transfer) if preserve else []
    return model.eval(), problems


def difference(one: Model, other: Model) -> float:
    """Return the largest difference of raw outputs, relative to the largest output."""
    images = random_images(2, 1, 192, 256)
    with torch.no_grad():
        ours, theirs = one(images)[1], other(images)[1]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("place", ["4", "9", "12", "23", "0,2,17", "C3", "before-Detect"])
@pytest.mark.parametrize("layer", EXACT)
def test_a_constant_start_is_taken_back_exactly(trained, layer, place):
    model, problems = with_inserted(trained, f"{layer}@{place}")
    assert problems == []
    assert difference(model, trained) < 1e-5


@pytest.mark.parametrize("place", ["4", "9", "23", "C3", "before-Detect"])
@pytest.mark.parametrize("options", NAM)
def test_nam_starts_close_to_a_constant(trained, options, place):
    model, problems = with_inserted(trained, f"NAMAttention{options}@{place}")
    assert problems == []
    changed, _ = with_inserted(trained, f"NAMAttention{options}@{place}", preserve=False)
    assert difference(model, trained) < (0.1 if place == "C3" else 0.02)  # eight gates in a row, or one a path
    if "=" not in options:
        assert difference(changed, trained) > 10 * difference(model, trained)


def test_gates_behind_gates_and_both_sides_of_a_concat(trained):
    model, problems = with_inserted(trained, "SE@4", "CBAM@4", "ECA@15", "SE@16", "BAM@before-Detect", "SE@23")
    assert problems == []
    assert difference(model, trained) < 1e-5


def test_a_gate_that_learns_is_not_stuck_at_its_start(trained):
    model, _ = with_inserted(trained, "NAMAttention@9", "SE@4")
    model.train()
    outputs = model(random_images(3, 2, 64, 64))
    sum(output.square().mean() for output in outputs).backward()
    assert model.model[11].Channel_Att.bn2.weight.grad.abs().max() > 0
    assert model.model[5].excite.weight.grad.abs().max() > 0


def test_a_gate_without_a_neutral_start_is_named(trained):
    _, problems = with_inserted(trained, "SimAM@9")
    assert problems == ["layer 10 SimAM has no neutral start"]


def test_a_trained_gate_that_gets_a_new_branch_is_named(trained):
    with_channel, _ = with_inserted(trained, "NAMAttention@9")
    model = Model(insert_layers(trained.yaml, ["NAMAttention(no_spatial=False)@9"], "tiny"))
    transfer = transfer_weights(model, as_checkpoint(with_channel))
    assert preserve_function(model, transfer) == ["layer 10 NAMAttention got only 5 of its 10 tensors"]


def test_a_network_that_got_nothing_is_left_as_it_starts(trained, tmp_path):
    """Weights of another width: there is nothing to preserve."""
    write_checkpoint(tmp_path / "old.pt", as_checkpoint(trained))
    torch.manual_seed(5)
    fresh = Model("yolov5-NAM.yaml", nc=2)
    torch.manual_seed(5)
    started = start_model(StartRequest(cfg="yolov5-NAM.yaml", weights=str(tmp_path / "old.pt")), {0: "x", 1: "y"})
    assert all(torch.equal(tensor, started.state_dict()[key]) for key, tensor in fresh.state_dict().items())


@pytest.mark.parametrize("rule", ["NAMAttention@9", "NAMAttention(weights=mean,no_spatial=False)@9", "NAMAttention@0"])
def test_nam_starts_with_no_scale_near_zero(trained, rule):
    model, _ = with_inserted(trained, rule)
    scales = [
        scale for module in model.modules() if hasattr(module, "sparse_scales") for scale in module.sparse_scales()
    ]
    assert scales and all((scale >= 0.05).all() for scale in scales)


def test_a_factor_that_a_new_layer_swallows_is_named(trained):
    _, problems = with_inserted(trained, "SE@4", "nn.SiLU@4")
    assert problems == ["layer 6 nn.SiLU is new and reads a new gate"]


def test_a_residual_reader_is_named_and_left_as_it_is(tiny_config):
    base = tiny_config | {
        "backbone": [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Bottleneck", [64]], [-1, 1, "Conv", [64, 3, 2]]],
        "head": [[[2], 1, "Detect", ["nc", [[10, 13]]]]],
    }
    source = Model(base).eval()
    model, problems = with_inserted(source, "SE@0")
    assert problems == ["layer 2 Bottleneck reads a new gate other than by convolutions"]
    assert torch.equal(model.model[2].cv1.conv.weight, source.model[1].cv1.conv.weight)
    model, problems = with_inserted(source, "SE@0", preserve=False)
    assert problems == []


@pytest.mark.parametrize("returned", [None, 0.0, float("nan"), "half"])
def test_a_start_that_is_no_factor_is_an_error(trained, monkeypatch, returned):
    monkeypatch.setattr("models.attention.se.SE.start_neutral", lambda self: returned)
    with pytest.raises(UserError, match=r"layer 10 SE: start_neutral\(\) returned .*, expected a number above 0"):
        with_inserted(trained, "SE@9")


class SharedConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.first(self.first(x))


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.convolution(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.Conv2d(4, 4, 1), [""]),
        (Conv(4, 8), ["conv"]),
        (DWConv(4, 8), ["conv"]),
        (C3(4, 8), ["cv1.conv", "cv2.conv"]),
        (SPPF(4, 8), ["cv1.conv"]),
        (Bottleneck(4, 8, shortcut=False), ["cv1.conv"]),
        (nn.Sequential(Conv(4, 8), Conv(8, 8)), ["0.conv"]),
        (Bottleneck(4, 4, shortcut=True), []),
        (SharedConvolution(), []),
        (LooksAtValues(), []),
        (nn.SiLU(), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_entry_convolutions_are_those_that_alone_read_the_input(module, names):
    found = {id(convolution) for convolution in entry_convolutions(module)}
    assert found == {id(module.get_submodule(name)) for name in names}


def test_grouped_convolutions_are_compensated_channel_by_channel(tiny_config):
    base = tiny_config | {
        "backbone": [
            *([-1, 1, "Conv", [64, 3, 2]], [0, 1, "Conv", [64, 1]], [[0, 1], 1, "Concat", [1]]),
            [-1, 1, "DWConv", [64, 3, 2]],
        ],
        "head": [[[3], 1, "Detect", ["nc", [[10, 13]]]]],
    }
    source = Model(base).eval()
    model, problems = with_inserted(source, "ConstantGate(0.25)@1")  # half of what the grouped convolution reads
    assert problems == [] and difference(model, source) < 1e-5


def test_training_starts_from_a_preserved_network_unless_told_otherwise(trained, tmp_path):
    write_checkpoint(tmp_path / "old.pt", as_checkpoint(trained))
    request = {"weights": str(tmp_path / "old.pt"), "insert": ["SE@9"]}
    assert difference(start_model(StartRequest(**request), trained.names).eval(), trained) < 1e-5
    assert difference(start_model(StartRequest(**request, preserve=False), trained.names).eval(), trained) > 0.01


@pytest.mark.slow
def test_the_official_network_keeps_its_map_with_nam(tmp_path, monkeypatch):
    weights, data = str(shared_path("weights/yolov5n.pt")), shared_path("datasets/coco128")
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(data.parent))
    names = read_checkpoint(Path(weights)).names
    maps = {}
    for rule in ("", "NAMAttention@9", "NAMAttention@23", "NAMAttention@before-Detect"):
        model = start_model(StartRequest(weights=weights, insert=[rule] if rule else []), names)
        write_checkpoint(tmp_path / "start.pt", as_checkpoint(model))
        result = val.run(data="coco128.yaml", weights=str(tmp_path / "start.pt"), batch_size=16, project=tmp_path)
        maps[rule] = result.map50_95
    plain = maps.pop("")
    assert plain > 0.36
    assert all(abs(value - plain) < 0.003 for value in maps.values()), maps
