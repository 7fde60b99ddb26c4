"""The options of export.py."""

from dataclasses import dataclass
from typing import ClassVar

from utils.options import option

FORMAT_OPTIONS = (  # those that only some formats understand, named as the fields of ExportSettings
    *("half", "int8", "dynamic", "simplify", "opset", "nms", "optimize", "per_tensor", "mlmodel"),
    *("workspace", "timing_cache"),
)
NMS_OPTIONS = ("agnostic_nms", "topk_per_class", "topk_all", "iou_thres", "conf_thres")
FLAGS = {"timing_cache": "cache"}  # where a field of ExportSettings has another name than its option


@dataclass
class ExportOptions:
    """v6.1's names and defaults."""

    data: str = option("", "data set YAML: INT8 is fitted to its train split, mAP compared on its val split")
    weights: list[str] = option([], "model files, exported in turn [newest trained best.pt, else yolov5s.pt]")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    imgsz: list[int] = option([640], "network input: one side, or height and width, px", "--img", "--img-size")
    batch_size: int = option(1, "images a call", least=1)
    device: str = option("cpu", "cpu, mps or the number of a GPU")
    include: list[str] = option(
        ["torchscript"],
        "formats to write: torchscript onnx openvino engine coreml saved_model pb tflite edgetpu tfjs paddle ncnn "
        "executorch",
    )
    half: bool = option(False, "FP16")
    int8: bool = option(False, "8-bit weights and activations; needs --data")
    calibration_images: int = option(128, "images of --data that INT8 is fitted to", least=1)
    dynamic: bool = option(False, "any batch size, height and width")
    simplify: bool = option(False, "ONNX: tidy the graph")
    opset: int | None = option(None, "ONNX: version of the operator set [what the exporter writes best]", least=1)
    nms: bool = option(False, "suppress inside the exported graph, whose output is then (B, n, 6) detections")
    agnostic_nms: bool = option(False, "with --nms: across classes")
    topk_per_class: int = option(100, "with --nms: most detections of one class", least=1)
    topk_all: int = option(100, "with --nms: most detections of one image", least=1)
    iou_thres: float = option(0.45, "with --nms: overlap above which a weaker box is dropped", least=0, most=1)
    conf_thres: float = option(0.25, "with --nms: least score of a detection", least=0, most=1)
    optimize: bool = option(False, "TorchScript: for mobile devices")
    per_tensor: bool = option(False, "TFLite INT8: one scale a tensor instead of one a channel")
    mlmodel: bool = option(False, "CoreML: the old format, .mlmodel")
    workspace: int = option(4, "TensorRT: most memory while building, GB", least=1)
    cache: str = option("", "TensorRT: file of timings, to build faster the next time")
    verbose: bool = option(False, "let converters say what they do, and show the traceback of one that fails")
    force: bool = option(False, "keep files that differ from their source by more than they should")

    unsupported: ClassVar[dict[str, str]] = {
        "train": "an exported network only detects; train with train.py, whose .pt files stay as they are",
        "keras": "the SavedModel is a graph without layers of Keras; load it with tf.saved_model.load, or as "
        "keras.layers.TFSMLayer",
        "inplace": "leave it out: exported graphs are the same with and without",
    }
