"""ONNX files: of this project and of YOLOv5, by ONNX Runtime and by OpenCV."""

import shutil
import sys
import warnings

import pytest
import torch

import detect
import export
from models.formats import load_backend
from models.formats.onnx import DEFAULT_OPSET
from models.formats.settings import NmsSettings
from tests.formats.runtimes import (
    CPU,
    AsV61,
    assert_same,
    assert_same_detections,
    assert_threads_agree,
    blobs,
    fused,
    row_of,
    write_lively_weights,
    written,
)
from tests.models.recipes import random_images
from utils.errors import UserError
from utils.eval.nms import non_max_suppression

onnx = pytest.importorskip("onnx", reason="needs onnx (requirements-dev.txt)")
pytest.importorskip("onnxruntime", reason="needs onnxruntime (requirements-dev.txt)")


@pytest.fixture(scope="module")
def source(tiny_weights):
    return load_backend([tiny_weights], CPU)


@pytest.fixture(scope="module")
def flexible(tiny_weights, tmp_path_factory):
    """For images of any size and number."""
    return written("onnx", tiny_weights, tmp_path_factory.mktemp("flexible"), dynamic=True)


@pytest.fixture(scope="module")
def fixed(tiny_weights, tmp_path_factory):
    """For two images of 64x96."""
    return written("onnx", tiny_weights, tmp_path_factory.mktemp("fixed"), input_hw=(64, 96), batch_size=2)


def without_facts(path, **pairs):
    """Replace the metadata of a file."""
    network = onnx.load(str(path))
    del network.metadata_props[:]
    onnx.helper.set_model_props(network, pairs)
    onnx.save(network, str(path))


def test_any_size_and_number_of_images(flexible, source):
    backend = load_backend([flexible], CPU)
    assert_same(backend, source)
    assert backend.meta == source.meta


def test_threads_do_not_disturb_each_other(flexible):
    assert_threads_agree(flexible)
    torch.set_num_threads(3)
    try:
        assert [load_backend([flexible], CPU, parallel=wanted).parallel for wanted in (None, 1, 2, 8)] == [1, 1, 2, 3]
    finally:
        torch.set_num_threads(1)


def test_the_file_is_as_the_spec_says(flexible, fixed):
    network = onnx.load(str(flexible))
    onnx.checker.check_model(network, full_check=True)
    assert [value.name for value in network.graph.input] == ["images"]
    assert [value.name for value in network.graph.output] == ["output0"]
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (network.graph.input[0], network.graph.output[0])
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", "anchors", 15]]
    assert network.opset_import[0].version == DEFAULT_OPSET
    pairs = {pair.key: pair.value for pair in network.metadata_props}
    assert pairs["stride"] == "32" and pairs["names"].startswith("{0: 'circle', 1: ")
    axes = onnx.load(str(fixed)).graph.output[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in axes] == [2, 3 * (96 + 24 + 6), 15]


def test_one_size_only(fixed, source):
    backend = load_backend([fixed], CPU)
    assert backend.meta.input_hw == (64, 96)
    assert_same(backend, source, [(2, 64, 96), (1, 64, 96), (3, 64, 96)])
    with pytest.raises(UserError, match=r"takes images of 64x96 px only, got 64x64; use --imgsz 64 96, or export it"):
        backend(random_images(0, 1, 64, 64))


@pytest.mark.parametrize("dnn", [False, True], ids=["onnxruntime", "opencv"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "flexible"])
def test_files_of_v61_are_understood(tiny_weights, source, tmp_path, dynamic, dnn):
    path = tmp_path / "old.onnx"
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 1: "anchors"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            AsV61(fused(tiny_weights)).eval(),
            (torch.zeros(1, 3, 64, 64),),
            str(path),
            dynamo=False,
            opset_version=12,
            input_names=["images"],
            output_names=["output"],
            dynamic_axes=axes if dynamic else None,
        )
    assert len(onnx.load(str(path)).graph.output) == 4
    backend = load_backend([path], CPU, dnn=dnn)
    assert backend.meta.names == {index: f"class{index}" for index in range(10)}
    assert backend.meta.input_hw == (None if dynamic else (64, 64))
    assert_same(backend, source, [(1, 64, 64)])
    if dynamic and not dnn:
        assert_same(backend, source)
    named = load_backend([path], CPU, dnn=dnn, names=source.meta.names)
    assert named.meta.names == source.meta.names and named.meta.stride == 32


def test_metadata_of_later_versions_are_read(flexible, source, tmp_path):
    path = shutil.copy(flexible, tmp_path / "later.onnx")
    without_facts(path, stride="64", names=str(source.meta.names))
    meta = load_backend([path], CPU).meta
    assert (meta.stride, meta.names) == (64, source.meta.names)


def test_opencv_needs_no_onnx_runtime(flexible, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    backend = load_backend([flexible], CPU, dnn=True)
    assert backend.meta == source.meta
    assert_same(backend, source)
    assert_threads_agree_by_opencv(backend)
    with pytest.raises(UserError, match=r"ONNX needs onnxruntime .*: pip install onnxruntime"):
        load_backend([flexible], CPU)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"--dnn needs onnx, .*: pip install onnx"):
        load_backend([flexible], CPU, dnn=True)


def assert_threads_agree_by_opencv(backend) -> None:
    from concurrent.futures import ThreadPoolExecutor

    images = [random_images(seed, 1, 64, 64) for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        for image, rows in zip(images, threads.map(backend, images), strict=True):
            torch.testing.assert_close(rows, backend(image), rtol=0, atol=0)


def test_detect_runs_a_file_by_both(flexible, tmp_path):
    found = []
    for dnn in (False, True):
        options = {"conf_thres": 0.001, "imgsz": [64], "max_det": 20, "device": "cpu", "nosave": True}
        folder = detect.run(
            weights=[str(flexible)], dnn=dnn, save_txt=True, project=str(tmp_path), name=f"dnn{dnn}", **options
        )
        found.append({file.name: sorted(file.read_text().splitlines()) for file in folder.glob("labels/*.txt")})
    assert found[0] == found[1] and any(found[0].values())


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "flexible"])
@pytest.mark.parametrize("dnn", [False, True], ids=["onnxruntime", "opencv"])
def test_suppression_inside_the_graph(tiny_config, tmp_path, dynamic, dnn):
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written("onnx", weights, tmp_path, nms=NmsSettings(most=30), dynamic=dynamic)
    axes = onnx.load(str(path)).graph.output[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in axes][1:] == [30, 6]
    assert_same_detections(load_backend([path], CPU, dnn=dnn), load_backend([weights], CPU), 30)


@pytest.mark.parametrize("opset", [11, 12, 20])
def test_the_operator_set_asked_for_is_written(tiny_weights, source, tmp_path, opset):
    path = written("onnx", tiny_weights, tmp_path, opset=opset)
    assert onnx.load(str(path)).opset_import[0].version == opset
    assert_same(load_backend([path], CPU), source, [(1, 64, 64)])


@pytest.mark.parametrize("opset", [5, 99])
def test_other_operator_sets_are_refused(tiny_weights, tmp_path, opset):
    weights = shutil.copy(tiny_weights, tmp_path)
    with pytest.raises(UserError, match=f"--opset {opset}: this network can be written in 11 to 20"):
        export.run(weights=[str(weights)], include=["onnx"], opset=opset, imgsz=[64])
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"nms": NmsSettings(most=3)}], ids=["", "flexible", "nms"])
def test_half_is_fp16_through_and_through(tiny_config, tmp_path, options):
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written("onnx", weights, tmp_path, half=True, **options)
    network = onnx.load(str(path))
    half = onnx.TensorProto.FLOAT16
    assert {port.type.tensor_type.elem_type for port in (*network.graph.input, *network.graph.output)} == {half}
    exported, source, images = load_backend([path], CPU), load_backend([weights], CPU), blobs(5)
    assert exported(images).dtype == torch.float32
    (found,), (wanted,) = (non_max_suppression(model(images), max_detections=1) for model in (exported, source))
    torch.testing.assert_close(found[:, :4], wanted[:, :4], rtol=0, atol=2)
    torch.testing.assert_close(found[:, 4:], wanted[:, 4:], rtol=0, atol=0.05)


def test_a_tidied_graph_does_the_same(flexible, tiny_weights, source, tmp_path):
    pytest.importorskip("onnxslim", reason="needs onnxslim")
    path = written("onnx", tiny_weights, tmp_path, simplify=True, dynamic=True)
    assert len(onnx.load(str(path)).graph.node) < len(onnx.load(str(flexible)).graph.node)
    assert_same(load_backend([path], CPU), source)


def test_without_its_package_tidying_is_refused(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--simplify needs onnxslim: pip install onnxslim"):
        written("onnx", tiny_weights, tmp_path, simplify=True)


def damage(kind: str, content: bytes) -> bytes:
    return {"text": b"not a model", "empty": b"", "zeros": bytes(200), "short": content[: len(content) // 2]}[kind]


@pytest.mark.parametrize("dnn", [False, True], ids=["onnxruntime", "opencv"])
@pytest.mark.parametrize("kind", ["text", "empty", "zeros", "short"])
def test_damaged_files_are_refused(flexible, tmp_path, kind, dnn):
    path = tmp_path / "bad.onnx"
    path.write_bytes(damage(kind, flexible.read_bytes()))
    expected = (
        r"'.*bad\.onnx' is no (ONNX file, or it is damaged|detector)" if dnn else r"ONNX Runtime cannot load '.*bad"
    )
    with pytest.raises(UserError, match=expected):
        load_backend([path], CPU, dnn=dnn)


def test_a_broken_graph_is_refused_by_both(flexible, tmp_path):
    network = onnx.load(str(flexible))
    network.graph.node[0].op_type = "Conf"
    path = tmp_path / "bad.onnx"
    onnx.save(network, str(path))
    with pytest.raises(UserError, match="ONNX Runtime cannot load"):
        load_backend([path], CPU)
    with pytest.raises(UserError, match="OpenCV cannot"):
        load_backend([path], CPU, dnn=True)(random_images(0, 1, 64, 64))


def test_other_networks_are_refused(tmp_path):
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8]) for name in ("in", "out")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["in"], ["out"])], "g", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "other.onnx"))
    with pytest.raises(UserError, match="is no detector: expected images in and a table of boxes out"):
        load_backend([tmp_path / "other.onnx"], CPU)


def test_malformed_metadata_are_refused(flexible, tmp_path):
    path = shutil.copy(flexible, tmp_path / "bad.onnx")
    without_facts(path, names="{0: ")
    with pytest.raises(UserError, match=r"the metadata of '.*bad\.onnx' are damaged"):
        load_backend([path], CPU)


def test_without_cuda_in_onnx_runtime_the_processor_runs_it(flexible, source, caplog):
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in runtime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    backend = load_backend([flexible], torch.device("cuda"))
    assert "runs on the processor" in caplog.text and "onnxruntime-gpu" in caplog.text
    assert_same(backend, source)


@pytest.mark.slow
def test_export_proves_it(tiny_nam_weights, tmp_path, capsys):
    weights = shutil.copy(tiny_nam_weights, tmp_path / "nam.pt")
    (path,) = export.run(weights=[str(weights)], include=["onnx"], imgsz=[64], dynamic=True)
    assert "compared on 3 images: largest difference" in capsys.readouterr().out
    facts = load_backend([path], CPU).runtime.facts
    assert facts["parity"]["box_px"] < 0.01 and facts["parity"]["images"] == 3
    assert row_of("onnx").path_for(weights) == path
