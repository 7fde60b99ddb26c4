"""What the tests of formats share whose files take one shape only."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from models.formats import load_backend
from tests.formats.runtimes import CPU
from tests.models.recipes import random_images


def assert_threads_agree_at(path: Path, size_hw: tuple[int, int]) -> None:
    """See that eight threads get what one gets, and that later calls leave earlier results alone."""
    alone, together = load_backend([path], CPU), load_backend([path], CPU, parallel=3)
    images = [random_images(seed, 1 + seed % 2, *size_hw) for seed in range(12)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(together, images))
    for image, rows in zip(images, found, strict=True):
        torch.testing.assert_close(rows, alone(image), rtol=1e-4, atol=1e-3)
