"""Made-up evaluations: plausible detections of plausible labels, repeatable from a seed."""

import numpy as np
import torch

from utils.eval.findings import Findings
from utils.eval.metrics import match_detections

SIZE = 640  # px, side of every image


def make_findings(
    images: int = 8,
    classes: int = 3,
    seed: int = 0,
    labels: int = 6,
    extra: int = 8,
    noise: float = 0.08,
    right_class: float = 0.85,
    found: float = 0.8,
) -> Findings:
    """Return an evaluation of random objects that a detector of some skill looked at.

    Args:
        images: number of images; some have no label, some no detection.
        classes: number of classes.
        seed: of everything random.
        labels: most labels of one image.
        extra: most detections of one image that show nothing.
        noise: how far found boxes are off, as a fraction of the object's sides.
        right_class: probability that a found object gets its class.
        found: probability that an object is found; some are found twice.
    """
    generator = np.random.default_rng(seed)
    label_lists, detection_lists = [], []
    for _ in range(images):
        truth = _boxes(generator, int(generator.integers(0, labels + 1)))
        truth_classes = generator.integers(0, classes, len(truth))
        hit = np.repeat(np.arange(len(truth)), (generator.random(len(truth)) < found) * generator.integers(1, 3))
        sides = truth[hit][:, [2, 3, 2, 3]] - truth[hit][:, [0, 1, 0, 1]]
        near = truth[hit] + generator.normal(0, noise, (len(hit), 4)) * sides
        own = np.where(generator.random(len(hit)) < right_class, truth_classes[hit], generator.integers(0, classes))
        stray = _boxes(generator, int(generator.integers(0, extra + 1)))
        boxes = np.concatenate([near, stray])
        kinds = np.concatenate([own, generator.integers(0, classes, len(stray))])
        scores = np.concatenate([generator.beta(4, 2, len(near)), generator.beta(1, 4, len(stray))])
        order = np.argsort(-scores, kind="stable")
        rows = np.concatenate([boxes, scores[:, None], kinds[:, None]], 1)[order]
        detection_lists.append(torch.from_numpy(rows.astype(np.float32)))
        label_lists.append(torch.from_numpy(np.concatenate([truth_classes[:, None], truth], 1).astype(np.float32)))
    return findings_of(detection_lists, label_lists, classes)


def findings_of(detections: list[torch.Tensor], labels: list[torch.Tensor], classes: int) -> Findings:
    """Return the evaluation of images of 640x640 px.

    Args:
        detections: one (n, 6) tensor an image: left, top, right, bottom, score, class; best score first.
        labels: one (m, 5) tensor an image: class, left, top, right, bottom.
        classes: number of classes.
    """
    pairs = list(zip(detections, labels, strict=True))
    found, truth = torch.cat([torch.zeros(0, 6), *detections]), torch.cat([torch.zeros(0, 5), *labels])
    correct = torch.cat([torch.zeros(0, 10, dtype=torch.bool), *(match_detections(*pair) for pair in pairs)])
    return Findings(
        names={index: f"class {index}" for index in range(classes)},
        paths=[f"images/{index:06d}.jpg" for index in range(len(pairs))],
        sizes_hw=np.full((len(pairs), 2), SIZE),
        boxes=found[:, :4].numpy(),
        scores=found[:, 4].numpy(),
        classes=found[:, 5].numpy().astype(np.int32),
        correct=correct.numpy(),
        detection_counts=np.array([len(one) for one in detections], dtype=np.int64),
        label_boxes=truth[:, 1:].numpy(),
        label_classes=truth[:, 0].numpy().astype(np.int32),
        label_counts=np.array([len(one) for one in labels], dtype=np.int64),
    )


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return (count, 4) left, top, right, bottom of 8 to 400 px inside the image."""
    sides = np.exp(generator.uniform(np.log(8), np.log(400), (count, 2)))
    corners = generator.uniform(0, SIZE - sides)
    return np.concatenate([corners, corners + sides], 1)
