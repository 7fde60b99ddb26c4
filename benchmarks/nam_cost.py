"""What one NAM layer adds to the inference time of yolov5s at 640 px on CPU, unfolded and folded.

    python benchmarks/nam_cost.py --rounds 40

The layer alone is timed on a map of its place's size, and the whole network without it, in turns; the cost is the ratio
of the two in the same round, the figure the median over the rounds with its middle half. (The whole network with and
without the layer differs by less than the noise of most machines.)
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.nam import NAMAttention
from models.yolo import Model
from utils.memory import keep_freed_memory

IMAGE_SIZE = 640  # px
PLACES = (23, 20, 17, 9, 6, 4, 2)
VARIANTS = {"unfolded": {}, "folded": {}, "with spatial branch, folded": {"no_spatial": False}}
REPEATS = 20  # of the layer a round, so that one round is long enough for the clock


def output_shapes(model: Model, images: Tensor) -> dict[int, torch.Size]:
    """Return the shape of every row's output."""
    shapes = {}
    handles = [
        module.register_forward_hook(lambda _, __, output, index=index: shapes.update({index: output.shape}))
        for index, module in enumerate(model.model[:-1])
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return shapes


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the commands do
    model = Model("yolov5s.yaml").eval().fuse().to(memory_format=torch.channels_last)
    images = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE).to(memory_format=torch.channels_last)
    shapes = output_shapes(model, images)
    layers: dict[tuple[int, str], tuple[nn.Module, Tensor]] = {}
    for place in PLACES:
        for name, arguments in VARIANTS.items():
            layer = NAMAttention(shapes[place][1], **arguments).eval()
            if "unfolded" not in name:
                layer.Channel_Att.fold()
            layers[place, name] = layer, torch.randn(shapes[place]).to(memory_format=torch.channels_last)
    ratios: dict[tuple[int, str], list[float]] = {key: [] for key in layers}
    for _ in range(options.rounds + 1):
        network = seconds(lambda: model(images), 2)
        for key, (layer, x) in layers.items():
            ratios[key].append(seconds(lambda layer=layer, x=x: layer(x), REPEATS) / network)
    print(f"one NAM layer, as a share of yolov5s at {IMAGE_SIZE} px, {options.threads} threads: median (middle half)")
    for (place, name), values in ratios.items():
        low, middle, high = statistics.quantiles(values[1:], n=4)  # the first round warms up
        shape = "x".join(map(str, shapes[place][1:]))
        print(f"after layer {place:>2} ({shape}), {name}: {middle:.2%} ({low:.2%} to {high:.2%})")


if __name__ == "__main__":
    main()
