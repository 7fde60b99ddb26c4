"""How far our COCO-style results are from pycocotools' own, and from YOLO-style ones, on real detections.

    python benchmarks/coco_agreement.py --weights yolov5n.pt --data coco128.yaml --imgsz 640 320

Detects once a size, then evaluates the same detections four times: in YOLO-style; COCO-style by each of the optional
packages, as val.py does; and by pycocotools alone, in its documented way: truth and results as JSON files, all classes
at once. "12 numbers" is the largest difference from that last one among the twelve of its summary, "classes" the
largest among AP50-95 and AP50 of all classes. Seconds are the best of ``--repeats``, without detecting.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from models.formats import load_backend  # noqa: E402
from utils.data.config import load_dataset_config  # noqa: E402
from utils.data.loader import make_validation_loader  # noqa: E402
from utils.data.splits import load_samples  # noqa: E402
from utils.device import select_device  # noqa: E402
from utils.eval.coco import PACKAGES, coco_metrics, corner_boxes, find_evaluator  # noqa: E402
from utils.eval.evaluate import EvaluationSettings, evaluate  # noqa: E402
from utils.eval.findings import Findings  # noqa: E402
from utils.eval.metrics import ap_per_class  # noqa: E402


@dataclass
class Result:
    """One evaluation: AP, AP50, AP75 and perhaps nine more; (classes, 2) AP50-95 and AP50, NaN without labels."""

    summary: np.ndarray
    by_class: np.ndarray


def detect(weights: str, data: str, size: int, batch_size: int, device_name: str) -> Findings:
    """Return what a model finds in the validation images."""
    device = select_device(device_name)
    backend, config = load_backend([weights], device), load_dataset_config(data, ("val",))
    loader = make_validation_loader(load_samples(config, "val"), size, batch_size, backend.meta.stride, workers=0)
    settings = EvaluationSettings(device=device, keeps_findings=True)
    findings = evaluate(lambda images: (backend(images), None), loader, config.names, settings).findings
    assert findings is not None
    return findings


def yolo_style(findings: Findings) -> Result:
    found = ap_per_class(findings.correct, findings.scores, findings.classes, findings.label_classes)
    by_class = np.full((len(findings.names), 2), np.nan)
    by_class[found.classes] = np.stack([found.ap50_95, found.ap50], 1)
    return Result(np.array([found.mean(name) for name in ("ap50_95", "ap50", "ap75")]), by_class)


def coco_style(findings: Findings, package: str) -> Result:
    metrics = coco_metrics(findings, [package])
    assert metrics is not None
    return Result(np.array(metrics.summary), np.stack([metrics.class_ap, metrics.class_ap50], 1))


def pycocotools_alone(truth_file: Path, results_file: Path) -> Result:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        evaluation = COCOeval(truth, truth.loadRes(str(results_file)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (10, 101, classes)
    precision = np.where(precision < 0, np.nan, precision)
    return Result(np.array(evaluation.stats), np.stack([precision.mean((0, 1)), precision[0].mean(0)], 1))


def write_files(findings: Findings, truth_file: Path, results_file: Path) -> None:
    """Write labels and detections as COCO has them, without rounding."""
    boxes, areas = corner_boxes(findings.label_boxes)
    images, classes = findings.label_image.tolist(), findings.label_classes.tolist()
    annotations: list[dict[str, Any]] = [
        {"id": number, "image_id": image, "category_id": kind, "bbox": box, "area": area, "iscrowd": 0}
        for number, (image, kind, box, area) in enumerate(
            zip(images, classes, boxes.tolist(), areas.tolist(), strict=True), 1
        )
    ]
    truth = {
        "images": [{"id": number} for number in range(len(findings))],
        "categories": [{"id": index, "name": name} for index, name in findings.names.items()],
        "annotations": annotations,
    }
    truth_file.write_text(json.dumps(truth))
    columns = (findings.detection_image, findings.classes, corner_boxes(findings.boxes)[0], findings.scores)
    results = [
        {"image_id": image, "category_id": kind, "bbox": box, "score": score}
        for image, kind, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
    results_file.write_text(json.dumps(results))


def best_of(repeats: int, work: Callable[[], Result]) -> tuple[Result, float]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def compare(findings: Findings, repeats: int) -> list[str]:
    """Return the rows of one size."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "truth.json"), Path(folder, "results.json")
        write_files(findings, *files)
        reference, seconds = best_of(repeats, lambda: pycocotools_alone(*files))
    reference.summary[reference.summary < 0] = np.nan
    rows = [row("pycocotools alone", reference, reference, seconds)]
    for package in PACKAGES:
        if find_evaluator([package]):
            result, seconds = best_of(repeats, partial(coco_style, findings, package))
            rows.append(row(f"ours by {package}", result, reference, seconds))
    result, seconds = best_of(repeats, lambda: yolo_style(findings))
    return [*rows, row("YOLO-style", result, reference, seconds)]


def row(name: str, result: Result, reference: Result, seconds: float) -> str:
    numbers = [*result.summary, *[np.nan] * 12][:12]
    cells = ["-" if np.isnan(value) else f"{value:.4f}" for value in (*numbers[:6], numbers[8])]
    shared = len(result.summary)
    differences = (result.summary - reference.summary[:shared], result.by_class - reference.by_class)
    cells += [f"{np.nanmax(np.abs(difference)):.1e}" for difference in differences]
    return f"| {name} | {' | '.join(cells)} | {seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--data", default="coco128.yaml")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[640, 320])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for size in options.imgsz:
        findings = detect(options.weights, options.data, size, options.batch_size, options.device)
        counts = f"{len(findings.scores)} detections, {len(findings.label_classes)} labels, {len(findings)} images"
        print(f"\n{size} px: {counts}\n")
        print("| evaluation | AP | AP50 | AP75 | small | medium | large | AR 100 | 12 numbers | classes | seconds |")
        print("|" + "---|" * 11)
        print("\n".join(compare(findings, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
