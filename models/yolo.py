"""The network: a model YAML becomes layers, a detection head and a Model that runs them.

Data flow: YAML mapping -> ``parse_model`` -> layers in a row, each reading earlier outputs by index -> ``Detect``.
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from models import experimental, nam  # noqa: F401  importing them registers their layers
from models.common import Conv
from models.fuse import fuse_conv_and_norm
from models.registry import REGISTRY, Plan, Site, detects, layer, parse_activation
from utils.errors import UserError, near_matches
from utils.files import find_file, read_yaml

KNOWN_KEYS = (
    *("nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head", "ch", "inplace"),
    *("activation", "channel_multiple"),
)
REQUIRED_KEYS = ("nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head")
IN_PLACE = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish)  # activations that can overwrite their input
DRY_RUN_SIZE = 256  # px; a multiple of every stride in use


@layer(detects)
class Detect(nn.Module):
    """YOLOv5's anchor-based head.

    Args:
        classes: number of classes.
        anchors: per level, w, h pairs in pixels: ``[[10, 13, 16, 30, 33, 23], ...]``.
        channels: channels of each input map.

    Attributes:
        anchors: buffer (levels, anchors, 2), in grid units once the strides are known.
        stride: (levels,) pixels per grid cell, set by Model.
    """

    anchors: Tensor
    stride: Tensor

    def __init__(self, classes: int, anchors: list[list[float]], channels: list[int]) -> None:
        super().__init__()
        self.nc = classes
        self.no = classes + 5  # x, y, w, h, objectness, classes
        self.nl = len(anchors)
        self.na = len(anchors[0]) // 2
        self.stride = torch.zeros(self.nl, device="cpu")
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32).view(self.nl, -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(channel, self.no * self.na, 1) for channel in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Predict from one map a level.

        Returns:
            In training, the raw outputs: a list of (B, anchors, rows, columns, 5 + classes).
            In evaluation, a pair: decoded predictions (B, N, 5 + classes) with xywh in input pixels and sigmoid scores,
            ordered by level, anchor, row, column; and the raw outputs.
        """
        raw = [self._by_anchor(convolution(x)) for convolution, x in zip(self.m, maps, strict=True)]
        if self.training:
            return raw
        if torch.is_inference_mode_enabled() and not torch.jit.is_tracing():
            return self._decode_into_one(raw), raw
        scores = [output.sigmoid() for output in raw]
        decoded = [torch.cat((self._boxes(level, s), s[..., 4:]), -1).flatten(1, 3) for level, s in enumerate(scores)]
        return torch.cat(decoded, 1), raw

    def _decode_into_one(self, raw: list[Tensor]) -> Tensor:
        """Decode every level straight into the result, which autograd and export cannot follow but saves copies."""
        rows = [output[0, ..., 0].numel() for output in raw]
        predictions = raw[0].new_empty(raw[0].shape[0], sum(rows), self.no)
        for level, (output, part) in enumerate(zip(raw, predictions.split(rows, 1), strict=True)):
            scores = torch.sigmoid(output, out=part.view(output.shape))
            scores[..., :4] = self._boxes(level, scores)
        return predictions

    def _by_anchor(self, x: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        return x.view(batch, self.na, self.no, rows, columns).permute(0, 1, 3, 4, 2)

    def _boxes(self, level: int, scores: Tensor) -> Tensor:
        """Turn (B, anchors, rows, columns, 5 + classes) sigmoids into (B, anchors, rows, columns, 4) xywh pixels."""
        rows, columns = scores.shape[2:4]
        stride = self.stride[level].to(scores.device, scores.dtype)
        y = torch.arange(rows, device=scores.device, dtype=scores.dtype)
        x = torch.arange(columns, device=scores.device, dtype=scores.dtype)
        cells = torch.stack((x.expand(rows, columns), y[:, None].expand(rows, columns)), -1)  # (rows, columns, 2)
        anchors = (self.anchors[level] * stride).view(1, self.na, 1, 1, 2)
        xy = (scores[..., 0:2] * 2 + (cells - 0.5)) * stride
        wh = (scores[..., 2:4] * 2) ** 2 * anchors
        return torch.cat((xy, wh), -1)

    def set_strides(self, stride: Tensor) -> None:
        """Store the strides, turn anchors from pixels into grid units, and put their levels into stride order.

        Levels are reversed when their mean anchor area falls while the stride grows (the later rule; v6.1 compares
        single anchors, in grid units).
        """
        self.stride = stride
        areas = self.anchors.prod(-1).mean(-1)
        if self.anchors.device.type != "meta" and (areas[-1] - areas[0]) * (stride[-1] - stride[0]) < 0:
            self.anchors.copy_(self.anchors.flip(0))
        self.anchors /= stride.view(-1, 1, 1).to(self.anchors.device)

    def initialise_biases(self) -> None:
        """Start from 8 objects in a 640 px image and equally rare classes (RetinaNet's prior, arXiv 1708.02002)."""
        for convolution, stride in zip(self.m, self.stride.tolist(), strict=True):
            with torch.no_grad():
                bias = cast(Tensor, convolution.bias).view(self.na, -1)
                bias[:, 4] += math.log(8 / (640 / stride) ** 2)
                bias[:, 5:] += math.log(0.6 / (self.nc - 0.999999))


@dataclass(frozen=True)
class Row:
    """What one YAML row became, for tables and reports."""

    index: int
    source: int | list[int]
    repeats: int
    type: str  # as written in the YAML
    arguments: list[Any]
    parameters: int


def check_config(config: dict[str, Any], source: str) -> None:
    """Check the keys and the shape of a model YAML.

    Raises:
        UserError: naming ``source`` and the key or row.
    """
    for key in (key for key in REQUIRED_KEYS if key not in config):
        raise UserError(f"{source}: key '{key}' is missing; a model YAML has {', '.join(REQUIRED_KEYS)}")
    for key in (key for key in config if key not in KNOWN_KEYS):
        raise UserError(f"{source}: unknown key '{key}'{near_matches(key, KNOWN_KEYS)}")
    for key in ("nc", "ch", "channel_multiple"):
        if not _is_count(config.get(key, 1)):
            raise UserError(f"{source}: {key} is {config[key]!r}, expected a whole number from 1")
    for key in ("depth_multiple", "width_multiple"):
        if not isinstance(config[key], int | float) or not 0 < config[key] < math.inf:
            raise UserError(f"{source}: {key} is {config[key]!r}, expected a number above 0")
    for section in ("backbone", "head"):
        if not isinstance(config[section], list):
            raise UserError(f"{source}: {section} must be a list of rows [from, number, module, args]")
    check_anchors(config["anchors"], source)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_anchors(anchors: object, source: str) -> None:
    """Check that ``anchors`` is a number per level or rows of w, h pairs of one length.

    Raises:
        UserError: it is neither.
    """
    if _is_count(anchors):
        return
    rows = anchors if isinstance(anchors, list) and anchors else [None]
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(lengths) > 1 or 0 in lengths or lengths.pop() % 2:
        raise UserError(f"{source}: anchors must be a number per level, or one row of w,h pairs a level, all as long")


def parse_model(config: dict[str, Any], source: str) -> tuple[nn.Sequential, list[int], list[Row]]:
    """Build the layers of a checked model YAML.

    Args:
        config: the mapping, with ``ch`` input channels.
        source: name of the file, for errors.

    Returns:
        The layers, the sorted indices whose outputs later layers read, and a description of each row.

    Raises:
        UserError: a row is malformed, names an unknown layer, reads a layer that is not there, or does not fit.
    """
    width = _width_rule(config)
    words = {"nc": config["nc"], "anchors": config["anchors"], "None": None, "True": True, "False": False}
    layers: list[nn.Module] = []
    rows: list[Row] = []
    channels: list[int] = []
    for index, row in enumerate([*config["backbone"], *config["head"]]):
        name = row[2] if isinstance(row, list) and len(row) > 2 else "?"
        try:
            reads, repeats, name, arguments, options = _read_row(row, words, config["depth_multiple"])
            inputs = [
                _channels_of(one, channels, config["ch"]) for one in ([reads] if isinstance(reads, int) else reads)
            ]
            build, plan_row = REGISTRY.find(name)
            plan = _call(plan_row, Site(inputs, repeats, width), *arguments, **options)
            module = _chain(build, plan)
        except UserError as error:
            raise UserError(f"{source}: row {index} {name}: {error}") from error
        parameters = sum(parameter.numel() for parameter in module.parameters())
        for attribute, value in (("i", index), ("f", reads), ("type", name), ("np", parameters)):  # v6.1's names
            setattr(module, attribute, value)
        rows.append(Row(index, reads, repeats, name, list(plan.arguments), parameters))
        layers.append(module)
        channels.append(plan.out_channels)
    read_later = {one % row.index for row in rows for one in _as_list(row.source) if one != -1}
    return nn.Sequential(*layers), sorted(read_later), rows


def _width_rule(config: dict[str, Any]) -> Callable[[int], int]:
    anchors = config["anchors"]
    head_channels = (anchors if isinstance(anchors, int) else len(anchors[0]) // 2) * (config["nc"] + 5)
    multiple, divisor = config["width_multiple"], config.get("channel_multiple", 8)

    def width(channels: int) -> int:
        if not isinstance(channels, int) or channels < 1:
            raise UserError(f"output channels are {channels!r}, expected a whole number from 1")
        return channels if channels == head_channels else math.ceil(channels * multiple / divisor) * divisor

    return width


def _read_row(
    row: object, words: dict[str, Any], depth_multiple: float
) -> tuple[int | list[int], int, str, list[Any], dict[str, Any]]:
    """Return (from, repeats, layer name, arguments, options) of a row, with its words replaced by what they mean."""
    if not isinstance(row, list) or len(row) != 4 or not isinstance(row[3], list) or not isinstance(row[2], str):
        raise UserError(f"{row!r} is not a row [from, number, module, [arguments]]")
    reads, number, name, written = row
    if not all(isinstance(one, int) for one in _as_list(reads)) or reads == []:
        raise UserError(f"from is {reads!r}, expected a layer index or a list of them")
    if not isinstance(number, int) or number < 1:
        raise UserError(f"number is {number!r}, expected a whole number from 1")
    repeats = max(round(number * depth_multiple), 1) if number > 1 else number
    options = written[-1] if written and isinstance(written[-1], dict) else {}
    arguments = [_meaning(word, words) for word in (written[:-1] if options else written)]
    return reads, repeats, name, arguments, {key: _meaning(word, words) for key, word in options.items()}


def _meaning(word: Any, words: dict[str, Any]) -> Any:
    if not isinstance(word, str):
        return word
    if word.startswith(("nn.", "torch.nn.")):
        return parse_activation(word)
    return words.get(word, word)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _channels_of(reads: int, channels: list[int], image_channels: int) -> int:
    if not channels and reads == -1:
        return image_channels
    if not -len(channels) <= reads < len(channels):
        raise UserError(f"reads layer {reads}, but only layers 0 to {len(channels) - 1} come before it")
    return channels[reads]


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call, turning arguments of the wrong number or kind into a UserError that lists them."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Initializing zero-element tensors")  # a kernel of 0 pixels
            return function(*arguments, **options)
    except UserError:
        raise
    except Exception as error:  # constructors check little; what a wrong argument leads to is a matter of luck
        shown = [argument for argument in arguments if not isinstance(argument, Site)]
        raise UserError(f"does not accept arguments {[*shown, *([options] if options else [])]} ({error})") from error


def _chain(build: Callable[..., nn.Module], plan: Plan) -> nn.Module:
    modules = [_call(build, *plan.arguments, **plan.options) for _ in range(plan.copies)]
    return modules[0] if plan.copies == 1 else nn.Sequential(*modules)


class Model(nn.Module):
    """A detector built from a model YAML.

    Args:
        cfg: path or bare name of a model YAML, or its mapping.
        ch: input channels, unless the YAML says.
        nc: number of classes; overrides the YAML.
        anchors: anchors per level, as a number; overrides the YAML.

    Attributes:
        model: the layers in a row. yaml: the mapping in force. names: class names by index.
        stride: (levels,) pixels per grid cell. save: indices of outputs that later layers read. rows: the table.

    Raises:
        UserError: the YAML is missing, malformed or does not fit together; the file and row are named.
    """

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] = "yolov5s.yaml",
        ch: int = 3,
        nc: int | None = None,
        anchors: float | None = None,
    ) -> None:
        super().__init__()
        if isinstance(cfg, dict):
            self.yaml_file = "model YAML"
            self.yaml = copy.deepcopy(cfg)
        else:
            path = find_file(str(cfg), "model YAML")
            self.yaml_file = path.name
            self.yaml = read_yaml(path)
        self.yaml.setdefault("ch", ch)
        if nc:
            self.yaml["nc"] = nc
        if anchors:
            self.yaml["anchors"] = round(anchors)
        check_config(self.yaml, self.yaml_file)

        self.model, self.save, self.rows = parse_model(self.yaml, self.yaml_file)
        self.names = {index: str(index) for index in range(self.yaml["nc"])}
        self.inplace = self.yaml.get("inplace", True)
        try:
            self._set_up_norms_and_activations()
        except UserError as error:
            raise UserError(f"{self.yaml_file}: {error}") from error
        if not isinstance(self.model[-1], Detect):
            raise UserError(f"{self.yaml_file}: the last row is {self.rows[-1].type}, expected Detect")
        self.detect.set_strides(self._measure_strides())
        self.detect.initialise_biases()

    @property
    def detect(self) -> Detect:
        """The head."""
        return cast(Detect, self.model[-1])

    @property
    def stride(self) -> Tensor:
        """(levels,) pixels per grid cell."""
        return self.detect.stride

    def forward(self, x: Tensor) -> Any:
        """Run (B, C, H, W) images in [0, 1], H and W multiples of the largest stride. Returns what Detect returns."""
        outputs: list[Any] = []  # None where no later layer reads
        for row, module in zip(self.rows, self.model, strict=True):
            if isinstance(row.source, list):
                x = module([x if source == -1 else outputs[source] for source in row.source])
            else:
                x = module(x if row.source == -1 else outputs[row.source])
            outputs.append(x if row.index in self.save else None)
        return x

    def fuse(self) -> "Model":
        """Fold every Conv's batch norm into its convolution, in place, for inference. Outputs stay the same."""
        for module in self.modules():
            if isinstance(module, Conv) and module.bn is not None:
                module.conv = fuse_conv_and_norm(module.conv, module.bn)
                module.bn = None
            elif isinstance(module, IN_PLACE):  # in training autograd would copy the input, so nothing would be saved
                module.inplace = self.inplace
        return self

    def _set_up_norms_and_activations(self) -> None:
        activation = self.yaml.get("activation")
        for module in self.modules():
            if isinstance(module, Conv) and activation and isinstance(module.act, nn.SiLU):
                module.act = parse_activation(activation)
            if type(module) is nn.BatchNorm2d:
                module.eps, module.momentum = 1e-3, 0.03

    def _measure_strides(self) -> Tensor:
        """Find the strides by a dry run, in evaluation mode so that no batch statistics change."""
        device = next(self.parameters()).device
        self.eval()
        self.detect.train()  # raw outputs: decoding needs the strides
        try:
            with torch.no_grad():
                raw = self(torch.zeros(1, self.yaml["ch"], DRY_RUN_SIZE, DRY_RUN_SIZE, device=device))
        except Exception as error:  # as many kinds as there are ways not to fit
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.yaml_file}: layers do not fit together ({first})") from error
        self.train()
        return torch.tensor([DRY_RUN_SIZE / output.shape[2] for output in raw], device="cpu")


DetectionModel = Model  # the later name
