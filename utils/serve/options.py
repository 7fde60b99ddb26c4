"""The options of ``python -m utils.serve``."""

from dataclasses import dataclass

from utils.options import option

MOST_PIXELS = 178_956_970  # of which Pillow opens an image


@dataclass
class ServeOptions:
    """Names and defaults of detect.py, and what a server needs besides."""

    weights: list[str] = option([], "model file; several make an ensemble [newest trained best.pt, else yolov5s.pt]")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 lets other machines in, without any login")
    port: int = option(5000, "port to listen on; 0 takes any that is free", least=0, most=65535)
    allowed_hosts: list[str] = option([], "names under which a reverse proxy offers this, such as vision.example.org")
    imgsz: list[int] = option([640], "network input: one side, or height and width, px", "--img", "--img-size")
    conf_thres: float = option(0.25, "least score of a detection, where a request names none", least=0, most=1)
    iou_thres: float = option(
        0.45, "overlap above which a weaker box is dropped, where a request names none", least=0, most=1
    )
    max_det: int = option(1000, "most detections of one image", least=1)
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    classes: list[int] | None = option(None, "keep these class numbers only")
    agnostic_nms: bool = option(False, "suppress overlapping boxes of different classes too")
    half: bool = option(False, "FP16 inference, CUDA only")
    runtime: str = option(
        "",
        "run a .pt file by another runtime on the processor: 'openvino', 'onnx', or 'auto' for the fastest installed; "
        "it is exported, checked and measured once, and kept beside the weights",
    )
    max_upload: float = option(16.0, "largest upload, MB", least=0.001)
    max_pixels: int = option(50_000_000, "largest image, width x height in px", least=1, most=MOST_PIXELS)
    workers: int | None = option(None, "images looked at at the same time [what suits the model's runtime]", least=1)
    queue: int = option(8, "requests that may wait for that; further ones are told to come back later", least=0)
    timeout: float = option(30.0, "longest that a request may take, upload included, s", least=0.01)
