"""Our side: the network, loss, optimizer, loader and backend as train.py and val.py put them together."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn

from benchmarks.contestants import protocol
from models.formats.pytorch import PyTorchBackend
from models.yolo import Model
from utils.brightness import normalise
from utils.data.config import DatasetConfig
from utils.data.dataset import DetectionDataset
from utils.data.recent import RecentImages, recent_budget
from utils.data.rect import RectSettings
from utils.data.splits import load_samples
from utils.data.strength import Augmentation
from utils.memory import keep_freed_memory
from utils.train.fit import LARGEST_GRADIENT_NORM
from utils.train.hyperparameters import Hyperparameters, scale_gains
from utils.train.loss import DetectionLoss
from utils.train.optim import make_optimizer

HYP = Hyperparameters()


def build_criterion(network: Model, size: int) -> DetectionLoss:
    hyp = scale_gains(HYP, network.detect.nl, protocol.CLASSES, size)
    return DetectionLoss(network.detect.anchors, protocol.CLASSES, network.stride.tolist(), hyp.box, hyp.obj, hyp.cls)


def step(
    network: Model, criterion: DetectionLoss, prepare: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]
) -> protocol.Work:
    """Return the task of one training step; ``prepare`` turns uint8 images into the network's input."""
    optimizer = make_optimizer(network, HYP, HYP.weight_decay)
    images, targets = batch

    def work() -> int:
        loss, _ = criterion(network(prepare(images)), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return len(images)

    return work


def train_step(model: str, size: int, batch: int) -> protocol.Work:
    network = Model(f"{model}.yaml", nc=protocol.CLASSES).train()
    images, targets = protocol.training_batch(size, batch)
    images = images.contiguous(memory_format=torch.channels_last)  # as the loader's batches are
    return step(network, build_criterion(network, size), normalise, (images, targets))


def inference(model: str, size: int, batch: int) -> protocol.Work:
    backend = PyTorchBackend(Model(f"{model}.yaml", nc=protocol.CLASSES), torch.device("cpu"))
    images = protocol.images_to_predict(size, batch).contiguous(memory_format=torch.channels_last)
    return protocol.repeat_inference(backend, images)


def load_dataset(images: str, size: int, **options: Augmentation | RectSettings) -> DetectionDataset:
    cv2.setNumThreads(0)
    folder = Path(images)
    names = {index: str(index) for index in range(protocol.CLASSES)}
    config = DatasetConfig(Path("benchmark"), folder, names, {"train": [folder]})
    return DetectionDataset(load_samples(config, "train"), size, **options)


def train_samples(images: str, size: int, remembering: bool = True) -> protocol.Work:
    """As the only worker of a loader; without ``remembering`` as from a set of which its memory holds next to none."""
    strengths = {field.name: getattr(HYP, field.name) for field in dataclasses.fields(Augmentation)}
    dataset = load_dataset(images, size, augmentation=Augmentation(**strengths))
    dataset.recent = RecentImages(recent_budget(1) if remembering else 0)
    return protocol.walk_samples(lambda index: dataset[index, index], len(dataset))


def val_samples(images: str, size: int) -> protocol.Work:
    dataset = load_dataset(images, size, rect=RectSettings(batch_size=16))
    return protocol.walk_samples(dataset.__getitem__, len(dataset))


if __name__ == "__main__":
    keep_freed_memory()  # as the scripts do
    tasks = {f.__name__: f for f in (train_step, inference, train_samples, val_samples)}
    protocol.serve(tasks)
