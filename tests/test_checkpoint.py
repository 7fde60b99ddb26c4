"""Checkpoints of YOLOv5 and our own: read safely, written whole."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.formats.pytorch import build_model
from models.yolo import Model
from tests.golden_data import load_golden, meta_of, shared_path
from tests.models.recipes import random_images
from utils.checkpoint import Checkpoint, names_by_index, read_checkpoint, strip_checkpoint, write_checkpoint
from utils.errors import UserError
from utils.unpickle import read_inert

CONFIG = {
    "nc": 2,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "anchors": [[10, 13]],
    "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
    "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
}


def small_checkpoint(training: bool = False) -> Checkpoint:
    model = Model(CONFIG)
    state = {"model": model.state_dict(), "updates": 3} if training else None
    return Checkpoint(
        state={key: value + 1 if value.is_floating_point() else value for key, value in model.state_dict().items()},
        yaml=model.yaml,
        names={0: "cat", 1: "dog"},
        stride=model.stride.tolist(),
        options={"epochs": 3, "classes": None},
        hyperparameters={"lr0": 0.01},
        epoch=1,
        metrics={"mAP_0.5": 0.25},
        training=state,
    )


def test_own_checkpoint_round_trip(tmp_path):
    path, written = tmp_path / "last.pt", small_checkpoint(training=True)
    write_checkpoint(path, written)
    found = read_checkpoint(path)
    assert all(torch.equal(found.state[key], tensor) for key, tensor in written.state.items())
    assert all(torch.equal(found.training["model"][key], written.training["model"][key]) for key in written.state)
    for name in ("yaml", "names", "stride", "options", "hyperparameters", "epoch", "metrics"):
        assert getattr(found, name) == getattr(written, name)
    assert found.training["updates"] == 3
    assert found.date


def test_own_checkpoints_hold_only_tensors_and_plain_data(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, small_checkpoint(training=True))
    content = torch.load(path, weights_only=True)
    assert content["format"] == "yolov5-nam"


class Failing:
    """A file of which the third write fails."""

    def __init__(self, stream, error):
        self.stream, self.error, self.writes = stream, error, 0

    def write(self, data):
        self.writes += 1
        if self.writes == 3:
            raise self.error
        return self.stream.write(data)

    def flush(self):
        self.stream.flush()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_stops_a_write_comes_out_as_it_is(tmp_path, monkeypatch, error):
    """torch turns everything that happens inside of a write into a RuntimeError about positions."""
    write_checkpoint(tmp_path / "a.pt", small_checkpoint())
    before, save = (tmp_path / "a.pt").read_bytes(), torch.save
    monkeypatch.setattr(torch, "save", lambda content, stream: save(content, Failing(stream, error)))
    with pytest.raises(type(error)):
        write_checkpoint(tmp_path / "a.pt", small_checkpoint())
    assert (tmp_path / "a.pt").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_stripping_keeps_the_average_in_half_precision(tmp_path):
    path, written = tmp_path / "best.pt", small_checkpoint(training=True)
    write_checkpoint(path, written)
    size = path.stat().st_size
    strip_checkpoint(path)
    found = read_checkpoint(path)
    assert found.training is None
    assert found.epoch == -1
    assert path.stat().st_size < size
    for key, tensor in written.state.items():
        assert found.state[key].dtype == (torch.float16 if tensor.is_floating_point() else tensor.dtype)
        torch.testing.assert_close(found.state[key].float(), tensor.float(), rtol=1e-3, atol=1e-3)
    assert build_model(found, path).detect.anchors.dtype == torch.float32


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}, {"0": "cat", "1": "dog"}])
def test_names_may_be_a_list_or_a_dict(names):
    assert names_by_index(names) == {0: "cat", 1: "dog"}


# --- files of YOLOv5: whole pickled modules -------------------------------------------------------------------------


class OldStyle:
    """Writes a module under the dotted names that YOLOv5's files use, without this project's classes."""

    def __init__(self, extra: object = None, names: object = None, precision: torch.dtype = torch.float16) -> None:
        self.extra, self.names, self.precision = extra, names, precision

    def write(self, path: Path) -> Model:
        model = Model(CONFIG)
        saved = Model(CONFIG).to(self.precision)
        saved.load_state_dict(model.state_dict())
        saved.names = self.names or ["cat", "dog"]
        content = {
            "epoch": -1,
            "model": saved,
            "ema": None,
            "optimizer": None,
            "date": "2022-02-22",
            "extra": self.extra,
        }
        torch.save(content, path)
        return model


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}])
def test_a_pickled_module_yields_state_yaml_names_and_anchors(tmp_path, names):
    path = tmp_path / "old.pt"
    model = OldStyle(names=names, precision=torch.float32).write(path)
    found = read_checkpoint(path)
    assert found.names == {0: "cat", 1: "dog"}
    assert found.yaml["backbone"] == CONFIG["backbone"]
    assert list(found.state) == list(model.state_dict())
    assert all(torch.equal(found.state[key], tensor) for key, tensor in model.state_dict().items())
    assert torch.equal(found.anchors, model.detect.anchors)
    build_model(found, path)


def test_a_pickled_network_with_nam_is_read(tmp_path):
    config = CONFIG | {"head": [[-1, 1, "NAMAttention", [8]], [[1], 1, "Detect", ["nc", "anchors"]]]}
    model = Model(config)
    torch.save({"model": model, "ema": None}, tmp_path / "nam.pt")
    found = read_checkpoint(tmp_path / "nam.pt")
    assert all(torch.equal(found.state[key], tensor) for key, tensor in model.state_dict().items())
    build_model(found, tmp_path / "nam.pt")


def test_reading_a_pickled_module_runs_nothing_of_it(tmp_path, monkeypatch):
    path = tmp_path / "old.pt"
    OldStyle().write(path)
    for owner, method in ((Model, "__setstate__"), (Model, "__init__"), (nn.Module, "__setstate__")):
        monkeypatch.setattr(
            owner, method, lambda *_: pytest.fail("code of the checkpoint's classes ran"), raising=False
        )
    read_inert(path)


class Planted:
    """A pickle that calls ``function`` when loaded in the usual way."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch planted",), "posix.system"),
        (eval, ("open('planted', 'w')",), "__builtin__.eval"),
        (getattr, ("text", "upper"), "__builtin__.getattr"),
        (torch.load, ("other.pt",), "torch.serialization.load"),
    ],
)
def test_a_planted_call_is_refused_by_name_and_not_run(tmp_path, monkeypatch, function, arguments, named):
    monkeypatch.chdir(tmp_path)
    OldStyle(extra=Planted(function, *arguments)).write(tmp_path / "evil.pt")
    with pytest.raises(UserError, match="refused, nothing was run") as error:
        read_checkpoint(tmp_path / "evil.pt")
    assert f"'{named}'" in str(error.value)
    assert not (tmp_path / "planted").exists()


def test_dotted_names_cannot_climb_out_of_an_allowed_module(tmp_path):
    path = tmp_path / "climb.pt"
    stream = b"\x80\x04\x8c\x0dmodels.common\x8c\x09os.system\x93\x8c\x04true\x85R."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("climb/data.pkl", stream)
    with pytest.raises(UserError, match=r"models\.common\.os\.system"):
        read_inert(path)


def test_tensors_cannot_reach_beyond_their_storage(tmp_path):
    path = tmp_path / "long.pt"
    torch.save({"x": torch.zeros(4)}, path)
    shorter = tmp_path / "short.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(shorter, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:4] if name.endswith("data/0") else content)
    with pytest.raises(UserError, match="damaged"):
        read_inert(shorter)


def test_other_files_are_refused(tmp_path):
    cases = {"text.pt": b"hello", "empty.pt": b"", "pickle.pt": pickle.dumps({"model": 1})}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_checkpoint(tmp_path / name)
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), buffer)
    (tmp_path / "bare.pt").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="bare state_dict"):
        read_checkpoint(tmp_path / "bare.pt")
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue()[:-200])
    with pytest.raises(UserError, match="cut short"):
        read_checkpoint(tmp_path / "cut.pt")


# --- the official yolov5n.pt ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official() -> Model:
    path = shared_path("weights/yolov5n.pt")
    return build_model(read_checkpoint(path), path)


def test_official_checkpoint(official):
    found = read_checkpoint(shared_path("weights/yolov5n.pt"))
    assert (len(found.state), found.stride, found.names[0], len(found.names)) == (349, [8.0, 16.0, 32.0], "person", 80)
    assert found.anchors.shape == (3, 3, 2)


@pytest.mark.parametrize("size", ["64x64", "96x160", "320x320"])
@pytest.mark.parametrize("fused", [False, True])
def test_official_weights_give_v61s_values(official, size, fused):
    golden = load_golden("forward.npz")
    case = meta_of(golden)["cases"][size]
    model = build_model(read_checkpoint(shared_path("weights/yolov5n.pt")), Path("n.pt"))
    model = model.fuse() if fused else model
    with torch.no_grad():
        decoded, raw = model(random_images(case["seed"], 1, case["h"], case["w"]))
    kind = f"{'fused' if fused else 'unfused'}_{size}"
    if size == "320x320":  # a sample of rows is recorded
        np.testing.assert_allclose(decoded[0, golden[f"{kind}_rows_idx"]], golden[f"{kind}_rows"], rtol=1e-4, atol=1e-3)
        return
    np.testing.assert_allclose(decoded, golden[kind], rtol=1e-5, atol=1e-3 if fused else 2e-4)
    if not fused:
        for level, output in enumerate(raw):
            np.testing.assert_allclose(output, golden[f"rawhead_unfused_{size}_p{level}"], rtol=1e-4, atol=5e-5)
