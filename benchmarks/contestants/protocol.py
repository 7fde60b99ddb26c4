"""How a contestant talks to side_by_side.py: one JSON object a line, in on stdin, out on stdout.

Asked ``{"task": "train_step", "repeats": 3, "threads": 2, "model": "yolov5n", "size": 320, "batch": 16}``, a contestant
builds that task once, warms it up, and answers ``{"images": 48, "seconds": 2.4}``; the next request with the same
parameters only runs it. A task it cannot do is answered ``{"error": "why"}``. This file needs torch and numpy alone:
it runs in the peers' environments too.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

Work = Callable[[], int]  # does one unit of the task; returns how many images that were
Builders = dict[str, Callable[..., Work]]  # task name -> builder, called with the request's other parameters

OBJECTS_PER_IMAGE = 12  # about what a mosaic of COCO images holds
CLASSES = 80
SAMPLES_PER_CALL = 16


def serve(builders: Builders) -> None:
    """Answer requests until stdin closes."""
    replies = claim_stdout()

    @cache
    def warmed_up(task: str, parameters: str) -> Work:
        work = builders[task](**json.loads(parameters))
        work()
        return work

    for line in sys.stdin:
        request = json.loads(line)
        task, repeats = request.pop("task"), request.pop("repeats")
        torch.set_num_threads(request.pop("threads"))
        if task not in builders:
            answer: dict[str, object] = {"error": f"has no task {task}"}
        else:
            answer = timed(warmed_up(task, json.dumps(request, sort_keys=True)), repeats)
        print(json.dumps(answer), file=replies, flush=True)


def claim_stdout() -> TextIO:
    """Return the real stdout, and send whatever else is printed to stderr: peers like to print."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def timed(work: Work, repeats: int) -> dict[str, object]:
    """Run ``work`` ``repeats`` times."""
    start = time.perf_counter()
    images = sum(work() for _ in range(repeats))
    return {"images": images, "seconds": time.perf_counter() - start}


def training_batch(size: int, batch: int) -> tuple[Tensor, Tensor]:
    """Return the images and labels that every contestant trains on.

    Returns:
        images: (batch, 3, size, size) uint8.
        targets: (batch * 12, 6) float32 [image index, class, x, y, w, h], xywh in 0..1.
    """
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (batch, 3, size, size), dtype=np.uint8)
    count = batch * OBJECTS_PER_IMAGE
    index = np.repeat(np.arange(batch), OBJECTS_PER_IMAGE)
    sizes = random.uniform(0.03, 0.4, (count, 2))
    centres = random.uniform(sizes / 2, 1 - sizes / 2)
    targets = np.column_stack((index, random.randint(0, CLASSES, count), centres, sizes)).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(targets)


def images_to_predict(size: int, batch: int) -> Tensor:
    """Return (batch, 3, size, size) float32 images in 0..1, the same for every contestant, in plain (NCHW) layout."""
    return training_batch(size, batch)[0].float() / 255


def repeat_inference(predict: Callable[[Tensor], object], images: Tensor) -> Work:
    """Return the task of running ``predict`` without gradients on ``images``, in the layout its own loader gives."""

    def work() -> int:
        with torch.inference_mode():
            predict(images)
        return len(images)

    return work


def walk_samples(sample: Callable[[int], object], count: int) -> Work:
    """Return the task of taking the next 16 of ``count`` samples, in order and around again, in this one process."""
    position = 0

    def work() -> int:
        nonlocal position
        for _ in range(SAMPLES_PER_CALL):
            sample(position % count)
            position += 1
        return SAMPLES_PER_CALL

    return work
