"""The options of val.py."""

from dataclasses import dataclass

from utils.errors import UserError
from utils.files import ROOT, runs_dir
from utils.options import option

TASKS = ("train", "val", "test", "speed", "study")
WITHOUT = {  # options that a task has no use for
    "speed": ("compare", "save_json", "save_point"),
    "study": ("compare", "save_json", "save_point", "save_txt", "save_hybrid"),
}
FULL_CONFIDENCE = 0.001  # from here down, mAP is what it is


@dataclass
class ValOptions:
    """v6.1's names and defaults."""

    data: str = option(str(ROOT / "data/shapes10.yaml"), "data set YAML")
    weights: list[str] = option([], "model file; several make an ensemble [newest trained best.pt, else yolov5s.pt]")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    batch_size: int = option(32, "images a batch", least=1)
    imgsz: int = option(640, "longer side of the network input, px", "--img", "--img-size")
    conf_thres: float = option(FULL_CONFIDENCE, "least score of a detection", least=0, most=1)
    iou_thres: float = option(0.6, "overlap above which a weaker box is dropped", least=0, most=1)
    max_det: int = option(300, "most detections of one image", least=1)
    task: str = option(
        "val", "measure on the train, val or test images, the speed alone, or study sizes 256 to 1536 px", choices=TASKS
    )
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    workers: int = option(8, "most processes that load images", least=0)
    single_cls: bool = option(False, "treat all classes as one")
    map_classes: bool = option(False, "go by class names: a model of other classes, or in another order")
    augment: bool = option(False, "look at each image at three sizes, one of them mirrored")
    as_detect: bool = option(False, "measure what detect.py shows: its input, one class a box, whole pixels")
    compare: bool = option(False, "compare several --weights, with intervals, instead of joining them")
    verbose: bool = option(False, "list every class even if there are 50 or more")
    save_txt: bool = option(False, "write labels/<image>.txt")
    save_hybrid: bool = option(False, "merge the true labels into those files")
    save_conf: bool = option(False, "add scores to those files")
    save_json: bool = option(False, "write <weights>_predictions.json in COCO's format [on for coco.yaml]")
    save_point: bool = option(False, "write a copy of --weights that knows its best confidence")
    noplots: bool = option(False, "write no pictures and no report.html")
    project: str = option(str(runs_dir("val")), "folder that holds runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "write into that folder even if it is there")
    half: bool = option(False, "FP16 inference, CUDA only")
    dnn: bool = option(False, "run ONNX files by OpenCV")

    @property
    def split(self) -> str:
        """The part of the data set that is measured on."""
        return self.task if self.task in ("train", "test") else "val"

    @property
    def writes_json(self) -> bool:
        """Whether COCO's JSON is asked for; v6.1 writes it for COCO in any case."""
        return self.task != "speed" and (self.save_json or self.data.endswith("coco.yaml"))


def check_combinations(options: ValOptions) -> None:
    """Refuse options that do not go together, before any work.

    Raises:
        UserError: naming the two and the mend.
    """
    if options.compare and len(options.weights) < 2:
        raise UserError(f"--compare needs two or more --weights, got {len(options.weights)}")
    for name in WITHOUT.get(options.task, ()):
        if getattr(options, name):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is for measuring on a split, not for --task {options.task}; drop one of them")
    if options.single_cls and options.map_classes:
        raise UserError("--map-classes goes by class names, and --single-cls knows none; drop one of them")
    if options.save_point:
        _check_save_point(options)


def _check_save_point(options: ValOptions) -> None:
    if len(options.weights) > 1:
        raise UserError("--save-point takes one file with --weights, since an ensemble has no file to store it in")
    if options.weights and not options.weights[0].endswith(".pt"):
        raise UserError(
            f"--save-point: '{options.weights[0]}' is no .pt file; save it with that one, and export it again"
        )
    if options.single_cls or options.map_classes:
        other = "--single-cls" if options.single_cls else "--map-classes"
        raise UserError(f"--save-point stores the best confidence of the model's own classes; drop {other}")
    if options.conf_thres > FULL_CONFIDENCE:
        raise UserError(f"--save-point has to see all scores; drop --conf-thres {options.conf_thres}")
