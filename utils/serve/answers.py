"""What the server says of an image, as plain data whose types /openapi.json shows."""

from dataclasses import dataclass

import numpy as np
from typing_extensions import TypedDict  # that of Python 3.12 and later, which pydantic wants

from utils.detect.detector import Detected


class Size(TypedDict):
    """Of an image, px."""

    width: int
    height: int


class Asked(TypedDict):
    """The thresholds that were used."""

    conf: float
    iou: float
    max_det: int


Object = TypedDict("Object", {"box": list[float], "score": float, "class": int, "name": str})


class Steps(TypedDict):
    """Milliseconds: waiting for a thread, decoding, preparing, in the network, on suppression; all together."""

    wait: float
    decode: float
    prepare: float
    network: float
    suppression: float
    total: float


class Answer(TypedDict):
    """What is said of an image; boxes are left, top, right, bottom in px of it."""

    model: str
    image: Size
    thresholds: Asked
    detections: list[Object]
    milliseconds: Steps


Record = TypedDict(
    "Record",
    {"xmin": float, "ymin": float, "xmax": float, "ymax": float, "confidence": float, "class": int, "name": str},
)


class Problem(TypedDict):
    """Why there is no answer, in one line."""

    error: str


@dataclass(frozen=True)
class Thresholds:
    """Which detections a request wants."""

    confidence: float = 0.25
    iou: float = 0.45
    max_detections: int = 1000


@dataclass(frozen=True)
class Found:
    """An image with its objects, and how long each step took, ms."""

    image_hw: tuple[int, int]
    detected: Detected
    milliseconds: Steps


def asked(thresholds: Thresholds) -> Asked:
    """Return thresholds by the names of the request's fields."""
    return {"conf": thresholds.confidence, "iou": thresholds.iou, "max_det": thresholds.max_detections}


def answer(found: Found, model: str, names: dict[int, str], thresholds: Thresholds) -> Answer:
    """Return all that is said of an image."""
    height, width = found.image_hw
    return {
        "model": model,
        "image": {"width": width, "height": height},
        "thresholds": asked(thresholds),
        "detections": [
            {"box": box, "score": score, "class": index, "name": names[index]} for box, score, index in _rows(found)
        ],
        "milliseconds": found.milliseconds,
    }


def records(found: Found, names: dict[int, str]) -> list[Record]:
    """Return what v6.1's results write with ``pandas().xyxy[0].to_json(orient="records")``."""
    return [
        {
            "xmin": left,
            "ymin": top,
            "xmax": right,
            "ymax": bottom,
            "confidence": score,
            "class": index,
            "name": names[index],
        }
        for (left, top, right, bottom), score, index in _rows(found)
    ]


def _rows(found: Found) -> list[tuple[list[float], float, int]]:
    detections = found.detected.detections
    boxes = np.asarray(detections.boxes, float).round(2).tolist()
    scores = np.asarray(detections.scores, float).round(5).tolist()
    return list(zip(boxes, scores, map(int, detections.classes), strict=True))
