"""What loss, optimizer and moving average take of one training step on CPU, beside the network's own passes.

    python benchmarks/step_shares.py --model yolov5n --size 320 --batch 16 --rounds 10

A training step of train.py is run with a clock around each of its parts. Printed are the medians over the rounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contestants import protocol
from models.yolo import Model
from utils.data.loader import Batch
from utils.memory import keep_freed_memory, peak_memory
from utils.train.ema import ModelAverage
from utils.train.fit import optimizer_step
from utils.train.hyperparameters import Hyperparameters
from utils.train.objective import training_loss
from utils.train.optim import make_optimizer
from utils.train.precision import choose_precision
from utils.train.schedule import EarlyStopper
from utils.train.state import TrainState
from utils.train.step import TrainingStep

PARTS = ("loss", "loss, backward", "optimizer", "average")


class Clocks:
    """Adds up the seconds of each part of a step."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Time the block."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with a clock."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.running(part):
                return function(*arguments, **options)

        return timed


class TimedLoss:
    """The criterion with a clock; its backward pass is timed by running it alone on outputs that were detached."""

    def __init__(self, criterion: Any, clocks: Clocks) -> None:
        self.criterion, self.clocks, self.part_names = criterion, clocks, criterion.part_names

    def __call__(self, outputs: list[torch.Tensor], targets: torch.Tensor) -> Any:
        """Return a scalar with the gradient of the loss, and its parts."""
        alone = [output.detach().requires_grad_() for output in outputs]
        with self.clocks.running("loss"):
            loss, parts = self.criterion(alone, targets)
        with self.clocks.running("loss, backward"):
            loss.backward()
        gradients = [output.grad for output in alone]
        total = sum((output * gradient).sum() for output, gradient in zip(outputs, gradients, strict=True))
        return total, parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov5n")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    hyp, device = Hyperparameters(), torch.device("cpu")
    model = Model(f"{options.model}.yaml", nc=protocol.CLASSES).to(memory_format=torch.channels_last)
    precision = choose_precision(options.precision, model, device, options.size)
    clocks, average = Clocks(), ModelAverage(model)
    average.update = clocks.around("average", average.update)  # type: ignore[method-assign]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(model, average, make_optimizer(model, hyp, hyp.weight_decay), scaler, EarlyStopper(0))
    step = TrainingStep(model, TimedLoss(training_loss(hyp, model, options.size), clocks), precision)
    plain = TrainingStep(model, step.criterion.criterion, precision)
    images, targets = protocol.training_batch(options.size, options.batch)
    batch = Batch(images.contiguous(memory_format=torch.channels_last), targets, [], [], [], [])
    model.train()
    rounds = []
    for _ in range(options.rounds + 2):
        clocks.seconds = dict.fromkeys(PARTS, 0.0)
        step(state, batch, 0)
        state.optimizer.zero_grad()
        start = time.perf_counter()
        plain(state, batch, 0)
        passes = time.perf_counter() - start
        start = time.perf_counter()
        optimizer_step(state)
        stepping = time.perf_counter() - start
        clocks.seconds["optimizer"] = stepping - clocks.seconds["average"]
        rounds.append({part: clocks.seconds[part] / (passes + stepping) for part in PARTS} | {"ms": passes + stepping})
    rounds = rounds[2:]  # the first ones choose and compile kernels
    print(f"{options.model}, {options.size} px, batch {options.batch}, {precision.dtype or 'fp32'}: ", end="")
    print(f"{statistics.median(one['ms'] for one in rounds) * 1e3:.0f} ms a step")
    for part in PARTS:
        print(f"{part:>16}: {statistics.median(one[part] for one in rounds) * 100:5.2f} %")
    total = statistics.median(sum(one[part] for part in PARTS) for one in rounds)
    print(f"{'together':>16}: {total * 100:5.2f} %; peak memory {(peak_memory() or 0) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
