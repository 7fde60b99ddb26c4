"""Validation as a process of its own, from the command line to the last picture: val.py and the peers' commands.

Every contestant gets a copy of the images and labels, since the peers write caches beside them, and runs once before
the clock counts, so that each finds its own cache. Peak memory of each, worker processes not counted, is printed.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.processes import run_command
from benchmarks.side_by_side import ROOT, copy_data_set
from utils.data.config import load_dataset_config

Words = Callable[[str, Path, Path], list[str]]  # interpreter, weights, data set YAML: the command


def _ours(python: str, weights: Path, data: Path) -> list[str]:
    return [python, str(ROOT / "val.py"), "--weights", str(weights), "--data", str(data), *_flags()]


def _yolov5(python: str, weights: Path, data: Path) -> list[str]:
    return [python, "-m", "yolov5.val", "--weights", str(weights), "--data", str(data), *_flags()]


def _flags() -> list[str]:
    return ["--img", "640", "--batch-size", "16", "--device", "cpu", "--project", "runs"]


def _ultralytics(python: str, weights: Path, data: Path) -> list[str]:
    """Its yolov5n has another head, and weights of its own that are not at hand: a new network takes part.

    At a confidence of 0.001 that network finds nothing, so that its suppression and its metrics have nothing to do.
    """
    program = f"from ultralytics import YOLO; YOLO('yolov5n.yaml').val(data={str(data)!r}, imgsz=640, batch=16, "
    return [python, "-c", program + "device='cpu', project='runs', workers=8)"]


COMMANDS: dict[str, Words] = {"ours": _ours, "yolov5": _yolov5, "ultralytics": _ultralytics}


def whole_processes(
    data: str, weights: str, peers: dict[str, str], rounds: int, threads: int, folder: Path
) -> dict[str, list[float]]:
    """Return images a second of each contestant, one number a round, all of them in turns.

    Args:
        data: data set YAML.
        weights: a YOLOv5 checkpoint.
        peers: contestant to its interpreter.
        rounds: how often each one counts.
        threads: for each process.
        folder: empty, for copies and results.
    """
    pythons = {"ours": sys.executable, **{name: os.path.abspath(python) for name, python in peers.items()}}
    config = load_dataset_config(data, ("val",))
    sets = {name: _copy(config.splits["val"][0], dict(config.names), folder / name) for name in pythons}
    count = len(list((folder / "ours/data/images").rglob("*.jpg")))
    rates: dict[str, list[float]] = {name: [] for name in pythons}
    for turn in range(rounds + 1):
        for name, python in pythons.items():
            words = COMMANDS[name](python, Path(weights).resolve(), sets[name])
            spent = run_command(words, folder / name, threads)
            if turn:
                rates[name].append(count / spent.seconds)
            print(f"{name}: {spent}", file=sys.stderr, flush=True)
    return rates


def _copy(images: Path, names: dict[int, str], workspace: Path) -> Path:
    """Copy images and labels, and return a data set YAML for them that everyone reads."""
    copied = copy_data_set(Path(images), workspace / "data")
    file = workspace / "data.yaml"
    inside = str(copied.relative_to(workspace / "data"))
    content = {"path": str(workspace / "data"), "train": inside, "val": inside, "nc": len(names), "names": names}
    file.write_text(yaml.safe_dump(content))
    return file
