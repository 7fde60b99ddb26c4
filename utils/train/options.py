"""The options of train.py."""

from dataclasses import dataclass
from typing import ClassVar

from utils.errors import UserError
from utils.files import ROOT, runs_dir
from utils.options import option

NEWEST = "newest"  # what --resume without a value means
CHANGEABLE = {"data", "epochs", "patience", "device", "workers", "cache", "save_period", "plugins", "project", "log_to"}


@dataclass
class TrainOptions:
    """v6.1's names and, but for --data, its defaults."""

    weights: str | None = option(None, "checkpoint to start from; '' for none [yolov5s.pt if it is there]")
    cfg: str = option("", "model YAML [the one stored in the weights]")
    data: str = option(str(ROOT / "data/shapes10.yaml"), "data set YAML")
    hyp: str = option(str(ROOT / "data/hyps/hyp.scratch-low.yaml"), "hyperparameter YAML")
    epochs: int = option(300, "epochs in all", least=1)
    batch_size: int = option(16, "images a batch, over all processes; -1 finds what fits into memory", least=-1)
    insert: list[str] = option(
        [], "layers to add to the model, as Layer@place: NAMAttention@23, CBAM@before-Detect", action="extend"
    )
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    no_preserve: bool = option(False, "let new gates change what pretrained weights compute at the start")
    imgsz: int = option(640, "side of training and validation images, px", "--img", "--img-size")
    rect: bool = option(False, "batches in the shape of their images; no mosaic, no shuffling")
    multi_scale: bool = option(False, "another image size for each batch, within 50 % of --imgsz")
    quad: bool = option(False, "join four images to one of twice the side, in a quarter of the batch")
    image_weights: bool = option(False, "show images of classes that are found badly more often")
    cache: str | None = option(
        None, "keep decoded images: ram, disk, or val for those of validation only", nargs="?", const="ram",
        choices=("ram", "disk", "val"),
    )  # fmt: skip
    resume: str | None = option(
        None, "go on with an interrupted run: its folder or last.pt [the newest]", nargs="?", const=NEWEST
    )
    device: str = option("", "cpu, mps or the number of a GPU [the best there is]")
    workers: int = option(8, "most processes that load images, for each training process", least=0)
    precision: str = option(
        "auto", "what the network computes in; auto: fp16 on CUDA, bf16 on CPUs with instructions for it, else fp32",
        choices=("auto", "fp32", "fp16", "bf16"),
    )  # fmt: skip
    compile: bool = option(False, "compile the network with torch.compile; takes minutes at the start")
    optimizer: str = option("SGD", "what moves the weights", choices=("SGD", "Adam", "AdamW"))
    sync_bn: bool = option(False, "batch norm over the images of all processes")
    single_cls: bool = option(False, "treat all classes as one")
    freeze: list[int] = option(
        [0], "layers that stay as they are: 10 means 0 to 9; several numbers, just these", least=0
    )
    cos_lr: bool = option(False, "cosine instead of linear learning rate decay")
    label_smoothing: float = option(0.0, "label smoothing epsilon", least=0, most=1)
    warmup: str = option("1000", "fewest warm-up iterations, or auto: a quarter of the run at most", "--warmup-min")
    patience: int = option(100, "stop after so many epochs without a better fitness; 0 never", least=0)
    noval: bool = option(False, "validate after the last epoch only; then nothing stops early")
    nosave: bool = option(False, "write checkpoints after the last epoch only; then nothing can be resumed")
    noplots: bool = option(False, "draw nothing")
    noautoanchor: bool = option(False, "keep the anchors even if they fit the boxes badly")
    save_period: int = option(-1, "keep a checkpoint every so many epochs; -1 never", least=-1)
    evolve: int | None = option(None, "search hyperparameters in so many trials", nargs="?", const=300, least=1)
    evolve_storage: str = option(
        "", "study that several searches share: a database URL or journal:FILE [one of its own]"
    )
    log_to: list[str] = option(
        ["tensorboard"], "also log to: tensorboard (when installed), mlflow, wandb, none",
        choices=("tensorboard", "mlflow", "wandb", "none"),
    )  # fmt: skip
    seed: int = option(0, "seed of everything random", least=0, most=2**63 - 1)
    project: str = option(str(runs_dir("train")), "folder that holds runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "write into that folder even if it is there")

    unsupported: ClassVar[dict[str, str]] = {
        "bucket": "use --evolve-storage to share a search between machines",
        "entity": "use --log-to wandb and the environment variable WANDB_ENTITY",
        "upload_dataset": "use --log-to wandb; data sets stay where they are",
        "bbox_interval": "use --log-to wandb; val_batch*.jpg show the boxes",
        "artifact_alias": "use --data with a YAML on this machine",
        "local_rank": "start several processes with torchrun, which needs no such flag",
        "adam": "use --optimizer Adam",
        "evolve_population": "use --evolve-storage, which keeps every trial",
        "resume_evolve": "use --evolve with the same --name and --exist-ok, or --evolve-storage",
    }


def check_combinations(options: TrainOptions, processes: int) -> None:
    """Refuse options that exclude each other.

    Args:
        options: as given.
        processes: how many train together.

    Raises:
        UserError: which, and what to leave out; or --warmup is neither a number nor auto.
    """
    from utils.train.schedule import warmup_iterations  # here: --help shall not wait for what it imports

    warmup_iterations(options.warmup, 0, options.epochs, 1)
    refused = {
        "--resume '': name the folder of a run, or nothing for the newest": options.resume == "",
        "--batch-size 0: give a number of images, or -1 for what fits into memory": options.batch_size == 0,
        "--rect has a fixed order of images, --image-weights draws them: leave one out": (
            options.rect and options.image_weights
        ),
        "--batch-size -1 works with one process: give a number": options.batch_size == -1 and processes > 1,
        f"--batch-size {options.batch_size} is for all {processes} processes together: give more": (
            0 < options.batch_size < processes
        ),
        "--evolve works with one process: start several searches with one --evolve-storage": (
            options.evolve is not None and processes > 1
        ),
        "--evolve goes on with the search of --project and --name; leave the value of --resume out": (
            options.evolve is not None and options.resume not in (None, NEWEST)
        ),
        "--evolve-storage is for --evolve: add it": bool(options.evolve_storage) and options.evolve is None,
        "--compile cannot see through --sync-bn: leave one out": options.compile and options.sync_bn,
        "--sync-bn works with several processes: start them with torchrun": options.sync_bn and processes == 1,
    }
    for message, is_refused in refused.items():
        if is_refused:
            raise UserError(message)
