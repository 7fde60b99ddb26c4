"""PaddlePaddle: every operation translated, and the program run by Paddle Inference."""

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

pytest.importorskip("paddle", reason="needs paddlepaddle (docs/export.md)")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tiny_nam_weights, tmp_path_factory):
    return written("paddle", tiny_nam_weights, tmp_path_factory.mktemp("paddle"), input_hw=(64, 96), batch_size=2)


def test_it_sees_what_its_source_sees(folder, tiny_nam_weights):
    exported, source = load_backend([folder], CPU), load_backend([tiny_nam_weights], CPU)
    assert_same(exported, source, [(2, 64, 96), (1, 64, 96), (3, 64, 96)])
    assert exported.meta.names == source.meta.names and exported.meta.input_hw == (64, 96)


def test_the_folder_is_as_the_docs_say(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["metadata.yaml", "model.json", "model.pdiparams"]


def test_threads_do_not_disturb_each_other(folder):
    assert_threads_agree_at(folder, (64, 96))


def test_suppression_inside_the_graph(tiny_config, tmp_path):
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written("paddle", weights, tmp_path, nms=NmsSettings(most=30))
    assert_same_detections(load_backend([path], CPU), load_backend([weights], CPU), 30)


def test_an_unknown_operation_is_named(tiny_weights, tmp_path, monkeypatch):
    from models.formats import paddle_graph

    monkeypatch.delitem(paddle_graph.SAME_ARGUMENTS, "sigmoid")
    with pytest.raises(UserError, match="needs the operation sigmoid, which is not translated to Paddle yet"):
        written("paddle", tiny_weights, tmp_path)


def test_damaged_folders_are_refused(folder, tmp_path):
    path = tmp_path / "a_paddle_model"
    path.mkdir()
    with pytest.raises(UserError, match=r"is no model of Paddle: expected \*\.json or \*\.pdmodel and \*\.pdiparams"):
        load_backend([path], CPU)
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    (path / "model.json").write_bytes((folder / "model.json").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.json' is damaged; export the model again"):
        load_backend([path], CPU)


def test_the_process_stays_dynamic(folder):
    import paddle

    assert paddle.in_dynamic_mode()
    first = load_backend([folder], CPU)(random_images(0, 2, 64, 96))
    kept = first.clone()
    load_backend([folder], CPU)(random_images(1, 2, 64, 96))
    assert torch.equal(first, kept)
