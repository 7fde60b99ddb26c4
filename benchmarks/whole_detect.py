r"""Detection in a folder of images as a process of its own, annotated images written: detect.py and its peers.

    python -m benchmarks.whole_detect --images ../coco128/images/train2017 --weights yolov5n.pt --data coco128.yaml \
        --peer-python yolov5=../peers/yolov5/bin/python --peer-python ultralytics=../peers/ultralytics/bin/python

Environments of the peers: see side_by_side.py. Ours runs the .pt file, and, where OpenVINO is installed, exports of it
in FP32 and, with ``--data``, in INT8. All look at the same images at 640 px, in turns, once before the clock counts.
``ultralytics`` has no weights for its yolov5n here: a new network takes part, which finds nothing, so that it has
nothing to suppress and to draw.

Then it is counted how far the boxes of our runs are apart, from ``--save-json``: in px of the images, and in score.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.processes import run_command
from benchmarks.side_by_side import COLUMNS, ROOT, append_rows, describe_machine
from utils.export.checks import is_installed
from utils.export.parity import SAME_OBJECT

SIZE = 640
OURS = "ours"
Command = list[str]


def our_command(weights: Path, images: Path, *more: str) -> Command:
    """Return ours for weights of any format."""
    words = [sys.executable, str(ROOT / "detect.py"), "--weights", str(weights), "--source", str(images)]
    return [*words, "--imgsz", str(SIZE), "--device", "cpu", "--project", "runs", *more]


def yolov5_command(python: str, weights: Path, images: Path) -> Command:
    words = [python, "-m", "yolov5.detect", "--weights", str(weights), "--source", str(images)]
    return [*words, "--img", str(SIZE), "--device", "cpu", "--project", "runs"]


def ultralytics_command(python: str, weights: Path, images: Path) -> Command:
    call = f"YOLO('yolov5n.yaml').predict({str(images)!r}, imgsz={SIZE}, device='cpu', save=True, stream=True)"
    return [python, "-c", f"from ultralytics import YOLO\nfor result in {call}: pass"]


PEERS: dict[str, Callable[[str, Path, Path], Command]] = {"yolov5": yolov5_command, "ultralytics": ultralytics_command}


def exports(weights: Path, data: str, threads: int) -> dict[str, Path]:
    """Export a checkpoint for images of any size; return name and place of what could be written here."""
    if not is_installed("openvino"):
        return {}
    words = [sys.executable, str(ROOT / "export.py"), "--weights", str(weights), "--include", "openvino", "--dynamic"]
    run_command(words, weights.parent, threads)
    found = {f"{OURS} OpenVINO FP32": weights.with_name(f"{weights.stem}_openvino_model")}
    if data and is_installed("nncf"):
        run_command(
            [*words, "--int8", "--data", os.path.abspath(data) if Path(data).exists() else data],
            weights.parent,
            threads,
        )
        found[f"{OURS} OpenVINO INT8"] = weights.with_name(f"{weights.stem}_int8_openvino_model")
    return found


def play(commands: dict[str, Command], images: int, rounds: int, threads: int, folder: Path) -> dict[str, list[float]]:
    """Return images a second of everyone, one number a round, all of them in turns."""
    rates: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, words in commands.items():
            workspace = folder / name.replace(" ", "-")
            workspace.mkdir(exist_ok=True)
            spent = run_command(words, workspace, threads)
            shutil.rmtree(workspace / "runs", ignore_errors=True)
            if turn:
                rates[name].append(images / spent.seconds)
            print(f"{name}: {spent}", file=sys.stderr, flush=True)
    return rates


def found_by(words: Command, threads: int, workspace: Path) -> dict[str, np.ndarray]:
    """Return what a command finds in each image: (n, 6) rows of left, top, right, bottom, score, class."""
    workspace.mkdir()
    run_command([*words, "--save-json", "--nosave", "--name", "found"], workspace, threads)
    rows: dict[str, list[list[float]]] = {}
    for one in json.loads((workspace / "runs/found/predictions.json").read_text()):
        left, top, width, height = one["bbox"]
        box = [left, top, left + width, top + height, one["score"], one["category_id"]]
        rows.setdefault(str(one["image_id"]), []).append(box)
    return {name: np.array(boxes) for name, boxes in rows.items()}


def distance(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> str:
    """Say how many detections both have, and how far these are apart at most."""
    total = sum(map(len, first.values())) + sum(map(len, second.values()))
    same, box, score = 0, 0.0, 0.0
    for name in first.keys() & second.keys():
        free = list(second[name])
        for row in first[name]:
            partner = max(free, key=lambda other: overlap(row, other), default=None)
            if partner is not None and overlap(row, partner) > SAME_OBJECT:
                free = [other for other in free if other is not partner]
                same += 2
                box = max(box, float(np.abs(row[:4] - partner[:4]).max()))
                score = max(score, float(abs(row[4] - partner[4])))
    return f"{same} of {total} detections in both, largest difference {box:.3f} px, score {score:.5f}"


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the IoU of two rows, 0 if their classes differ."""
    sides = np.minimum(first[2:4], second[2:4]) - np.maximum(first[:2], second[:2])
    shared = float(sides.clip(0).prod()) * (first[5] == second[5])
    areas = (first[2:4] - first[:2]).prod() + (second[2:4] - second[:2]).prod()
    return shared / max(float(areas) - shared, 1e-9)


def rows_of(rates: dict[str, list[float]], model: str, images: int, machine: str) -> list[dict[str, str]]:
    """Return rows for results.csv: each of ours against each peer, and against our own PyTorch."""
    own = [name for name in rates if name.startswith(OURS)]
    rows = []
    for name in own:
        for peer in [other for other in rates if other not in own or (other == OURS and name != OURS)]:
            ratio = statistics.median(mine / theirs for mine, theirs in zip(rates[name], rates[peer], strict=True))
            figures = (*(f"{statistics.median(rates[one]):.1f}" for one in (name, peer)), f"{ratio:.2f}")
            runtime = name.removeprefix(OURS).strip() or "PyTorch"
            what = f"detect.py {model} {SIZE} px {runtime}, {images} images, whole process"
            row = (date.today().isoformat(), machine, what, "ours PyTorch" if peer == OURS else peer, *figures)
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder")
    parser.add_argument("--weights", type=Path, required=True, help="a .pt file")
    parser.add_argument("--data", default="", help="data set YAML; with it, INT8 takes part")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="append to benchmarks/results.csv")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    images = options.images.resolve()
    peers = {name: os.path.abspath(python) for name, _, python in (p.partition("=") for p in options.peer_python)}
    with tempfile.TemporaryDirectory() as root:
        weights = Path(shutil.copy(options.weights, root))
        data = os.path.abspath(options.data) if Path(options.data).is_file() else options.data
        files = {OURS: weights} | exports(weights, data, options.threads)
        commands = {name: our_command(file, images) for name, file in files.items()}
        commands |= {name: PEERS[name](python, weights, images) for name, python in peers.items()}
        count = sum(1 for file in images.iterdir() if file.suffix in (".jpg", ".png"))
        rates = play(commands, count, options.rounds, options.threads, Path(root))
        rows = rows_of(rates, weights.stem, count, describe_machine(options.threads))
        for row in rows:
            print(f"{row['what']}: {row['ours img/s']} img/s, {row['ratio']} x {row['peer']} ({row['peer img/s']})")
        found = {
            name: found_by(commands[name], options.threads, Path(root) / f"found-{i}") for i, name in enumerate(files)
        }
        for name in [name for name in files if name != OURS]:
            print(f"{name} against PyTorch: {distance(found[OURS], found[name])}")
    if options.record:
        append_rows(ROOT / "benchmarks/results.csv", rows)


if __name__ == "__main__":
    main()
