"""Made data sets of a few tiny images, and what was converted of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.data.convert import CONVERTERS, convert
from utils.data.convert.report import Report

WIDTH, HEIGHT = 40, 20


def write_image(path: Path, size_wh: tuple[int, int] = (WIDTH, HEIGHT), **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_wh, (200, 10, 90)).save(path, **save)
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Any) -> Path:
    return write_text(path, json.dumps(content))


def convert_and_count(kind: str, source: Path, destination: Path, **options: Any) -> Report:
    """Convert, and check what must hold of every conversion: in = out + dropped, and the files are what is counted."""
    report = convert(kind, source, destination, **options)
    assert report.images_in == report.images_out.total() + len(report.lost_images)
    assert report.boxes_in.total() == report.boxes_out.total() + len(report.lost_boxes)
    written = (destination / "conversion.txt").read_text(encoding="utf-8")
    for loss in report.lost_boxes + report.lost_images:
        assert loss.line() in written
    if CONVERTERS[kind].writer == "yolo_writer":
        assert sum(len(rows) for rows in labels_of(destination).values()) == report.boxes_out.total()
        assert len(images_of(destination)) == len(labels_of(destination)) == report.images_out.total()
    return report


def images_of(data_set: Path) -> list[str]:
    return sorted(path.relative_to(data_set / "images").as_posix() for path in data_set.glob("images/**/*.*"))


def labels_of(data_set: Path) -> dict[str, list[list[float]]]:
    return {
        path.relative_to(data_set / "labels").as_posix(): [
            list(map(float, line.split())) for line in path.read_text().splitlines()
        ]
        for path in sorted(data_set.glob("labels/**/*.txt"))
    }


def box_in_px(row: list[float], size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> list[float]:
    """Return left, top, right, bottom of a ``class x y width height`` row."""
    x, y, width, height = np.array(row[1:]) * (*size_wh, *size_wh)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def reasons(report: Report) -> list[str]:
    """Return the beginnings of the reasons of lost boxes, then images."""
    return [loss.reason.split(":")[0] for loss in report.lost_boxes + report.lost_images]
