"""OpenVINO folders: of this project and of YOLOv5; FP32 stays FP32, and INT8 leaves the head alone."""

import ctypes
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
import torch

import export
from models.formats import load_backend
from models.formats import openvino as format_module
from models.formats.levels import rows_of_levels
from models.formats.openvino import unobserved
from models.formats.settings import LoadSettings, NmsSettings
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
from utils.files import ROOT, read_yaml, write_yaml

with unobserved():
    openvino = pytest.importorskip("openvino", reason="needs openvino (requirements-dev.txt)")


@pytest.fixture(scope="module")
def source(tiny_weights):
    return load_backend([tiny_weights], CPU)


@pytest.fixture(scope="module")
def flexible(tiny_weights, tmp_path_factory):
    """For images of any size and number."""
    return written("openvino", tiny_weights, tmp_path_factory.mktemp("flexible"), dynamic=True)


@pytest.fixture
def copied(flexible, tmp_path):
    return shutil.copytree(flexible, tmp_path / flexible.name)


def operations(path) -> list:
    return openvino.Core().read_model(path).get_ordered_ops()


def test_any_size_and_number_of_images(flexible, source):
    backend = load_backend([flexible], CPU)
    assert_same(backend, source)
    assert backend.meta == source.meta
    assert_same(load_backend([flexible / "tiny.xml"], CPU), source)


def test_the_folder_is_as_the_spec_says(flexible, source):
    assert sorted(file.name for file in flexible.iterdir()) == ["tiny.bin", "tiny.xml", "tiny.yaml"]
    facts = read_yaml(flexible / "tiny.yaml")
    assert facts["stride"] == 32 and facts["names"] == source.meta.names
    network = openvino.Core().read_model(flexible / "tiny.xml")
    assert network.input("images").partial_shape.to_string() == "[?,3,?,?]"
    assert network.output("output0").partial_shape[2].get_length() == 15


def test_threads_do_not_disturb_each_other(flexible):
    torch.set_num_threads(4)
    try:
        assert_threads_agree(flexible)
        assert [load_backend([flexible], CPU, parallel=wanted).parallel for wanted in (None, 1, 2, 8)] == [1, 1, 2, 4]
    finally:
        torch.set_num_threads(1)


def assert_same_rows(backend, source, shape=(2, 64, 96, 3)):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    least = float(np.median(np.concatenate(source.find_rows(pixels, 0.0))[:, 4])) + 1e-5
    for found, wanted in zip(backend.find_rows(pixels, least), source.find_rows(pixels, least), strict=True):
        assert len(wanted) > 100
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_rows_are_found_in_pixels(flexible, source):
    backend = load_backend([flexible], CPU, pixels=True)
    assert backend.runtime.find_rows
    assert_same_rows(backend, source)
    assert_same_rows(load_backend([flexible], CPU), source)  # by the table


def test_a_file_whose_levels_do_not_fit_its_facts_is_read_by_its_table(copied, source):
    facts = read_yaml(copied / "tiny.yaml")
    write_yaml(copied / "tiny.yaml", facts | {"anchors": [pairs[:2] for pairs in facts["anchors"]]})
    assert_same_rows(load_backend([copied], CPU, pixels=True), source)


@pytest.mark.slow
def test_an_export_whose_single_boxes_are_others_than_its_table_is_refused(tiny_weights, tmp_path, monkeypatch):
    weights = str(shutil.copy(tiny_weights, tmp_path))
    biased = lambda *given: [rows + 1 for rows in rows_of_levels(*given)]  # noqa: E731
    monkeypatch.setattr(format_module, "rows_of_levels", biased)
    with pytest.raises(UserError, match=r"too far from its source for FP32: likely boxes 1 px and scores 1 away"):
        export.run(weights=[weights], include=["openvino"], imgsz=[64])
    monkeypatch.setattr(format_module, "rows_of_levels", lambda *given: [rows[1:] for rows in rows_of_levels(*given)])
    with pytest.raises(UserError, match=r"likely boxes instead of"):
        export.run(weights=[weights], include=["openvino"], imgsz=[64])
    monkeypatch.undo()
    export.run(weights=[weights], include=["openvino"], imgsz=[64])


def test_the_first_calls_of_several_threads_do_not_wait_for_each_other(flexible):
    """OpenVINO 2026.4 does so in every second process, where it was not asked for the type of its input before."""
    code = (
        "import sys, threading, numpy; sys.setswitchinterval(1e-6)\n"
        "from models.formats import load_backend\n"
        f"backend = load_backend([{str(flexible)!r}], 'cpu', parallel=2, pixels=True)\n"
        "start, pixels = threading.Barrier(2), numpy.zeros((1, 64, 64, 3), numpy.uint8)\n"
        "work = lambda: (start.wait(), backend.find_rows(pixels, 0.5))\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "assert 'torch' not in sys.modules"
    )
    for _ in range(3):
        environment = os.environ | {"OMP_NUM_THREADS": "2"}
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=60, check=True)


def test_later_calls_leave_earlier_results_alone(flexible):
    backend = load_backend([flexible], CPU)
    first = backend(random_images(0, 1, 64, 64))
    kept = first.clone()
    backend(random_images(1, 1, 64, 64))
    assert torch.equal(first, kept)


def test_numbers_are_those_that_were_asked_for(flexible, tiny_weights, source, tmp_path, monkeypatch):
    constants = [
        operation for operation in operations(flexible / "tiny.xml") if operation.get_type_name() == "Constant"
    ]
    assert "f16" not in {operation.get_element_type().get_type_name() for operation in constants}
    half = written("openvino", tiny_weights, tmp_path, half=True)
    assert (half / "tiny.bin").stat().st_size < 0.6 * (flexible / "tiny.bin").stat().st_size
    configs = []
    compile_model = openvino.Core.compile_model

    def spy(core, network, device, config):
        configs.append(config)
        compiled = compile_model(core, network, device, config)
        configs.append({"computes": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()})
        return compiled

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    for path in (flexible, half):
        images = random_images(0, 1, 64, 64)
        found = load_backend([path], CPU)(images)
        torch.testing.assert_close(found, source(images), rtol=0.01, atol=0.1)
    assert configs[1] == configs[3] == {"computes": "f32"}


@pytest.mark.slow
def test_one_size_only(tiny_weights, source, tmp_path):
    backend = load_backend([written("openvino", tiny_weights, tmp_path, input_hw=(64, 96), batch_size=2)], CPU)
    assert backend.meta.input_hw == (64, 96)
    assert_same(backend, source, [(2, 64, 96), (1, 64, 96), (3, 64, 96)])
    with pytest.raises(UserError, match=r"takes images of 64x96 px only, got 64x64; use --imgsz 64 96, or export it"):
        backend(random_images(0, 1, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "flexible"])
def test_suppression_inside_the_graph(tiny_config, tmp_path, dynamic):
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written("openvino", weights, tmp_path, nms=NmsSettings(most=30), dynamic=dynamic)
    network = openvino.Core().read_model(path / "lively.xml")
    assert network.output("output0").partial_shape.to_string() == ("[?,30,6]" if dynamic else "[1,30,6]")
    assert_same_detections(load_backend([path], CPU), load_backend([weights], CPU), 30)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    (found,), (wanted,) = (load_backend([path], CPU, pixels=given).find_rows(pixels, 0.1) for given in (True, False))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_files_of_v61_are_understood(tiny_weights, source, tmp_path):
    with unobserved(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = AsV61(fused(tiny_weights)).eval()
        network = openvino.convert_model(old, example_input=torch.zeros(1, 3, 64, 64), input=[[1, 3, 64, 64]])
    folder = tmp_path / "old_openvino_model"
    openvino.save_model(network, folder / "old.xml", compress_to_fp16=False)
    assert len(network.outputs) == 4
    backend = load_backend([folder], CPU)
    assert backend.meta.names == {index: f"class{index}" for index in range(10)}
    assert backend.meta.input_hw == (64, 64)
    assert_same(backend, source, [(1, 64, 64)])
    assert_same_rows(load_backend([folder], CPU, pixels=True), source, (1, 64, 64, 3))
    assert load_backend([folder], CPU, names=source.meta.names).meta.names == source.meta.names


def calibration() -> Iterator[np.ndarray]:
    yield from (blobs(seed).numpy() for seed in range(8))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"nms": NmsSettings(most=30)}], ids=["", "flexible", "nms"])
def test_int8_leaves_the_head_alone(tiny_config, tmp_path, options):
    pytest.importorskip("nncf", reason="needs nncf (requirements-dev.txt)")
    weights = write_lively_weights(tmp_path / "lively.pt", tiny_config)
    path = written("openvino", weights, tmp_path, int8=True, calibration=calibration, **options)
    assert path.name == "lively_int8_openvino_model"
    quantised = [node for node in operations(path / "lively.xml") if node.get_type_name() == "FakeQuantize"]
    head, parameters = (
        f"model.model.{len(fused(weights).model) - 1}",
        sum(p.numel() for p in fused(weights).parameters()),
    )
    assert len(quantised) > 50
    assert not [node for node in quantised if f".{head}/" in node.get_friendly_name() or f".{head}." in str(node)]
    assert (path / "lively.bin").stat().st_size < 1.6 * parameters
    exported, original = load_backend([path], CPU), load_backend([weights], CPU)
    if "nms" not in options:
        images = blobs(5)
        scores = torch.stack([model(images)[..., 4:].flatten() for model in (exported, original)])
        assert torch.corrcoef(scores)[0, 1] > 0.8
    assert exported.meta.names == original.meta.names


@pytest.mark.slow
def test_export_fits_int8_to_the_data_set_and_proves_it(tiny_weights, tiny_dataset, tmp_path, capsys):
    pytest.importorskip("nncf", reason="needs nncf (requirements-dev.txt)")
    weights = shutil.copy(tiny_weights, tmp_path / "tiny.pt")
    (path,) = export.run(
        weights=[str(weights)], include=["openvino"], imgsz=[64], int8=True, data=str(tiny_dataset), force=True
    )
    facts = load_backend([path], CPU).runtime.facts
    assert facts["int8"] and facts["parity"]["map_images"] == 4
    assert "mAP50-95" in capsys.readouterr().out
    assert row_of("openvino").path_for(weights, int8=True) == path


def test_int8_without_its_package_is_refused(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--int8: OpenVINO needs nncf: pip install nncf"):
        written("openvino", tiny_weights, tmp_path, int8=True, calibration=calibration)


def test_a_missing_runtime_is_named(flexible, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"OpenVINO needs openvino .*: pip install openvino"):
        load_backend([flexible], CPU)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tiny.xml", b"<net", r"tiny\.xml' or its \.bin is missing or damaged"),
        ("tiny.xml", b"", r"tiny\.xml' or its \.bin is missing or damaged"),
        ("tiny.xml", None, r"holds no \*\.xml; export the model again"),
        ("tiny.bin", None, r"tiny\.xml' or its \.bin is missing or damaged"),
        ("tiny.bin", b"short", r"tiny\.xml' or its \.bin is missing or damaged"),
        ("tiny.yaml", b"names: 5", r"tiny\.yaml' is damaged; export the model again"),
        ("tiny.yaml", b"names: {a: b", r"tiny\.yaml"),
        ("tiny.yaml", b"- 5", r"tiny\.yaml"),
    ],
)
def test_damaged_folders_are_refused(copied, name, content, said):
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_backend([copied], CPU)


def test_other_networks_are_refused(tmp_path):
    from openvino import opset13

    value = opset13.parameter([1, 8], np.float32)
    openvino.save_model(openvino.Model([opset13.relu(value)], [value], "other"), tmp_path / "other.xml")
    with pytest.raises(UserError, match="is no detector: expected images in and a table of boxes out"):
        load_backend([tmp_path / "other.xml"], CPU)


@pytest.mark.parametrize("before", [None, "false"])
def test_nothing_is_reported_and_the_environment_stays(before, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    if before:
        monkeypatch.setenv("CI", before)
    with unobserved():
        assert os.environ["CI"] == "true"
    assert os.environ.get("CI") == before


@pytest.mark.slow
def test_attention_is_proven_like_everything_else(tiny_nam_weights, tmp_path):
    weights = shutil.copy(tiny_nam_weights, tmp_path / "nam.pt")
    (path,) = export.run(weights=[str(weights)], include=["openvino"], imgsz=[64], dynamic=True)
    assert load_backend([path], CPU).runtime.facts["parity"]["box_px"] < 0.01
    assert_same(load_backend([path], CPU), load_backend([weights], CPU))
    assert LoadSettings().parallel is None


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_: ClassVar = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack() -> tuple[int | None, int]:
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.address, stack.size


@pytest.mark.skipif(sys.platform != "linux", reason="stack_t is laid out as on Linux")
def test_signals_keep_their_stack(flexible):
    before = signal_stack()
    backends = [load_backend([flexible], CPU, parallel=parallel) for parallel in (1, 2)]
    assert_same(backends[1], backends[0])
    assert signal_stack() == before  # OpenVINO's own would be gone with the network
