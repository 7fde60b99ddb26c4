"""Our network, run without what makes it fast: NCHW layout, batch norms not folded."""

from benchmarks.contestants import protocol
from benchmarks.contestants.ours import build_criterion, step
from models.yolo import Model


def train_step(model: str, size: int, batch: int) -> protocol.Work:
    network = Model(f"{model}.yaml", nc=protocol.CLASSES).train()
    criterion = build_criterion(network, size)
    return step(network, criterion, lambda images: images.float() / 255, protocol.training_batch(size, batch))


def inference(model: str, size: int, batch: int) -> protocol.Work:
    network = Model(f"{model}.yaml", nc=protocol.CLASSES).eval()
    return protocol.repeat_inference(network, protocol.images_to_predict(size, batch))


if __name__ == "__main__":
    protocol.serve({"train_step": train_step, "inference": inference})
