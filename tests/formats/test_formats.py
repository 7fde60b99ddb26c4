"""Every format gives what the PyTorch network gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import export
from models.formats import FORMATS, Ensemble, Metadata, format_of, load_backend
from models.formats.pytorch import build_model
from tests.conftest import write_random_weights
from tests.models.recipes import random_images
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.eval.nms import non_max_suppression
from utils.eval.operating_point import OperatingPoint, save_operating_point

CPU = torch.device("cpu")
EXPORTED = [row for row in FORMATS if row.argument]


@pytest.fixture(scope="module")
def weights(tiny_weights, tmp_path_factory):
    """A copy, since exports are written beside it."""
    path = tmp_path_factory.mktemp("export") / "tiny.pt"
    path.write_bytes(tiny_weights.read_bytes())
    return path


def test_the_backend_equals_the_plain_network(weights):
    images = random_images(1, 2, 64, 96)
    model = build_model(read_checkpoint(weights), weights)
    with torch.no_grad():
        expected, _ = model(images)
    backend = load_backend([weights], CPU)
    torch.testing.assert_close(backend(images), expected, rtol=1e-4, atol=1e-3)
    assert backend.meta.stride == 32 and backend.meta.names[0] == "circle" and backend.meta.input_hw is None


@pytest.mark.parametrize("row", EXPORTED, ids=lambda row: row.name)
def test_exported_equals_the_original(weights, row):
    (path,) = export.run(weights=[str(weights)], imgsz=[64, 96], batch_size=2, include=[row.argument])
    images = random_images(2, 2, 64, 96)
    original, exported = load_backend([weights], CPU), load_backend([path], CPU)
    torch.testing.assert_close(exported(images), original(images), rtol=1e-4, atol=1e-3)
    assert exported.meta.names == original.meta.names
    assert exported.meta.stride == original.meta.stride
    assert exported.meta.input_hw == (64, 96)
    assert format_of(path) is row


def test_a_file_says_which_channels_it_takes(tiny_config, tmp_path):
    weights = write_random_weights(tmp_path / "four.pt", tiny_config | {"ch": 4})
    (path,) = export.run(weights=[str(weights)], imgsz=[64])
    images = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    original, exported = load_backend([weights], CPU), load_backend([path], CPU)
    assert original.meta.channels == exported.meta.channels == 4
    torch.testing.assert_close(exported(images), original(images), rtol=1e-4, atol=1e-3)


def test_an_ensemble_puts_predictions_side_by_side(weights):
    images = random_images(3, 1, 64, 64)
    one, two = load_backend([weights], CPU), load_backend([weights, weights], CPU)
    assert isinstance(two, Ensemble)
    np.testing.assert_array_equal(two(images), torch.cat([one(images)] * 2, 1))


def test_a_model_twice_finds_what_it_finds_once(weights):
    images = random_images(3, 2, 64, 64)
    one, two = ([*map(sorted_rows, suppressed(paths, images))] for paths in ([weights], [weights, weights]))
    assert sum(map(len, one)) > 10
    for once, twice in zip(one, two, strict=True):
        torch.testing.assert_close(twice, once)


def suppressed(paths: list, images: torch.Tensor) -> list[torch.Tensor]:
    return non_max_suppression(load_backend(paths, CPU)(images), 0.001, 0.6, max_detections=5000)


def sorted_rows(found: torch.Tensor) -> torch.Tensor:
    return found[np.lexsort(found.numpy().T)]


def member(names: dict[int, str], **facts) -> SimpleNamespace:
    return SimpleNamespace(meta=Metadata(32, names, **facts))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (member({0: "cat"}), member({0: "cat", 1: "dog"}), "the same number of classes, got 1 and 2"),
        (
            *(member({0: "cat", 1: "dog"}), member({0: "dog", 1: "cat"})),
            "their classes in the same order, but 'cat' has another number in one of them",
        ),
        (member({0: "cat"}), member({0: "cat"}, channels=1), "must take the same images, got channels [3, 1]"),
        (
            *(member({0: "cat"}, input_hw=(64, 64)), member({0: "cat"}, input_hw=(96, 96))),
            "must take the same images, got models for 64x64 and 96x96 px only",
        ),
    ],
)
def test_models_that_do_not_go_together_are_refused(first, second, said):
    with pytest.raises(UserError) as error:
        Ensemble([first, second])
    assert said in str(error.value)


def test_another_name_for_a_class_is_only_remarked(caplog):
    ensemble = Ensemble([member({0: "cat", 1: "airplane"}), member({0: "cat", 1: "aeroplane"}, input_hw=(64, 64))])
    assert ensemble.meta == Metadata(32, {0: "cat", 1: "airplane"}, (64, 64))
    assert "class 1 is 'airplane' in one of the --weights and 'aeroplane' in another" in caplog.text


def test_the_operating_point_travels_with_the_model(weights, tmp_path):
    point = OperatingPoint(0.3, {"circle": 0.4})
    copy = save_operating_point(weights, point, tmp_path)
    (exported,) = export.run(weights=[str(copy)], imgsz=[64])
    for path in (copy, exported):
        assert OperatingPoint.stored(load_backend([path], CPU).meta.operating_point) == point
    assert load_backend([weights], CPU).meta.operating_point is None
    assert load_backend([copy, copy], CPU).meta.operating_point is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"include": ["torchscrip"]}, "unknown format; did you mean 'torchscript'?"),
        ({"weights": ["missing.pt"]}, "'missing.pt' do not exist"),
        ({"weights": ["model.tar"]}, "no known format"),
        ({"weights": ["model.torchscript"]}, "is an exported model already"),
        ({"imgsz": [64, 64, 64]}, "takes one side or height and width"),
    ],
)
def test_wrong_options_are_named(weights, options, said):
    with pytest.raises(UserError) as error:
        export.run(**{"weights": [str(weights)], **options})
    assert said in str(error.value)


def test_a_foreign_torchscript_file_is_refused(tmp_path):
    path = tmp_path / "other.torchscript"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"not a TorchScript file written by export\.py"):
        load_backend([path], CPU)
