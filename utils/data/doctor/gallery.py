"""Pictures of the page: images with their boxes drawn, as data URIs."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from utils.boxes import xywh_to_xyxy
from utils.data.doctor.findings import Picture
from utils.data.doctor.pictures import read_thumbnail
from utils.data.doctor.split import Split
from utils.eval.draw import class_colour, draw_detections
from utils.page import embedded, escape

SIDE = 320  # px
LEAST_MARK = 14  # px a side of the frame around a marked box
JPEG_QUALITY = 82
MARK = (40, 40, 230)  # blue, green, red
PLAIN = (190, 190, 190)
PICTURES_OF_SPLIT = 6


def draw_picture(picture: Picture, names: Mapping[int, str], channels: int) -> np.ndarray | None:
    """Return the image with its boxes, (H, W, 3) uint8 BGR; None if it is unreadable.

    Where boxes are marked, these are red and named, with a frame that can be seen around small ones, and the others
    grey. Otherwise every box has the colour of its class.
    """
    image = read_thumbnail(picture.image, SIDE, channels)
    if image is None:
        return None
    height, width = image.shape[:2]
    boxes = xywh_to_xyxy(picture.labels[:, 1:]) * [width, height, width, height]
    colours = [class_colour(int(label[0])) for label in picture.labels]
    if not picture.marked:
        return draw_detections(image, boxes, _names(picture.labels, names), colours, 1)
    marked = list(picture.marked)
    image = draw_detections(image, boxes, [""] * len(boxes), [PLAIN] * len(boxes), 1)
    centres, sides = picture.labels[marked, 1:3] * [width, height], boxes[marked, 2:] - boxes[marked, :2]
    framed = xywh_to_xyxy(np.concatenate([centres, np.maximum(sides, LEAST_MARK)], 1))
    return draw_detections(image, framed, _names(picture.labels[marked], names), [MARK] * len(marked), 2)


def _names(labels: np.ndarray, names: Mapping[int, str]) -> list[str]:
    return [names.get(int(label[0]), f"class {label[0]:g}") for label in labels]


def figure(picture: Picture, names: Mapping[int, str], channels: int, caption: str = "") -> str:
    """Return the HTML of a picture; of an unreadable image only its name."""
    image = draw_picture(picture, names, channels)
    name = f"{picture.split}: {picture.image.name}"
    below = f"<figcaption>{escape(name)}{f'<br>{escape(caption)}' if caption else ''}</figcaption>"
    if image is None:
        return f'<figure><div class="blank">unreadable</div>{below}</figure>'
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    shown = embedded(encoded.tobytes(), ".jpg", image.shape[:2], name)
    return f"<figure>{shown}{below}</figure>"


def split_pictures(split: Split) -> Sequence[Picture]:
    """Return pictures spread over a split, of images with boxes where there are any."""
    labelled = np.flatnonzero(split.samples.label_counts)
    chosen = labelled if len(labelled) else np.arange(len(split.samples))
    places = np.linspace(0, len(chosen) - 1, min(PICTURES_OF_SPLIT, len(chosen))).round().astype(np.int64)
    return [split.picture(int(chosen[place])) for place in places]
