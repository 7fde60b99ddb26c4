r"""Measure this project against its peers: same machine, same data, same number of threads, in turns.

Every contestant is a worker process in its own Python environment (see contestants/protocol.py). Each round asks each
of them once for the same work, in changing order, so that a machine that slows down slows all of them down. What
counts is the median over the rounds of (our images a second) / (the peer's in the same round); absolute numbers drift.

Peer environments, each with the torch version of your own environment:

    python -m venv ../peers/ultralytics && ../peers/ultralytics/bin/pip install torch torchvision ultralytics
    python -m venv ../peers/yolov5
    ../peers/yolov5/bin/pip install torch torchvision yolov5==7.0.14 "numpy<2" "setuptools<81" "huggingface_hub<0.25" \
        "opencv-python-headless<4.12" "pandas<2.3"

    python benchmarks/side_by_side.py --images ../coco128/images/train2017 --rounds 5 \
        --peer-python ultralytics=../peers/ultralytics/bin/python --peer-python yolov5=../peers/yolov5/bin/python

The peer ``plain`` needs no environment: it is our network without the measures that make it fast.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"ours": "ours", "plain": "plain", "ultralytics": "ultralytics", "yolov5": "yolov5_pypi"}
COLUMNS = ("date", "machine", "what", "peer", "ours img/s", "peer img/s", "ratio")


@dataclass(frozen=True)
class Measurement:
    """One kind of work, how often to do it a turn, and the parameters of its task."""

    task: str
    repeats: int
    parameters: dict[str, Any]

    @property
    def title(self) -> str:
        """The name in the table, such as ``train_step yolov5n 320 px batch 16``."""
        model, size, batch = (self.parameters.get(key) for key in ("model", "size", "batch"))
        parts = [self.task, model, f"{size} px", f"batch {batch}" if batch else None]
        anew = None if self.parameters.get("remembering", True) else "all decoded anew"
        return " ".join(part for part in (*parts, anew) if part)


def measurements(with_images: bool) -> list[Measurement]:
    """Return what is measured; the loaders only when there are images."""
    chosen = []
    for model in ("yolov5n", "yolov5s"):
        chosen.append(Measurement("train_step", 2, {"model": model, "size": 320, "batch": 16}))
        chosen.append(Measurement("inference", 3, {"model": model, "size": 320, "batch": 16}))
        chosen.append(Measurement("inference", 10, {"model": model, "size": 640, "batch": 1}))
    if with_images:
        for size in (320, 640):
            chosen.append(Measurement("train_samples", 4, {"size": size}))
            chosen.append(Measurement("train_samples", 4, {"size": size, "remembering": False}))
            chosen.append(Measurement("val_samples", 4, {"size": size}))
    return chosen


class Contestant:
    """A running worker.

    Args:
        name: key of MODULES.
        python: interpreter of its environment.
        workspace: empty folder of its own; a copy of the data set goes there, since every peer writes its label cache
            beside the labels under the same name.
        images: folder of images, with labels in the folder of the same path that says ``labels``; or None.
    """

    def __init__(self, name: str, python: str, workspace: Path, images: Path | None) -> None:
        self.name = name
        self.images = copy_data_set(images, workspace / "data") if images else None
        self.log_path = workspace / "stderr.txt"
        private = {"YOLO_CONFIG_DIR": str(workspace), "YOLOV5_CACHE_DIR": str(workspace), "PYTHONPATH": str(ROOT)}
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [python, "-m", f"benchmarks.contestants.{MODULES[name]}"],
                cwd=workspace,
                env={**os.environ, **private, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def images_per_second(self, measurement: Measurement, threads: int) -> float | None:
        """Do the work once; None when this contestant does not offer it.

        Raises:
            SystemExit: the worker died; its last words are shown.
        """
        request = {
            "task": measurement.task,
            "repeats": measurement.repeats,
            "threads": threads,
            **measurement.parameters,
        }
        if measurement.task.endswith("_samples"):
            request["images"] = str(self.images)
        assert self.process.stdin and self.process.stdout  # both are pipes
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            reply = next(line for line in self.process.stdout if line.startswith("{"))  # imports may have printed
        except (BrokenPipeError, StopIteration):
            last_words = self.log_path.read_text().strip().splitlines()[-8:]
            raise SystemExit(f"{self.name} ended during {measurement.title}:\n" + "\n".join(last_words)) from None
        answer = json.loads(reply)
        return None if "error" in answer else answer["images"] / answer["seconds"]

    def close(self) -> None:
        """End the worker by closing its input; what it still writes on the way out is not read."""
        self.process.communicate()


def copy_data_set(images: Path, target: Path) -> Path:
    """Copy an image folder and its label folder below ``target``; return the new image folder."""
    labels = Path(str(images).replace("images", "labels"))
    shutil.copytree(images, target / "images" / images.name)
    shutil.copytree(labels, target / "labels" / images.name, ignore=shutil.ignore_patterns("*.cache"))
    return target / "images" / images.name


@contextmanager
def contest(pythons: dict[str, str], images: Path | None) -> Iterator[list[Contestant]]:
    """Start one worker for each name, ours first, and end them all afterwards."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        contestants = []
        for name, python in pythons.items():
            workspace = Path(folder) / name
            workspace.mkdir()
            contestants.append(Contestant(name, python, workspace, images))
            stack.callback(contestants[-1].close)
        yield contestants


def play(contestants: list[Contestant], measurement: Measurement, rounds: int, threads: int) -> dict[str, list[float]]:
    """Return every contestant's images a second, one number a round; a round before them builds and warms up."""
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds + 1):
        first = turn % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            rate = contestant.images_per_second(measurement, threads)
            if rate is not None and turn > 0:
                rates[contestant.name].append(rate)
    return {name: numbers for name, numbers in rates.items() if numbers}


def compare(measurement: Measurement, rates: dict[str, list[float]], machine: str) -> list[dict[str, Any]]:
    """Return one CSV row for each peer."""
    ours = rates.pop("ours", [])
    rows = []
    for peer, theirs in rates.items() if ours else ():
        ratio = statistics.median(mine / their for mine, their in zip(ours, theirs, strict=True))
        medians = (f"{statistics.median(numbers):.1f}" for numbers in (ours, theirs))
        values = (date.today().isoformat(), machine, measurement.title, peer, *medians, f"{ratio:.2f}")
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append to the CSV, with a header when it is new."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def describe_machine(threads: int) -> str:
    """Name the processor, as far as the system tells, and the number of threads in use."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {threads} threads"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="NAME=PYTHON", help="a peer's interpreter"
    )
    parser.add_argument("--images", type=Path, help="image folder for the loader measurements")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="measure only what has this text in its title")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results.csv")
    options = parser.parse_args()
    options.peers = dict(pair.partition("=")[::2] for pair in options.peer_python)
    if unknown := sorted(set(options.peers) - set(MODULES)):
        parser.error(f"unknown peer {unknown[0]}; there are {', '.join(MODULES)}")
    if options.images and not options.images.is_dir():
        parser.error(f"--images {options.images} is no folder")
    return options


def main() -> None:
    options = parse_arguments()
    # absolute, not resolved: the symbolic link is what tells an interpreter its environment
    peers = {name: os.path.abspath(python) for name, python in options.peers.items()}
    pythons = {"ours": sys.executable, "plain": sys.executable, **peers}
    machine = describe_machine(options.threads)
    with contest(pythons, options.images and options.images.resolve()) as contestants:
        for measurement in measurements(bool(options.images)):
            if options.only not in measurement.title:
                continue
            rates = play(contestants, measurement, options.rounds, options.threads)
            rows = compare(measurement, rates, machine)
            for row in rows:
                print(f"{row['what']:40} {row['ours img/s']:>8} img/s, {row['ratio']:>6} x {row['peer']}", flush=True)
            append_rows(options.output, rows)


if __name__ == "__main__":
    main()
