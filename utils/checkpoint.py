"""Checkpoints: reading ours and YOLOv5's, writing ours.

Ours hold tensors and plain data only, and load with ``weights_only=True``. Keys: what rebuilds the model (``yaml``,
``names``, ``stride``, ``model`` or ``ema`` as state_dicts), what describes it (``options``, ``hyperparameters``,
``epoch``, ``metrics``, ``operating_point``, ``version``, ``date``), and what resumes the run (``training``) or, when it
is over, extends it (``finished``).
"""

import datetime
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import atomic_write
from utils.unpickle import Inert, module_state, read_inert

FORMAT = "yolov5-nam"
FORMAT_VERSION = 1
FINISHED = ("epoch", "last_step", "updates", "stopper", "class_ap", "results")  # entries of ``training``


@dataclass
class Checkpoint:
    """A model's weights with what rebuilds and describes them."""

    state: dict[str, Tensor]  # to be used for inference: the averaged weights when there are any
    yaml: dict[str, Any]
    names: dict[int, str]
    stride: list[float]
    options: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    epoch: int = -1  # last finished epoch, 0-based; -1 when training is over
    metrics: dict[str, float] = field(default_factory=dict)
    operating_point: dict[str, Any] | None = None  # from which scores to believe it, see utils/eval/operating_point.py
    training: dict[str, Any] | None = None  # what resumes the run; None when it is over
    finished: dict[str, Any] | None = None  # what extends a run that is over: its counters, without optimizer
    plugins: dict[str, dict[str, str]] = field(default_factory=dict)  # by layer: file and sha256, see models/plugins.py
    date: str = ""

    @property
    def channels(self) -> int:
        """Of the images the model takes."""
        return int(self.yaml.get("ch", 3))

    @property
    def anchors(self) -> Tensor | None:
        """(levels, anchors, 2) in grid units, or None when the state has no such entry."""
        found = [tensor for key, tensor in self.state.items() if key.endswith(".anchors")]
        return found[0].float() if found else None


def names_by_index(names: list[str] | dict[Any, str]) -> dict[int, str]:
    """Return class names as ``{index: name}``; v6.1 keeps a list, later versions a dict."""
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(index): str(name) for index, name in pairs}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project or of YOLOv5 v5-v7, without running anything in it.

    Raises:
        UserError: missing, damaged, foreign or malicious file.
    """
    if path.is_dir():
        raise UserError(f"weights '{path}' are a folder, expected a .pt file")
    if not path.is_file():
        raise UserError(f"weights '{path}' do not exist; put the file there or name another with --weights")
    if not zipfile.is_zipfile(path):
        raise UserError(f"weights '{path}' are not a torch checkpoint (zip archive), or cut short; get the file again")
    convert = _from_ours
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # its kind depends on what is wrong; the inert reader says what that is
        content, convert = read_inert(path), _from_yolov5
    try:
        return convert(content, path)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"weights '{path}' are damaged ({reason}); get the file again") from error


def _from_ours(content: Any, path: Path) -> Checkpoint:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"weights '{path}' hold no model of this project or of YOLOv5; a bare state_dict is not enough")
    if content["version"] > FORMAT_VERSION:
        raise UserError(f"weights '{path}' were written by a newer version of this project; update it")
    state = content["ema"] or content["model"]
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise TypeError("weights that are no tensors")
    return Checkpoint(
        state=state,
        yaml=content["yaml"],
        names=content["names"],
        stride=content["stride"],
        options=content["options"],
        hyperparameters=content["hyperparameters"],
        epoch=content["epoch"],
        metrics=content["metrics"],
        operating_point=content.get("operating_point"),
        plugins=content.get("plugins", {}),
        training=content["training"] and content["training"] | {"model": content["model"]},
        finished=content.get("finished"),
        date=content["date"],
    )


def _from_yolov5(content: Any, path: Path) -> Checkpoint:
    module = (content.get("ema") or content.get("model")) if isinstance(content, dict) else content
    config = getattr(module, "yaml", None)
    if not isinstance(module, Inert) or not isinstance(config, dict):
        raise UserError(f"weights '{path}' hold no YOLOv5 detection model with its YAML, so it cannot be rebuilt")
    state = {
        key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in module_state(module).items()
    }
    state = {key: tensor for key, tensor in state.items() if not key.endswith(".anchor_grid")}  # before v6.0
    stride = getattr(module, "stride", None)
    return Checkpoint(
        state=state,
        yaml=dict(config),
        names=names_by_index(getattr(module, "names", None) or [str(i) for i in range(config["nc"])]),
        stride=[float(value) for value in stride] if isinstance(stride, Tensor) else [],
        epoch=-1,
        date=str(content.get("date") or "") if isinstance(content, dict) else "",
    )


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; OSError when that fails, with the previous file still there.

    With ``checkpoint.training``, both the raw weights (``training["model"]``) and the averaged ones are kept in full
    precision, as exact resuming needs; without, only ``checkpoint.state``.
    """
    training = dict(checkpoint.training) if checkpoint.training else None
    model = training.pop("model") if training else checkpoint.state
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "yaml": checkpoint.yaml,
        "names": checkpoint.names,
        "stride": checkpoint.stride,
        "options": checkpoint.options,
        "hyperparameters": checkpoint.hyperparameters,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "operating_point": checkpoint.operating_point,
        "plugins": checkpoint.plugins,
        "model": model,
        "ema": checkpoint.state if training else None,
        "training": training,
        "finished": checkpoint.finished,
    }
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # torch hides a full disk or Ctrl-C behind an error of its own
            hidden = error.__context__
            raise (hidden if isinstance(hidden, OSError | KeyboardInterrupt) else error) from None


def strip_checkpoint(path: Path) -> None:
    """Reduce a finished run's checkpoint to its averaged weights in FP16, without what resuming needs (v6.1).

    What a longer run would begin with, besides the weights, stays as ``finished``: a few kilobytes.
    """
    checkpoint = read_checkpoint(path)
    training = checkpoint.training or {}
    checkpoint.finished = {name: training[name] for name in FINISHED if name in training} or checkpoint.finished
    checkpoint.state = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in checkpoint.state.items()
    }
    checkpoint.training = None
    checkpoint.epoch = -1
    write_checkpoint(path, checkpoint)
