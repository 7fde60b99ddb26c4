"""A small clean data set, and what a test does to it."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

IMAGE_HW = (96, 128)
NAMES = ("cat", "dog", "cow")
COUNTS = {"train": 6, "val": 4}
ROWS = ("0 .3 .4 .2 .3", "1 .6 .5 .3 .4", "2 .5 .6 .15 .2")


def picture(seed: int, size_hw: tuple[int, int] = IMAGE_HW) -> np.ndarray:
    """Return a (H, W, 3) uint8 image of soft blots, another one for each seed."""
    blots = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return cv2.resize(blots, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class MadeSet:
    """A data set below ``root``."""

    root: Path

    @property
    def yaml(self) -> Path:
        return self.root / "set.yaml"

    def image(self, split: str = "train", index: int = 0) -> Path:
        return self.root / f"images/{split}/{split}{index}.jpg"

    def labels(self, split: str = "train", index: int = 0) -> Path:
        return self.root / f"labels/{split}/{split}{index}.txt"

    def write(self, text: str, split: str = "train", index: int = 0) -> None:
        self.labels(split, index).write_text(text, encoding="utf-8")

    def write_all(self, text: str, split: str = "train") -> None:
        for index in range(COUNTS[split]):
            self.write(text, split, index)

    def configure(self, **changes: object) -> None:
        content = {"path": str(self.root), "train": "images/train", "val": "images/val", "names": list(NAMES)}
        self.yaml.write_text(yaml.safe_dump(content | changes), encoding="utf-8")


def write_image(file: Path, image: np.ndarray, quality: int = 95) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    _, encoded = cv2.imencode(file.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality] if file.suffix == ".jpg" else [])
    file.write_bytes(encoded.tobytes())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeSet:
    """Return a data set of 6 training and 4 validation images without a fault."""
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "caches"))
    made = MadeSet(tmp_path / "set")
    for number, split in enumerate(COUNTS):
        made.labels(split).parent.mkdir(parents=True)
        for index in range(COUNTS[split]):
            write_image(made.image(split, index), picture(100 * number + index))
            made.write("\n".join(ROWS) + "\n", split, index)
    made.configure()
    return made
