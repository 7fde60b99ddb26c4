"""The network a training run begins with: model YAML, insertions, pretrained weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.insertion import insert_layers
from models.plugins import require_plugins
from models.preserve import preserve_function
from models.summary import describe_model
from models.transfer import log_transfer, transfer_weights
from models.yolo import Model
from utils.checkpoint import Checkpoint, read_checkpoint
from utils.errors import UserError
from utils.files import find_file, read_yaml
from utils.log import LOGGER
from utils.weights import PRETRAINED, pretrained_weights


@dataclass(frozen=True)
class StartRequest:
    """What a user asks for.

    Attributes:
        cfg: model YAML; empty for the one stored in the weights.
        weights: checkpoint to start from; None for ``yolov5s.pt`` if it is there, empty for none.
        insert: rules, see models/insertion.py.
        preserve: keep what the pretrained network computes, see models/preserve.py.
        anchors: anchors per level, as a number; overrides the YAML.
    """

    cfg: str = ""
    weights: str | None = None
    insert: Sequence[str] = ()
    preserve: bool = True
    anchors: float | None = None


def start_model(request: StartRequest, names: dict[int, str]) -> Model:
    """Build the network for the classes ``names`` and start it from the weights, saying what was taken.

    Raises:
        UserError: there is neither a YAML nor weights, or one of them, or a rule, is wrong.
    """
    path = pretrained_weights() if request.weights is None else request.weights
    weights = read_checkpoint(Path(path)) if path else None
    if not request.cfg and not weights:
        raise UserError(
            "nothing to train: name a model with --cfg models/yolov5-NAM.yaml, or a checkpoint with --weights"
        )
    model = _build(request, weights, names)
    describe_model(model)
    if weights is None:
        LOGGER.info(f"Training from scratch; to start from pretrained weights put {PRETRAINED} here or use --weights")
        return model
    with_anchors = not request.cfg and request.anchors is None  # v6.1: a --cfg or hyp file brings anchors of its own
    transfer = transfer_weights(model, weights, with_anchors)
    log_transfer(transfer, str(path))
    if request.preserve:
        for problem in preserve_function(model, transfer.new_rows):
            LOGGER.warning(f"WARNING: {problem}, so the network starts out changed")
    return model


def resume_model(checkpoint: Checkpoint) -> Model:
    """Rebuild the network of an interrupted run, without weights."""
    require_plugins(checkpoint.plugins, Path("last.pt"))
    model = Model(checkpoint.yaml)
    model.names = checkpoint.names
    describe_model(model)
    return model


def _build(request: StartRequest, weights: Checkpoint | None, names: dict[int, str]) -> Model:
    source: str | dict[str, Any] = request.cfg
    if weights and not request.cfg:
        source = weights.yaml
        require_plugins(weights.plugins, Path(str(request.weights)), same_version=False)
    if request.insert:
        if isinstance(source, str):
            path = find_file(source, "model YAML")
            source = insert_layers(read_yaml(path), request.insert, path.name)
        else:
            source = insert_layers(source, request.insert, "the weights' model YAML")
    model = Model(source, nc=len(names), anchors=request.anchors)
    model.names = names
    return model
