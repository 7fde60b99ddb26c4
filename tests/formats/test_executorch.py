"""ExecuTorch: lowered to XNNPACK, and run by its runtime for Python."""

import pytest
import torch

from models.formats import load_backend
from models.formats.settings import NmsSettings
from tests.formats.fixed import assert_threads_agree_at
from tests.formats.runtimes import (
    CPU,
    assert_same,
    assert_same_detections,
    write_lively_weights,
    written,
)
from tests.models.recipes import random_images
from utils.errors import UserError

pytest.importorskip("executorch", reason="needs executorch (docs/export.md)")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tiny_nam_weights, tmp_path_factory):
    return written("executorch", tiny_nam_weights, tmp_path_factory.mktemp("et"), input_hw=(64, 96), batch_size=2)


def test_it_sees_what_its_source_sees(file, tiny_nam_weights):
    exported, source = load_backend([file], CPU), load_backend([tiny_nam_weights], CPU)
    assert_same(exported, source, [(2, 64, 96), (1, 64, 96), (3, 64, 96)])
    assert exported.meta.names == source.meta.names and exported.meta.input_hw == (64, 96)


def test_other_readers_take_the_file_as_it_is(file):
    """The facts behind the program disturb nobody who opens the file by its name."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(file).load_method("forward")
    assert list(method.metadata.input_tensor_meta(0).sizes()) == [2, 3, 64, 96]


def test_threads_do_not_disturb_each_other(file):
    assert_threads_agree_at(file, (64, 96))


def test_later_calls_leave_earlier_results_alone(file):
    backend = load_backend([file], CPU)
    first = backend(random_images(0, 2, 64, 96))
    kept = first.clone()
    backend(random_images(1, 2, 64, 96))
    assert torch.equal(first, kept)


def test_suppression_inside_the_graph(tiny_config, tmp_path):
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written("executorch", weights, tmp_path, nms=NmsSettings(most=30))
    assert_same_detections(load_backend([path], CPU), load_backend([weights], CPU), 30)


@pytest.mark.parametrize("content", [b"", b"not a program" * 100])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "a.pte"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pte' is no ExecuTorch program, it is damaged, or made by another version"):
        load_backend([path], CPU)
