"""What the tests of single formats share: writing a network without a proof, and running it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from models.formats import FORMATS, Format, load_backend
from models.formats.backend import Backend
from models.formats.pytorch import build_model
from models.formats.settings import ExportSettings
from models.formats.writing import write
from models.yolo import Model
from tests.models.recipes import random_images
from utils.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from utils.eval.nms import non_max_suppression

CPU = torch.device("cpu")
LOUDER = 16  # factor of the weights behind the scores, which then spread from 0 to 1
SHAPES = [(1, 64, 64), (2, 64, 96), (3, 96, 32)]  # B, H, W


def row_of(argument: str) -> Format:
    return next(row for row in FORMATS if row.argument == argument)


def fused(weights: Path) -> Model:
    return build_model(read_checkpoint(weights), weights).fuse().requires_grad_(False)


def written(argument: str, weights: Path, folder: Path, **settings) -> Path:
    """Export without a proof, into a folder of its own."""
    row, chosen = row_of(argument), ExportSettings(**{"input_hw": (64, 64), **settings})
    path = row.path_for(folder / weights.name, chosen.int8)
    if row.is_folder:
        path.mkdir(parents=True)
    write(row, fused(weights), path, chosen, weights)
    return path


def assert_same(exported: Backend, source: Backend, shapes: list[tuple[int, int, int]] = SHAPES) -> None:
    for seed, (count, height, width) in enumerate(shapes):
        images = random_images(seed, count, height, width)
        torch.testing.assert_close(exported(images), source(images), rtol=1e-4, atol=1e-3)


def blobs(seed: int, count: int = 1) -> Tensor:
    """Return images of 64x64 that differ in more than noise, which deep networks take for all the same."""
    return nn.functional.interpolate(random_images(seed, count, 4, 4), size=(64, 64), mode="bilinear")


def write_lively_weights(file: Path, config: dict) -> Path:
    """Write random weights whose predictions are as unlike each other as those of a trained network."""
    torch.manual_seed(0)
    model = Model(config).train()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():
        model(blobs(0, 32))  # settles the statistics, without which every map is almost zero
        for convolution in model.detect.m:
            convolution.weight.view(model.detect.na, model.detect.no, -1)[:, 4:] *= LOUDER
    write_checkpoint(file, Checkpoint(model.state_dict(), model.yaml, model.names, model.stride.tolist()))
    return file


def assert_same_detections(exported: Backend, source: Backend, most: int, tolerance: float = 0.01) -> None:
    images = blobs(5)
    (found,), (wanted,) = (non_max_suppression(model(images), max_detections=most) for model in (exported, source))
    assert len(found) == len(wanted) >= 4
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=tolerance)


def assert_threads_agree(path: Path) -> None:
    """See that eight threads get what one gets, and that later calls leave earlier results alone."""
    alone, together = load_backend([path], CPU), load_backend([path], CPU, parallel=4)
    images = [random_images(seed, 1 + seed % 2, 64, 64 + 32 * (seed % 3)) for seed in range(12)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(together, images))
    for image, rows in zip(images, found, strict=True):
        torch.testing.assert_close(rows, alone(image), rtol=1e-4, atol=1e-3)


class AsV61(nn.Module):
    """What v6.1 exports: the decoded table, and the raw maps behind it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        decoded, raw = self.model(images)
        return decoded, *raw
