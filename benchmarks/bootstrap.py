"""How long 1,000 bootstrap resamples of mAP take, and how long the plain way would.

    python benchmarks/bootstrap.py --images 128 1000 5000 20000 --resamples 1000 --naive 5

The evaluations are made up: detections of 80 classes whose frequencies fall like 1/rank, 7.3 labels an image as in
COCO, 70 % of them found. "ours" is ``bootstrap_ap`` on all resamples. "plain" repeats the arrays of each resample's
images and calls ``ap_per_class``, which is what the definition says; it is timed on a few resamples, after one that is
not counted, and its time for all of them is that of one times their number. It makes curves as well, which a bootstrap
does not need. The values of both are compared. Memory is the peak above that before, by tracemalloc, in a further run.
"""

import argparse
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.eval.bootstrap import bootstrap_ap, mean_over_classes, resample_counts
from utils.eval.findings import Findings
from utils.eval.metrics import ap_per_class

CLASSES = 80
LABELS_PER_IMAGE = 7.3


def make_evaluation(images: int, per_image: int, generator: np.random.Generator) -> Findings:
    """Return made-up findings with ``per_image`` detections on each image."""
    frequency = 1 / np.arange(1, CLASSES + 1)
    frequency /= frequency.sum()
    labels = round(images * LABELS_PER_IMAGE)
    label_image = np.sort(generator.integers(0, images, labels))
    label_classes = generator.choice(CLASSES, labels, p=frequency).astype(np.int32)
    count = images * per_image
    classes = generator.choice(CLASSES, count, p=frequency).astype(np.int32)
    scores = generator.random(count) ** 3
    correct = np.zeros((count, 10), bool)
    found = np.flatnonzero(generator.random(labels) < 0.7)
    rows = label_image[found] * per_image + generator.integers(0, per_image, len(found))
    rows, kept = np.unique(rows, return_index=True)
    classes[rows] = label_classes[found[kept]]
    scores[rows] = np.maximum(scores[rows], generator.random(len(rows)))
    correct[rows] = generator.random(len(rows))[:, None] > np.linspace(0, 0.9, 10)
    order = np.lexsort((-scores, np.repeat(np.arange(images), per_image)))
    return Findings(
        names={index: str(index) for index in range(CLASSES)},
        paths=[f"{index}.jpg" for index in range(images)],
        sizes_hw=np.full((images, 2), 640),
        boxes=np.zeros((count, 4), np.float32),
        scores=scores[order].astype(np.float32),
        classes=classes[order],
        correct=correct[order],
        detection_counts=np.full(images, per_image),
        label_boxes=np.zeros((labels, 4), np.float32),
        label_classes=label_classes,
        label_counts=np.bincount(label_image, minlength=images),
    )


def plain(findings: Findings, counts: np.ndarray) -> float:
    """Return mAP50-95 of one resample, in which each image is repeated."""
    images = np.repeat(np.arange(len(findings)), counts)
    rows = np.concatenate([np.arange(*findings.detections_of(image).indices(len(findings.scores))) for image in images])
    labels = np.repeat(findings.label_classes, counts[findings.label_image])
    columns = findings.correct[rows], findings.scores[rows], findings.classes[rows]
    return ap_per_class(*columns, labels).mean("ap50_95")


def main() -> None:
    """Print one line a number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[128, 1000, 5000])
    parser.add_argument("--per-image", type=int, nargs="+", default=[160, 300, 300], help="detections an image")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--naive", type=int, default=5, help="resamples that the plain way is timed on")
    options = parser.parse_args()
    options.per_image += options.per_image[-1:] * (len(options.images) - len(options.per_image))
    print("  images  an image  detections    ours, s   plain, s  of which measured     ratio   peak MB  deviation")
    for images, per_image in zip(options.images, options.per_image, strict=False):
        generator = np.random.default_rng(0)
        findings = make_evaluation(images, per_image, generator)
        plain(findings, np.ones(images, int))
        start = time.perf_counter()
        counts = resample_counts(images, options.resamples, generator)
        values = mean_over_classes(bootstrap_ap(findings, counts).ap50_95)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        expected = [plain(findings, row) for row in counts[: options.naive]]
        measured = time.perf_counter() - start
        deviation = np.abs(values[: options.naive] - expected).max()
        tracemalloc.start()
        bootstrap_ap(findings, resample_counts(images, options.resamples, generator))
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        total = measured / options.naive * options.resamples
        print(
            f"{images:>8}{per_image:>10}{images * per_image:>12}{ours:>11.2f}{total:>11.1f}{options.naive:>13} in "
            f"{measured:.2f} s{total / ours:>9.0f}x{peak:>10.0f}{deviation:>11.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
