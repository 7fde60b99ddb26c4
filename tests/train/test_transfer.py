"""Starting from other weights: what fits is copied, the rest is named."""

import logging

import pytest
import torch

from models.yolo import Model
from utils.train.transfer import log_transfer, transfer_weights


def filled(model: Model) -> dict[str, torch.Tensor]:
    return {key: torch.full_like(tensor, 2) for key, tensor in model.state_dict().items()}


def test_everything_fits_the_same_network(tiny_config):
    model = Model(tiny_config)
    anchors = model.detect.anchors.clone()
    transfer = transfer_weights(model, filled(model))
    assert (len(transfer.taken), transfer.missing, transfer.unfit) == (348, [], {})
    assert all((tensor == 2).all() for key, tensor in model.state_dict().items() if not key.endswith("anchors"))
    assert torch.equal(model.detect.anchors, anchors)


def test_anchors_are_taken_when_asked_for(tiny_config):
    model = Model(tiny_config)
    assert len(transfer_weights(model, filled(model), with_anchors=True).taken) == 349
    assert (model.detect.anchors == 2).all()


def test_another_class_count_leaves_the_head_at_its_start(tiny_config, caplog, monkeypatch):
    model, source = Model(tiny_config, nc=3), Model(tiny_config)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    transfer = transfer_weights(model, filled(source))
    assert sorted(transfer.unfit) == [f"model.24.m.{i}.{kind}" for i in range(3) for kind in ("bias", "weight")]
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in transfer.unfit)
    monkeypatch.setattr(logging.getLogger("yolov5"), "propagate", True)
    with caplog.at_level(logging.INFO, "yolov5"):
        log_transfer(transfer, "old.pt", [row.type for row in model.rows])
    assert "Transferred 342 of 348 tensors from old.pt" in caplog.text
    assert (
        "24 Detect: 6 tensors left at their start values: shape 45x32x1x1 there, 24x32x1x1 here (and 5 more)"
        in caplog.text
    )


def test_an_inserted_layer_is_reported_as_missing():
    model = Model("yolov5-NAM.yaml")
    source = Model("yolov5s.yaml", nc=10)
    transfer = transfer_weights(model, filled(source))
    nam = [key for key in transfer.missing if key.startswith("model.24.")]
    assert len(nam) == 5  # γ, β, mean, variance, counter
    assert len(transfer.taken) == 342 and transfer.total == 353


@pytest.mark.parametrize("key", ["model.0.conv.weight", "model.24.m.0.bias"])
def test_a_tensor_the_file_lacks_is_missing(tiny_config, key):
    model = Model(tiny_config)
    state = filled(model)
    del state[key]
    assert transfer_weights(model, state).missing == [key]
