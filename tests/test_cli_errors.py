"""What the commands say of bad input: one line on standard error, an exit code, and nothing half-written."""

import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from torch import nn

from utils import checkpoint
from utils.checkpoint import read_checkpoint
from utils.files import ROOT
from utils.options import run_command

OPTIONS = {"train": "TrainOptions", "val": "ValOptions", "detect": "DetectOptions", "export": "ExportOptions"}


class Outcome(NamedTuple):
    code: int
    output: str
    errors: str


class Command:
    """Runs the scripts in this process, with options that would succeed before those that a test adds."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: Any, base: dict[str, list[str]]) -> None:
        self.patch, self.capture, self.base = patch, capture, base

    def __call__(self, script: str, *words: object, base: bool = True) -> Outcome:
        module = importlib.import_module(script)
        argv = [f"{script}.py", *(self.base[script] if base else []), *map(str, words)]
        self.patch.setattr(sys, "argv", argv)
        self.capture.readouterr()
        code = 0
        try:
            run_command(f"{script}.py", getattr(module, OPTIONS[script]), module.main, module.__doc__)
        except SystemExit as end:
            code = end.code
        return Outcome(code, *self.capture.readouterr())

    def fails(self, script: str, *words: object, code: int = 1, base: bool = True) -> str:
        """Run, check that it ends with ``code`` and one line on standard error, and return what that line says."""
        outcome = self(script, *words, base=base)
        assert_one_line(script, outcome)
        assert outcome.code == code
        return outcome.errors


def assert_one_line(script: str, outcome: Outcome) -> None:
    assert "Traceback" not in outcome.output + outcome.errors
    assert outcome.errors.startswith(f"{script}.py: error: ")
    assert outcome.errors.endswith("\n") and outcome.errors.count("\n") == 1


@pytest.fixture
def command(tmp_path, monkeypatch, capfd, recwarn, tiny_dataset, tiny_cfg, tiny_weights):
    weights = shutil.copy(tiny_weights, tmp_path / "model.pt")
    common = ["--imgsz", "64", "--device", "cpu", "--project", str(tmp_path / "runs")]
    data, model = ["--data", str(tiny_dataset), "--workers", "0"], ["--weights", str(weights)]
    training = ["--cfg", str(tiny_cfg), "--weights", "", "--epochs", "1", "--batch-size", "4", "--warmup-min", "1"]
    base = {
        "train": [*common, *data, *training],
        "val": [*common, *data, *model],
        "detect": [*common, *model, "--source", str(tiny_dataset.parent / "images/val")],
        "export": ["--imgsz", "64", *model],
    }
    yield Command(monkeypatch, capfd, base)
    assert not recwarn.list  # Python would print them on standard error


@pytest.fixture
def nothing_written(tmp_path):
    yield
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob("**/.*"))
    assert not list(tmp_path.glob("**/*.torchscript"))


# Options


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("train", ["--batch-size", -2], "--batch-size -2: expected a number of -1 or more"),
        ("train", ["--batch-size", -5], "--batch-size -5"),
        ("train", ["--epochs", 0], "--epochs 0"),
        ("train", ["--epochs", -1], "--epochs -1"),
        ("train", ["--epochs", "three"], "--epochs: invalid int value: 'three'"),
        ("train", ["--workers", -1], "--workers -1"),
        ("train", ["--label-smoothing", "nan"], "--label-smoothing nan: expected a number from 0 to 1"),
        ("train", ["--seed", -1], "--seed -1"),
        ("train", ["--patience", -1], "--patience -1"),
        ("train", ["--ephocs", 3], "unrecognized arguments: --ephocs 3; did you mean '--epochs'"),
        ("val", ["--batch-size", 0], "--batch-size 0"),
        ("val", ["--conf-thres", 2], "--conf-thres 2.0: expected a number from 0 to 1"),
        ("val", ["--iou-thres", -0.1], "--iou-thres -0.1"),
        ("val", ["--task", "test "], "--task"),
        ("val", ["--task", "benchmark"], "invalid choice: 'benchmark'"),
        ("val", ["--workers", -1], "--workers -1"),
        ("detect", ["--conf-thres", "nan"], "--conf-thres nan"),
        ("detect", ["--conf-thres"], "--conf-thres: expected one argument"),
        ("detect", ["--max-det", 0], "--max-det 0"),
        ("detect", ["--line-thickness", 0], "--line-thickness 0"),
        ("detect", ["--classes", "cat"], "--classes: invalid int value: 'cat'"),
        ("detect", ["--save", "x"], "ambiguous option: --save could match --save-txt, --save-format"),
        ("export", ["--batch-size", 0], "--batch-size 0"),
    ],
)
def test_wrong_options_exit_with_2(command, nothing_written, script, words, said):
    assert said in command.fails(script, *words, code=2)


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        *((name, ["--imgsz", 0], "--imgsz 0: expected a size above 0") for name in OPTIONS),
        *((name, ["--imgsz", -64], "--imgsz -64") for name in OPTIONS),
        ("detect", ["--imgsz", 64, 64, 64], "--imgsz takes one side or height and width, got 3 numbers"),
        ("export", ["--imgsz", 64, 0], "--imgsz 0"),
        *(
            (name, ["--device", "nonsense"], "--device 'nonsense' is not understood")
            for name in OPTIONS
            if name != "export"
        ),
        ("detect", ["--device", "²"], "--device '²' is not understood"),
        ("detect", ["--device", "0,1"], "--device 0,1: torch sees 0 CUDA devices"),
        ("train", ["--batch-size", 0], "--batch-size 0: give a number of images, or -1 for what fits into memory"),
        ("detect", ["--device", "99"], "--device 99: torch sees"),
        ("detect", ["--classes", 3, 10], "--classes 10: the model has classes 0 to 9 only"),
        ("detect", ["--classes", -1], "--classes -1"),
        ("export", ["--include", "torchscrip"], "unknown format; did you mean 'torchscript'"),
        ("export", ["--include", "torchscript", "nonsense"], "--include nonsense: unknown format; known: torchscript"),
    ],
)
def test_impossible_options_exit_with_1(command, nothing_written, script, words, said):
    assert said in command.fails(script, *words)


# Missing files, and folders where files are expected


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        *((name, "--weights") for name in OPTIONS),
        *(("train", flag) for flag in ("--cfg", "--data", "--hyp", "--resume")),
        ("val", "--data"),
        ("detect", "--source"),
    ],
)
def test_missing_files_are_named(command, nothing_written, tmp_path, script, flag):
    missing = tmp_path / "missing.pt"
    message = command.fails(script, flag, missing)
    assert f"'{missing}' do" in message and "not exist" in message


@pytest.mark.parametrize(
    ("script", "flag", "said"),
    [
        ("train", "--cfg", "is a folder, expected a file"),
        ("train", "--data", "is a folder, expected a file"),
        ("train", "--hyp", "is a folder, expected a file"),
        ("train", "--weights", "are a folder, expected a .pt file"),
        ("train", "--resume", "last.pt' does not exist"),
        ("val", "--data", "is a folder, expected a file"),
        ("val", "--weights", "are a folder, expected a .pt file"),
        ("detect", "--weights", "are a folder, expected a .pt file"),
        ("detect", "--source", "no files there"),
        ("export", "--weights", "are a folder, expected a .pt file"),
    ],
)
def test_folders_are_no_files(command, nothing_written, tmp_path, script, flag, said):
    folder = tmp_path / "folder.pt"
    folder.mkdir()
    assert said in command.fails(script, flag, folder)


@pytest.mark.parametrize("script", ["val", "detect", "export"])
def test_no_weights_at_all(command, nothing_written, tmp_path, monkeypatch, script, tiny_dataset):
    monkeypatch.setattr("utils.weights.ROOT", tmp_path)
    monkeypatch.setattr("utils.weights.runs_dir", lambda kind: tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    own = {"val": ["--data", tiny_dataset], "detect": ["--source", tiny_dataset.parent / "images/val"], "export": []}
    assert "no --weights given" in command.fails(script, *own[script], base=False)


def test_nothing_to_train(command, nothing_written):
    assert "nothing to train: name a model with --cfg" in command.fails("train", "--cfg", "")


# YAML files


@pytest.mark.parametrize("flag", ["--data", "--cfg", "--hyp"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must hold a YAML mapping"),
        ("- 1\n- 2\n", "must hold a YAML mapping ('word: value' lines), got list"),
        ("just text", "got str"),
        ("1: one\n2: two\n", "got the keys [1, 2]"),
        ("nc: 3\nnames: [a, b\n", "yaml:3: malformed YAML"),
        ("nc: 3\n\tnames: x\n", "yaml:2: malformed YAML"),
        ("names: caf\u00e9".encode("latin-1"), "is not a UTF-8 text file"),
        (b"names: a\x00b", "malformed YAML: unacceptable character"),
        ("when: 2024-99-99", "malformed YAML: month must be in 1..12"),
        ("[" * 3000, "malformed YAML"),
        (
            "names: !!python/object/apply:os.system ['touch {flag}']",
            "yaml:1: malformed YAML: could not determine a constr",
        ),
        ("names: !!python/name:os.system\n", "malformed YAML"),
    ],
)
def test_files_that_are_no_yaml_mapping(command, nothing_written, tmp_path, flag, content, said):
    file, planted = tmp_path / "bad.yaml", tmp_path / "planted"
    file.write_bytes(content if isinstance(content, bytes) else content.replace("{flag}", str(planted)).encode())
    message = command.fails("train", flag, file)
    assert said in message and str(file) in message
    assert not planted.exists()


@pytest.mark.parametrize("script", ["train", "val"])
def test_weights_given_as_data(command, nothing_written, script, tiny_weights):
    assert "is not a UTF-8 text file" in command.fails(script, "--data", tiny_weights)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": None}, "'names' is missing"),
        ({"train": None}, "'train' is missing"),
        ({"val": None}, "'val' is missing"),
        ({"val": "images/valid"}, "'images/valid' (val) not found"),
        ({"val": 3}, "'val' is 3"),
        ({"nc": 3}, "'nc' is 3 but 'names' has 10 entries"),
        ({"nc": "ten"}, "'nc' is 'ten'"),
        ({"nc": -1}, "'nc' is -1"),
        ({"names": "circle"}, "'names' is 'circle'"),
        ({"names": []}, "'names' is []"),
        ({"names": {1: "a", 2: "b"}}, "expected 0 to 1"),
        ({"names": ["a", False]}, "put the name in quotes"),
        ({"names": ["only"]}, "has 1 classes (0 to 0)"),
        ({"nmaes": ["a"]}, "unknown key 'nmaes'; did you mean 'names'"),
        ({"train": "nowhere", "val": "nowhere", "generator": "shapes11"}, "unknown generator 'shapes11'; did you mean"),
    ],
)
def test_wrong_data_yaml(command, nothing_written, tmp_path, tiny_dataset, change, said):
    content = yaml.safe_load(tiny_dataset.read_text()) | change
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    message = command.fails("train", "--data", file)
    assert said in message and str(file) in message


CONV = [-1, 1, "Conv", [64, 6, 2, 2]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": None}, "key 'backbone' is missing"),
        ({"anchors": None}, "key 'anchors' is missing"),
        ({"width_multiple": "narrow"}, "width_multiple is 'narrow'"),
        ({"width_multiple": float("nan")}, "width_multiple is nan"),
        ({"depth_multiple": float("inf")}, "depth_multiple is inf"),
        ({"depth_multiple": 0}, "depth_multiple is 0"),
        ({"ch": "rgb"}, "ch is 'rgb'"),
        ({"ch": 0}, "ch is 0"),
        ({"channel_multiple": 0}, "channel_multiple is 0"),
        ({"activation": "nn.SiLu()"}, "activation 'nn.SiLu()'"),
        ({"activation": 3}, "activation '3'"),
        ({"anchors": [["a", "b"]] * 3}, "row 24 Detect"),
        ({"anchors": [[10, 13]] * 2}, "2 rows of anchors but 3 inputs"),
        ({"anchors": True}, "anchors must be"),
        ({"backbone": 1}, "backbone must be a list"),
        ({"backbone": [[-1, 1, "Conv2", [64, 6, 2, 2]]]}, "row 0 Conv2: unknown layer 'Conv2'; did you mean"),
        ({"backbone": [[-1, 1, "Cnov", [64, 6, 2, 2]]]}, "did you mean 'Conv'"),
        ({"backbone": [[-1, 1, "os.system", ["true"]]]}, "unknown layer 'os.system'"),
        ({"backbone": [[4, 1, "Conv", [64]]]}, "row 0 Conv: reads layer 4"),
        ({"backbone": [CONV, [[-1, 5], 1, "Concat", [1]]]}, "row 1 Concat: reads layer 5, but only layers 0 to 0"),
        ({"backbone": [CONV, [-1, 1, "NAMAttention", [1024]]]}, "row 1 NAMAttention: declares 1024 channels"),
        ({"backbone": [[-1, 1, "Conv", [64, 0]]], "head": []}, "row 0 Conv: does not accept arguments"),
        ({"backbone": [[-1, 1, "Conv", [64, -3]]]}, "row 0 Conv: does not accept arguments"),
        ({"backbone": [[-1, 1, "Conv", [64, 3, 2, None, 0]]]}, "row 0 Conv: does not accept arguments"),
        ({"backbone": [[-1, 1, "Conv", ["wide"]]]}, "output channels are 'wide'"),
        ({"backbone": [[-1, 1, "Conv", []]]}, "row 0 Conv: does not accept arguments"),
        ({"backbone": [[-1, "two", "Conv", [64]]]}, "row 0 Conv: number is 'two'"),
        ({"backbone": [[None, 1, "Conv", [64]]]}, "row 0 Conv: from is None"),
        ({"backbone": [[-1, 1, "Conv", 64]]}, "row 0"),
        ({"backbone": ["Conv"]}, "row 0"),
        ({"head": [[-1, 1, "Conv", [64]]]}, "the last row is Conv, expected Detect"),
        (
            {"head": [[[0, 4], 1, "Concat", [1]], [[-1], 1, "Detect", ["nc", [[10, 13]]]]]},
            "row 10 Concat: cannot run on 1x",
        ),
        (
            {"head": [[[4], 1, "Concat", ["x"]], [[-1], 1, "Detect", ["nc", [[10, 13]]]]]},
            "row 10 Concat: cannot run on 1x",
        ),
        ({"head": [[[9], 1, "Detect", ["nc"]]]}, "row 10 Detect: does not accept arguments"),
        ({"head": [[[9], 1, "Detect", ["ten", [[10, 13]]]]]}, "row 10 Detect: does not accept arguments"),
        ({"head": [[9, 1, "Detect", ["nc", [[10, 13]]]]]}, "row 10 Detect: cannot run on"),
        ({"neck": []}, "unknown key 'neck'"),
        ({"backbonee": []}, "unknown key 'backbonee'; did you mean 'backbone'"),
    ],
)
def test_wrong_model_yaml(command, nothing_written, tmp_path, tiny_config, change, said):
    content = {key: value for key, value in (tiny_config | change).items() if value is not None}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content))
    message = command.fails("train", "--cfg", tmp_path / "bad.yaml")
    assert said in message and "bad.yaml" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lr_0: 0.1", "unknown hyperparameter 'lr_0'; did you mean"),
        ("lr0: fast", "lr0 is 'fast', expected a number"),
        ("lr0: 1e-3", "lr0 is '1e-3', expected a number (write 1e-3 as 0.001"),
        ("lr0: true", "lr0 is True"),
        ("lr0: [0.1]", "lr0 is [0.1]"),
        ("lr0:", "lr0 is None"),
        ("lr0: .nan", "lr0 is nan, expected a number from 0"),
        ("lr0: .inf", "lr0 is inf"),
        ("lr0: -0.1", "lr0 is -0.1"),
        ("mosaic: 1.5", "mosaic is 1.5, expected a number from 0 to 1"),
    ],
)
def test_wrong_hyperparameters(command, nothing_written, tmp_path, line, said):
    file = tmp_path / "hyp.yaml"
    file.write_text(line)
    message = command.fails("train", "--hyp", file)
    assert said in message and str(file) in message


# Images and labels


@pytest.fixture
def one_image(tmp_path, tiny_dataset) -> Callable[..., Path]:
    """Return a maker of a data set with one image, used for training and validation."""

    def make(labels: str | bytes = "0 0.5 0.5 0.2 0.2\n", image: bytes | None = None) -> Path:
        folder = tmp_path / "set"
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True)
        whole = (tiny_dataset.parent / "images/train/000000.jpg").read_bytes()
        (folder / "images/a.jpg").write_bytes(whole if image is None else image)
        (folder / "labels/a.txt").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
        file = tmp_path / "set.yaml"
        names = [f"class {index}" for index in range(10)]
        file.write_text(yaml.safe_dump({"path": str(folder), "train": "images", "val": "images", "names": names}))
        return file

    return make


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("0 0.5 0.5 0.2 0.2\nperson 0.5 0.5 0.2 0.2", "a.txt:2: 'person' is not a number"),
        ("0 0.5 0.5 0.2", "a.txt:1: 4 values, expected 5"),
        ("0 0.5 0.5 0.2 0.2 0.9", "a.txt:1: 6 values, expected 5"),
        ("0 0.5 0.5 1.2 0.2", "a.txt:1: 1.2 is beyond 1; coordinates are fractions"),
        ("0 320 240 64 48", "a.txt:1: 320 is beyond 1"),
        ("0 -0.5 0.5 0.2 0.2", "a.txt:1: -0.5 is negative"),
        ("-1 0.5 0.5 0.2 0.2", "a.txt:1: -1 is negative"),
        ("0 nan 0.5 0.2 0.2", "a.txt:1: nan is negative or not a number"),
        ("10 0.5 0.5 0.2 0.2", "a.txt:1: class 10, but"),
        ("", "no labels for its images"),
        (b"\xff\xfe\x00", "a.txt: image ignored"),
    ],
)
def test_wrong_labels(command, nothing_written, one_image, labels, said):
    assert said in command.fails("train", "--data", one_image(labels))


def broken(image: bytes, how: str) -> bytes:
    return {"cut": image[: len(image) // 2], "empty": b"", "text": b"not an image" * 99}[how]


@pytest.mark.parametrize("how", ["cut", "empty", "text"])
@pytest.mark.parametrize("script", ["train", "val"])
def test_data_set_of_a_broken_image(command, nothing_written, tiny_dataset, one_image, script, how):
    image = (tiny_dataset.parent / "images/train/000000.jpg").read_bytes()
    message = command.fails(script, "--data", one_image(image=broken(image, how)))
    assert "all 1 images" in message and "a.jpg: image ignored: cannot be read" in message


@pytest.mark.parametrize(("how", "why"), [("cut", "truncated"), ("empty", "it is empty"), ("text", "no image")])
def test_source_of_a_broken_image(command, nothing_written, tmp_path, tiny_dataset, how, why):
    image = (tiny_dataset.parent / "images/train/000000.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(broken(image, how))
    message = command.fails("detect", "--source", tmp_path / "a.jpg")
    assert "a.jpg' cannot be read: " in message and why in message


def test_bad_images_among_good_ones_are_named_and_skipped(command, tmp_path, tiny_dataset):
    images = tmp_path / "images"
    shutil.copytree(tiny_dataset.parent / "images/val", images)
    good = (images / "000000.jpg").read_bytes()
    for how in ("cut", "empty", "text"):
        (images / f"{how}.jpg").write_bytes(broken(good, how))
    (images / "film.mp4").write_bytes(b"no film")
    (images / "phone.heic").write_bytes(good)
    code, output, errors = command("detect", "--source", images, "--save-csv")
    assert (code, errors) == (0, "")
    for name in ("cut.jpg", "empty.jpg", "text.jpg", "film.mp4", "phone.heic"):
        assert output.count(f"{name}' skipped: ") == 1
    assert "\n4 images, 5 skipped, " in output
    assert len(list((tmp_path / "runs/exp").glob("*.jpg"))) == 4


@pytest.mark.parametrize("name", ["notes.txt", "film.mp4"])
def test_source_that_is_no_image(command, nothing_written, tmp_path, name):
    (tmp_path / name).write_text("text")
    assert name in command.fails("detect", "--source", tmp_path / name)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("99", "--source: camera 99 does not give a frame"),
        ("rtsp://127.0.0.1:9/1", "--source: 'rtsp://127.0.0.1:9/1' does not give a frame"),
        ("https://me:secret@127.0.0.1/1.mp4", "'https://***@127.0.0.1/1.mp4' cannot be fetched: YOLOV5_OFFLINE is set"),
        ("nothing/*.jpg", "--source 'nothing/*.jpg': no files there"),
    ],
)
def test_source_that_is_no_file(command, nothing_written, monkeypatch, source, said):
    monkeypatch.setattr("utils.data.sources.stream.Patience.pause_after", lambda *_: 0.01)
    assert said in command.fails("detect", "--source", source)


@pytest.mark.parametrize("script", ["train", "val"])
def test_empty_data_set(command, nothing_written, one_image, script):
    file = one_image()
    (file.parent / "set/images/a.jpg").unlink()
    assert "has no images in" in command.fails(script, "--data", file)


def test_missing_split(command, nothing_written):
    assert "has no 'test' split; it has train, val" in command.fails("val", "--task", "test")


def test_bad_images_among_good_ones_are_named_and_left_out(command, tmp_path, tiny_dataset):
    folder = tmp_path / "set"
    shutil.copytree(tiny_dataset.parent, folder)
    image = folder / "images/val/000000.jpg"
    image.write_bytes(image.read_bytes()[:999])
    (folder / "labels/val/000002.txt").write_text("0 0.5 0.5 0.2\n")
    file = tmp_path / "set.yaml"
    file.write_text(tiny_dataset.read_text().replace(str(tiny_dataset.parent), str(folder)))
    code, output, errors = command("val", "--data", file)
    assert (code, errors) == (0, "")
    assert "000000.jpg: image ignored" in output and "000002.txt:1: 4 values" in output
    assert ", 2 corrupt in" in output


@pytest.mark.parametrize("script", ["val"])
def test_model_and_data_of_different_classes(command, nothing_written, tmp_path, tiny_dataset, script):
    content = yaml.safe_load(tiny_dataset.read_text()) | {"names": [f"class {index}" for index in range(12)]}
    (tmp_path / "twelve.yaml").write_text(yaml.safe_dump(content))
    message = command.fails(script, "--data", tmp_path / "twelve.yaml")
    assert "the model knows 10 classes" in message and "has 12" in message


def test_ensemble_of_different_classes(command, nothing_written, tmp_path, tiny_weights):
    other = torch.load(tiny_weights, weights_only=True)
    other["names"] = {0: "only"}
    torch.save(other, tmp_path / "other.pt")
    assert "same number of classes" in command.fails("detect", "--weights", tiny_weights, tmp_path / "other.pt")


# Weights


class ForeignNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)


class Malicious:
    """Runs a shell command when it is unpickled."""

    def __init__(self, planted: Path) -> None:
        self.planted = planted

    def __reduce__(self) -> tuple:
        return os.system, (f"echo run > {self.planted}",)


class Evaluated(Malicious):
    """Runs Python code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return eval, (f"open({str(self.planted)!r}, 'w').close()",)


def changed(**entries: Any) -> Callable[[Path, dict], None]:
    return lambda path, content: torch.save(content | entries, path)


def lacking(key: str) -> Callable[[Path, dict], None]:
    return lambda path, content: torch.save({name: content[name] for name in content if name != key}, path)


def cut(path: Path, content: dict) -> None:
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path, content: dict) -> None:
    torch.save(content, path)
    data = bytearray(path.read_bytes())
    data[1000:1200] = bytes(255 - byte for byte in data[1000:1200])  # in the pickle
    path.write_bytes(data)


def other_zip(path: Path, _content: dict) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def zip_of_bad_pickle(path: Path, _content: dict) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00(X")
        archive.writestr("archive/version", b"3\n")


def other_state(path: Path, content: dict) -> None:
    state = {key: tensor.reshape(-1)[:1] for key, tensor in content["model"].items()}
    torch.save(content | {"model": state}, path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path, _: path.write_text("weights"), "are not a torch checkpoint"),
        (lambda path, _: path.write_bytes(b""), "are not a torch checkpoint"),
        (cut, "cut short"),
        (flipped, "damaged"),
        (other_zip, "is a zip file but holds no torch checkpoint"),
        (zip_of_bad_pickle, "is damaged and cannot be read"),
        (lambda path, content: torch.save(content["model"], path), "a bare state_dict is not enough"),
        (lambda path, _: torch.save([1, 2], path), "hold no model of this project"),
        (lambda path, _: torch.save(ForeignNet(), path), "test_cli_errors.ForeignNet'"),
        (lambda path, _: torch.save(nn.Sequential(nn.Linear(2, 2)), path), "hold no YOLOv5 detection model"),
        (lambda path, _: torch.save({"model": ForeignNet().state_dict()}, path), "hold no model of this project"),
        (lambda path, _: torch.save({"model": nn.Linear(2, 2), "ema": None}, path), "hold no YOLOv5 detection model"),
        (lacking("yaml"), "damaged"),
        (lacking("names"), "damaged"),
        (changed(model=None), "damaged"),
        (changed(model={"a": 1}), "damaged"),
        (changed(version=99), "newer version"),
        (changed(version="1"), "damaged"),
        (changed(yaml={"nc": 1}), "key 'depth_multiple' is missing"),
        (changed(yaml="yolov5s.yaml"), "damaged"),
        (other_state, "do not fit the model YAML they carry"),
    ],
)
def test_foreign_and_damaged_weights(command, nothing_written, tmp_path, tiny_weights, make, said):
    path = tmp_path / "bad.pt"
    make(path, torch.load(tiny_weights, weights_only=True))
    assert said in command.fails("detect", "--weights", path)


@pytest.mark.parametrize("script", list(OPTIONS))
@pytest.mark.parametrize(("kind", "name"), [(Malicious, f"{os.name}.system"), (Evaluated, "__builtin__.eval")])
def test_malicious_weights_are_refused_by_name_and_not_run(command, nothing_written, tmp_path, script, kind, name):
    planted = tmp_path / "planted"
    torch.save({"model": kind(planted), "ema": None}, tmp_path / "bad.pt")
    message = command.fails(script, "--weights", tmp_path / "bad.pt")
    assert f"asks for '{name}'" in message and "nothing was run" in message
    assert not planted.exists()


@pytest.mark.parametrize(
    ("script", "name", "said"),
    [
        ("detect", "model.xyz", "are in no known format; known are *.pt, *.torchscript"),
        ("val", "model", "are in no known format"),
        ("detect", "model.torchscript", "is not a TorchScript file written by export.py"),
        ("export", "model.torchscript", "is an exported model already"),
        ("train", "model.txt", "are not a torch checkpoint"),
    ],
)
def test_weights_of_another_format(command, tmp_path, script, name, said):
    (tmp_path / name).write_text("weights")
    assert said in command.fails(script, "--weights", tmp_path / name)
    assert not (tmp_path / "runs").exists()


# Run folders, resuming, full disks


@pytest.mark.parametrize("script", ["train", "val", "detect"])
@pytest.mark.parametrize("place", ["file", "proc"])
def test_unwritable_run_folder(command, tmp_path, script, place):
    (tmp_path / "file").write_text("")
    project = {"file": tmp_path / "file" / "runs", "proc": Path("/proc/runs")}[place]
    if place == "proc" and not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    message = command.fails(script, "--project", project)
    assert f"cannot write run folder '{project / 'exp'}'" in message and "choose another --project" in message


def test_name_too_long_for_the_file_system(command):
    assert "name too long" in command.fails("detect", "--name", "x" * 300).lower()


def test_resume_without_a_run(command, nothing_written):
    assert "--resume: no run with weights/last.pt in" in command.fails("train", "--resume")


def test_resume_from_a_file_outside_a_run(command, nothing_written, tmp_path):
    assert "does not know the run it is from" in command.fails("train", "--resume", tmp_path / "model.pt")


def fail_at_call(number: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """Return ``function``, raising ``error`` in its call ``number``, counted from 1."""
    calls = iter(range(1, 10_000))

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise error
        return function(*arguments, **options)

    return wrapped


@pytest.fixture
def full_at_second_epoch(command, tmp_path, monkeypatch) -> tuple[str, Path]:
    """A run whose disk fills up while the second epoch's checkpoint is written: its message and its folder."""
    full = fail_at_call(3, torch.save, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))  # 1 start, 2 first epoch
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", full)
        message = command.fails("train", "--epochs", 2)
    return message, tmp_path / "runs/exp"


def test_full_disk_leaves_the_last_good_checkpoint(command, full_at_second_epoch, tmp_path, tiny_dataset):
    message, folder = full_at_second_epoch
    assert "No space left on device" in message and "best.pt" in message and "free space" in message
    assert read_checkpoint(folder / "weights/last.pt").epoch == 0
    assert not list(folder.glob("**/.*"))

    fewer = yaml.safe_load(tiny_dataset.read_text()) | {"names": ["one"]}  # the data set changes meanwhile
    saved, content = (
        (folder / "weights/last.pt").read_bytes(),
        torch.load(folder / "weights/last.pt", weights_only=True),
    )
    (tmp_path / "fewer.yaml").write_text(yaml.safe_dump(fewer))
    content["options"]["data"] = str(tmp_path / "fewer.yaml")
    torch.save(content, folder / "weights/last.pt")
    assert "has 1 classes now, but the run began with 10" in command.fails("train", "--resume", folder, base=False)

    (folder / "weights/last.pt").write_bytes(saved)
    assert command("train", "--resume", folder, base=False).code == 0
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    assert "is of a finished run of 2 epochs" in command.fails("train", "--resume", folder, base=False)


@pytest.mark.parametrize(
    ("script", "words"),
    [("detect", ["--nosave", "--save-txt", "--conf-thres", 0, "--max-det", 1]), ("detect", []), ("export", [])],
)
def test_full_disk_of_other_commands(command, tmp_path, monkeypatch, script, words):
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = command.fails(script, *words)
    assert "No space left on device: '" in message and "free space" in message
    assert not [path for path in tmp_path.glob("**/*") if path.suffix in (".jpg", ".txt", ".torchscript")]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory(command, monkeypatch, error):
    monkeypatch.setattr("models.formats.pytorch.build_model", fail_at_call(1, len, error))
    assert "out of memory; use a smaller --imgsz" in command.fails("detect")


def test_faults_of_the_program_keep_their_traceback(command, monkeypatch):
    monkeypatch.setattr("models.formats.pytorch.build_model", fail_at_call(1, len, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        command("detect")


# Real processes


def start(script: str, *words: object, **settings: Any) -> "subprocess.Popen[str]":
    line = [sys.executable, str(ROOT / f"{script}.py"), *map(str, words)]
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=os.name == "posix",
        **settings,
    )


def finish(process: "subprocess.Popen[str]") -> Outcome:
    try:
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return Outcome(process.returncode, output, errors)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_can_be_resumed(tmp_path, tiny_dataset, tiny_cfg):
    words = ["--data", tiny_dataset, "--cfg", tiny_cfg, "--weights", "", "--imgsz", 64, "--batch-size", 2]
    words += ["--epochs", 20, "--workers", 2, "--device", "cpu", "--project", tmp_path, "--warmup-min", 1]
    process = start("train", *words)
    for line in process.stdout:
        if line.strip().startswith("1/19"):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    interrupted = finish(process)
    assert_one_line("train", interrupted)
    assert interrupted.errors == "train.py: error: interrupted\n"
    assert interrupted.code == 130
    assert f"go on with: python train.py --resume {tmp_path / 'exp'}" in interrupted.output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker is left

    folder = tmp_path / "exp"
    assert 0 <= read_checkpoint(folder / "weights/last.pt").epoch < 19
    assert not list(folder.glob("**/.*"))
    resumed = finish(start("train", "--resume", folder))
    assert (resumed.code, resumed.errors) == (0, "")
    assert [row.split(",")[0].strip() for row in (folder / "results.csv").read_text().splitlines()[1:]] == [
        str(epoch) for epoch in range(20)
    ]
    assert read_checkpoint(folder / "weights/best.pt").training is None


def test_a_real_command_fails_in_one_line(tmp_path, tiny_dataset):
    source = tiny_dataset.parent / "images/val"
    outcome = finish(
        start("detect", "--weights", tmp_path / "none.pt", "--source", source, "--project", tmp_path / "runs")
    )
    assert_one_line("detect", outcome)
    assert outcome.code == 1 and "none.pt' do not exist" in outcome.errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written(tiny_dataset):
    with open("/dev/full", "w") as full:
        line = [sys.executable, ROOT / "detect.py", "--source", tiny_dataset.parent / "images/val"]
        result = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert_one_line("detect", Outcome(result.returncode, "", result.stderr))
    assert result.returncode == 1 and "No space left on device" in result.stderr


def test_reader_of_the_output_has_left(tiny_dataset):
    process = start("detect", "--source", tiny_dataset.parent / "images/val")
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=120) == 1
    assert errors == "detect.py: error: nobody reads the output any more\n"
