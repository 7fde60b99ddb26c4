"""CoreML as far as Linux can tell: the files are written and inspected, macOS would run them."""

import platform
import sys

import numpy as np
import pytest
import torch

import export
from models.formats import load_backend
from models.formats.coreml import as_input, read_facts
from models.formats.settings import NmsSettings
from tests.conftest import write_random_weights
from tests.formats.runtimes import CPU, written
from utils.errors import UserError


def test_a_picture_is_made_of_what_the_network_sees():
    images = np.random.default_rng(0).random((1, 3, 4, 6), np.float32)
    picture = as_input(images)
    assert picture.mode == "RGB" and picture.size == (6, 4)
    np.testing.assert_allclose(np.asarray(picture) / 255, images[0].transpose(1, 2, 0), atol=0.5 / 255 + 1e-6)
    assert as_input(images[:, :1]).mode == "L"
    assert as_input(np.zeros((1, 4, 4, 6), np.float32)).shape == (1, 4, 4, 6)


def specification(path):
    proto = pytest.importorskip("coremltools.proto.Model_pb2")
    file = next(path.rglob("*.mlmodel")) if path.is_dir() else path
    found = proto.Model()
    found.ParseFromString(file.read_bytes())
    return found


@pytest.fixture(scope="module", autouse=True)
def tools():
    sys.modules.setdefault("tensorflow", None)  # see models/formats/coreml.py
    try:
        yield pytest.importorskip("coremltools", reason="needs coremltools (docs/export.md)")
    finally:
        if sys.modules["tensorflow"] is None:
            del sys.modules["tensorflow"]


def shapes_of(path) -> tuple[str, list[int]]:
    """Return the kind of the input and the shape of the output."""
    described = specification(path).description
    (image,), (output,) = described.input, described.output
    assert image.name == "image" and output.name == "output"
    return image.type.WhichOneof("Type"), list(output.type.multiArrayType.shape)


@pytest.mark.slow
def test_a_package_takes_a_picture_and_gives_the_table(tiny_weights, tmp_path):
    path = written("coreml", tiny_weights, tmp_path, input_hw=(64, 96))
    assert path.name == "tiny.mlpackage" and path.is_dir()
    assert shapes_of(path) == ("imageType", [1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 15])
    facts = read_facts(path)
    assert facts["shape"] == [1, 3, 64, 96] and facts["stride"] == 32 and facts["names"][0] == "circle"
    if platform.system() != "Darwin":
        with pytest.raises(UserError, match=r"tiny\.mlpackage' runs on macOS only; name the \.pt file"):
            load_backend([path], CPU)


@pytest.mark.slow
def test_nam_is_converted_at_any_size(tiny_nam_weights, tmp_path):
    assert shapes_of(written("coreml", tiny_nam_weights, tmp_path, input_hw=(96, 64)))[0] == "imageType"


@pytest.mark.slow
def test_smaller_numbers_make_smaller_packages(tiny_weights, tmp_path):
    def size(**settings) -> int:
        path = written("coreml", tiny_weights, tmp_path / str(settings), **settings)
        return sum(file.stat().st_size for file in path.rglob("weight.bin"))

    for name in ({}, {"half": True}, {"int8": True}):
        (tmp_path / str(name)).mkdir()
    whole, half, eighth = size(), size(half=True), size(int8=True)
    assert half < 0.6 * whole and eighth < 0.35 * whole


@pytest.mark.slow
def test_suppression_inside_the_graph(tiny_weights, tmp_path):
    path = written("coreml", tiny_weights, tmp_path, nms=NmsSettings(most=30))
    assert shapes_of(path) == ("imageType", [1, 30, 6])


@pytest.mark.slow
def test_four_channels_are_an_array(tiny_config, tmp_path):
    weights = write_random_weights(tmp_path / "four.pt", tiny_config | {"ch": 4})
    kind, _ = shapes_of(written("coreml", weights, tmp_path))
    assert kind == "multiArrayType"


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_the_old_format(tiny_weights, tmp_path, half):
    weights = tmp_path / "tiny.pt"
    weights.write_bytes(tiny_weights.read_bytes())
    (path,) = export.run(weights=[str(weights)], imgsz=[64], include=["coreml"], mlmodel=True, half=half)
    assert path.name == "tiny.mlmodel" and path.is_file()
    described = specification(path)
    assert described.WhichOneof("Type") == "neuralNetwork"
    assert described.description.input[0].type.WhichOneof("Type") == "imageType"
    assert read_facts(path)["names"][0] == "circle"
    size, whole = path.stat().st_size, sum(value.numel() for value in torch.load(weights)["model"].values()) * 4
    assert size < 0.7 * whole if half else size > 0.9 * whole


def test_the_old_format_does_not_suppress(tiny_weights, tmp_path):
    with pytest.raises(UserError, match="--mlmodel has no suppression inside the graph; drop --nms, or write an"):
        written("coreml", tiny_weights, tmp_path, mlmodel=True, nms=NmsSettings())


def test_foreign_files_are_refused(tmp_path):
    file = tmp_path / "a.mlmodel"
    file.write_bytes(b"not a model" * 20)
    with pytest.raises(UserError, match=r"a\.mlmodel' is no CoreML model, or it is damaged"):
        load_backend([file], CPU)
    (tmp_path / "b.mlpackage").mkdir()
    with pytest.raises(UserError, match=r"b\.mlpackage' is no CoreML package"):
        load_backend([tmp_path / "b.mlpackage"], CPU)
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.mlmodel' was not written by export\.py"):
        load_backend([file], CPU)
