"""The network a training run begins with: model YAML, insertions, pretrained weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def start_model(request: StartRequest, names: dict[int, str], channels: int = 3) -> Model:
    """Build the network for a data set and start it from the weights, saying what was taken.

    Args:
        request: what the user asks for.
        names: class names by index.
        channels: of the images.

    Raises:
        UserError: there is neither a YAML nor weights, or one of them, or a rule, is wrong; the YAML of ``cfg`` wants
            images of other channels.
    """
    path = pretrained_weights() if request.weights is None else request.weights
    weights = read_checkpoint(Path(path)) if path else None
    if weights and not request.cfg:
        require_plugins(weights.plugins, Path(str(path)), same_version=False)
        config, source = weights.yaml | {"ch": channels}, f"the YAML in {path}"
    elif request.cfg:
        file = find_file(request.cfg, "model YAML")
        config, source = read_yaml(file), file.name
    else:
        raise UserError(
            "nothing to train: name a model with --cfg models/yolov5-NAM.yaml, or a checkpoint with --weights"
        )
    if request.insert:
        config = insert_layers(config, request.insert, source)
        source = f"{source} with {' '.join(request.insert)}"
    model = Model(config, channels, len(names), request.anchors, source)
    if model.channels != channels:
        raise UserError(
            f"{source} says ch: {model.channels}, but the data set has images of {channels} channels (its 'ch'); "
            "make them agree"
        )
    model.names = names
    describe_model(model)
    if weights:
        with_anchors = not request.cfg and request.anchors is None  # v6.1: a --cfg or hyp file brings its own
        transfer = transfer_weights(model, weights, with_anchors)
        log_transfer(transfer, str(path))
        if request.preserve and transfer.taken:
            for problem in preserve_function(model, transfer):
                LOGGER.warning(f"WARNING: {problem}, so the network may start out changed")
    else:
        LOGGER.info(f"Training from scratch; to start from pretrained weights put {PRETRAINED} here or use --weights")
    return model


def resume_model(checkpoint: Checkpoint, file: Path) -> Model:
    """Rebuild the network of the interrupted run whose ``checkpoint`` is in ``file``, without weights."""
    require_plugins(checkpoint.plugins, file)
    model = Model(checkpoint.yaml)
    model.names = checkpoint.names
    describe_model(model)
    return model
