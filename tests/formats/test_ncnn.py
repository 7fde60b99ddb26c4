"""ncnn: converted by pnnx, run by ncnn."""

import pytest
import torch

from models.formats import load_backend
from models.formats.ncnn import _check_layers
from tests.formats.fixed import assert_threads_agree_at
from tests.formats.runtimes import CPU, assert_same, written
from tests.models.recipes import random_images
from utils.errors import UserError


def test_operations_that_ncnn_lacks_are_named(tmp_path):
    graph = tmp_path / "model.ncnn.param"
    graph.write_text("7767517\n3 2\nInput in0 0 1 in0\naten::roll a 1 1 in0 1\nSigmoid b 1 1 1 out0\n")
    with pytest.raises(UserError, match=r"ncnn has no '?aten::roll'?, which the network needs; export to another"):
        _check_layers(graph)


@pytest.fixture(scope="module")
def folder(tiny_nam_weights, tmp_path_factory):
    for package in ("pnnx", "ncnn"):
        pytest.importorskip(package, reason=f"needs {package} (docs/export.md)")
    return written("ncnn", tiny_nam_weights, tmp_path_factory.mktemp("ncnn"), input_hw=(64, 96))


@pytest.mark.slow
def test_it_sees_what_its_source_sees(folder, tiny_nam_weights):
    exported, source = load_backend([folder], CPU), load_backend([tiny_nam_weights], CPU)
    assert_same(exported, source, [(1, 64, 96), (3, 64, 96)])
    assert exported.meta.names == source.meta.names and exported.meta.input_hw == (64, 96)


@pytest.mark.slow
def test_the_folder_is_as_the_docs_say(folder):
    names = ["metadata.yaml", "model.ncnn.bin", "model.ncnn.param"]
    assert sorted(file.name for file in folder.iterdir()) == names


@pytest.mark.slow
def test_threads_do_not_disturb_each_other(folder):
    assert_threads_agree_at(folder, (64, 96))


@pytest.mark.slow
def test_half_the_size_and_almost_the_same(folder, tiny_nam_weights, tmp_path):
    half = written("ncnn", tiny_nam_weights, tmp_path, input_hw=(64, 96), half=True)
    sizes = [(path / "model.ncnn.bin").stat().st_size for path in (half, folder)]
    assert sizes[0] < 0.6 * sizes[1]
    images = random_images(0, 1, 64, 96)
    found, wanted = load_backend([half], CPU)(images), load_backend([tiny_nam_weights], CPU)(images)
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [("metadata.yaml", "must hold a YAML mapping"), ("model.ncnn.param", "is missing, damaged or not from export.py")],
)
def test_damaged_folders_are_refused(folder, tmp_path, name, said):
    path = tmp_path / "a_ncnn_model"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes() if file.name != name else b"damaged")
    with pytest.raises(UserError, match=rf"{name}'.* {said}"):
        load_backend([path], CPU)
