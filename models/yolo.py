"""The network: a model YAML becomes layers, a detection head and a Model that runs them.

Data flow: YAML mapping -> ``parse_model`` -> layers in a row, each reading earlier outputs by index -> ``Detect``.
"""

import copy
import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from models import attention, experimental, nam  # noqa: F401  importing them registers their layers
from models.common import Conv
from models.dry_run import measure_strides
from models.parser import check_config, parse_model
from models.plugins import plugins_in
from models.registry import Foldable, detects, layer, parse_activation
from utils.errors import UserError
from utils.files import find_file, read_yaml

IN_PLACE = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish)  # activations that can overwrite their input


@layer(detects)
class Detect(nn.Module):
    """YOLOv5's anchor-based head.

    Args:
        classes: number of classes.
        anchors: per level, w, h pairs in pixels: ``[[10, 13, 16, 30, 33, 23], ...]``.
        channels: channels of each input map.

    Attributes:
        anchors: buffer (levels, anchors, 2), in grid units once the strides are known.
        strides: pixels per grid cell of each level, set by Model.
    """

    anchors: Tensor

    def __init__(self, classes: int, anchors: list[list[float]], channels: list[int]) -> None:
        super().__init__()
        self.nc = classes
        self.no = classes + 5  # x, y, w, h, objectness, classes
        self.nl = len(anchors)
        self.na = len(anchors[0]) // 2
        self.strides = [0.0] * self.nl
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
        return self.decode(raw), raw

    def decode(self, raw: list[Tensor]) -> Tensor:
        """Turn raw outputs into the decoded predictions; see ``forward`` for both."""
        return torch.cat([self._decode(level, output).flatten(1, 3) for level, output in enumerate(raw)], 1)

    def _by_anchor(self, x: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        return x.view(batch, self.na, self.no, rows, columns).permute(0, 1, 3, 4, 2)

    def _decode(self, level: int, raw: Tensor) -> Tensor:
        """Turn (B, anchors, rows, columns, 5 + classes) logits into pixels and scores."""
        stride = self.strides[level]
        ones = torch.ones_like(raw[0, 0, ..., 0])  # (rows, columns); unlike arange, a trace of it fits every device
        cells = torch.stack((ones.cumsum(1), ones.cumsum(0)), -1) - 1  # (rows, columns, 2) x, y
        anchors = (self.anchors[level] * stride).view(1, self.na, 1, 1, 2)
        scores = raw.sigmoid()
        xy = (scores[..., 0:2] * 2 + (cells - 0.5)) * stride
        wh = (scores[..., 2:4] * 2) ** 2 * anchors
        return torch.cat((xy, wh, scores[..., 4:]), -1)

    @property
    def stride(self) -> Tensor:
        """(levels,) pixels per grid cell."""
        return torch.tensor(self.strides, device="cpu")

    @property
    def is_plain(self) -> bool:
        """Whether boxes come from its 1x1 convolutions alone, and no subclass computes them in another way."""
        return type(self) is Detect

    @property
    def anchors_px(self) -> Tensor:
        """(levels, anchors, 2) width and height, px."""
        return self.anchors.cpu() * self.stride.view(-1, 1, 1)

    def set_strides(self, strides: list[float]) -> None:
        """Store the strides, turn anchors from pixels into grid units, and put their levels into stride order.

        Levels are reversed when their mean anchor area falls while the stride grows (the later rule; v6.1 compares
        single anchors, in grid units).
        """
        self.strides = strides
        areas = self.anchors.prod(-1).mean(-1)
        if self.anchors.device.type != "meta" and (areas[-1] - areas[0]) * (strides[-1] - strides[0]) < 0:
            self.anchors.copy_(self.anchors.flip(0))
        self.anchors /= self.stride.view(-1, 1, 1).to(self.anchors.device)

    def initialise_biases(self) -> None:
        """Start from 8 objects in a 640 px image and equally rare classes (RetinaNet's prior, arXiv 1708.02002)."""
        for convolution, stride in zip(self.m, self.strides, strict=True):
            with torch.no_grad():
                bias = cast(Tensor, convolution.bias).view(self.na, -1)
                bias[:, 4] += math.log(8 / (640 / stride) ** 2)
                bias[:, 5:] += math.log(0.6 / (self.nc - 0.999999))


class Model(nn.Module):
    """A detector built from a model YAML.

    Args:
        cfg: path or bare name of a model YAML, or its mapping.
        ch: input channels, unless the YAML says.
        nc: number of classes; overrides the YAML.
        anchors: anchors per level, as a number; overrides the YAML.
        source: what errors call a mapping.
        strides: one of each level, px, where they are known; else the network is tried on an empty image, which finds
            them, and layers that do not fit together.

    Attributes:
        model: the layers in a row. yaml: the mapping in force. names: class names by index.
        stride: (levels,) pixels per grid cell. save: indices of outputs that later layers read. rows: the table.
        plugins: files of the layers that come from plug-ins, see models/plugins.py.
        operating_point: of the checkpoint it comes from, if that has one.

    Raises:
        UserError: the YAML is missing, malformed or does not fit together; the file and row are named.
    """

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] = "yolov5s.yaml",
        ch: int = 3,
        nc: int | None = None,
        anchors: float | None = None,
        source: str = "model YAML",
        strides: list[float] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(cfg, dict):
            self.yaml_file = source
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
        self.plugins = plugins_in(self.yaml)
        self.names = {index: str(index) for index in range(self.yaml["nc"])}
        self.operating_point: dict[str, Any] | None = None
        self.inplace = self.yaml.get("inplace", True)
        try:
            self._set_up_norms_and_activations()
        except UserError as error:
            raise UserError(f"{self.yaml_file}: {error}") from error
        if not isinstance(self.model[-1], Detect):
            raise UserError(f"{self.yaml_file}: the last row is {self.rows[-1].type}, expected Detect")
        if not strides or len(strides) != self.detect.nl or min(strides) <= 0:
            strides = measure_strides(self)
        self.detect.set_strides(strides)
        self.detect.initialise_biases()

    @property
    def detect(self) -> Detect:
        """The head."""
        return cast(Detect, self.model[-1])

    @property
    def stride(self) -> Tensor:
        """(levels,) pixels per grid cell."""
        return self.detect.stride

    @property
    def largest_stride(self) -> int:
        """Image sides must be multiples of this, px; at least 32 (v6.1)."""
        return max(int(max(self.detect.strides)), 32)

    @property
    def channels(self) -> int:
        """Of the images it takes."""
        return int(self.yaml["ch"])

    def forward(self, x: Tensor) -> Any:
        """Run (B, C, H, W) images in [0, 1], H and W multiples of the largest stride. Returns what Detect returns."""
        return self.model[-1](self.maps(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Run all layers but the head on such images; return what the head reads: a (B, C, h, w) map a level."""
        outputs: list[Any] = []  # None where no later layer reads
        for row, module in zip(self.rows[:-1], self.model, strict=False):
            x = module(_inputs(row.source, x, outputs))
            outputs.append(x if row.index in self.save else None)
        return cast(list[Tensor], _inputs(self.rows[-1].source, x, outputs))

    def fuse(self) -> "Model":
        """Let every layer that has ``fold()`` take its cheaper form for inference, in place. Outputs stay the same."""
        for module in list(self.modules()):
            if isinstance(module, Foldable):
                module.fold()
            if isinstance(module, Conv) and isinstance(module.act, IN_PLACE):  # nobody else sees a Conv's own output
                module.act.inplace = self.inplace  # in training autograd would copy the input, and nothing be saved
        return self

    def _set_up_norms_and_activations(self) -> None:
        activation = self.yaml.get("activation")
        for module in self.modules():
            if isinstance(module, Conv) and activation and isinstance(module.act, nn.SiLU):
                module.act = parse_activation(activation)
            if type(module) is nn.BatchNorm2d:
                module.eps, module.momentum = 1e-3, 0.03


def _inputs(source: int | list[int], last: Any, outputs: list[Any]) -> Any:
    """Return what a layer reads: the output of the layer before it, -1, or of others by their index; one or several."""
    if isinstance(source, list):
        return [last if index == -1 else outputs[index] for index in source]
    return last if source == -1 else outputs[source]


DetectionModel = Model  # the later name
