"""Models by torch.hub.load and models.load: entry points, other classes and channels, missing weights."""

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import hubconf
import models
from models.loading import find_pretrained
from models.yolo import Model
from tests.conftest import write_random_weights
from utils.detect.autoshape import AutoShape
from utils.errors import UserError
from utils.files import ROOT, read_yaml

SHIPPED = [f"yolov5{size}{suffix}" for suffix in ("", "6") for size in "nsmlx"]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """Work in an empty folder, in which the weights of the project do not count either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.loading.ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_entry_points_have_the_parameters_of_v61_and_later(name):
    parameters = inspect.signature(getattr(hubconf, name)).parameters
    v61 = ["pretrained", "channels", "classes", "autoshape", "verbose", "device"]
    assert list(parameters) == [*v61, "_verbose"]
    assert [parameters[key].default for key in v61] == [True, 3, 80, True, True, None]
    assert name in getattr(hubconf, name).__doc__

    assert list(ROOT.glob(f"models/**/{name}.yaml"))


def test_every_dependency_is_here():
    assert all(importlib.util.find_spec(name) for name in hubconf.dependencies)


def test_hub_loads_from_any_folder(tiny_weights, tmp_path):
    """As a user does, who works elsewhere and has no module of this project on the path."""
    program = (
        "import numpy, torch\n"
        f"model = torch.hub.load({str(ROOT)!r}, 'custom', path={str(tiny_weights)!r}, source='local', device='cpu',"
        " _verbose=False, trust_repo=True)\n"
        "model.conf = 0.001\n"
        "found = model(numpy.zeros((48, 64, 3), numpy.uint8), size=64)\n"
        "found.save(save_dir='out'); found.crop(save_dir='out'); found.pandas(); print(found.s)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "(1, 3, 64, 64)\n", done.stderr
    assert (tmp_path / "out/image0.jpg").is_file()


@pytest.mark.slow
def test_foreign_modules_of_these_names_are_told(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/__init__.py").touch()
    program = (
        f"import torch, utils\ntorch.hub.load({str(ROOT)!r}, 'custom', path='a.pt', source='local', trust_repo=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert f"ImportError: 'utils' is already imported from {tmp_path}" in done.stderr


def test_custom_takes_a_name_without_ending(tiny_weights, image):
    model = hubconf.custom(str(tiny_weights.with_suffix("")), device="cpu", verbose=False)
    assert isinstance(model, AutoShape) and len(model(image, size=64)) == 1


def test_verbose_says_what_is_loaded(tiny_weights, capsys):
    hubconf.custom(tiny_weights, device="cpu", verbose=False)
    assert capsys.readouterr().out == ""
    hubconf.custom(tiny_weights, device="cpu")
    assert f"{tiny_weights}, 10 classes" in capsys.readouterr().out


def test_without_autoshape_a_backend_takes_tensors(tiny_weights):
    backend = models.load(tiny_weights, torch.device("cpu"), autoshape=False)
    assert backend(torch.zeros(1, 3, 64, 64)).shape == (1, 252, 15)


def test_several_weights_make_an_ensemble(tiny_weights, tiny_nam_weights, image):
    both = models.load([tiny_weights, tiny_nam_weights], "cpu")
    both.conf = 0.001
    assert len(both(image, size=64)) == 1
    assert both(torch.zeros(1, 3, 64, 64)).shape == (1, 504, 15)
    assert len(both(image, size=64, augment=True)) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.pt", "'nowhere.pt' do not exist"),
        ("nowhere", "'nowhere.pt' do not exist"),
        ([], "no weights were given"),
    ],
)
def test_missing_weights(path, message, empty_folder):
    with pytest.raises(UserError, match=message):
        models.load(path, "cpu")


def test_missing_pretrained_weights_are_named_with_their_place(empty_folder):
    with pytest.raises(UserError, match=r"'yolov5x6\.pt' are not here, and nothing is downloaded; put that file"):
        hubconf.yolov5x6(verbose=False)


def test_scratch_networks_have_the_classes_and_channels_asked_for(empty_folder):
    network = hubconf.yolov5n(pretrained=False, channels=4, classes=7, autoshape=False, verbose=False, device="cpu")
    assert isinstance(network, Model)
    assert (network.channels, network.yaml["nc"], len(network.names)) == (4, 7, 7)
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_other_classes_take_over_what_fits(empty_folder, image):
    config = read_yaml(ROOT / "models/yolov5n.yaml") | {"nc": 10}
    source = write_random_weights(empty_folder / "yolov5n.pt", config)
    assert find_pretrained("yolov5n").samefile(source)
    old = models.load(source, "cpu", autoshape=False).model
    new = hubconf.yolov5n(classes=3, autoshape=False, verbose=False, device="cpu").fuse()
    torch.testing.assert_close(new.model[0].conv.weight, old.model[0].conv.weight)
    assert new.detect.nc == 3
    same = hubconf.yolov5n(classes=10, verbose=False, device="cpu")
    assert same.names == models.load(source, "cpu").names
    assert len(same(image, size=64)) == 1


def test_official_classes_and_channels_load_the_file_itself(empty_folder):
    shutil.copy(write_random_weights(empty_folder / "made.pt", read_yaml(ROOT / "models/yolov5n.yaml") | {"nc": 10}),
                empty_folder / "yolov5n.pt")  # fmt: skip
    assert len(hubconf.yolov5n(verbose=False, device="cpu").names) == 10


def test_models_has_nothing_else():
    assert "load" in models.__all__ and callable(models.load)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = models.lod


@pytest.mark.slow
def test_the_page_on_python_in_its_own_words(tiny_weights, tmp_path):
    """Run every example of docs/python.md in a folder that has the files it names."""
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = (
        "\n".join(blocks)
        .replace("/path/to/YOLOv5-NAM", str(ROOT))
        .replace('source="local"', 'source="local", trust_repo=True')
    )
    program = program.replace(', runtime="auto"', "")  # see tests/formats/test_fastest.py
    assert len(blocks) == 7 and "trust_repo" in program
    shutil.copy(tiny_weights, tmp_path / "best.pt")
    shutil.copy(ROOT / "data/images/shapes_1.jpg", tmp_path / "bus.jpg")
    command = [sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "image 1/1: " in done.stdout and (tmp_path / "seen/bus.jpg").is_file()
