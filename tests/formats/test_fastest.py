"""--runtime auto: exported once, proven, measured, remembered; and what PyTorch has to run."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.formats import FORMATS, fastest, load_backend, remembered
from models.formats.fastest import choose_runtime, measure
from models.formats.remembered import FOLDER, MEMORY
from models.formats.writing import load_written
from models.loading import runtime_weights
from utils.errors import UserError
from utils.files import ROOT

SIZE = (64, 64)
CPU = torch.device("cpu")
TORCHSCRIPT = "torchscript"  # stands for the runtimes that need packages: its row is like theirs


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("YOLOV5_CACHE_DIR")
    monkeypatch.setattr(remembered, "RUNTIMES", (TORCHSCRIPT,))
    monkeypatch.setattr(fastest, "MEASURED_SECONDS", 0.0)


@pytest.fixture
def weights(tiny_weights, tmp_path):
    return shutil.copy(tiny_weights, tmp_path / "best.pt")


@pytest.fixture
def times(monkeypatch):
    """Let the measurement give these ms, and count how often it is made."""
    given = {"PyTorch": 20.0, "TorchScript": 10.0, "calls": 0}

    def pretend(backends, images):
        given["calls"] += 1
        return {name: given[name] for name in backends}

    monkeypatch.setattr(fastest, "measure", pretend)
    return given


@pytest.fixture
def ready_made(monkeypatch):
    """Save the time of exporting: what is written and read back is a stand-in."""
    monkeypatch.setattr(fastest, "write", lambda row, model, path, settings, weights: path.touch() or {})
    monkeypatch.setattr(fastest, "load_written", lambda row, path, settings, pixels: SimpleNamespace(find_rows=None))
    monkeypatch.setattr(fastest, "add_facts", lambda row, path, facts: path.write_text(json.dumps(facts)))
    monkeypatch.setattr(fastest, "load_backend", lambda paths, device, parallel, pixels=False: None)


def agree(source, exported, find_rows):
    return {"images": 1}, []


def same(source, exported, find_rows):
    images = torch.rand(1, 3, *SIZE)
    torch.testing.assert_close(exported(images), source(images), rtol=1e-3, atol=1e-3)
    return {"images": 1}, []


def test_the_fastest_is_exported_once_and_remembered(weights, times):
    first = choose_runtime(weights, "auto", SIZE, same)
    assert (first.name, first.remembered, times["calls"]) == ("TorchScript", False, 1)
    assert first.path.parent.parent == weights.parent / FOLDER and first.path.name == "best.torchscript"
    assert first.line() == (
        f"Runtime: TorchScript, 10.0 ms an image of 64x64 (PyTorch 20.0), just measured: {first.path}"
    )
    second = choose_runtime(weights, "auto", SIZE, same)
    assert (second.path, second.remembered, times["calls"]) == (first.path, True, 1)
    assert "measured earlier" in second.line()
    images = torch.rand(1, 3, *SIZE)
    expected = load_backend([weights], CPU)(images)
    torch.testing.assert_close(load_backend([second.path], CPU)(images), expected, rtol=1e-3, atol=1e-3)
    row = next(row for row in FORMATS if row.argument == TORCHSCRIPT)
    assert load_written(row, second.path, fastest.ExportSettings()).runtime.facts["parity"] == {"images": 1}


def test_pytorch_may_be_the_fastest(weights, times, ready_made):
    times["PyTorch"] = 5.0
    for _ in range(2):
        choice = choose_runtime(weights, "auto", SIZE, agree)
        assert (choice.name, choice.path, times["calls"]) == ("PyTorch", weights, 1)
    assert [file.name for file in (weights.parent / FOLDER).rglob("*") if file.is_file()] == [MEMORY]
    certain = choose_runtime(weights, TORCHSCRIPT, SIZE, agree)
    assert certain.name == "TorchScript" and certain.path.exists()


@pytest.mark.parametrize("days", [0, 2])
def test_changed_weights_are_exported_anew_and_the_old_export_goes(weights, times, ready_made, tiny_nam_weights, days):
    first = choose_runtime(weights, "auto", SIZE, agree)
    made = time.time() - days * 24 * 3600
    os.utime(first.path.parent, (made, made))
    shutil.copy(tiny_nam_weights, weights)
    second = choose_runtime(weights, "auto", SIZE, agree)
    assert second.path != first.path and second.path.exists() and times["calls"] == 2
    assert first.path.exists() == (days < 1)  # another process may be about to load it


@pytest.mark.parametrize("change", ["version", "damaged", "list", "number", "gone", "processor"])
def test_other_circumstances_are_measured_anew(change, weights, times, ready_made, monkeypatch):
    first = choose_runtime(weights, "auto", SIZE, agree)
    memory = first.path.parent / MEMORY
    content = json.loads(memory.read_text())
    if change == "version":
        memory.write_text(json.dumps(content | {"versions": {"torch": "1.0"}}))
    elif change == "damaged":
        memory.write_text("{")
    elif change == "list":
        memory.write_text("[]")
    elif change == "number":
        memory.write_text(json.dumps(content | {"milliseconds": {"TorchScript": "fast"}}))
    elif change == "gone":
        first.path.unlink()
    else:
        monkeypatch.setattr(remembered, "processor_name", lambda: "another")
    second = choose_runtime(weights, "auto", SIZE, agree)
    assert not second.remembered and times["calls"] == 2 and second.path.exists()


def test_weights_saved_anew_meanwhile_do_not_take_the_export_along(weights, times, ready_made, tiny_nam_weights):
    def train_on(source, exported, find_rows):
        shutil.copy(tiny_nam_weights, weights)
        return {}, []

    choice = choose_runtime(weights, "auto", SIZE, train_on)
    assert choice.name == "TorchScript" and choice.path.exists()
    assert choose_runtime(weights, "auto", SIZE, agree).path != choice.path


def test_what_sees_something_else_is_left_out(weights, times, ready_made, caplog):
    different = lambda source, exported, find_rows: ({}, ["boxes differ by 9 px"])  # noqa: E731
    with caplog.at_level(logging.WARNING, "yolov5"):
        assert choose_runtime(weights, "auto", SIZE, different).name == "PyTorch"
    assert "TorchScript left out: too far from PyTorch: boxes differ by 9 px" in caplog.text
    with pytest.raises(UserError, match=r"--runtime torchscript: TorchScript cannot run .*boxes differ by 9 px"):
        choose_runtime(weights, TORCHSCRIPT, SIZE, different)
    assert not [path for path in (weights.parent / FOLDER).iterdir() if path.name.startswith(".")]


def test_folders_that_cannot_be_written(weights, times, ready_made, tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "_can_write", lambda folder: False)
    monkeypatch.setattr(remembered, "_user_cache", lambda: tmp_path / "cache")
    assert (tmp_path / "cache") in choose_runtime(weights, "auto", SIZE, agree).path.parents
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "named"))
    assert (tmp_path / "named/runtime") in choose_runtime(weights, "auto", SIZE, agree).path.parents
    assert not (weights.parent / FOLDER).exists()


def test_missing_runtimes(weights, monkeypatch, caplog):
    monkeypatch.setattr(remembered, "RUNTIMES", ("engine",))
    monkeypatch.setattr(remembered, "_version", lambda package: "")
    with caplog.at_level(logging.WARNING, "yolov5"):
        choice = choose_runtime(weights, "auto", SIZE, agree)
    assert (choice.path, choice.line()) == (weights, f"Runtime: PyTorch: {weights}")
    assert "no other runtime is installed: pip install tensorrt" in caplog.text
    with pytest.raises(UserError, match="pip install onnx tensorrt"):
        choose_runtime(weights, "engine", SIZE, same)


def test_measuring_takes_turns_and_divides_by_calls_at_a_time():
    calls = []

    class Counted:
        def __init__(self, name, parallel):
            self.name, self.parallel = name, parallel

        def find_rows(self, pixels, least):
            calls.append(self.name)

    found = measure({"a": Counted("a", 1), "b": Counted("b", 2)}, np.zeros((1, 8, 8, 3), np.uint8), 0.0)
    assert set(found) == {"a", "b"} and all(value > 0 for value in found.values())
    assert calls[:6] == ["a", "b", "b", "a", "b", "b"]


@pytest.mark.parametrize(
    ("weights", "device", "kept_by", "reason"),
    [
        (["a.pt", "b.pt"], "cpu", "", "2 --weights make an ensemble"),
        (["a.onnx"], "cpu", "", "'a.onnx' is exported already"),
        (["a.pt"], "cuda", "", "this runs on cuda"),
        (["a.pt"], "cpu", "--augment", "--augment works with PyTorch only"),
    ],
)
def test_what_only_the_named_weights_can_do_stays_with_them(
    weights, device, kept_by, reason, caplog, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in weights:
        Path(name).touch()
    with caplog.at_level(logging.INFO, "yolov5"):
        assert runtime_weights(weights, "auto", torch.device(device), [64], kept_by) == weights
    assert reason in caplog.text
    with pytest.raises(UserError, match="--runtime onnx cannot be used: "):
        runtime_weights(weights, "onnx", torch.device(device), [64], kept_by)
    assert runtime_weights(weights, "", torch.device(device), [64], kept_by) == weights


def test_weights_that_are_not_there_are_named():
    with pytest.raises(UserError, match=r"weights 'gone\.pt' do not exist"):
        runtime_weights(["gone.pt"], "auto", torch.device("cpu"), [64])


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_real_runtimes_take_all_sizes_and_many_threads(runtime, package, weights, monkeypatch):
    pytest.importorskip(package, reason=f"needs {package} (requirements-dev.txt)")
    from concurrent.futures import ThreadPoolExecutor

    import models

    monkeypatch.setattr(remembered, "RUNTIMES", ("openvino", "onnx"))
    (path,) = runtime_weights([str(weights)], runtime, CPU, [64])
    assert runtime_weights([str(weights)], runtime, CPU, [64]) == [path]
    if runtime == "openvino":
        code = (
            "import sys; from models.opening import Opening, open_weights\n"
            f"opened = open_weights([{str(weights)!r}], Opening(device='cpu', runtime='openvino'))\n"
            "assert str(opened.path) == sys.argv[1] and 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True)
    exported, source = models.load(path, "cpu"), models.load(weights, "cpu")
    exported.conf = source.conf = 0.001
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(64, 64), (48, 96), (96, 40)]] * 4
    expected = [source(image, size=96).pred[0] for image in images]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda image: exported(image, size=96).pred[0], images))
    assert sum(map(len, expected)) > 0
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other[:, :4], one[:, :4], rtol=0, atol=0.5)
        torch.testing.assert_close(other[:, 4], one[:, 4], rtol=0, atol=1e-3)
