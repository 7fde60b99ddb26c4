"""The pictures of a run folder: what each of them says, and their bytes, small enough for a page."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

BUDGET = 2_800_000  # bytes of all pictures together; base64 makes four of three
LARGEST = 260_000  # bytes of one
LONGEST_SIDE = 1400  # px of a picture that is encoded anew
SHORTEST_SIDE = 400  # px below which no picture is made to save bytes
QUALITY = 82  # of JPEG

TRAINING, CLASSES, CURVES, ERRORS, WORST, BATCHES, DATA = SECTIONS = (
    "Training",
    "Classes mixed up",
    "Curves",
    "Where the points are lost",
    "Worst images",
    "Labels beside predictions",
    "What was trained on",
)


@dataclass(frozen=True)
class Picture:
    """One picture of a run folder.

    Attributes:
        file: its name.
        title: a few words.
        caption: how to read it, and what to do about what one sees.
        section: where on the page it is.
    """

    file: str
    title: str
    caption: str
    section: str


PICTURES = (
    Picture(
        "results.png",
        "Losses and results by epoch",
        "The losses should fall, the other four should rise. Validation losses that rise while those of training fall: "
        "the network learns by heart, so add images or augmentation. Results still rising at the end: train longer.",
        TRAINING,
    ),
    Picture(
        "nam_scales.png",
        "Scales of the NAM layers",
        "Each line is one layer's scales from large to small, before and after training. Many near zero mean channels "
        "that the attention has switched off; if accuracy suffers, lower the penalty.",
        TRAINING,
    ),
    Picture(
        "confusion_matrix.png",
        "As fractions of the true class",
        "A column is a class as labelled, a row what was predicted at confidence 0.25. Dark off the diagonal: two "
        "classes are mixed up, so check their labels, or merge them. Dark in the bottom row: objects that were missed.",
        CLASSES,
    ),
    Picture(
        "confusion_matrix_counts.png",
        "As counts",
        "The same in objects, so that rare classes weigh little. The last column counts detections where nothing is "
        "labelled, in images where something is found: are labels missing there? (As in YOLOv5, images "
        "without labels do not count here; below, they do.)",
        CLASSES,
    ),
    Picture(
        "PR_curve.png",
        "Precision over recall",
        "The area below a line is the class's AP at IoU 0.50; the best line stays at the top until the right edge. A "
        "line that ends early: objects are never found, so label more of them or raise the image size.",
        CURVES,
    ),
    Picture(
        "F1_curve.png",
        "F1 over confidence",
        "The peak is where precision and recall balance best: a good --conf-thres for detect.py. A broad peak means "
        "that the choice hardly matters.",
        CURVES,
    ),
    Picture(
        "P_curve.png",
        "Precision over confidence",
        "Of the detections above a confidence, the fraction that is right. Read off the threshold at which false "
        "alarms are as rare as you need.",
        CURVES,
    ),
    Picture(
        "R_curve.png",
        "Recall over confidence",
        "Of the labelled objects, the fraction that is still found above a confidence. A line that starts low: the "
        "network does not see these objects at all, whatever the threshold.",
        CURVES,
    ),
    Picture(
        "errors.png",
        "mAP lost to each kind of error",
        "How much mAP at IoU 0.50 would be won if one kind of error were mended, in the manner of TIDE. Work on the "
        "longest bar first.",
        ERRORS,
    ),
    Picture(
        "calibration.png",
        "Is a confidence what it says?",
        "Of the detections with a confidence of 0.8, eight of ten should be right: the diagonal. Below it, the network "
        "is too sure of itself; above it, too modest. The ranking, hence mAP, is not touched by this.",
        ERRORS,
    ),
    Picture(
        "size_ap.png",
        "AP by size of the object",
        "Small objects far below the rest: raise --imgsz, or train on crops. Large ones below it: their labels may be "
        "cut, or too few.",
        ERRORS,
    ),
    Picture(
        "worst_false_positives.jpg",
        "Most false positives",
        "Detections that match no label. Objects that are there but not labelled are gaps in the labels: mend those "
        "first, they spoil training, too.",
        WORST,
    ),
    Picture(
        "worst_misses.jpg",
        "Most misses",
        "Labelled objects without a detection. Ask what they share: small, dark, hidden, seldom. Images like these are "
        "what the training set lacks.",
        WORST,
    ),
    Picture(
        "confident_mistakes.jpg",
        "Confident mistakes",
        "Wrong with a high confidence: often a wrong or missing label, else two classes that look alike.",
        WORST,
    ),
    *(
        Picture(
            f"val_batch{batch}_{kind}.jpg",
            f"Batch {batch}: {'labels' if kind == 'labels' else 'predictions above confidence 0.25'}",
            caption,
            BATCHES,
        )
        for batch in range(3)
        for kind, caption in (
            ("labels", "What people have drawn." if batch == 0 else ""),
            ("pred", "What the network finds: compare box by box." if batch == 0 else ""),
        )
    ),
    Picture(
        "labels.jpg",
        "Statistics of the labels",
        "Objects of each class, and the shapes, places and sizes of boxes. Few objects are hardly learned; boxes "
        "that all lie in one place make a network that looks nowhere else.",
        DATA,
    ),
    *(
        Picture(
            f"train_batch{batch}.jpg",
            f"Training batch {batch}",
            "As the network sees it, augmented. Boxes that do not sit on their objects here are wrong in the labels."
            if batch == 0
            else "",
            DATA,
        )
        for batch in range(3)
    ),
)


class Encoded(NamedTuple):
    """A picture as it goes into the page."""

    content: bytes
    suffix: str
    size_hw: tuple[int, int]


class Loaded(NamedTuple):
    """A file as it is, and its pixels, not larger than a page shows them: (H, W, 3) uint8."""

    original: Encoded
    image: np.ndarray


def read_pictures(folder: Path, names: Iterable[str]) -> Mapping[str, Encoded | None]:
    """Return those of the pictures called ``names`` that ``folder`` has; None stands for an unreadable file.

    Files that are small enough stay as they are. What they leave of the budget, the larger ones share.
    """
    files = [folder / name for name in names if (folder / name).is_file()]
    files.sort(key=lambda file: file.stat().st_size)
    left, found = BUDGET, {}
    with ThreadPoolExecutor() as pool:  # to decode large charts takes most of the time
        for number, loaded in enumerate(pool.map(load, files)):
            encoded = fit(loaded, min(LARGEST, max(left, 0) // (len(files) - number))) if loaded else None
            left -= len(encoded.content) if encoded else 0
            found[files[number].name] = encoded
    return found


def load(file: Path) -> Loaded | None:
    """Read a picture; return None if it is unreadable."""
    content = file.read_bytes()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        return None
    return Loaded(Encoded(content, file.suffix, image.shape[:2]), _shrink(image, LONGEST_SIDE))


def fit(loaded: Loaded, limit: int) -> Encoded:
    """Return a picture in ``limit`` bytes, or in more rather than smaller than `SHORTEST_SIDE`."""
    if len(loaded.original.content) <= limit:
        return loaded.original
    side = max(loaded.image.shape[:2])
    while True:
        shown = _shrink(loaded.image, side)
        content = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        if len(content) <= limit or side <= SHORTEST_SIDE:
            return Encoded(content, ".jpg", shown.shape[:2])
        side = max(SHORTEST_SIDE, int(side * 0.95 * (limit / len(content)) ** 0.5))  # bytes grow with the area


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
