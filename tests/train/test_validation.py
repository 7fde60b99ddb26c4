"""Measuring while training: where memory is short, batches are measured in parts."""

import copy

import pytest
import torch
from torch import Tensor

from models.yolo import Model
from utils.data.config import load_dataset_config
from utils.data.loader import make_validation_loader
from utils.data.splits import load_samples
from utils.eval.evaluate import EvaluationSettings
from utils.train.hyperparameters import Hyperparameters
from utils.train.objective import detection_loss
from utils.train.validation import Validator, in_parts_if_needed

NO_MEMORY = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), MemoryError()]


def toy(room: int, error: Exception, sizes: list[int]):
    def forward(images: Tensor) -> tuple[Tensor, list[Tensor]]:
        sizes.append(len(images))
        if len(images) > room:
            raise error
        return images.flatten(1), [images * 2, images.mean((2, 3)) * 3]

    return forward


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("count", "room", "sizes"),
    [(4, 4, [4]), (4, 2, [4, 2, 2]), (5, 2, [5, 3, 2, 1, 2]), (3, 1, [3, 2, 1, 1, 1]), (1, 1, [1])],
)
def test_batches_run_in_parts(error, count, room, sizes):
    images, seen = torch.rand(count, 3, 4, 4), []
    decoded, levels = in_parts_if_needed(toy(room, error, seen))(images)
    expected, expected_levels = toy(99, error, [])(images)
    assert seen == sizes and torch.equal(decoded, expected)
    assert len(levels) == 2 and all(torch.equal(one, other) for one, other in zip(levels, expected_levels, strict=True))


@pytest.mark.parametrize(
    ("count", "room", "error"), [(1, 0, NO_MEMORY[0]), (4, 0, NO_MEMORY[2]), (4, 2, RuntimeError("shape mismatch"))]
)
def test_other_errors_are_raised(count, room, error):
    with pytest.raises(type(error)) as caught:
        in_parts_if_needed(toy(room, error, []))(torch.rand(count, 3, 4, 4))
    assert caught.value is error


@pytest.fixture(scope="module")
def measured(tiny_dataset, tiny_config):
    """A model, and what measures it."""
    torch.manual_seed(0)
    config = load_dataset_config(str(tiny_dataset))
    model = Model(tiny_config).eval()
    loader = make_validation_loader(load_samples(config, "val"), 64, 8, 32, workers=0)
    criterion = detection_loss(Hyperparameters(), model, 64)
    return model, Validator(loader, config.names, EvaluationSettings(), criterion)


def test_measuring_in_parts_gives_the_same(measured, monkeypatch):
    model, validate = measured
    whole, real, sizes = validate(model), Model.forward, []

    def forward(network: Model, images: Tensor, *rest: object, **named: object) -> object:
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(network, images, *rest, **named)

    monkeypatch.setattr(Model, "forward", forward)
    parts = validate(model)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert parts.results == pytest.approx(whole.results, rel=1e-4, abs=1e-7) and parts.images == whole.images == 4
    assert parts.class_ap == pytest.approx(whole.class_ap, rel=1e-4) and min(whole.losses) > 0
    assert parts.label_counts.tolist() == whole.label_counts.tolist()


def test_measuring_leaves_the_model_as_it_is(measured):
    model, validate = measured
    before, names = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_modules()]
    model.train()
    validate(model)
    assert model.training and [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
