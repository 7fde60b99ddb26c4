"""TensorRT as far as a machine without it can tell: facts, refusals, and the order of calls with a stand-in."""

import sys
from types import SimpleNamespace

import pytest
import torch

import export
from models.formats import load_backend, tensorrt
from models.formats.exported import CannotRunHere
from models.formats.settings import ExportSettings, LoadSettings
from tests.formats.runtimes import fused
from utils.errors import UserError

ENGINE = b"ftrt" + bytes(range(200))
FACTS = {"stride": 32, "names": {0: "cat"}}


def test_facts_stand_before_the_engine_and_are_replaced(tmp_path):
    path = tmp_path / "a.engine"
    path.write_bytes(ENGINE)
    assert tensorrt.split_facts(path.read_bytes()) == ({}, ENGINE)
    for facts in (FACTS, FACTS | {"parity": None}):
        tensorrt.write_facts(path, facts)
        assert tensorrt.split_facts(path.read_bytes()) == (facts, ENGINE)


def test_a_file_of_later_yolov5_is_understood():
    text = b'{"stride": 32, "names": {"0": "cat"}}'
    content = len(text).to_bytes(4, "little") + text + ENGINE
    assert tensorrt.split_facts(content) == (FACTS, ENGINE)


@pytest.mark.parametrize("content", [b"", b"\x02", b"\xff\xff\xff\xff{", b"\x03\x00\x00\x00{x}engine"])
def test_what_is_no_text_is_engine(content):
    assert tensorrt.split_facts(content) == ({}, content)


def test_no_gpu_is_one_line(tiny_weights, tmp_path):
    (tmp_path / "a.engine").write_bytes(ENGINE)
    with pytest.raises(CannotRunHere, match=r"a\.engine' runs on NVIDIA GPUs; add --device 0, or name the \.pt file"):
        load_backend([tmp_path / "a.engine"], torch.device("cpu"))
    with pytest.raises(UserError, match="TensorRT is made on the GPU that will run it; export it there with --device"):
        export.run(weights=[str(tiny_weights)], include=["engine"])


def test_no_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    (tmp_path / "a.engine").write_bytes(ENGINE)
    with pytest.raises(UserError, match=r"^TensorRT needs tensorrt \(.*\): pip install tensorrt$"):
        load_backend([tmp_path / "a.engine"], torch.device("cuda", 0))


def test_an_old_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="8.6.1"))
    with pytest.raises(UserError, match=r"TensorRT 8\.6\.1 is too old: pip install 'tensorrt>=10'"):
        tensorrt.load(tmp_path / "a.engine", LoadSettings("cuda:0"))


def test_a_dynamic_engine_takes_all_shapes_up_to_the_largest(tiny_weights):
    shapes = []
    profile = SimpleNamespace(set_shape=lambda *given: shapes.append(given))
    builder = SimpleNamespace(create_optimization_profile=lambda: profile)
    settings = ExportSettings(input_hw=(320, 640), batch_size=8, dynamic=True)
    assert tensorrt._profile(builder, fused(tiny_weights), settings) is profile
    assert shapes == [("images", (1, 3, 32, 32), (4, 3, 320, 640), (8, 3, 320, 640))]


def test_timings_are_kept_only_where_a_file_is_named(tmp_path):
    given = []
    config = SimpleNamespace(
        create_timing_cache=lambda content: given.append(content) or "cache",
        set_timing_cache=lambda cache, ignore_mismatch: given.append((cache, ignore_mismatch)),
    )
    assert tensorrt._timings(config, "") is None
    file = tmp_path / "timings"
    tensorrt._timings(config, str(file))
    file.write_bytes(b"known")
    tensorrt._timings(config, str(file))
    assert given == [b"", ("cache", False), b"known", ("cache", False)]
