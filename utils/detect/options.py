"""The options of detect.py."""

from dataclasses import dataclass
from typing import ClassVar

from utils.files import ROOT, runs_dir
from utils.options import option


@dataclass
class DetectOptions:
    """v6.1's names and defaults."""

    weights: list[str] = option([], "model file; several make an ensemble [newest trained best.pt, else yolov5s.pt]")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    source: str = option(
        str(ROOT / "data/images"),
        "image, video, folder, pattern such as 'images/*.jpg', list, camera number, address, 'screen', or - for stdin",
    )
    data: str = option("", "data set YAML with the class names, for weights that have none")
    imgsz: list[int] = option([640], "network input: one side, or height and width, px", "--img", "--img-size")
    conf_thres: float | str = option(
        0.25,
        "least score of a detection; 'auto' takes the one measured as best, 'per-class' that of each class",
        least=0,
        most=1,
        words=("auto", "per-class"),
    )
    iou_thres: float = option(0.45, "overlap above which a weaker box is dropped", least=0, most=1)
    max_det: int = option(1000, "most detections of one image", least=1)
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    batch_size: int = option(1, "images of equal input size that the network gets at once", least=1)
    vid_stride: int = option(1, "look at one of so many frames of a video or stream", least=1)
    view_img: bool = option(False, "show results in a window; q ends it")
    save_txt: bool = option(False, "write labels/<image>.txt")
    save_format: int = option(
        0, "lines of those files: 0 is class x y w h, 1 is class left top right bottom", least=0, most=1
    )
    save_conf: bool = option(False, "add scores to those files")
    save_crop: bool = option(False, "write each object as crops/<class>/<image>.jpg")
    save_csv: bool = option(False, "write predictions.csv, a line an object")
    save_json: bool = option(False, "write predictions.json, COCO's format of results")
    nosave: bool = option(False, "write no annotated images and videos")
    classes: list[int] | None = option(None, "keep these class numbers only")
    agnostic_nms: bool = option(False, "suppress overlapping boxes of different classes too")
    augment: bool = option(False, "look at every image in three sizes, once mirrored: slower, finds more")
    project: str = option(str(runs_dir("detect")), "folder that holds runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "write into that folder even if it is there")
    line_thickness: int = option(3, "box line, px", least=1)
    hide_labels: bool = option(False, "draw boxes without text")
    hide_conf: bool = option(False, "draw labels without scores")
    visualize: bool = option(False, "write feature maps and gates of the network as <image>/stage<i>_<layer>_*.png")
    half: bool = option(False, "FP16 inference, CUDA only")
    dnn: bool = option(False, "run ONNX files by OpenCV")
    runtime: str = option(
        "",
        "run a .pt file by another runtime on the processor: 'openvino', 'onnx', or 'auto' for the fastest installed; "
        "it is exported, checked and measured once, and kept beside the weights",
    )

    unsupported: ClassVar[dict[str, str]] = {
        "update": "leave it out: it saved old weights anew, and best.pt and last.pt need no such mending here",
    }
