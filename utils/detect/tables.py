"""Where the detections of all images go together: a CSV and a JSON file, which an interruption leaves readable."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path

from utils.boxes import xyxy_to_xywh
from utils.data.sources import Frame
from utils.detect.detector import Detections
from utils.eval.coco_json import BOX_DECIMALS, SCORE_DECIMALS, image_id
from utils.files import atomic_write

CSV_HEADER = ("Image Name", "Prediction", "Confidence")


class CsvSink:
    """Writes a line an object, worst first, as later versions of detect.py do; each image at once.

    Frames of clips are called ``<clip>_<frame>``, as their label files are.

    Args:
        path: the file.
        names: class names by index.
    """

    in_order = True

    def __init__(self, path: Path, names: dict[int, str]) -> None:
        self.names = names
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(CSV_HEADER)

    def write(self, frame: Frame, detections: Detections) -> None:
        """Add the lines of one image."""
        name = frame.name if frame.clip else frame.path.name
        pairs = zip(detections.classes[::-1].tolist(), detections.scores[::-1].tolist(), strict=True)
        self._rows.writerows((name, self.names[label], f"{score:.2f}") for label, score in pairs)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonSink:
    """Writes COCO's file of results, an object a line, in the form val.py gives it; category ids are class indices.

    The file gets its name when it is complete.

    Args:
        path: the file.
    """

    in_order = True

    def __init__(self, path: Path) -> None:
        self._open = ExitStack()
        temporary = self._open.enter_context(atomic_write(path))
        self._file = self._open.enter_context(temporary.open("w", encoding="utf-8"))
        self._separator = "[\n"

    def write(self, frame: Frame, detections: Detections) -> None:
        """Add the objects of one image, best first."""
        name = image_id(frame.name if frame.clip else str(frame.path))
        boxes = xyxy_to_xywh(detections.boxes)
        boxes[:, :2] = detections.boxes[:, :2]  # COCO's x and y are those of a corner
        columns = (boxes.tolist(), detections.scores.tolist(), detections.classes.tolist())
        for box, score, label in zip(*columns, strict=True):
            rounded = [round(value, BOX_DECIMALS) for value in box]
            row = {"image_id": name, "category_id": label, "bbox": rounded, "score": round(score, SCORE_DECIMALS)}
            self._file.write(self._separator + json.dumps(row))
            self._separator = ",\n"

    def close(self) -> None:
        """Complete the file."""
        with self._open:
            self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
