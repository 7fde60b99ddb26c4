r"""Whole training epochs by real commands, loading and validation included: ours against its peers, in turns.

    python benchmarks/whole_epochs.py --images ../coco128/images/train2017 --rounds 2 \
        --peer-python ultralytics=../peers/ultralytics/bin/python --peer-python yolov5=../peers/yolov5/bin/python

Environments of the peers: see side_by_side.py. Every contestant trains the same network size from scratch on its own
copy of the images, once for one epoch and once for ``1 + --epochs``; the difference is the time of ``--epochs`` epochs
without starting up, first scans and the final measurement. ``ours fp32`` is ours with --precision fp32. Printed and
appended to results.csv: images a second, the ratio in the same round (median), and the peak memory of the largest
process.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.processes import run_command  # noqa: E402
from benchmarks.side_by_side import COLUMNS, append_rows, copy_data_set, describe_machine  # noqa: E402

CLASSES = 80


@dataclass(frozen=True)
class Job:
    """What is trained."""

    model: str
    size: int
    batch: int
    workers: int
    data: Path
    project: Path


def our_command(job: Job, epochs: int) -> list[str]:
    words = f"--epochs {epochs} --imgsz {job.size} --batch-size {job.batch} --workers {job.workers} --device cpu"
    words += f" --data {job.data} --project {job.project} --cfg {job.model}.yaml --noplots --log-to none"
    return [str(ROOT / "train.py"), "--weights", "", *words.split()]


def our_command_in_fp32(job: Job, epochs: int) -> list[str]:
    return [*our_command(job, epochs), "--precision", "fp32"]


def yolov5_command(job: Job, epochs: int) -> list[str]:
    words = f"--epochs {epochs} --img {job.size} --batch-size {job.batch} --workers {job.workers} --device cpu"
    words += f" --data {job.data} --project {job.project} --cfg {job.model}.yaml --noplots"
    return ["-m", "yolov5.train", "--weights", "", *words.split()]


def ultralytics_command(job: Job, epochs: int) -> list[str]:
    options = f"data={str(job.data)!r}, epochs={epochs}, imgsz={job.size}, batch={job.batch}, workers={job.workers}"
    options += f", device='cpu', project={str(job.project)!r}, plots=False, pretrained=False"
    return ["-c", f"from ultralytics import YOLO; YOLO('{job.model}.yaml').train({options})"]


COMMANDS: dict[str, Callable[[Job, int], list[str]]] = {
    "ours": our_command,
    "ours fp32": our_command_in_fp32,
    "yolov5": yolov5_command,
    "ultralytics": ultralytics_command,
}


def run(name: str, python: str, job: Job, epochs: int, threads: int) -> tuple[float, float]:
    """Train; return seconds, and the peak memory of the largest process in GB."""
    spent = run_command([python, *COMMANDS[name](job, epochs)], job.project, threads)
    return spent.seconds, spent.megabytes / 1000


def make_job(options: argparse.Namespace, folder: Path) -> Job:
    """Copy the data set and describe it in a YAML that all contestants read."""
    images = copy_data_set(options.images.resolve(), folder)
    data = folder / "data.yaml"
    names = "\n".join(f"  {index}: class{index}" for index in range(CLASSES))
    data.write_text(f"path: {folder}\ntrain: images/{images.name}\nval: images/{images.name}\nnames:\n{names}\n")
    project = folder / "runs"
    project.mkdir()
    return Job(options.model, options.size, options.batch, options.workers, data, project)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--model", default="yolov5s")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results.csv")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    pythons = {"ours": sys.executable, "ours fp32": sys.executable}
    pythons |= {name: os.path.abspath(python) for name, _, python in (p.partition("=") for p in options.peer_python)}
    count = sum(1 for file in options.images.iterdir() if file.suffix in (".jpg", ".png"))
    rates: dict[str, list[float]] = {name: [] for name in pythons}
    memory = dict.fromkeys(pythons, 0.0)
    with tempfile.TemporaryDirectory() as root:
        jobs = {}
        for name in pythons:
            (Path(root) / name.replace(" ", "-")).mkdir()
            jobs[name] = make_job(options, Path(root) / name.replace(" ", "-"))
        for turn in range(options.rounds):
            order = [*pythons][turn % len(pythons) :] + [*pythons][: turn % len(pythons)]
            for name in order:
                start_up, _ = run(name, pythons[name], jobs[name], 1, options.threads)
                whole, peak = run(name, pythons[name], jobs[name], 1 + options.epochs, options.threads)
                rates[name].append(options.epochs * count / (whole - start_up))
                memory[name] = max(memory[name], peak)
                print(f"round {turn}: {name}: {rates[name][-1]:.1f} images/s, {peak:.2f} GB", flush=True)
    title = f"whole epochs {options.model} {options.size} px batch {options.batch}"
    rows = []
    for name in [peer for peer in pythons if peer != "ours"]:
        ratio = statistics.median(mine / their for mine, their in zip(rates["ours"], rates[name], strict=True))
        figures = (f"{statistics.median(rates['ours']):.1f}", f"{statistics.median(rates[name]):.1f}", f"{ratio:.2f}")
        machine = describe_machine(options.threads)
        rows.append(dict(zip(COLUMNS, (date.today().isoformat(), machine, title, name, *figures), strict=True)))
        print(f"{title}: {figures[2]} x {name} ({memory['ours']:.2f} GB against {memory[name]:.2f} GB)")
    append_rows(options.output, rows)


if __name__ == "__main__":
    main()
