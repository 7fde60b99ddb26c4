"""The formats of TensorFlow: one conversion by litert-torch, and what is made of it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.formats import edgetpu, litert, load_backend, tfjs, tflite
from models.formats.exported import CannotRunHere
from models.formats.settings import ExportSettings, LoadSettings, NmsSettings
from models.formats.tflite import to_floats, to_integers
from tests.formats.fixed import assert_threads_agree_at
from tests.formats.runtimes import (
    CPU,
    assert_same,
    assert_same_detections,
    blobs,
    fused,
    write_lively_weights,
    written,
)
from tests.formats.test_plugins import small_network
from utils.errors import UserError

SIZE = (64, 96)
SHAPES = [(2, *SIZE), (1, *SIZE), (3, *SIZE)]
PACKAGES = {"litert_torch": "litert-torch", "ai_edge_quantizer": "ai-edge-quantizer", "tensorflow": "tensorflow"}


def need(*modules: str) -> None:
    """Skip where a module is missing; litert-torch has to be loaded before TensorFlow."""
    for module in modules:
        pytest.importorskip(module, reason=f"needs {PACKAGES[module]} (docs/export.md)")


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_integers_come_back_within_half_a_step(kind):
    tensor = {"dtype": kind, "quantization": (1 / 255, np.iinfo(kind).min)}
    values = np.random.default_rng(0).random((3, 4), np.float32)
    found = to_floats(to_integers(values, tensor), tensor)
    assert to_integers(values, tensor).dtype == kind and found.dtype == np.float32
    np.testing.assert_allclose(found, values, atol=0.5 / 255 + 1e-6)
    beyond = to_integers(np.array([-1.0, 2.0], np.float32), tensor)
    assert beyond.tolist() == [np.iinfo(kind).min, np.iinfo(kind).max]


def test_boxes_are_shares_of_the_image(tiny_weights):
    model, settings = fused(tiny_weights), ExportSettings(input_hw=SIZE)
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    graph = litert.ChannelsLastGraph(model, settings).eval()
    with torch.no_grad():
        found, wanted = graph(images.permute(0, 2, 3, 1)), model(images)[0]
    factors = torch.tensor([96.0, 64, 96, 64] + [1] * 11)
    torch.testing.assert_close(found * factors, wanted, rtol=1e-4, atol=1e-3)


def test_tools_that_are_missing_are_named(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = ExportSettings(input_hw=SIZE)
    with pytest.raises(UserError, match=r"TensorFlow\.js needs the command tensorflowjs_converter on the PATH"):
        tfjs.export(fused(tiny_weights), tmp_path, settings)
    with pytest.raises(UserError, match="Edge TPU needs the command edgetpu_compiler, on Linux"):
        edgetpu.export(fused(tiny_weights), tmp_path / "a.tflite", settings)


def test_a_tool_that_fails_is_quoted(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('one\\ntwo\\nthree\\nfour')"]
    with pytest.raises(UserError, match=r"^python\S* failed: two three four$"):
        tfjs.run_tool(command)


def test_browsers_only(tmp_path):
    (tmp_path / "a_web_model").mkdir()
    with pytest.raises(CannotRunHere, match=r"a_web_model' runs in browsers only, by TensorFlow\.js; name the \.pt"):
        load_backend([tmp_path / "a_web_model"], CPU)


def test_no_edge_tpu_is_one_line(tmp_path, monkeypatch):
    def no_library(name: str) -> None:
        raise ValueError(f"cannot load {name}")

    monkeypatch.setattr(tflite, "find_runtime", lambda: SimpleNamespace(load_delegate=no_library))
    with pytest.raises(CannotRunHere, match="needs an Edge TPU and its library libedgetpu"):
        edgetpu.load(tmp_path / "a-int8_edgetpu.tflite", LoadSettings())


def test_the_order_of_loading_is_watched(tiny_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace())
    monkeypatch.delitem(sys.modules, "litert_torch", raising=False)
    with pytest.raises(UserError, match="TensorFlow is in use, and litert-torch has to be loaded before it"):
        litert.convert(fused(tiny_weights), ExportSettings(input_hw=SIZE))


def test_int8_wants_images(tmp_path):
    from models.formats.quantized import with_integers

    with pytest.raises(UserError, match="INT8 needs images to calibrate with; name a data set with --data"):
        with_integers(b"", ExportSettings(int8=True))


@pytest.fixture(scope="module")
def half(tiny_nam_weights, tmp_path_factory) -> Path:
    need("litert_torch", "ai_edge_quantizer")
    folder = tmp_path_factory.mktemp("tflite")
    return written("tflite", tiny_nam_weights, folder, input_hw=SIZE, batch_size=2, half=True)


@pytest.fixture(scope="module", params=["saved_model", "pb"])
def translated(request, tiny_nam_weights, tmp_path_factory) -> Path:
    need("litert_torch", "tensorflow")
    folder = tmp_path_factory.mktemp(request.param)
    return written(request.param, tiny_nam_weights, folder, input_hw=SIZE, batch_size=2)


@pytest.mark.slow
def test_tflite_has_half_weights_and_sees_almost_the_same(half, tiny_nam_weights):
    exported, source = load_backend([half], CPU), load_backend([tiny_nam_weights], CPU)
    images = blobs(0, 2)
    images = torch.nn.functional.interpolate(images, size=SIZE)
    torch.testing.assert_close(exported(images), source(images), rtol=0.02, atol=0.5)
    assert exported.meta.names == source.meta.names and exported.meta.input_hw == SIZE
    assert half.stat().st_size < 0.65 * tiny_nam_weights.stat().st_size


@pytest.mark.slow
def test_threads_do_not_disturb_each_other(half):
    assert_threads_agree_at(half, SIZE)


@pytest.mark.slow
def test_the_translation_sees_the_same(translated, tiny_nam_weights):
    exported, source = load_backend([translated], CPU), load_backend([tiny_nam_weights], CPU)
    assert_same(exported, source, SHAPES)
    assert exported.meta.names == source.meta.names and exported.meta.input_hw == SIZE


@pytest.mark.slow
def test_graphs_have_the_names_of_v61(tiny_weights, tmp_path):
    need("litert_torch", "tensorflow")
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(written("pb", tiny_weights, tmp_path).read_bytes())
    assert {"x", "Identity"} <= {node.name for node in graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["saved_model", "tflite"])
def test_suppression_inside_the_graph(tiny_config, tmp_path, argument):
    need("litert_torch", "ai_edge_quantizer", *(["tensorflow"] if argument == "saved_model" else []))
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written(argument, weights, tmp_path, nms=NmsSettings(most=30), half=argument == "tflite")
    tolerance = 0.01 if argument == "saved_model" else 0.5
    assert_same_detections(load_backend([path], CPU), load_backend([weights], CPU), 30, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("per_tensor", [False, True], ids=["per-channel", "per-tensor"])
def test_int8_keeps_boxes_in_pixels(tiny_config, tmp_path, per_tensor):
    need("litert_torch", "ai_edge_quantizer")
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    images = [blobs(seed).numpy() for seed in range(8)]
    settings = {"int8": True, "calibration": lambda: iter(images), "per_tensor": per_tensor}
    path = written("tflite", weights, tmp_path, **settings)
    assert path.name == "lively-int8.tflite" and path.stat().st_size < 0.4 * weights.stat().st_size
    exported, source = (load_backend([file], CPU)(blobs(0)) for file in (path, weights))
    centres = (exported - source)[..., :2].abs()
    assert centres.mean() < 2 and exported[..., :2].unique().numel() > 256  # px; finer than 256 steps


@pytest.mark.slow
def test_an_unknown_operation_is_named(tiny_weights, tmp_path, monkeypatch):
    need("litert_torch", "tensorflow")
    from models.formats import tf_graph

    monkeypatch.delitem(tf_graph.SAME_ARGUMENTS, "LOGISTIC")
    with pytest.raises(UserError, match="needs the operation LOGISTIC, which is not translated to TensorFlow yet"):
        written("pb", tiny_weights, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["CoordAtt", "BottleneckCSP", "TripletAttention"])
def test_layers_with_operations_of_their_own_are_translated(layer, tmp_path):
    need("litert_torch", "tensorflow")
    config = small_network("Identity", {})
    config["backbone"][3] = [-1, 1, layer, [16]]
    weights = write_lively_weights(tmp_path / "small.pt", config)
    path = written("pb", weights, tmp_path, input_hw=SIZE)
    assert_same(load_backend([path], CPU), load_backend([weights], CPU), [(1, *SIZE)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.tflite", "a.pb"])
def test_damaged_files_are_refused(tmp_path, name):
    need("litert_torch", "tensorflow")
    (tmp_path / name).write_bytes(b"not a graph" * 50)
    with pytest.raises(UserError, match=rf"'.*{name}' is no "):
        load_backend([tmp_path / name], CPU)


@pytest.mark.slow
def test_an_empty_folder_is_no_saved_model(tmp_path):
    need("litert_torch", "tensorflow")
    (tmp_path / "a_saved_model").mkdir()
    with pytest.raises(UserError, match=r"a_saved_model' is no SavedModel with a signature 'serving_default', or"):
        load_backend([tmp_path / "a_saved_model"], CPU)
