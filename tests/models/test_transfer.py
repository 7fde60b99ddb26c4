"""Starting from other weights: layers are matched by structure, tensors copied to where they belong, the rest named."""

import pytest
import torch

from models.insertion import insert_layers
from models.transfer import fit_channels, log_transfer, transfer_weights
from models.yolo import Model
from utils.checkpoint import Checkpoint
from utils.log import set_up_logging

INSERTED = (["{}@{}"], ["{0}@{1}", "SE@C3", "SimAM@before-Detect"], ["{0}@{1}", "{0}@2", "ECA@4,9"])


def checkpoint_of(config, names=None, **overrides) -> Checkpoint:
    """Return a network in which no two tensors are equal."""
    torch.manual_seed(1)
    model = Model(config, **overrides)
    state = {
        key: torch.randn_like(tensor) if tensor.is_floating_point() else torch.randint_like(tensor, 1, 10**6)
        for key, tensor in model.state_dict().items()
    }
    return Checkpoint(state, model.yaml, names or model.names, model.stride.tolist())


@pytest.fixture(scope="module")
def tiny(tiny_config) -> Checkpoint:
    return checkpoint_of(tiny_config)


@pytest.fixture(scope="module")
def tiny_p6() -> Checkpoint:
    return checkpoint_of("yolov5n6.yaml")


def origins_of(model: Model) -> list[int]:
    """Return the indices of a network's rows that were not inserted, in order."""
    return [row.index for row in model.rows if not row.is_gate]


def assert_all_in_place(model: Model, source: Checkpoint) -> None:
    """Compare every tensor of ``source`` with the one of the same layer, found by leaving out all gates."""
    state, places = model.state_dict(), origins_of(model)
    for key, tensor in source.state.items():
        _, index, rest = key.split(".", 2)
        assert torch.equal(state[f"model.{places[int(index)]}.{rest}"], tensor), key


@pytest.mark.parametrize("rules", INSERTED, ids=["one", "several kinds", "several of one kind"])
@pytest.mark.parametrize("layer", ["NAMAttention", "CBAM"])
@pytest.mark.parametrize("position", range(24))
def test_every_tensor_is_kept_wherever_a_layer_is_inserted(tiny, layer, position, rules):
    rules = [rule.format(layer, position) for rule in rules]
    model = Model(insert_layers(tiny.yaml, rules, "tiny"))
    transfer = transfer_weights(model, tiny, with_anchors=True)
    assert transfer.taken == len(tiny.state) == 349
    assert [row.index for row in transfer.rows if row.origin is None] == [
        row.index for row in model.rows if row.is_gate
    ]
    assert not transfer.unused
    assert_all_in_place(model, tiny)


@pytest.mark.parametrize("position", range(0, 33, 4))
def test_every_tensor_of_a_p6_network_is_kept(tiny_p6, position):
    model = Model(insert_layers(tiny_p6.yaml, [f"NAMAttention@{position}"], "n6"))
    assert transfer_weights(model, tiny_p6, with_anchors=True).taken == len(tiny_p6.state) == 459
    assert_all_in_place(model, tiny_p6)


def test_a_removed_layer_is_named_and_the_others_keep_their_tensors(tiny):
    nam = checkpoint_of(insert_layers(tiny.yaml, ["NAMAttention@4", "NAMAttention@23"], "tiny"))
    model = Model(tiny.yaml)
    transfer = transfer_weights(model, nam)
    assert transfer.unused == ["5 NAMAttention", "25 NAMAttention"]
    assert transfer.taken == transfer.total == 348
    assert torch.equal(model.state_dict()["model.5.conv.weight"], nam.state["model.6.conv.weight"])


def test_a_replaced_layer_takes_nothing_from_the_one_before(tiny):
    config = insert_layers(tiny.yaml, [], "tiny")
    config["backbone"][6][2] = "C3Ghost"  # its cv1, cv2 and cv3 have the shapes of C3's
    model = Model(config)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    transfer = transfer_weights(model, tiny)
    assert transfer.rows[6].origin is None and transfer.unused == ["6 C3"]
    state = model.state_dict()
    assert all(torch.equal(state[key], before[key]) for key in state if key.startswith("model.6."))
    assert torch.equal(state["model.7.conv.weight"], tiny.state["model.7.conv.weight"])


def test_a_shape_in_common_never_carries_weights_to_another_layer():
    """Layer 3 of yolov5n has the shape of layer 1 of yolov5s, but not its place."""
    source, model = checkpoint_of("yolov5n.yaml"), Model("yolov5s.yaml")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    transfer = transfer_weights(model, source)
    assert source.state["model.3.conv.weight"].shape == before["model.1.conv.weight"].shape
    changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert changed == [] and transfer.taken == 0


def test_the_first_of_two_equal_layers_is_the_old_one(tiny):
    model = Model(insert_layers(tiny.yaml, ["C3(512,False)@13"], "tiny"))
    transfer = transfer_weights(model, tiny)
    assert tiny.yaml["head"][3] == [-1, 3, "C3", [512, False]]
    assert [transfer.rows[index].origin for index in (13, 14, 15)] == [13, None, 14]


def test_arguments_and_shapes_tell_equal_types_apart(tiny):
    model = Model(insert_layers(tiny.yaml, ["Conv(128,1,1)@17"], "tiny"))  # before the 3x3 Conv of the file
    transfer = transfer_weights(model, tiny)
    assert [transfer.rows[index].origin for index in (17, 18, 19)] == [17, None, 18]


def test_anchors_are_taken_only_when_asked_for(tiny):
    model = Model(tiny.yaml)
    anchors = model.detect.anchors.clone()
    assert transfer_weights(model, tiny).total == 348
    assert torch.equal(model.detect.anchors, anchors)
    assert transfer_weights(model, tiny, with_anchors=True).total == 349
    assert torch.equal(model.detect.anchors, tiny.state["model.24.anchors"])


def test_class_rows_follow_their_names_whatever_their_number(tiny_config):
    names = {0: "cat", 1: "Person", 2: "dog", 3: "tram"}
    source = checkpoint_of(tiny_config, names, nc=4)
    model = Model(tiny_config, nc=3)
    model.names = {0: "person ", 1: "lorry", 2: "cat"}
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    transfer = transfer_weights(model, source)
    assert (transfer.taken, transfer.rows[24].taken) == (348, 6)
    assert transfer.rows[24].note == "1 of 3 classes, not among the file's (lorry)"
    for key in [f"model.24.m.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")]:
        new, start = (tensor.unflatten(0, (3, 8)) for tensor in (model.state_dict()[key], before[key]))
        old = source.state[key].unflatten(0, (3, 9))
        assert torch.equal(new[:, :5], old[:, :5])
        assert torch.equal(new[:, 5], old[:, 6]) and torch.equal(new[:, 7], old[:, 5])
        assert torch.equal(new[:, 6], start[:, 6])


def test_equal_numbers_of_other_classes_are_no_reason_to_copy(tiny_config):
    source = checkpoint_of(tiny_config, {index: f"old {index}" for index in range(10)})
    model = Model(tiny_config)
    before = model.detect.m[0].bias.detach().clone().unflatten(0, (3, 15))
    transfer_weights(model, source)
    after = model.detect.m[0].bias.detach().unflatten(0, (3, 15))
    assert torch.equal(after[:, 5:], before[:, 5:]) and not torch.equal(after[:, :5], before[:, :5])


def test_levels_of_another_head_are_matched_by_what_they_read():
    """yolov5-p2 has a finer level before the three of yolov5n."""
    source = checkpoint_of("yolov5n.yaml")
    config = Model("yolov5-p2.yaml").yaml | {"width_multiple": 0.25, "depth_multiple": 0.33, "anchors": 3}
    model = Model(config)
    before = {key: tensor.clone() for key, tensor in model.detect.state_dict().items()}
    transfer = transfer_weights(model, source)
    assert len(model.rows[-1].sources) == 4
    copied = {
        level: [
            old for old in range(3) if torch.equal(model.detect.m[level].bias, source.state[f"model.24.m.{old}.bias"])
        ]
        for level in range(4)
    }
    assert copied == {0: [], 1: [], 2: [1], 3: [2]}  # the layer under P3 reads other maps now, and is new
    assert transfer.rows[-1].taken == 4
    assert all(torch.equal(model.detect.m[level].weight, before[f"m.{level}.weight"]) for level in (0, 1))


def test_no_level_is_copied_twice():
    """P3 dropped and P6 added: as many levels as before, but the last has no counterpart."""
    source = checkpoint_of("yolov5n.yaml")
    config = insert_layers(source.yaml, ["Conv(1024,3,2)@23"], "n")
    config["head"][-1][0] = [20, 23, 24]
    model = Model(config)
    before = model.detect.m[2].weight.detach().clone()
    transfer = transfer_weights(model, source)
    assert torch.equal(model.detect.m[0].bias, source.state["model.24.m.1.bias"])
    assert torch.equal(model.detect.m[1].bias, source.state["model.24.m.2.bias"])
    assert torch.equal(model.detect.m[2].weight, before)
    assert transfer.rows[-1].note == "m.2.weight, m.2.bias: nothing there fits"


def test_a_norm_stays_with_its_convolution(tiny):
    config = insert_layers(tiny.yaml, [], "tiny")
    assert config["head"][4] == [-1, 1, "Conv", [256, 1, 1]]
    config["head"][4] = [-1, 1, "Conv", [256, 3, 1]]  # a fresh 3x3 has no use for the statistics of a 1x1
    model = Model(config)
    transfer = transfer_weights(model, tiny)
    assert (transfer.rows[14].origin, transfer.rows[14].taken) == (14, 0)
    assert (model.model[14].bn.running_mean == 0).all()


@pytest.mark.parametrize(("first", "key"), [("Conv", "conv.weight"), ("Focus", "conv.conv.weight")])
@pytest.mark.parametrize(("before", "now"), [(3, 1), (1, 3), (3, 2), (3, 4), (3, 6), (4, 3), (6, 1)])
def test_the_first_layer_is_fitted_to_images_of_other_channels(tiny_config, before, now, first, key):
    """A grey image looks as it did, whatever the number of its channels, and whatever additional ones hold."""
    rows = [[-1, 1, first, [64, 3] if first == "Focus" else [64, 6, 2, 2]], *tiny_config["backbone"][1:]]
    config = tiny_config | {"backbone": rows}
    source, model = checkpoint_of(config, ch=before), Model(config, now)
    for tensor in (tensor for name, tensor in source.state.items() if "running_var" in name):
        tensor.abs_()
    transfer = transfer_weights(model, source, with_anchors=True)
    assert transfer.taken == len(source.state) == transfer.total
    assert transfer.rows[0].note == f"{key} fitted from {before} to {now} image channels"
    old = Model(config, before)
    old.load_state_dict(source.state)
    grey = torch.rand(2, 1, 32, 32)
    image = grey.repeat(1, now, 1, 1)
    if now > before > 1:
        image[:, before:] = torch.rand(2, now - before, 32, 32)
    with torch.no_grad():
        expected, got = old.model[0].eval()(grey.repeat(1, before, 1, 1)), model.model[0].eval()(image)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_fitting_keeps_the_filters_of_the_channels_that_stay():
    weight = torch.randn(5, 3, 6, 6)
    assert torch.equal(fit_channels(weight, 3, 4)[:, :3], weight)
    assert not fit_channels(weight, 3, 4)[:, 3:].any()
    assert torch.equal(fit_channels(fit_channels(weight, 3, 4), 4, 3), weight)
    torch.testing.assert_close(fit_channels(weight, 3, 1), weight.sum(1, keepdim=True))


def test_a_wider_first_layer_is_named_whatever_the_channels(tiny, tiny_config):
    transfer = transfer_weights(Model(tiny_config | {"width_multiple": 0.25}, 1), tiny)
    assert transfer.rows[0].note == "conv.weight is 16x1x6x6 here, 8x3x6x6 there (and 5 more)"


@pytest.mark.parametrize("key", ["model.0.conv.weight", "model.20.cv1.bn.bias"])
def test_a_tensor_the_file_lacks_is_named(tiny, key):
    state = {name: tensor for name, tensor in tiny.state.items() if name != key}
    transfer = transfer_weights(Model(tiny.yaml), Checkpoint(state, tiny.yaml, tiny.names, tiny.stride))
    assert transfer.taken == transfer.total - (6 if key.endswith("conv.weight") else 1)
    _, index, rest = key.split(".", 2)
    assert transfer.rows[int(index)].note.startswith(f"{rest} is ")
    assert "not in the file" in transfer.rows[int(index)].note


def test_the_report_is_a_short_table(tiny, capsys):
    model = Model(insert_layers(tiny.yaml, ["NAMAttention@9"], "tiny"), nc=3)
    model.names = {0: "0", 1: "x", 2: "y"}
    transfer = transfer_weights(model, tiny)
    set_up_logging()
    log_transfer(transfer, "old.pt")
    words = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert words == [
        "Transferred 348 of 353 tensors from old.pt",
        "layer taken from tensors remarks",
        "0-9 0-9 198/198",
        "10 NAMAttention - 0/5 new",
        "11-24 10-23 144/144",
        "25 Detect 24 6/6 2 of 3 classes, not among the file's (x, y)",
    ]
