"""export.py from the outside: what is refused, what is written, and that nothing half done stays behind."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import export
from models.formats import FORMATS, load_backend, torchscript
from models.formats.exported import CannotRunHere
from models.formats.facts import hash_of
from tests.conftest import write_random_weights
from utils.errors import UserError

CPU = torch.device("cpu")
PROJECT = Path(export.__file__).parent


@pytest.fixture
def weights(tiny_weights, tmp_path) -> Path:
    """A copy in a folder of its own, since exports are written beside it."""
    return Path(shutil.copy(tiny_weights, tmp_path / "tiny.pt"))


def files_beside(weights: Path) -> set[str]:
    return {path.name for path in weights.parent.iterdir()}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"include": ["torchscrip"]}, "unknown format; did you mean 'torchscript'?"),
        ({"include": ["zip"]}, "--include zip: unknown format; known: torchscript, onnx"),
        ({"include": []}, "--include names no format"),
        ({"simplify": True}, "--simplify means nothing to torchscript; formats that understand it: onnx"),
        ({"cache": "t.bin"}, "--cache means nothing to torchscript; formats that understand it: engine"),
        ({"int8": True}, "--int8 means nothing to torchscript; formats that understand it: openvino"),
        ({"dynamic": True}, "--dynamic means nothing to torchscript"),
        ({"include": ["onnx"], "optimize": True}, "formats that understand it: torchscript"),
        ({"include": ["openvino"], "half": True, "int8": True}, "--half and --int8 are two precisions"),
        ({"include": ["openvino"], "int8": True}, "INT8 (openvino) is fitted to images like those the model will see"),
        ({"include": ["edgetpu"]}, "INT8 (edgetpu) is fitted to images"),
        ({"calibration_images": 5}, "--calibration-images is for INT8"),
        ({"include": ["tflite"], "per_tensor": True}, "--per-tensor is a way of INT8"),
        ({"half": True}, "--half: TorchScript computes in FP16 on a CUDA device only"),
        ({"include": ["engine"]}, "TensorRT is made on the GPU that will run it"),
        ({"conf_thres": 0.5}, "--conf-thres is for suppression inside the graph; add --nms"),
        ({"agnostic_nms": True}, "--agnostic-nms is for suppression inside the graph; add --nms"),
        ({"weights": ["missing.pt"]}, "'missing.pt' do not exist"),
        ({"weights": ["model.tar"]}, "no known format"),
        ({"weights": ["model.torchscript"]}, "is an exported model already"),
        ({"imgsz": [64, 64, 64]}, "takes one side or height and width"),
        ({"data": "nowhere.yaml"}, "'nowhere.yaml' does not exist"),
        ({"train": True}, "unknown option 'train'; an exported network only detects"),
        ({"opset": 0}, "--opset 0: expected a number of 1 or more"),
    ],
)
def test_wrong_options_are_refused_before_any_work(weights, monkeypatch, options, said):
    monkeypatch.setattr(torchscript, "export", lambda *_: pytest.fail("work has started"))
    with pytest.raises(UserError) as error:
        export.run(**{"weights": [str(weights)], **options})
    assert said in str(error.value)
    assert files_beside(weights) == {"tiny.pt"}


def test_all_missing_packages_are_named_at_once(weights, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        export.run(weights=[weights], include=["onnx", "ncnn"])
    assert "ONNX needs onnx, onnxruntime; ncnn needs" in str(error.value)
    assert str(error.value).endswith("pip install ncnn onnx onnxruntime pnnx")


def test_a_data_set_of_other_classes_is_refused(weights, tiny_dataset, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text(
        yaml.safe_dump(yaml.safe_load(tiny_dataset.read_text()) | {"names": [f"class {index}" for index in range(12)]})
    )
    with pytest.raises(UserError, match="the model knows 10 classes"):
        export.run(weights=[weights], data=str(file))


def test_every_flag_of_v61_is_known():
    help_text = subprocess.run(
        [sys.executable, str(PROJECT / "export.py"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    flags = "--data --weights --imgsz --img --img-size --batch-size --device --half --optimize --int8 --dynamic "
    flags += "--simplify --opset --verbose --workspace --nms --agnostic-nms --topk-per-class --topk-all --iou-thres "
    flags += "--conf-thres --include --per-tensor --mlmodel --cache --plugins --force"
    assert all(flag in help_text for flag in flags.split())
    assert all(row.argument in help_text for row in FORMATS)


def test_sizes_become_multiples_of_the_stride(weights, capsys):
    (path,) = export.run(weights=[weights], imgsz=[50, 70])
    assert load_backend([path], CPU).meta.input_hw == (64, 96)
    assert "--imgsz 50 is not a multiple" in capsys.readouterr().out


def test_the_file_says_what_it_is_and_how_it_was_proven(weights, tiny_dataset, capsys):
    (path,) = export.run(weights=[weights], imgsz=[64], batch_size=2, data=str(tiny_dataset))
    facts = torchscript.load(path, torchscript.LoadSettings()).facts
    assert facts["shape"] == [2, 3, 64, 64] and facts["stride"] == 32 and facts["names"][0] == "circle"
    assert facts["weights"] == "tiny.pt" and facts["weights_hash"] == hash_of(weights)
    assert not (facts["half"] or facts["int8"] or facts["dynamic"] or facts["nms"])
    parity = facts["parity"]
    assert parity["images"] == parity["map_images"] == 4 and parity["rows"] > 0
    assert parity["box_px"] < 0.01 and parity["score"] < 1e-4
    assert parity["map50_95"] == pytest.approx(parity["map50_95_source"], abs=1e-3)
    said = capsys.readouterr().out
    assert "compared on 4 images: largest difference" in said and "mAP50-95" in said
    assert files_beside(weights) == {"tiny.pt", "tiny.torchscript"}


@pytest.mark.slow
def test_a_model_of_other_channels_is_compared_on_noise(tiny_config, tmp_path):
    weights = write_random_weights(tmp_path / "four.pt", tiny_config | {"ch": 4})
    (path,) = export.run(weights=[weights], imgsz=[64])
    assert torchscript.load(path, torchscript.LoadSettings()).facts["parity"]["images"] == 3


def lying(monkeypatch, change) -> None:
    """Let loaded TorchScript files give something else than they do."""
    honest = torchscript.load

    def load(path, settings):
        runtime = honest(path, settings)
        return replace(runtime, run=lambda images: change(runtime.run(images)))

    monkeypatch.setattr(torchscript, "load", load)


def moved(rows: torch.Tensor) -> torch.Tensor:
    return rows + torch.tensor([2.0, 0, 0, 0, *[0] * (rows.shape[2] - 4)])


def louder(rows: torch.Tensor) -> torch.Tensor:
    return rows * torch.tensor([1.0, 1, 1, 1, *[1.5] * (rows.shape[2] - 4)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved, "boxes differ by 2 px (at most 0.5)"),
        pytest.param(louder, "scores differ by", marks=pytest.mark.slow),
        (lambda rows: rows * float("nan"), "boxes differ by nan px"),
    ],
)
def test_a_file_that_differs_from_its_source_is_not_kept(weights, monkeypatch, change, said):
    old = b"the old file"
    (weights.parent / "tiny.torchscript").write_bytes(old)
    lying(monkeypatch, change)
    with pytest.raises(UserError) as error:
        export.run(weights=[weights], imgsz=[64])
    assert "too far from its source for FP32" in str(error.value) and said in str(error.value)
    assert (weights.parent / "tiny.torchscript").read_bytes() == old
    assert files_beside(weights) == {"tiny.pt", "tiny.torchscript"}


def test_formats_that_ignore_an_option_are_named(weights, capsys):
    export.run(weights=[weights], include=["torchscript", "onnx"], imgsz=[64], dynamic=True)
    assert "--dynamic means nothing to torchscript, which will be written without it" in "".join(capsys.readouterr())


def test_one_format_that_the_system_refuses_does_not_stop_the_others(weights, monkeypatch):
    def refused(model, path, settings):
        raise OSError(errno.ENOENT, "no such library", "libx.so")

    monkeypatch.setattr(torchscript, "export", refused)
    with pytest.raises(UserError, match=r"^1 of 2 exports failed, the first: no such library: 'libx\.so'$"):
        export.run(weights=[weights], include=["torchscript", "onnx"], imgsz=[64], force=True)
    assert weights.with_suffix(".onnx").exists()


def test_without_its_runtime_only_force_keeps_a_file(weights, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="needs onnx (requirements-dev.txt)")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="ONNX needs onnxruntime"):
        export.run(weights=[weights], include=["onnx"], imgsz=[64])
    assert not Path(weights).with_suffix(".onnx").exists()
    (path,) = export.run(weights=[weights], include=["onnx"], imgsz=[64], force=True)
    assert path.exists() and "not proven, kept by --force: ONNX needs onnxruntime" in capsys.readouterr().out


def test_force_keeps_it_and_says_so(weights, monkeypatch, capsys):
    lying(monkeypatch, moved)
    (path,) = export.run(weights=[weights], imgsz=[64], force=True)
    assert "kept by --force although boxes differ by 2 px" in capsys.readouterr().out
    assert torchscript.load(path, torchscript.LoadSettings()).facts["parity"]["box_px"] == pytest.approx(2, abs=0.01)


def test_what_cannot_run_here_is_written_and_told(weights, monkeypatch, capsys):
    def load(path, settings):
        raise CannotRunHere("needs another machine")

    honest = torchscript.load
    monkeypatch.setattr(torchscript, "load", load)
    (path,) = export.run(weights=[weights], imgsz=[64])
    assert "not proven here: needs another machine" in capsys.readouterr().out
    assert honest(path, torchscript.LoadSettings()).facts["parity"] is None


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError("no such operator\nlong story"), "RuntimeError: no such operator (--verbose shows more)"),
        (UserError("the model is too new"), "the model is too new"),
        (ImportError("no module"), "TorchScript needs"),
        (KeyboardInterrupt(), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_in_the_middle_leaves_everything_as_it_was(weights, monkeypatch, raised, said):
    (weights.parent / "tiny.torchscript").write_bytes(b"the old file")

    def fail(model, path, settings):
        path.write_bytes(b"half of a file")
        raise raised

    monkeypatch.setattr(torchscript, "export", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(raised, KeyboardInterrupt) else UserError) as error:
        export.run(weights=[weights], imgsz=[64])
    assert said in str(error.value)
    assert (weights.parent / "tiny.torchscript").read_bytes() == b"the old file"
    assert files_beside(weights) == {"tiny.pt", "tiny.torchscript"}


def test_one_failure_does_not_stop_the_others(tiny_weights, tmp_path, monkeypatch):
    first, second = (Path(shutil.copy(tiny_weights, tmp_path / name)) for name in ("a.pt", "b.pt"))
    honest = torchscript.export

    def fail_once(model, path, settings):
        if path.name.startswith("a"):
            raise RuntimeError("bad day")
        honest(model, path, settings)

    monkeypatch.setattr(torchscript, "export", fail_once)
    with pytest.raises(UserError, match="1 of 2 exports failed, the first: RuntimeError: bad day"):
        export.run(weights=[first, second], imgsz=[64])
    assert files_beside(first) == {"a.pt", "b.pt", "b.torchscript"}


def test_a_folder_replaces_a_folder_as_a_whole(tmp_path):
    from utils.export.artefact import replaced_when_done, size_of

    target = tmp_path / "x_model"
    for round_number in (1, 2):
        with replaced_when_done(target, is_folder=True) as path:
            assert path.name == "x_model" and path.is_dir()
            (path / f"{round_number}.bin").write_bytes(b"12345")
    assert [file.name for file in target.iterdir()] == ["2.bin"] and size_of(target) == 5
    with pytest.raises(RuntimeError), replaced_when_done(target, is_folder=True) as path:
        (path / "3.bin").write_bytes(b"1")
        raise RuntimeError
    assert [file.name for file in target.iterdir()] == ["2.bin"]
    with replaced_when_done(target) as path:
        path.write_bytes(b"now a file")
    assert target.read_bytes() == b"now a file"
    assert [file.name for file in tmp_path.iterdir()] == ["x_model"]


@pytest.mark.parametrize(
    ("flag", "code"), [pytest.param("--imgsz=64", 0, marks=pytest.mark.slow), ("--include=zip", 1), ("--train", 2)]
)
def test_exit_codes(weights, flag, code):
    words = [sys.executable, str(PROJECT / "export.py"), "--weights", str(weights), flag]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == code
    assert bool(done.stderr) == bool(code) and done.stderr.count("\n") <= 1
    assert (weights.parent / "tiny.torchscript").exists() == (code == 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_leaves_no_traces(weights):
    program = "import time, export, models.formats.torchscript as t; from utils.options import run_command\n"
    program += "from utils.export.options import ExportOptions\n"
    program += "def slow(model, path, settings): path.write_bytes(b'half'); print('writing', flush=True); "
    program += "time.sleep(30)\nt.export = slow\n"
    program += "run_command('export.py', ExportOptions, export.main, '')"
    words = [sys.executable, "-c", program, "--weights", str(weights), "--imgsz", "64"]
    process = subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.stdout.readline().strip() != "writing":
        assert process.poll() is None
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "interrupted" in errors
    assert files_beside(weights) == {"tiny.pt"}


@pytest.mark.slow
def test_attention_is_proven_like_everything_else(tiny_nam_weights, tmp_path):
    weights = Path(shutil.copy(tiny_nam_weights, tmp_path / "nam.pt"))
    (path,) = export.run(weights=[weights], imgsz=[64])
    assert torchscript.load(path, torchscript.LoadSettings()).facts["parity"]["box_px"] < 0.01
