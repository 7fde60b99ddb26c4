"""What is asked of an export, and of a runtime that loads one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Calibration = Callable[[], Iterator[np.ndarray]]
"""Gives images like those the model will see, (1, C, H, W) float32 in [0, 1], prepared as for detection."""


@dataclass(frozen=True)
class NmsSettings:
    """Suppression inside an exported graph.

    Attributes:
        confidence: least score of a detection. iou: overlap above which a weaker box is dropped.
        most_per_class: detections of one class. most: detections of one image.
        agnostic: suppress across classes.
    """

    confidence: float = 0.25
    iou: float = 0.45
    most_per_class: int = 100
    most: int = 100
    agnostic: bool = False


@dataclass(frozen=True)
class ExportSettings:
    """What ``export`` of a format is asked for; it gets only what its row of the table says it can do.

    Attributes:
        input_hw: height and width of the network's input, px; the largest with ``dynamic``.
        batch_size: images a call.
        dynamic: leave batch, height and width open.
        half: FP16 weights (and computation, where the format says so).
        int8: 8-bit weights and activations, with ``calibration`` to find their ranges.
        calibration: see there.
        simplify: tidy the ONNX graph.
        opset: of ONNX; None for the exporter's own choice.
        nms: suppress inside the graph, whose output is then (B, n, 6), see ``ExportGraph``.
        optimize: TorchScript for mobile devices.
        per_tensor: TFLite INT8 with one scale a tensor.
        mlmodel: CoreML in its old format.
        workspace: most memory TensorRT may use while it builds, GB. timing_cache: its file of timings.
        verbose: let the converter tell what it does.
        device: where the network is while it is exported, as torch writes it: "cpu", "cuda:0".
    """

    input_hw: tuple[int, int] = (640, 640)
    batch_size: int = 1
    dynamic: bool = False
    half: bool = False
    int8: bool = False
    calibration: Calibration | None = None
    simplify: bool = False
    opset: int | None = None
    nms: NmsSettings | None = None
    optimize: bool = False
    per_tensor: bool = False
    mlmodel: bool = False
    workspace: int = 4
    timing_cache: str = ""
    verbose: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class LoadSettings:
    """How a file is loaded.

    Attributes:
        device: where to run, as torch writes it: "cpu", "cuda:0". half: in FP16 (CUDA).
        dnn: an ONNX file by OpenCV instead of ONNX Runtime.
        threads: of the processor, for all calls together; None for one a core.
        parallel: calls that shall run at the same time, where the runtime can; None for its own choice.
        pixels: images come as (b, H, W, C) uint8, which saves time; for runtimes that can, see Runtime.
    """

    device: str = "cpu"
    half: bool = False
    dnn: bool = False
    threads: int | None = None
    parallel: int | None = None
    pixels: bool = False
