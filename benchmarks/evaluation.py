r"""How fast an evaluation is, part by part and as a whole, each beside something to compare with in the same run.

    python benchmarks/evaluation.py nms --weights yolov5n.pt --data coco128.yaml
    python benchmarks/evaluation.py untrained --weights yolov5n.pt --data coco128.yaml
    python benchmarks/evaluation.py metrics --images 5000
    python benchmarks/evaluation.py growth --images 1000 10000 50000
    python benchmarks/evaluation.py whole --weights yolov5n.pt --data coco128.yaml \
        --peer-python yolov5=../peers/yolov5/bin/python ultralytics=../peers/ultralytics/bin/python

``nms``: suppression at confidence 0.001, ours and one written after v6.1's rules (see `step_by_step`), on the network's
predictions for the images, and on such of a network that knows nothing. ``untrained``: evaluating with that network
against evaluating with the given one. ``metrics``: matching and average precision of 300 made-up detections an image
against pycocotools. ``growth``: the same, streamed, for more and more images: time and peak memory of a process each.
``whole``: val.py as a process, pictures and all, against the peers' validation of a yolov5n, in turns.

A network that knows nothing is a new yolov5n whose biases say 0.1 for objectness and for each class: as early in a
training run, all its scores are above 0.001, some two million an image. (Before the first step none is.)
With ``--record`` the rows are appended to results.csv.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.side_by_side import COLUMNS, ROOT, append_rows, describe_machine
from benchmarks.whole_val import whole_processes
from models.formats import load_backend
from models.yolo import Model
from utils.boxes import xywh_to_xyxy
from utils.brightness import normalise
from utils.data.config import load_dataset_config
from utils.data.loader import Batch, BatchLoader, make_validation_loader
from utils.data.splits import load_samples
from utils.eval.evaluate import EvaluationSettings, evaluate, summarise
from utils.eval.metrics import ap_per_class, match_detections
from utils.eval.nms import non_max_suppression
from utils.eval.tally import Tally, native_labels
from utils.memory import keep_freed_memory, peak_memory

CONFIDENCE, IOU, MOST = 0.001, 0.6, 300  # as val.py has them
SIZE, BATCH, CLASSES = 640, 16, 80
PRIOR = 0.1  # of the network that knows nothing
Predict = Callable[[Tensor], Tensor]
Rates = dict[str, list[float]]  # images a second of each contestant, one number a round


def step_by_step(prediction: Tensor) -> list[Tensor]:
    """Suppress as v6.1 does it: everything above the confidence is sorted and goes to torchvision at once."""
    from torchvision.ops import nms

    found = []
    likely = prediction[..., 4] > CONFIDENCE
    unusable = ((prediction[..., 2:4] < 2) | (prediction[..., 2:4] > 7680)).any(-1)
    prediction = prediction.clone()
    prediction[..., 4][unusable] = 0
    for rows, mask in zip(prediction, likely, strict=True):
        rows = rows[mask]
        rows[:, 5:] *= rows[:, 4:5]
        row, label = (rows[:, 5:] > CONFIDENCE).nonzero().T
        candidates = torch.cat([xywh_to_xyxy(rows[row, :4]), rows[row, 5 + label, None], label[:, None].float()], 1)
        if len(candidates) > 30_000:
            candidates = candidates[candidates[:, 4].argsort(descending=True)[:30_000]]
        kept = nms(candidates[:, :4] + candidates[:, 5:] * 7680, candidates[:, 4], IOU)
        found.append(candidates[kept[:MOST]])
    return found


def suppress(prediction: Tensor) -> list[Tensor]:
    """Suppress as val.py does."""
    return non_max_suppression(prediction, CONFIDENCE, IOU, multi_label=True, max_detections=MOST)


def ignorant_network() -> Predict:
    """Return a new yolov5n for which anything may be anywhere."""
    torch.manual_seed(0)
    network = Model("yolov5n.yaml", nc=CLASSES)
    for name, parameter in network.detect.named_parameters():
        if name.endswith("bias"):
            parameter.data.view(network.detect.na, -1)[:, 4:] = math.log(PRIOR / (1 - PRIOR))
    network = network.fuse().eval().to(memory_format=torch.channels_last)
    return lambda images: network(images)[0]


def image_loader(data: str, workers: int) -> BatchLoader:
    """Return the validation images of a data set, in rectangular batches."""
    config = load_dataset_config(data, ("val",))
    return make_validation_loader(load_samples(config, "val"), SIZE, BATCH, 32, workers, channels=config.channels)


def time_suppression(predict: Predict, loader: Iterable[Batch], rounds: int) -> Rates:
    """Run both suppressions on every batch of predictions, in turns."""
    seconds = {"ours": [0.0] * rounds, "v6.1's rules": [0.0] * rounds}
    images = 0
    for batch in loader:
        with torch.inference_mode():
            prediction = predict(normalise(batch.images))
        images += len(prediction)
        suppress(prediction[:1])  # torch's first call of a kind is slower
        for turn in range(rounds):
            for name, function in (("ours", suppress), ("v6.1's rules", step_by_step)):
                start = time.perf_counter()
                with torch.inference_mode():
                    function(prediction)
                seconds[name][turn] += time.perf_counter() - start
    return {name: [images / value for value in values] for name, values in seconds.items()}


def compare_suppression(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure ``nms``."""
    loader = image_loader(options.data, workers=0)
    trained = load_backend([options.weights], torch.device("cpu"))
    yield from rows_of(f"nms {Path(options.weights).stem} {SIZE} px", time_suppression(trained, loader, options.rounds))
    first_batch = next(iter(image_loader(options.data, workers=0)))  # takes v6.1's rules long enough
    rates = time_suppression(ignorant_network(), [first_batch], 1)
    yield from rows_of(f"nms untrained yolov5n {SIZE} px", rates)


def compare_untrained(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure ``untrained``: whole evaluations, loader and metrics included."""
    config = load_dataset_config(options.data, ("val",))
    loader = image_loader(options.data, options.workers)
    predictors: dict[str, Predict] = {
        "ours": ignorant_network(),
        "trained": load_backend([options.weights], torch.device("cpu")),
    }
    rates: Rates = {name: [] for name in predictors}
    for turn in range(options.rounds + 1):  # the one before warms up
        for name, predict in predictors.items():
            start = time.perf_counter()
            found = evaluate(lambda images: (predict(images), None), loader, config.names, EvaluationSettings())  # noqa: B023  at once
            if turn:
                rates[name].append(found.images / (time.perf_counter() - start))
    yield from rows_of(f"evaluate untrained yolov5n {SIZE} px batch {BATCH}", rates)


def made_batch(generator: np.random.Generator, count: int = BATCH) -> tuple[Batch, list[Tensor]]:
    """Return ``count`` images' made-up labels, 7 an image, and 300 detections each, a third of them near a label."""
    targets, native = [], []
    for index in range(count):
        labels = max(1, generator.poisson(7))
        sides = generator.uniform(0.02, 0.3, (labels, 2))
        centres = generator.uniform(sides / 2, 1 - sides / 2)
        kinds = generator.integers(0, CLASSES, labels)
        targets.append(np.column_stack([np.full(labels, index), kinds, centres, sides]))
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1)
        near = generator.integers(0, labels, MOST // 3)
        strays = generator.uniform(0, 0.7, (MOST - len(near), 2))
        strays = np.concatenate([strays, strays + generator.uniform(0.02, 0.3, strays.shape)], 1)
        found = np.concatenate([boxes[near] + generator.normal(0, 0.01, (len(near), 4)), strays]) * SIZE
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        scores = np.sort(generator.random(MOST) ** 3)[::-1]
        order = generator.permutation(MOST)
        labels_found = np.concatenate([kinds[near], generator.integers(0, CLASSES, len(strays))])
        rows = np.column_stack([found[order], scores, labels_found[order]])
        native.append(torch.from_numpy(rows.astype(np.float32)))
    nothing = torch.empty(count, 1, SIZE, SIZE, dtype=torch.uint8)  # only the shape counts
    boxes_of_all = torch.from_numpy(np.concatenate(targets).astype(np.float32))
    names = ["" for _ in range(count)]
    return Batch(nothing, boxes_of_all, names, [(SIZE, SIZE)] * count, [1.0] * count, [(0.0, 0.0)] * count), native


def compare_metrics(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure ``metrics``; what pycocotools needs for reading its input is not counted."""
    for images in options.images or [5000]:
        generator = np.random.default_rng(0)
        detections: list[Tensor] = []
        labels: list[Tensor] = []
        while len(detections) < images:
            batch, native = made_batch(generator, min(BATCH, images - len(detections)))
            detections += native
            labels += native_labels(batch, len(native))
        rates: Rates = {"ours": [], "pycocotools": []}
        coco = coco_evaluation(detections, labels)
        for _ in range(options.rounds):
            for name, work in (("ours", lambda: our_metrics(detections, labels)), ("pycocotools", coco)):  # noqa: B023
                start = time.perf_counter()
                ap50 = work()
                rates[name].append(images / (time.perf_counter() - start))
                print(f"{name}: AP50 {ap50:.4f}, {images / rates[name][-1]:.2f} s", file=sys.stderr, flush=True)
        yield from rows_of(f"metrics {images} images x {MOST}", rates)


def our_metrics(detections: list[Tensor], labels: list[Tensor]) -> float:
    """Match, and return AP50."""
    correct = torch.cat([match_detections(*pair) for pair in zip(detections, labels, strict=True)]).numpy()
    found, truth = torch.cat(detections).numpy(), torch.cat(labels).numpy()
    return ap_per_class(correct, found[:, 4], found[:, 5], truth[:, 0]).mean("ap50")


def coco_evaluation(detections: list[Tensor], labels: list[Tensor]) -> Callable[[], float]:
    """Return pycocotools' evaluation and accumulation of the same, which gives AP50."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = [
        {"image_id": image, "category_id": int(kind), "bbox": [x, y, right - x, bottom - y]}
        for image, rows in enumerate(labels)
        for kind, x, y, right, bottom in rows.tolist()
    ]
    for number, row in enumerate(truth, 1):
        row |= {"id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}  # type: ignore[index]
    known = COCO()
    known.dataset = {
        "images": [{"id": image, "width": SIZE, "height": SIZE} for image in range(len(labels))],
        "categories": [{"id": kind} for kind in range(CLASSES)],
        "annotations": truth,
    }
    known.createIndex()
    found = torch.cat(detections).double().numpy()
    found[:, 2:4] -= found[:, :2]
    guesses = known.loadRes(np.column_stack([np.repeat(np.arange(len(labels)), MOST), found]))

    def work() -> float:
        evaluation = COCOeval(known, guesses, "bbox")
        evaluation.params.maxDets = [1, 10, MOST]
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"][0, :, :, 0, 2]  # of all sizes at IoU 0.50
        return float(precision[precision > -1].mean())

    return work


def print_growth(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure ``growth``."""
    print("| images | s | µs an image | peak MB | of it from the start | bytes a detection |\n|-:|-:|-:|-:|-:|-:|")
    for images in options.images or [1000, 10_000, 50_000]:
        words = [sys.executable, __file__, "stream", "--images", str(images), "--threads", str(options.threads)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        each = (found["peak"] - found["start"]) / images / MOST
        numbers = f"{found['seconds']:.2f} | {found['seconds'] / images * 1e6:.0f} | {found['peak'] / 1e6:.0f}"
        print(f"| {images:,} | {numbers} | {found['start'] / 1e6:.0f} | {each:.0f} |", flush=True)
    yield from ()


def print_stream(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Collect and measure made-up batches as `evaluate` does; the time to make them up is not counted."""
    (images,) = options.images
    generator = np.random.default_rng(0)
    tally, seconds = Tally(CLASSES), 0.0
    tally.add(*made_batch(generator), None)
    summarise(tally, {}, ())
    tally, start_memory = Tally(CLASSES), peak_memory()
    while tally.images < images:
        batch, native = made_batch(generator, min(BATCH, images - tally.images))
        start = time.perf_counter()
        tally.add(batch, native, None)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    summarise(tally, dict.fromkeys(range(CLASSES), ""), ())
    seconds += time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_memory(), "start": start_memory}))
    yield from ()


def compare_whole(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure ``whole``."""
    peers = dict(pair.split("=", 1) for pair in options.peer_python)
    with tempfile.TemporaryDirectory() as folder:
        rates = whole_processes(options.data, options.weights, peers, options.rounds, options.threads, Path(folder))
    yield from rows_of(f"val.py {Path(options.weights).stem} {SIZE} px batch {BATCH}, whole process", rates)


def rows_of(title: str, rates: Rates) -> Iterator[dict[str, Any]]:
    """Return a row of results.csv for each peer: medians, and the median of the ratios within a round."""
    ours = rates.pop("ours")
    for peer, theirs in rates.items():
        ratio = statistics.median(mine / their for mine, their in zip(ours, theirs, strict=True))
        medians = (f"{statistics.median(numbers):.1f}" for numbers in (ours, theirs))
        values = (date.today().isoformat(), "", title, peer, *medians, f"{ratio:.2f}")
        yield dict(zip(COLUMNS, values, strict=True))


COMMANDS = {
    "nms": compare_suppression,
    "untrained": compare_untrained,
    "metrics": compare_metrics,
    "growth": print_growth,
    "stream": print_stream,  # one row of growth, in its process
    "whole": compare_whole,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--data", default="coco128.yaml")
    parser.add_argument("--images", type=int, nargs="+", help="numbers of made-up images")
    parser.add_argument("--peer-python", nargs="*", default=[], metavar="NAME=PYTHON", help="yolov5 or ultralytics")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8, help="of the loader, in 'untrained'")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/results.csv")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the commands do
    machine = describe_machine(options.threads)
    for row in COMMANDS[options.command](options):
        row["machine"] = machine
        speeds = f"{row['ours img/s']} img/s, {row['peer']} {row['peer img/s']}"
        print(f"{row['what']}: {speeds}: {row['ratio']} times as fast", flush=True)
        if options.record:
            append_rows(ROOT / "benchmarks/results.csv", [row])


if __name__ == "__main__":
    main()
