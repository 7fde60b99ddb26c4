"""PyPI ``yolov5`` (YOLOv5 7.0), through the functions its own train.py and val.py call."""

from pathlib import Path

import cv2
import torch
import yaml
import yolov5
from yolov5.models.yolo import DetectionModel
from yolov5.utils.dataloaders import LoadImagesAndLabels
from yolov5.utils.loss import ComputeLoss
from yolov5.utils.torch_utils import smart_optimizer

from benchmarks.contestants import protocol

PACKAGE = Path(yolov5.__file__).parent
STRIDE = 32


def hyperparameters() -> dict[str, float]:
    return yaml.safe_load((PACKAGE / "data/hyps/hyp.scratch-low.yaml").read_text())


def train_step(model: str, size: int, batch: int) -> protocol.Work:
    hyp = hyperparameters()
    network = DetectionModel(str(PACKAGE / f"models/{model}.yaml"), nc=protocol.CLASSES).train()
    network.hyp = {**hyp, "label_smoothing": 0.0}
    criterion = ComputeLoss(network)
    optimizer = smart_optimizer(network, "SGD", hyp["lr0"], hyp["momentum"], hyp["weight_decay"])
    images, targets = protocol.training_batch(size, batch)

    def work() -> int:
        loss, _ = criterion(network(images.float() / 255), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm=10.0)
        optimizer.step()
        optimizer.zero_grad()
        return batch

    return work


def inference(model: str, size: int, batch: int) -> protocol.Work:
    network = DetectionModel(str(PACKAGE / f"models/{model}.yaml"), nc=protocol.CLASSES).fuse().eval()
    return protocol.repeat_inference(network, protocol.images_to_predict(size, batch))


def train_samples(images: str, size: int, remembering: bool = True) -> protocol.Work:
    cv2.setNumThreads(0)
    dataset = LoadImagesAndLabels(images, size, batch_size=16, augment=True, hyp=hyperparameters(), stride=STRIDE)
    return protocol.walk_samples(dataset.__getitem__, len(dataset))


def val_samples(images: str, size: int) -> protocol.Work:
    cv2.setNumThreads(0)
    dataset = LoadImagesAndLabels(images, size, batch_size=16, rect=True, stride=STRIDE, pad=0.5)
    return protocol.walk_samples(dataset.__getitem__, len(dataset))


if __name__ == "__main__":
    tasks = {f.__name__: f for f in (train_step, inference, train_samples, val_samples)}
    protocol.serve(tasks)
