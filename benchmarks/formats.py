"""The table of formats: size, mAP, time an image and parity of one model in every format that this machine has.

    python -m benchmarks.formats --weights yolov5n.pt --data coco128.yaml --threads 2 --int8

The weights are copied to a temporary folder and exported there. The mAP is that of val.py on squares. Times are of the
network alone with one image a call, the second of two after a pause, all formats in turns, so that a machine that slows
down slows all of them down; the median over the rounds counts. ``x`` is the median of (PyTorch's time) / (the format's
time in the same round). A format that is missing says why.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

import export
from benchmarks.side_by_side import COLUMNS, ROOT, append_rows, describe_machine
from models.formats import FORMATS, Format
from models.formats.pytorch import PyTorchBackend, build_model
from models.formats.settings import ExportSettings
from models.formats.writing import load_written
from utils.checkpoint import read_checkpoint
from utils.data.config import DatasetConfig, load_dataset_config
from utils.data.loader import make_validation_loader
from utils.data.pixels import read_image
from utils.data.splits import load_samples
from utils.device import select_device, synchronize
from utils.errors import UserError
from utils.eval.evaluate import EvaluationSettings, evaluate
from utils.export.artefact import size_of
from utils.export.images import as_input
from utils.log import progress, set_up_logging

Predict = Callable[[Tensor], Tensor]
WARM_UP = 3  # calls of a network before its time counts
PAUSE = 0.1  # s, after which the threads of the runtime before no longer wait in a busy loop


@dataclass
class Entry:
    """A line of the table.

    Attributes:
        name: of the format. predict: the loaded file. megabytes: its size. parity: what export.py has found.
        map50_95, seconds: measured here. missing: why there is nothing of all this. failed: it should have worked.
    """

    name: str
    predict: Predict | None = None
    megabytes: float = 0.0
    parity: dict | None = None
    map50_95: float = 0.0
    seconds: list[float] = field(default_factory=list)
    missing: str = ""
    failed: bool = False


def main() -> None:
    arguments = parse_arguments()
    os.environ["YOLOv5_VERBOSE"] = "false"  # what export.py says is said by the table
    set_up_logging()
    torch.set_num_threads(arguments.threads)
    device = select_device(arguments.device)
    config = load_dataset_config(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(shutil.copy(arguments.weights, folder))
        entries = make_entries(arguments, weights, device)
        running = [entry for entry in entries if entry.predict]
        measure_maps(running, config, arguments.imgsz, device)
        measure_times(running, config, arguments.imgsz, arguments.rounds, device)
    title = (
        f"{weights.name} at {arguments.imgsz} px on {config.file.name}, {describe_machine(arguments.threads)}, {device}"
    )
    print("\n".join([f"\n{title}\n", *table(entries)]))
    if arguments.record:
        append_rows(ROOT / "benchmarks/results.csv", records(running, weights.stem, arguments))
    check(entries, arguments.hard_fail)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="a .pt file")
    parser.add_argument("--data", required=True, help="data set YAML: mAP of its val split, INT8 from its train split")
    parser.add_argument("--imgsz", "--img", "--img-size", type=int, default=640, help="side of the input, px [640]")
    parser.add_argument("--include", nargs="+", default=[], help="formats, as export.py takes them [all]")
    parser.add_argument("--half", action="store_true", help="FP16, where a format can")
    parser.add_argument("--int8", action="store_true", help="further rows: INT8, where a format can")
    parser.add_argument("--device", default="cpu", help="cpu, mps or the number of a GPU [cpu]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the processor [one a core]")
    parser.add_argument("--rounds", type=int, default=20, help="how often each format is timed [20]")
    parser.add_argument("--record", action="store_true", help="append to results.csv")
    parser.add_argument(
        *("--hard-fail", "-hard-fail"),
        nargs="?",
        type=float,
        const=0.0,
        help="exit 1 if a format whose packages are there fails, or has an mAP50-95 below this",
    )
    return parser.parse_args()


def make_entries(arguments: argparse.Namespace, weights: Path, device: torch.device) -> list[Entry]:
    """Export to every format and load it again."""
    wanted = {word.lower() for word in arguments.include}
    rows = [row for row in FORMATS if row.argument and (not wanted or row.argument in wanted)]
    model = build_model(read_checkpoint(weights), weights)
    entries = [Entry("PyTorch", PyTorchBackend(model, device), weights.stat().st_size / 1e6)]
    jobs = [(row, False) for row in rows if "int8" not in row.implied]
    jobs += [(row, True) for row in rows if "int8" in row.implied or ("int8" in row.options and arguments.int8)]
    for row, int8 in progress(jobs, "exporting", unit="format"):
        entries.append(make_entry(row, int8, arguments, weights, device))
    return entries


def make_entry(row: Format, int8: bool, arguments: argparse.Namespace, weights: Path, device: torch.device) -> Entry:
    """Export to one format and load it again."""
    half = arguments.half and not int8 and "half" in row.options and (device.type == "cuda" or not row.half_on_gpu)
    name = row.name + (" INT8" if int8 else " FP16" if half else "")
    options = {"include": [row.argument], "imgsz": arguments.imgsz, "device": arguments.device, "half": half}
    options |= {"int8": int8, "data": arguments.data}
    try:
        (path,) = export.run(weights=[weights], **options)
    except UserError as error:
        return Entry(name, missing=str(error), failed="not installed" not in str(error) and "GPU" not in str(error))
    settings = ExportSettings(device=str(device) if row.gpu else "cpu", half=half)
    try:
        backend = load_written(row, path, settings, arguments.threads)
    except UserError as error:
        return Entry(name, megabytes=size_of(path) / 1e6, missing=str(error))
    return Entry(name, backend, size_of(path) / 1e6, backend.runtime.facts.get("parity"))


def measure_maps(entries: list[Entry], config: DatasetConfig, size: int, device: torch.device) -> None:
    """Find the mAP50-95 of each, as val.py does for files that take one size only."""
    samples = load_samples(config, "val")
    for entry in entries:
        loader = make_validation_loader(samples, size, 1, None, 0, channels=config.channels)
        result = evaluate(forward_of(entry.predict), loader, config.names, EvaluationSettings(device=device))
        entry.map50_95 = result.map50_95


def forward_of(predict: Predict | None) -> Callable[[Tensor], tuple[Tensor, None]]:
    """Return what ``evaluate`` takes."""
    assert predict
    return lambda images: (predict(images), None)


def measure_times(entries: list[Entry], config: DatasetConfig, size: int, rounds: int, device: torch.device) -> None:
    """Time one image a call, all of them in turns."""
    samples = load_samples(config, "val")
    images = [read_image(samples.image(index), config.channels) for index in range(min(rounds, len(samples)))]
    inputs = [torch.from_numpy(as_input(image, (size, size), None)).to(device) for image in images if image is not None]
    for turn in range(-WARM_UP, rounds):
        ahead = turn % len(entries)  # nobody is always the first
        for entry in entries[ahead:] + entries[:ahead]:
            assert entry.predict
            time.sleep(PAUSE)
            entry.predict(inputs[turn % len(inputs)])
            synchronize(device)
            start = time.perf_counter()
            entry.predict(inputs[turn % len(inputs)])
            synchronize(device)
            if turn >= 0:
                entry.seconds.append(time.perf_counter() - start)


def table(entries: list[Entry]) -> list[str]:
    """Return the lines of the table, in Markdown."""
    base = entries[0]
    lines = ["| Format | Size (MB) | mAP50-95 | ms an image | x | parity |", "|---|---|---|---|---|---|"]
    for entry in entries:
        size = f"{entry.megabytes:.1f}" if entry.megabytes else ""
        if not entry.predict:
            lines.append(f"| {entry.name} | {size} | | | | missing: {entry.missing} |")
            continue
        milliseconds = statistics.median(entry.seconds) * 1e3
        figures = f"{entry.map50_95:.4f} | {milliseconds:.1f} | {ratio(base, entry):.2f}"
        lines.append(f"| {entry.name} | {size} | {figures} | {parity_of(entry)} |")
    return lines


def parity_of(entry: Entry) -> str:
    """Return the figures of parity in short."""
    found = entry.parity
    if not found:
        return ""
    same = f"{found['matched']} of {found['detections']} detections"
    return f"{found['box_px']:.2g} px, {found['score']:.1g}, {same}"


def ratio(base: Entry, entry: Entry) -> float:
    """Return how many times as fast as the base an entry is."""
    return statistics.median(first / own for first, own in zip(base.seconds, entry.seconds, strict=True))


def records(entries: list[Entry], model: str, arguments: argparse.Namespace) -> list[dict]:
    """Return rows for results.csv: each format against PyTorch."""
    base, *others = entries
    rows = []
    for entry in others:
        what = f"network {model} {arguments.imgsz} px {entry.name}"
        rates = [1 / statistics.median(one.seconds) for one in (entry, base)]
        values = (date.today().isoformat(), describe_machine(arguments.threads), what, "ours PyTorch")
        rows.append(
            dict(zip(COLUMNS, (*values, *(f"{rate:.1f}" for rate in rates), f"{ratio(base, entry):.2f}"), strict=True))
        )
    return rows


def check(entries: list[Entry], least: float | None) -> None:
    """Leave with 1 if a format that should work does not, or finds too little."""
    if least is None:
        return
    bad = [f"{entry.name}: {entry.missing}" for entry in entries if entry.failed]
    bad += [
        f"{entry.name}: mAP50-95 {entry.map50_95:.4f}" for entry in entries if entry.predict and entry.map50_95 < least
    ]
    if bad:
        sys.exit("failed: " + "; ".join(bad))


if __name__ == "__main__":
    main()
