"""models.load: which file is meant, on which device, and what the result can do."""

import numpy as np
import pytest
import torch

import models
from models.formats import load_backend
from models.loading import load_shipped
from models.yolo import Model
from tests.conftest import write_random_weights
from utils.detect.autoshape import AutoShape
from utils.errors import UserError

PLUGIN = """
import torch
from models.registry import gates, layer

@layer(gates)
class Halving(torch.nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2
"""


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_exported_files_find_the_same_in_their_own_size(tiny_weights, image, tmp_path):
    source = models.load(tiny_weights, "cpu", autoshape=False)
    traced = torch.jit.trace(source.model, torch.zeros(1, 3, 64, 64), strict=False)
    file = tmp_path / "tiny.torchscript"
    traced.save(str(file), _extra_files={"config.txt": '{"shape": [1, 3, 64, 64], "stride": 32, "names": ["a", "b"]}'})
    exported = models.load(file, "cpu")
    assert exported.names == {0: "a", 1: "b"}
    original = models.load(tiny_weights, "cpu")
    exported.conf = original.conf = 0.001
    found, expected = exported(image, size=640), original(image, size=64)
    assert found.s == expected.s == (1, 3, 64, 64) and len(found.pred[0]) > 0
    torch.testing.assert_close(found.pred[0], expected.pred[0], rtol=1e-4, atol=1e-3)
    with pytest.raises(UserError, match=r"augment=True works with \.pt files only"):
        exported(image, augment=True)


def test_a_home_folder_may_be_written_as_a_tilde(tiny_weights, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_weights.parent))
    monkeypatch.setenv("USERPROFILE", str(tiny_weights.parent))
    assert isinstance(models.load(f"~/{tiny_weights.name}", "cpu"), AutoShape)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_devices_may_be_named_in_two_ways(device, tiny_weights):
    assert models.load(tiny_weights, device).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "foo"}, "--device 'foo' is not understood"),
        ({"device": 99}, "--device 99: torch sees"),
        ({"device": "cpu", "runtime": "abacus"}, "abacus"),
        ({"device": "cpu", "plugins": ["nowhere.py"]}, r"nowhere\.py"),
    ],
)
def test_what_is_not_there_is_named(settings, message, tiny_weights):
    with pytest.raises(UserError, match=message):
        models.load(tiny_weights, **settings)


@pytest.mark.parametrize(("name", "content"), [("a.pt", b""), ("a.pt", b"hello"), ("a.xyz", b"hello")])
def test_damaged_and_foreign_files_are_refused_in_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as error:
        models.load(tmp_path / name, "cpu")
    assert "\n" not in str(error.value)


def test_layers_of_the_users_own(tiny_config, image, tmp_path):
    plugin = tmp_path / "halving.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    *rows, detect = tiny_config["head"]
    from models.plugins import load_plugins

    load_plugins([str(plugin)])
    config = tiny_config | {"head": [*rows, [-1, 1, "Halving", [1024]], [[17, 20, 24], *detect[1:]]]}
    weights = write_random_weights(tmp_path / "halved.pt", config)
    model = models.load(weights, "cpu", plugins=[str(plugin)])
    assert len(model(image, size=64)) == 1


def test_a_shipped_network_as_what_takes_pictures(image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = load_shipped("yolov5n", pretrained=False, classes=2, device="cpu")
    assert isinstance(model, AutoShape) and len(model.names) == 2
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 252, 7)
    grey = load_shipped("yolov5n", pretrained=False, channels=1, classes=2, device="cpu")
    assert grey(image[..., 0], size=64).ims[0].shape == (64, 64, 1)
    assert isinstance(load_shipped("yolov5n", pretrained=False, autoshape=False, device="cpu"), Model)


def test_weights_are_those_that_the_scripts_use(tiny_weights):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    script = load_backend([str(tiny_weights)], torch.device("cpu"), False)
    torch.testing.assert_close(models.load(tiny_weights, "cpu")(images), script(images), rtol=0, atol=0)
