"""TensorFlow Lite graphs with smaller numbers: FP16 weights, or 8-bit weights and activations, by ai-edge-quantizer."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.formats.settings import Calibration, ExportSettings
from models.formats.silence import silence
from utils.errors import UserError

LAYERS = r"models\.yolo\.Model_[^/]*/"  # in the name of every tensor that a layer makes
HEAD = r"models\.yolo\.Detect"
SIGNATURE = "serving_default"  # litert-torch's name for what a graph does


def with_half_weights(graph: bytes, settings: ExportSettings) -> bytes:
    """Return a graph whose convolutions keep their weights in FP16; it computes in FP32."""
    with silence(settings.verbose):
        from ai_edge_quantizer import qtyping, quantizer
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(weight_tensor_config=half, explicit_dequantize=True)
        worker = quantizer.Quantizer(bytearray(graph))
        for operation in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED"):
            name = qtyping.TFLOperationName[operation]
            worker.update_quantization_recipe(".*", name, config, AlgorithmName.FLOAT_CASTING)
        return bytes(worker.quantize(enable_progress_report=False).quantized_model)


def with_integers(graph: bytes, settings: ExportSettings) -> bytes:
    """Return a graph that computes in 8 bits, but for the decoding of boxes: 256 steps are too coarse for pixels.

    Raises:
        UserError: there are no images to calibrate with, or nothing could be quantised.
    """
    if settings.calibration is None:
        raise UserError("INT8 needs images to calibrate with; name a data set with --data")
    samples = _Samples(graph, settings.calibration, settings.batch_size)
    with silence(settings.verbose):
        from ai_edge_quantizer import qtyping, quantizer

        grain = qtyping.QuantGranularity.TENSORWISE if settings.per_tensor else qtyping.QuantGranularity.CHANNELWISE
        worker = quantizer.Quantizer(bytearray(graph))
        layers, everything = rf"{LAYERS}(?!{HEAD})", qtyping.TFLOperationName.ALL_SUPPORTED
        worker.add_static_config(layers, everything, 8, 8, weight_granularity=grain)
        ranges = worker.calibrate({SIGNATURE: samples}, num_threads=1)
        result = worker.quantize(ranges, enable_progress_report=False).quantized_model
    if len(result) > 0.6 * len(graph):
        raise UserError("ai-edge-quantizer found nothing to quantise in this network; export it without --int8")
    return bytes(result)


@dataclass(frozen=True)
class _Samples:
    """Calibration images by the name and in the shape of the graph's input; the quantiser goes through them twice."""

    graph: bytes
    calibration: Calibration
    batch_size: int

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        from ai_edge_litert.interpreter import Interpreter

        (name,) = Interpreter(model_content=self.graph).get_signature_list()[SIGNATURE]["inputs"]
        for image in self.calibration():  # (1, C, H, W)
            channels_last = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
            yield {name: np.repeat(channels_last, self.batch_size, 0)}  # (B, H, W, C)
