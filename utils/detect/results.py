"""What a model found in pictures, in every form that Python callers ask for (v6.1's ``Detections`` of the hub)."""

import copy
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageShow
from torch import Tensor

from utils.boxes import xyxy_to_xywh
from utils.channels import swap_red_and_blue
from utils.detect.detector import Detections, describe
from utils.detect.sinks import cut_out
from utils.errors import UserError
from utils.eval.draw import class_colour, draw_detections, save_picture
from utils.files import increment_path, safe_name
from utils.log import speed_line

if TYPE_CHECKING:
    import supervision

DEFAULT_FOLDER = Path("runs/detect/exp")
XYXY_COLUMNS = ("xmin", "ymin", "xmax", "ymax", "confidence", "class", "name")
XYWH_COLUMNS = ("xcenter", "ycenter", "width", "height", "confidence", "class", "name")


@dataclass
class Results:
    """The objects of one or more images. Indexing and iterating give results of one image each.

    Attributes:
        ims: (H, W, C) uint8 arrays, RGB; ``imgs`` is the same.
        pred: a tensor (n, 6) an image, best first: left, top, right, bottom in px, score, class.
        files: names of the pictures that ``save`` writes.
        names: class names by index.
        t: mean ms an image took for preparing, network and suppression.
        s: (B, C, H, W) of the network's input.
        xyxy, xywh: as ``pred``; and with centre x, y, width, height.
        xyxyn, xywhn: the same as fractions of the image's width and height.
    """

    ims: list[np.ndarray]
    pred: list[Tensor]
    files: list[str]
    names: dict[int, str]
    t: tuple[float, ...] = (0.0, 0.0, 0.0)
    s: tuple[int, ...] = (1, 3, 0, 0)
    xyxy: list[Any] = field(init=False)
    xywh: list[Any] = field(init=False)
    xyxyn: list[Any] = field(init=False)
    xywhn: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.xyxy = self.pred
        self.xywh = [torch.cat((xyxy_to_xywh(rows[:, :4]), rows[:, 4:]), 1) for rows in self.pred]
        self.xyxyn = self._fractions(self.xyxy)
        self.xywhn = self._fractions(self.xywh)

    def _fractions(self, boxes: Sequence[Tensor]) -> list[Tensor]:
        sizes_hw = [image.shape[:2] for image in self.ims]
        return [
            rows / rows.new_tensor([width, height, width, height, 1, 1])
            for rows, (height, width) in zip(boxes, sizes_hw, strict=True)
        ]

    @property
    def imgs(self) -> list[np.ndarray]:
        """v6.1's name of ``ims``."""
        return self.ims

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.ims)

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds that all images together took for preparing, network and suppression."""
        return tuple(milliseconds * self.n / 1000 for milliseconds in self.t)

    @property
    def speed(self) -> str:
        """The line of times that ``print`` ends with."""
        return speed_line(self.t, self.s)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> "Results":
        one = slice(index, index + 1 or None)
        if not -self.n <= index < self.n:
            raise IndexError(f"there are {self.n} images, got index {index}")
        return Results(self.ims[one], self.pred[one], self.files[one], self.names, self.t, self.s)

    def __iter__(self) -> Iterator["Results"]:
        return iter([self[index] for index in range(self.n)])

    def tolist(self) -> list["Results"]:
        """Return results of one image each."""
        return list(self)

    def __str__(self) -> str:
        lines = [
            f"image {number}/{self.n}: {image.shape[0]}x{image.shape[1]} {self._summary(rows)}"
            for number, (image, rows) in enumerate(zip(self.ims, self.pred, strict=True), 1)
        ]
        return "\n".join([*lines, self.speed])

    def _summary(self, rows: Tensor) -> str:
        found = rows.cpu().numpy()
        as_counted = Detections(found[:, :4], found[:, 4], found[:, 5].astype(int))
        return describe(as_counted, self.names).rstrip(", ") or "(no detections)"

    def print(self) -> None:
        """Print what was found in each image, and how long it took."""
        print(self)

    def _drawn(self, labels: bool) -> list[np.ndarray]:
        """Return the images with boxes on them, (H, W, 3) uint8 RGB."""
        return [self._draw(image, rows, labels) for image, rows in zip(self.ims, self.pred, strict=True)]

    def _draw(self, image: np.ndarray, rows: Tensor, labels: bool) -> np.ndarray:
        found = rows.cpu().numpy()[::-1]  # the best lie on top
        texts = [self._label(score, index) if labels else "" for score, index in found[:, 4:].tolist()]
        colours = [class_colour(int(index)) for index in found[:, 5]]
        return swap_red_and_blue(draw_detections(swap_red_and_blue(image), found[:, :4], texts, colours))

    def _label(self, score: float, index: float) -> str:
        return f"{self.names[int(index)]} {score:.2f}"

    def render(self, labels: bool = True) -> list[np.ndarray]:
        """Draw the boxes on the images; return them, (H, W, 3) uint8 RGB, and keep them as ``ims`` (v6.1)."""
        self.ims = self._drawn(labels)
        return self.ims

    def show(self, labels: bool = True) -> None:
        """Show the images with their boxes, in a notebook or in a window.

        Raises:
            UserError: there is no display, or no program that shows pictures.
        """
        for picture in self._drawn(labels):
            _show(Image.fromarray(picture))

    def save(self, labels: bool = True, save_dir: str | Path | None = None, exist_ok: bool = False) -> Path:
        """Write the images with their boxes.

        Args:
            labels: write class and score beside each box.
            save_dir: folder that the files go to; None for ``runs/detect/exp`` in the working folder (v6.1), numbered
                as that of detect.py is.
            exist_ok: write into that folder even if it is there.

        Returns:
            the folder.
        """
        folder = _folder(save_dir, exist_ok)
        for picture, name in zip(self._drawn(labels), self.files, strict=True):
            save_picture(folder / name, swap_red_and_blue(picture))
        return folder

    def crop(
        self, save: bool = True, save_dir: str | Path | None = None, exist_ok: bool = False
    ) -> list[dict[str, Any]]:
        """Cut the objects out, with a margin as detect.py leaves.

        Args:
            save: write them as ``<save_dir>/crops/<class>/<file>``.
            save_dir: see the method ``save``.
            exist_ok: see there.

        Returns:
            for each object, worst first (v6.1): ``box`` (4,) left, top, right, bottom in px, ``conf``, ``cls``,
            ``label`` such as ``"person 0.88"``, and ``im``, (h, w, C) uint8, RGB.
        """
        folder = _folder(save_dir, exist_ok) / "crops" if save else None
        crops = []
        for image, rows, file in zip(self.ims, self.pred, self.files, strict=True):
            for row in rows.flip(0):
                picture = cut_out(image, row[:4].cpu().numpy()).copy()
                label = self._label(*row[4:].tolist())
                crops.append({"box": row[:4], "conf": row[4], "cls": row[5], "label": label, "im": picture})
                if folder and picture.size:
                    path = increment_path(folder / safe_name(self.names[int(row[5])]) / file)
                    save_picture(path, swap_red_and_blue(picture))
        return crops

    def pandas(self) -> "Results":
        """Return a copy whose xyxy, xyxyn, xywh and xywhn are lists of pandas DataFrames, with class names."""
        import pandas

        converted = copy.copy(self)
        for key, columns in (
            ("xyxy", XYXY_COLUMNS),
            ("xyxyn", XYXY_COLUMNS),
            ("xywh", XYWH_COLUMNS),
            ("xywhn", XYWH_COLUMNS),
        ):
            rows = [
                [[*row[:5], int(row[5]), self.names[int(row[5])]] for row in one.tolist()] for one in getattr(self, key)
            ]
            setattr(converted, key, [pandas.DataFrame(one, columns=list(columns)) for one in rows])
        return converted

    def arrays(self) -> list[dict[str, Any]]:
        """Return plain arrays, a dict an image, which ``supervision.Detections(**arrays)`` takes.

        Keys: ``xyxy`` (n, 4) float32 in px, ``confidence`` (n,) float32 and ``class_id`` (n,) int, best first.
        """
        found = [rows.cpu().numpy().astype(np.float32) for rows in self.pred]
        return [
            {"xyxy": one[:, :4].copy(), "confidence": one[:, 4].copy(), "class_id": one[:, 5].astype(int)}
            for one in found
        ]

    def to_supervision(self) -> "list[supervision.Detections]":
        """Return a ``supervision.Detections`` an image, with the class names as ``data["class_name"]``.

        Raises:
            UserError: the package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                f"to_supervision() needs supervision ({error}): pip install supervision; arrays() gives the same"
            ) from error
        return [
            supervision.Detections(
                **one, data={"class_name": np.array([self.names[index] for index in one["class_id"]], dtype=str)}
            )
            for one in self.arrays()
        ]


def _folder(save_dir: str | Path | None, exist_ok: bool) -> Path:
    """Return where files go: ``save_dir``, else the next free ``runs/detect/exp``."""
    folder = Path(save_dir) if save_dir is not None else increment_path(DEFAULT_FOLDER, exist_ok)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _show(picture: Image.Image) -> None:
    """Show a picture in the notebook that runs this, else in a window."""
    notebook = sys.modules.get("IPython")
    if notebook and "IPKernelApp" in getattr(notebook.get_ipython(), "config", {}):
        notebook.display.display(picture)
        return
    has_display = os.name == "nt" or sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if not has_display:
        raise UserError("show() needs a display and there is none; use save() or render()")
    if not ImageShow.show(picture):
        raise UserError("show() found no program that shows pictures, such as xdg-open; use save() or render()")
