"""``detect.py --runtime``: another runtime finds the same, is told in one line, and is off unless asked for."""

import shutil

import pytest

import detect
from models.formats import fastest
from utils.detect.options import DetectOptions
from utils.errors import UserError

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fastest, "MEASURED_SECONDS", 0.0)


@pytest.fixture
def images(tiny_dataset):
    return str(tiny_dataset.parent / "images/val")


@pytest.fixture
def weights(tiny_weights, tmp_path):
    return shutil.copy(tiny_weights, tmp_path)


def found(weights, images, tmp_path, runtime: str) -> dict[str, list[list[float]]]:
    folder = detect.run(
        weights=[str(weights)],
        source=images,
        imgsz=[64],
        conf_thres=0.001,
        device="cpu",
        save_txt=True,
        save_conf=True,
        nosave=True,
        project=str(tmp_path / "runs"),
        runtime=runtime,
    )
    lines = {file.name: file.read_text().splitlines() for file in folder.glob("labels/*.txt")}
    return {name: sorted([float(word) for word in line.split()] for line in rows) for name, rows in lines.items()}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", PACKAGES)
def test_another_runtime_finds_the_same(weights, images, tmp_path, runtime, capsys, monkeypatch):
    for package in PACKAGES[runtime]:
        pytest.importorskip(package, reason=f"needs {package} (requirements-dev.txt)")
    monkeypatch.delenv("YOLOV5_CACHE_DIR")
    expected = found(weights, images, tmp_path, "")
    assert "Runtime:" not in capsys.readouterr().out
    assert any(expected.values())
    for told in ("just measured", "measured earlier"):
        other = found(weights, images, tmp_path, runtime)
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Runtime:"))
        assert told in line and "ms an image of 64x64" in line and ".runtime" in line
        assert other.keys() == expected.keys()
        for name, rows in expected.items():
            assert other[name] == [pytest.approx(row, abs=2e-3) for row in rows]


def test_off_by_default():
    assert DetectOptions().runtime == ""


@pytest.mark.parametrize("option", ["augment", "visualize", "half", "dnn"])
def test_what_only_pytorch_can_do_is_not_given_away(tiny_weights, images, tmp_path, option):
    weights = shutil.copy(tiny_weights, tmp_path)
    with pytest.raises(UserError, match=f"--runtime onnx cannot be used: --{option} works with PyTorch only; leave it"):
        detect.run(weights=[str(weights)], source=images, device="cpu", runtime="onnx", **{option: True})


def test_an_unknown_runtime_is_refused(tiny_weights, images):
    with pytest.raises(UserError, match="--runtime fast is not known; use auto, openvino or onnx"):
        detect.run(weights=[str(tiny_weights)], source=images, device="cpu", runtime="fast")
