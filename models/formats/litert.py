"""From a torch network to a TensorFlow Lite graph by litert-torch: what all formats of TensorFlow start from.

The graph takes images as TensorFlow has them, (B, H, W, C) in [0, 1], and gives what v6.1's TensorFlow exports give:
boxes as shares of the image, 0 to 1, where PyTorch has pixels.
"""

import operator
import sys

import torch
from torch import Tensor, fx, nn

from models.formats.graph import ExportGraph
from models.formats.settings import ExportSettings
from models.formats.silence import silence
from models.yolo import Model
from utils.errors import UserError

LONGEST_REASON = 200  # characters of a converter's error that are shown


class ChannelsLastGraph(nn.Module):
    """ExportGraph with images and boxes as TensorFlow has them.

    Args:
        model: fused, in evaluation mode.
        settings: of the export.
    """

    scale: Tensor

    def __init__(self, model: Model, settings: ExportSettings) -> None:
        super().__init__()
        self.network = ExportGraph(model, settings.nms)  # "graph" is taken in what torch.export makes
        height, width = settings.input_hw
        columns = 5 + model.detect.nc if settings.nms is None else 6
        scale = torch.ones(columns)
        scale[:4] /= torch.tensor([width, height, width, height])  # xywh, or xyxy of finished detections
        self.register_buffer("scale", scale)

    def forward(self, images: Tensor) -> Tensor:
        """Predict from (B, H, W, C) images in [0, 1]; see ExportGraph, boxes are shares of the image."""
        return self.network(images.permute(0, 3, 1, 2)) * self.scale


def convert(model: Model, settings: ExportSettings) -> bytes:
    """Return a network as a TensorFlow Lite file in FP32, for one input shape.

    Args:
        model: fused and in evaluation mode, FP32, on the CPU.
        settings: see there.

    Raises:
        ImportError: litert-torch is not installed.
        UserError: the network has an operation that the converter does not know; or TensorFlow is loaded already.
    """
    if "tensorflow" in sys.modules and "litert_torch" not in sys.modules:  # in this order the process would crash
        raise UserError("TensorFlow is in use, and litert-torch has to be loaded before it; export in a new process")
    graph = ChannelsLastGraph(model, settings).eval()
    example = torch.zeros(settings.batch_size, *settings.input_hw, model.channels)
    with silence(settings.verbose):
        import litert_torch

        program = torch.export.export(graph, (example,)).module()
        _multiply_squares(program)
        try:
            return litert_torch.convert(program, (example,)).model_content()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = str(error).strip()[:LONGEST_REASON]
            raise UserError(f"litert-torch cannot convert this network to TensorFlow Lite: {reason}") from error


def _multiply_squares(program: fx.GraphModule) -> None:
    """Write x ** 2 as x * x: the converter refuses powers of tensors with five axes."""
    for node in list(program.graph.nodes):
        if node.target in (torch.ops.aten.pow.Tensor_Scalar, operator.pow) and node.args[1] == 2:
            with program.graph.inserting_before(node):
                base = node.args[0]
                product = program.graph.call_function(torch.ops.aten.mul.Tensor, (base, base))
            node.replace_all_uses_with(product)
            program.graph.erase_node(node)
    program.recompile()
