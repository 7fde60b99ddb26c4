"""Detections in COCO's file of results, and COCO's own evaluation of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utils.data.config import DatasetConfig
from utils.errors import UserError
from utils.eval.coco import Annotation, CocoMetrics, DetectionsByClass, corner_boxes, find_evaluator
from utils.eval.findings import Findings
from utils.files import atomic_write
from utils.log import LOGGER

COCO_LIST = "coco/val2017.txt"  # a data set whose 'val' ends so is COCO (v6.1's rule)
ANNOTATIONS = "annotations/instances_val2017.json"  # in the folder of COCO
ABSENT_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # categories that COCO planned and has no boxes of
COCO_IDS = tuple(number for number in range(1, 91) if number not in ABSENT_IDS)  # class index -> category
BOX_DECIMALS, SCORE_DECIMALS = 3, 5
ROWS_AT_ONCE = 10_000


def is_coco(config: DatasetConfig) -> bool:
    """Return whether a data set is COCO, as v6.1 decides it: by the name of its list of validation images."""
    lists = config.splits["val"]
    return len(lists) == 1 and lists[0].as_posix().endswith(COCO_LIST)


def image_id(path: str) -> int | str:
    """Return what COCO calls an image: the number its file is named by, else that name without the suffix."""
    stem = Path(path).stem
    return int(stem) if stem.isdecimal() else stem


def save_predictions(findings: Findings, file: Path, config: DatasetConfig, split: str) -> CocoMetrics | None:
    """Write ``file``; of COCO's validation images evaluate it, too, if COCO's annotations are there. Both are logged.

    Args:
        findings: what was detected.
        file: ``<run>/<weights>_predictions.json``.
        config: the data set.
        split: the part of it that was evaluated, such as ``"val"``.

    Returns:
        the results of COCO's own evaluation; None when there was none: no package does it (see `coco_metrics`), or it
        failed, which is logged in one line.
    """
    has_coco_classes = is_coco(config) and len(findings.names) == len(COCO_IDS)
    write_coco_json(findings, file, has_coco_classes)
    LOGGER.info(f"Detections in COCO's format saved to {file}")
    annotations = config.root / ANNOTATIONS
    if not has_coco_classes or split != "val" or not annotations.is_file():
        return None
    try:
        metrics = official_coco_metrics(findings, annotations)
    except UserError as error:
        LOGGER.warning(f"WARNING: no evaluation against COCO's annotations: {error}")
        return None
    if metrics:
        LOGGER.info(f"Against {annotations}, where sizes are those of outlines and crowds are no objects:")
        for line in metrics.lines():
            LOGGER.info(line)
    return metrics


def write_coco_json(findings: Findings, path: Path, coco_ids: bool) -> None:
    """Write all detections as COCO's evaluator reads them, one a line.

    Args:
        findings: the detections.
        path: file to write; an older one is replaced when the new one is complete.
        coco_ids: write COCO's category numbers, 1 to 90 with gaps, for classes 0 to 79; else the class indices.
    """
    category_ids = COCO_IDS if coco_ids else range(len(findings.names))
    ids = [json.dumps(image_id(path)) for path in findings.paths]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for image, label, box, score in _rows(findings):  # numbers and lists look the same in Python and JSON
            file.write(f'{separator}{{"image_id": {ids[image]}, "category_id": {category_ids[label]}, ')
            file.write(f'"bbox": {box}, "score": {score}}}')
            separator = ",\n"
        file.write("\n]\n" if len(findings.scores) else "[]\n")


def _rows(findings: Findings) -> Iterator[tuple[int, int, list[float], float]]:
    """Yield image, class, box and score of each detection, in the precision of the file."""
    for start in range(0, len(findings.scores), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        boxes = corner_boxes(findings.boxes[part])[0].round(BOX_DECIMALS)
        scores = findings.scores[part].astype(np.float64).round(SCORE_DECIMALS)
        columns = (findings.detection_image[part], findings.classes[part], boxes, scores)
        yield from zip(*(column.tolist() for column in columns), strict=True)


def official_coco_metrics(findings: Findings, annotations: Path) -> CocoMetrics | None:
    """Evaluate what `write_coco_json` writes against COCO's own annotations, with crowds, on the images evaluated.

    Args:
        findings: the detections; its labels play no part.
        annotations: COCO's ``instances_val2017.json``.

    Returns:
        None when no package is installed that can do it.

    Raises:
        UserError: the file cannot be read, is no file of annotations, or lacks an image.
    """
    evaluator = find_evaluator()
    if evaluator is None:
        return None
    ids = [image_id(path) for path in findings.paths]
    truths = _read_truths(annotations, ids)
    numbers = [int(one) for one in ids]  # those of the file are numbers, and all of ``ids`` are among them
    detections = DetectionsByClass(findings, numbers, COCO_IDS, (BOX_DECIMALS, SCORE_DECIMALS))
    return evaluator.measure(truths, detections)


def _read_truths(file: Path, image_ids: list[int | str]) -> list[list[Annotation]]:
    """Return the objects of each class in images of these ids."""
    try:
        content = json.loads(file.read_bytes())
        listed = {image["id"] for image in content["images"]}
        by_category: dict[int, list[Annotation]] = {category: [] for category in COCO_IDS}
        wanted = set(image_ids)
        for found in content["annotations"]:
            if found["image_id"] in wanted:
                by_category[found["category_id"]].append(_truth(found))
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no text
        raise UserError(f"cannot read '{file}' ({error})") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"'{file}' does not hold COCO's images and annotations ({error!r})") from error
    missing = [one for one in image_ids if one not in listed]
    if missing:
        raise UserError(f"'{file}' lacks {len(missing)} of the {len(image_ids)} images, such as {missing[0]!r}")
    return list(by_category.values())


def _truth(found: dict[str, Any]) -> Annotation:
    """Return an object without its outline, which takes most of the memory and is not needed."""
    kept = {key: found[key] for key in ("id", "image_id", "category_id", "bbox", "area")}
    return kept | {"iscrowd": found.get("iscrowd", 0)}
