"""Whether two processes over gloo train as one does, and how fast.

    python benchmarks/two_processes.py [--imgsz 160] [--epochs 6] [--weights yolov5n.pt]

First the gradients of one step and a validation, of one process and of two, with the same random weights and the same
images; then whole runs. Each process has one thread, so that two of them use two cores and one of them one.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.yolo import Model
from utils.data.config import load_dataset_config
from utils.data.splits import load_samples
from utils.distributed import Processes
from utils.files import ROOT
from utils.log import set_up_logging
from utils.options import make_options
from utils.train.hyperparameters import Hyperparameters
from utils.train.options import TrainOptions
from utils.train.run import Run
from utils.train.setup import Setup

CPU = torch.device("cpu")
STEPS = {
    "batch norm with fixed statistics, FP32": {"fixed": True, "dtype": torch.float32},
    "--sync-bn, FP32": {"fixed": False, "dtype": torch.float32},
    "--sync-bn, FP64": {"fixed": False, "dtype": torch.float64},
}
RUNS = {
    "one process": (1, []),
    "two processes": (2, []),
    "two processes, --sync-bn": (2, ["--sync-bn"]),
}
METRICS = ("metrics/mAP_0.5", "metrics/mAP_0.5:0.95", "val/box_loss", "val/obj_loss", "val/cls_loss")


class Cast(nn.Module):
    """A network that takes images of any number format."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the raw outputs."""
        return self.network(images.to(self.dtype))


def make_run(options: argparse.Namespace, processes: Processes, sync_bn: bool) -> Run:
    """Return a run of seeded random weights."""
    config = load_dataset_config(options.data)
    samples = {split: load_samples(config, split) for split in ("train", "val")}
    settings = {"imgsz": options.imgsz, "batch_size": 15, "workers": 0, "device": "cpu", "precision": "fp32"}
    chosen = make_options(TrainOptions, settings | {"noautoanchor": True, "sync_bn": sync_bn and processes.size > 1})
    torch.manual_seed(0)
    model = Model(options.cfg, nc=config.nc)
    return Run(Setup(chosen, Hyperparameters(), config, samples, CPU, processes), model)


def gradients(run: Run, fixed: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the gradients of the first batch."""
    run.model.to(dtype)
    state = run._initial_state()
    fit = run._fit(state)
    step = replace(fit.step, forward=Cast(fit.step.forward, dtype))
    state.model.train()
    for module in state.model.modules() if fixed else ():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    step(state, next(iter(fit.loader)), 0)
    return {name: one.grad.double() for name, one in state.model.named_parameters() if one.grad is not None}


def compute(options: argparse.Namespace, processes: Processes) -> dict[str, Any]:
    """Return the gradients of each of `STEPS`, and the results of a validation."""
    found: dict[str, Any] = {
        name: gradients(make_run(options, processes, not step["fixed"]), **step) for name, step in STEPS.items()
    }
    run = make_run(options, processes, False)
    state = run._initial_state()
    return found | {"validation": run._fit(state).validate(state.average.model).results}


def work(rank: int, options: argparse.Namespace, folder: str) -> None:
    """Be one of two processes."""
    torch.set_num_threads(1)
    set_up_logging(speaks=False)
    processes = Processes(rank, 2, rank, 2, store=dist.FileStore(f"{folder}/store", 2))
    with processes.connected(CPU):
        found = compute(options, processes)
        if processes.is_main:
            torch.save(found, f"{folder}/found.pt")


def compare_steps(options: argparse.Namespace) -> None:
    """Print how far the gradients of two processes are from those of one, and their validations."""
    torch.set_num_threads(1)
    set_up_logging(speaks=False)
    alone = compute(options, Processes())
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (options, folder), nprocs=2)
        both = torch.load(f"{folder}/found.pt", weights_only=True)
    print("| gradients of a step on 15 images | largest | largest difference | ratio |\n| --- | --- | --- | --- |")
    for name in STEPS:
        print_difference(f"two processes and one, {name}", both[name], alone[name])
    *_, single, double = STEPS
    print_difference("one process, FP32 and FP64", alone[single], alone[double])
    print_difference("two processes in FP32 and one in FP64", both[single], alone[double])
    same = both["validation"] == alone["validation"]
    print(f"\nvalidation of the same weights: {'equal to the bit' if same else (both, alone)}\n")


def print_difference(label: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Print a row that compares gradients."""
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    difference = max((ours[key] - value).abs().max().item() for key, value in theirs.items())
    print(f"| {label} | {largest:.4g} | {difference:.2g} | {difference / largest:.1e} |")


def train(name: str, options: argparse.Namespace, project: str) -> None:
    """Print the row of a whole run."""
    count, flags = RUNS[name]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    words = ["train.py", "--cfg", options.cfg, "--data", options.data, "--imgsz", options.imgsz]
    words += ["--weights", options.weights]
    words += ["--epochs", options.epochs, "--warmup", "auto", "--precision", "fp32", "--noplots", "--device", "cpu"]
    words += ["--workers", 0, "--project", project, "--name", name.replace(" ", "-"), "--log-to", "none", *flags]
    command = [sys.executable, *torchrun, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    seconds = [float(found) for found in re.findall(r"([\d.]+) s, [\d.]+ images/s", done.stdout)]
    with (Path(project) / name.replace(" ", "-") / "results.csv").open() as file:
        *_, last = csv.DictReader(file, skipinitialspace=True)
    row = {key.strip(): value for key, value in last.items()}
    print(f"| {name} | {' | '.join(row[key].strip() for key in METRICS)} | {min(seconds):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--cfg", default="yolov5n.yaml")
    parser.add_argument("--data", default="shapes10.yaml")
    parser.add_argument("--weights", default="", help="what whole runs start from")
    options = parser.parse_args()
    compare_steps(options)
    columns = [name.split("/")[1] for name in METRICS]
    print(f"| after {options.epochs} epochs | {' | '.join(columns)} | s/epoch |")
    print("| --- " * (len(columns) + 2) + "|")
    with tempfile.TemporaryDirectory() as project:
        for name in RUNS:
            train(name, options, project)


if __name__ == "__main__":
    main()
