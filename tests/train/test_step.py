"""From batches to gradients: sizes, and what happens when memory runs out."""

import dataclasses
import math
import sys

import pytest
import torch
from torch import Tensor, nn

import train
from models.yolo import Model
from tests.train.watching import QUICK, look_after, run_watched
from utils.data.loader import Batch
from utils.log import set_up_logging
from utils.options import run_command
from utils.train import fit as fit_module
from utils.train.ema import ModelAverage
from utils.train.hyperparameters import Hyperparameters
from utils.train.loss import DetectionLoss
from utils.train.optim import make_optimizer
from utils.train.options import TrainOptions
from utils.train.precision import Precision
from utils.train.saving import CheckpointWriter
from utils.train.schedule import EarlyStopper
from utils.train.state import TrainState
from utils.train.step import MultiScale, TrainingStep

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.4 GB ...)"),
    MemoryError(),
]
FP32 = Precision(None, "cpu")


class Network(nn.Module):
    """Two levels of raw outputs; has room for ``room`` images. ``sizes`` are those of the batches it was given."""

    def __init__(self, room: int = 99, error: Exception = NO_MEMORY[0]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Conv2d(3, 2 * 7, 8, 8), nn.Conv2d(3, 2 * 7, 16, 16)])
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> list[Tensor]:
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise self.error
        return [layer(images).unflatten(1, (2, 7)).permute(0, 1, 3, 4, 2) for layer in self.layers]


class Criterion:
    """A loss that is a sum over images, and remembers the targets it was given."""

    part_names = ("one", "two")

    def __init__(self) -> None:
        self.targets: list[list[list[float]]] = []

    def __call__(self, outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
        self.targets.append(targets.tolist())
        each = torch.stack([output.square().flatten(1).mean(1) for output in outputs], 1)  # (B, 2)
        return each.sum(), each.detach().mean(0)


def batch_of(count: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = torch.tensor([[index, index % 2, 0.4, 0.6, 0.3, 0.5] for index in range(count)])
    return Batch(images, targets, [], [], [], [])


def state_of(network: nn.Module) -> TrainState:
    optimizer = make_optimizer(network, Hyperparameters(), 0.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainState(network, ModelAverage(network), optimizer, scaler, EarlyStopper(0))


def gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters()]


@pytest.fixture(autouse=True)
def logging():
    set_up_logging()


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__ + str(error)[:4])
def test_a_batch_that_does_not_fit_is_cut_in_two(error, capsys):
    whole, cut = Network(), Network(room=2, error=error)
    first, second = Criterion(), Criterion()
    expected = TrainingStep(whole, first, FP32)(state_of(whole), batch_of(4), 0)
    state = state_of(cut)
    loss, parts = TrainingStep(cut, second, FP32)(state, batch_of(4), 0)
    torch.testing.assert_close((loss, parts), expected)
    torch.testing.assert_close(gradients(cut), gradients(whole))
    assert cut.sizes == [4, 2, 2] and state.splits == 2
    assert [[row[0] for row in part] for part in second.targets] == [[0, 1], [0, 1]]  # counted from each part's first
    assert [row[1:] for part in second.targets for row in part] == [row[1:] for row in first.targets[0]]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "out of memory; going on with batches of 2 images, 2 times as many" in said


@pytest.mark.parametrize(("count", "room", "sizes"), [(8, 2, [8, 4, 2, 2, 2, 2]), (5, 1, [5, 3, 2, 1, 1, 1, 1, 1])])
def test_and_again_until_it_fits(count, room, sizes):
    whole, cut = Network(), Network(room)
    expected = TrainingStep(whole, Criterion(), FP32)(state_of(whole), batch_of(count), 0)
    got = TrainingStep(cut, Criterion(), FP32)(state_of(cut), batch_of(count), 0)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(cut), gradients(whole))
    assert cut.sizes == sizes


def test_later_batches_are_cut_at_once(capsys):
    network = Network(room=2)
    state, step = state_of(network), TrainingStep(network, Criterion(), FP32)
    for number in range(3):
        step(state, batch_of(4), number)
    assert network.sizes == [4, 2, 2, 2, 2, 2, 2] and capsys.readouterr().out.count("WARNING") == 1


def test_what_was_accumulated_before_is_lost():
    network = Network(room=4)
    state, step = state_of(network), TrainingStep(network, Criterion(), FP32)
    step(state, batch_of(4), 0)
    network.room = 2
    step(state, batch_of(4), 1)
    alone = Network()
    TrainingStep(alone, Criterion(), FP32)(state_of(alone), batch_of(4), 0)
    torch.testing.assert_close(gradients(network), gradients(alone))


def test_nothing_remains_of_the_parts_that_fitted():
    """The first half has gradients when the second one runs out of memory: they must not count twice."""
    network, alone = Network(), Network()
    state, calls = state_of(network), iter(range(99))

    class Once(Criterion):
        def __call__(self, outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
            if next(calls) == 1:
                raise NO_MEMORY[0]
            return super().__call__(outputs, targets)

    state.splits = 2
    TrainingStep(network, Once(), FP32)(state, batch_of(4), 0)
    TrainingStep(alone, Criterion(), FP32)(state_of(alone), batch_of(4), 0)
    assert network.sizes == [2, 2, 1, 1, 1, 1] and state.splits == 4
    torch.testing.assert_close(gradients(network), gradients(alone))


def test_with_the_real_loss_gradients_are_the_mean_over_the_parts():
    """Means over positives are taken in each part, so that a whole batch differs where parts have unlike many."""

    def criterion() -> DetectionLoss:
        anchors = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0], [0.6, 1.2]]])
        return DetectionLoss(anchors, 2, [8.0, 16.0], 0.05, 1.0, 0.5)

    cut, apart = Network(room=2), Network()
    loss, parts = TrainingStep(cut, criterion(), FP32)(state_of(cut), batch_of(4), 0)
    state, step, whole = state_of(apart), TrainingStep(apart, criterion(), FP32), batch_of(4)
    halves = [
        step(state, dataclasses.replace(whole, images=whole.images[at : at + 2], targets=targets), 0)
        for at, targets in ((0, whole.targets[:2]), (2, whole.targets[2:] - torch.tensor([2, 0, 0, 0, 0, 0])))
    ]
    torch.testing.assert_close(loss, halves[0][0] + halves[1][0])
    torch.testing.assert_close(parts, (halves[0][1] + halves[1][1]) / 2)
    torch.testing.assert_close(gradients(cut), gradients(apart))


@pytest.mark.parametrize(
    ("network", "count", "may_split"),
    [
        (Network(room=0), 1, True),
        (Network(room=0), 4, True),
        (Network(room=2), 4, False),  # several processes would lose step
        (Network(room=2, error=RuntimeError("shape mismatch")), 4, True),
    ],
)
def test_what_cannot_be_mended_is_raised(network, count, may_split):
    network.sizes.clear()
    with pytest.raises(RuntimeError) as caught:
        TrainingStep(network, Criterion(), FP32, may_split=may_split)(state_of(network), batch_of(count), 0)
    assert caught.value is network.error
    assert network.sizes == ([4, 2, 1] if network.room == 0 and count == 4 else [count])


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_gain_raises_gradients_and_not_what_is_reported(gain):
    plain, raised = Network(), Network()
    expected = TrainingStep(plain, Criterion(), FP32)(state_of(plain), batch_of(2), 0)
    got = TrainingStep(raised, Criterion(), FP32, gain)(state_of(raised), batch_of(2), 0)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(raised), [gradient * gain for gradient in gradients(plain)])


# Sizes


@pytest.mark.parametrize(("image_size", "stride"), [(64, 32), (640, 32), (1280, 64), (96, 32)])
def test_sizes_are_v61s(image_size, stride):
    """v6.1 draws from half the size to one and a half and a stride, rounded down to the stride."""
    scale, images = MultiScale(image_size, stride, 0), torch.zeros(1, 1, image_size, image_size)
    sides = {scale(images, 0, number).shape[2] for number in range(200)}
    least, most = image_size // 2 // stride * stride, (image_size * 3 // 2 + stride - 1) // stride * stride
    assert sides == set(range(least, most + 1, stride))


@pytest.mark.parametrize("height", [32, 64, 96])
def test_sides_of_rectangles_are_multiples_of_the_stride(height):
    scale, images = MultiScale(128, 32, 0), torch.zeros(1, 1, height, 128)
    for number in range(20):
        rows, columns = scale(images, 0, number).shape[2:]
        assert rows % 32 == columns % 32 == 0 and rows == math.ceil(height * columns / 128 / 32) * 32


def test_sizes_follow_from_seed_epoch_and_place():
    images = torch.zeros(1, 1, 640, 640)

    def sides(seed: int, epoch: int) -> list[int]:
        return [MultiScale(640, 32, seed)(images, epoch, number).shape[2] for number in range(20)]

    assert sides(0, 0) == sides(0, 0) != sides(0, 1) != sides(1, 1) != sides(1, 0)


# Whole runs


def room_for(images: int, monkeypatch) -> list[int]:
    """Let training fail with more images; return the list of batch sizes that were tried."""
    real, tried = Model.forward, []

    def forward(model: Model, batch: Tensor, *rest: object, **named: object) -> object:
        if model.training and torch.is_grad_enabled():
            tried.append(len(batch))
            if len(batch) > images:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batch, *rest, **named)

    monkeypatch.setattr(Model, "forward", forward)
    return tried


def test_the_cut_outlasts_an_interruption(tiny_dataset, tiny_cfg, tmp_path, monkeypatch, capsys):
    options = {"data": str(tiny_dataset), "cfg": str(tiny_cfg), "project": str(tmp_path), "epochs": 2}
    tried = room_for(2, monkeypatch)
    ends = iter([None, KeyboardInterrupt])

    def stop(*_: object) -> None:
        if end := next(ends, None):
            raise end

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        look_after(patch, fit_module, "train_one_epoch", stop)
        run_watched(patch, QUICK | options)
    assert tried == [4, *[2] * 8] and capsys.readouterr().out.count("out of memory; going on") == 1
    tried.clear()
    splits = []
    look_after(monkeypatch, CheckpointWriter, "__call__", lambda _, state, *__: splits.append(state.splits))
    train.run(resume=str(tmp_path / "exp"))
    assert tried == [2] * 4 and splits == [2] and "out of memory" not in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--rect"], ["--multi-scale"]])
def test_a_command_without_memory_for_an_image_ends_in_one_line(
    tiny_dataset, tiny_cfg, tmp_path, monkeypatch, capsys, flags
):
    words = ["--data", tiny_dataset, "--cfg", tiny_cfg, "--project", tmp_path, "--weights", "", "--img", 64]
    words += ["--batch", 2, "--workers", 0, "--device", "cpu", "--epochs", 1, "--precision", "fp32", "--noautoanchor"]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words), "--noplots", *flags])
    tried = room_for(0, monkeypatch)
    with pytest.raises(SystemExit) as end:
        run_command("train.py", TrainOptions, train.main, "")
    assert end.value.code == 1 and tried == [2, 1]
    said = capsys.readouterr().err
    assert said == "train.py: error: out of memory; use a smaller --imgsz, --batch-size or model\n"
