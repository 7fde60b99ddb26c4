"""PyPI ``ultralytics``: its yolov5n and yolov5s have the same backbone and an anchor-free head."""

import cv2
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_yolo_dataset
from ultralytics.nn.tasks import DetectionModel

from benchmarks.contestants import protocol

STRIDE = 32


def build_network(model: str) -> DetectionModel:
    network = DetectionModel(f"{model}.yaml", nc=protocol.CLASSES, verbose=False)
    network.args = get_cfg()
    return network


def train_step(model: str, size: int, batch: int) -> protocol.Work:
    network = build_network(model).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.937, nesterov=True)
    images, targets = protocol.training_batch(size, batch)
    labels = {"batch_idx": targets[:, 0], "cls": targets[:, 1:2], "bboxes": targets[:, 2:]}

    def work() -> int:
        loss, _ = network({"img": images.float() / 255, **labels})
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm=10.0)
        optimizer.step()
        optimizer.zero_grad()
        return batch

    return work


def inference(model: str, size: int, batch: int) -> protocol.Work:
    network = build_network(model).eval().fuse(verbose=False)
    return protocol.repeat_inference(network, protocol.images_to_predict(size, batch))


def samples(images: str, size: int, mode: str) -> protocol.Work:
    cv2.setNumThreads(0)
    config = get_cfg(overrides={"imgsz": size, "task": "detect", "cache": False})
    names = {index: str(index) for index in range(protocol.CLASSES)}
    data = {"names": names, "nc": protocol.CLASSES, "channels": 3}
    dataset = build_yolo_dataset(config, images, 16, data, mode=mode, rect=mode == "val", stride=STRIDE)
    return protocol.walk_samples(dataset.__getitem__, len(dataset))


def train_samples(images: str, size: int, remembering: bool = True) -> protocol.Work:
    return samples(images, size, "train")


def val_samples(images: str, size: int) -> protocol.Work:
    return samples(images, size, "val")


if __name__ == "__main__":
    tasks = {f.__name__: f for f in (train_step, inference, train_samples, val_samples)}
    protocol.serve(tasks)
