"""The options of train.py."""

from dataclasses import dataclass

from utils.files import ROOT, runs_dir
from utils.options import option

NEWEST = "newest"  # what --resume without a value means


@dataclass
class TrainOptions:
    """v6.1's names and, but for --data, its defaults."""

    weights: str | None = option(None, "checkpoint to start from; '' for none [yolov5s.pt if it is there]")
    cfg: str = option("", "model YAML [the one stored in the weights]")
    data: str = option(str(ROOT / "data/shapes10.yaml"), "data set YAML")
    hyp: str = option(str(ROOT / "data/hyps/hyp.scratch-low.yaml"), "hyperparameter YAML")
    epochs: int = option(300, "epochs in all", least=1)
    batch_size: int = option(16, "images a batch", least=1)
    insert: list[str] = option(
        [], "layers to add to the model, as Layer@place: NAMAttention@23, CBAM@before-Detect", action="extend"
    )
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    no_preserve: bool = option(False, "let new gates change what pretrained weights compute at the start")
    imgsz: int = option(640, "side of training and validation images, px", "--img", "--img-size")
    resume: str | None = option(
        None, "go on with an interrupted run: its folder or last.pt [the newest]", nargs="?", const=NEWEST
    )
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    workers: int = option(8, "most processes that load images", least=0)
    single_cls: bool = option(False, "treat all classes as one")
    cos_lr: bool = option(False, "cosine instead of linear learning rate decay")
    label_smoothing: float = option(0.0, "label smoothing epsilon", least=0, most=1)
    patience: int = option(100, "stop after so many epochs without a better fitness; 0 never", least=0)
    warmup_min: int = option(1000, "fewest warm-up iterations", least=0)
    seed: int = option(0, "seed of everything random", least=0, most=2**63 - 1)
    project: str = option(str(runs_dir("train")), "folder that holds runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "write into that folder even if it is there")
