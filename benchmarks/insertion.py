"""What inserting an attention layer costs before any training: tensors lost, and mAP lost.

    python benchmarks/insertion.py transfer
    python benchmarks/insertion.py accuracy --weights yolov5n.pt --data coco128.yaml

``transfer`` puts one layer after every layer of yolov5s and yolov5n6, and compares each copied tensor with its source.
``accuracy`` measures the weights as they are, and with NAM inserted, with and without preserving the function.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import val
from models.insertion import insert_layers
from models.start import StartRequest, start_model
from models.transfer import transfer_weights
from models.yolo import Model
from utils.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

PLACES = ("9", "23", "before-Detect")


def random_checkpoint(name: str) -> Checkpoint:
    """Return a network in which no two tensors are equal, as a checkpoint."""
    torch.manual_seed(0)
    model = Model(name)
    state = {
        key: torch.rand_like(tensor) if tensor.is_floating_point() else torch.randint_like(tensor, 1, 10**6)
        for key, tensor in model.state_dict().items()
    }
    return Checkpoint(state, model.yaml, model.names, model.stride.tolist())


def copied_from_the_right_place(model: Model, source: Checkpoint, position: int) -> int:
    """Return how many old tensors the network holds, each where it belongs after an insertion behind ``position``."""
    state = model.state_dict()
    count = 0
    for key, tensor in source.state.items():
        _, index, rest = key.split(".", 2)
        moved = f"model.{int(index) + (int(index) > position)}.{rest}"
        count += bool(torch.equal(state[moved], tensor))
    return count


def measure_transfer() -> None:
    """Print, for both networks and both layers, the old tensors kept at every position."""
    for name in ("yolov5s.yaml", "yolov5n6.yaml"):
        source = random_checkpoint(name)
        last = len(source.yaml["backbone"]) + len(source.yaml["head"]) - 1
        for layer in ("NAMAttention", "CBAM"):
            kept = []
            for position in range(last):
                model = Model(insert_layers(source.yaml, [f"{layer}@{position}"], name))
                transfer_weights(model, source, with_anchors=True)
                kept.append(copied_from_the_right_place(model, source, position))
            print(f"{name} {layer}: of {len(source.state)} tensors, after layer 0 to {last - 1}: {kept}")


def measure_accuracy(weights: str, data: str, image_size: int, layer: str) -> None:
    """Print mAP of the weights, and of the network with a layer inserted, before any training."""
    checkpoint = read_checkpoint(Path(weights))
    rows = [("as it is", weights)]
    with tempfile.TemporaryDirectory() as folder:
        for place in PLACES:
            for preserve in (True, False):
                request = StartRequest(weights=weights, insert=[f"{layer}@{place}"], preserve=preserve)
                model = start_model(request, checkpoint.names)
                file = Path(folder) / f"{place}-{preserve}.pt"
                write_checkpoint(file, Checkpoint(model.state_dict(), model.yaml, model.names, model.stride.tolist()))
                rows.append((f"{layer}@{place}{'' if preserve else ' --no-preserve'}", str(file)))
        for label, file in rows:
            evaluation = val.run(
                weights=file, data=data, imgsz=image_size, batch_size=16, project=folder, name=Path(file).stem
            )
            print(f"{label}: mAP50 {evaluation.results[2]:.4f}, mAP50-95 {evaluation.results[3]:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("transfer", "accuracy"))
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--data", default="coco128.yaml")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--layer", default="NAMAttention", help="with options in parentheses")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.what == "transfer":
        measure_transfer()
    else:
        measure_accuracy(options.weights, options.data, options.imgsz, options.layer)


if __name__ == "__main__":
    main()
