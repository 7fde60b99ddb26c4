"""Plug-in files: loading them, remembering them in checkpoints, and what is said when they are wrong."""

import shutil
from pathlib import Path

import pytest
import torch

import detect
import export
import train
import val
from models.insertion import insert_layers
from models.plugins import load_plugins, plugins_in
from models.registry import REGISTRY, PluginFile, RegisteredLayer, gates
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.errors import UserError

GOOD = """
from torch import nn
from models.registry import gates, layer

@layer(gates)
class UserGate(nn.Module):
    def __init__(self, channels, factor=0.5):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor
"""
HALVES = GOOD.replace("return x * self.factor", "return x[..., ::2, ::2]").replace("UserGate", "HalvingGate")
WIDENS = GOOD.replace("gates", "keeps").replace("return x * self.factor", "return x.repeat(1, 2, 1, 1)")


def forget_plugins() -> None:
    """Make this process as one that has loaded none."""
    for name in [name for name, entry in REGISTRY.layers.items() if entry.plugin]:
        del REGISTRY.layers[name]


def hash_of(file: Path) -> str:
    return PluginFile(file, file.read_bytes()).sha256


@pytest.fixture(autouse=True)
def registry_as_before():
    forget_plugins()
    yield
    forget_plugins()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "user_gate.py"
    path.write_text(GOOD)
    return path


def test_a_loaded_layer_is_inserted_like_any_other(file, tiny_config):
    load_plugins([str(file), str(file)])
    load_plugins([str(file)])  # once is enough
    model = Model(insert_layers(tiny_config, ["UserGate(0.25)@9"], "tiny"))
    assert model.rows[10].arguments == [128, 0.25] and model.rows[10].is_gate
    assert model.plugins == {"UserGate": {"file": "user_gate.py", "sha256": hash_of(file)}}
    assert plugins_in(tiny_config) == {}


def test_two_files_of_one_name_are_two_plugins(file, tmp_path):
    other = tmp_path / "other" / "user_gate.py"
    other.parent.mkdir()
    other.write_text(GOOD.replace("UserGate", "OtherGate"))
    load_plugins([str(file), str(other)])
    assert {"UserGate", "OtherGate"} <= REGISTRY.layers.keys()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import nothere", "user_gate.py:1: ModuleNotFoundError: No module named 'nothere'"),
        ("\n\nclass Broken(:", "user_gate.py:3: SyntaxError"),
        ("def f():\n    return 1 / 0\nf()", "user_gate.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit(0)", "user_gate.py:2: SystemExit"),
        ("x = 1", "registers no layer; put @layer"),
        (GOOD.replace("UserGate", "Conv"), "layer name 'Conv' is taken by models.common; rename the new class"),
        (GOOD.replace("UserGate", "NAMAttention"), "layer name 'NAMAttention' is taken by models.nam"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_leaves_nothing_behind(file, content, words):
    before = dict(REGISTRY.layers)
    file.write_text(content)
    with pytest.raises(UserError) as raised:
        load_plugins([str(file)])
    assert words in str(raised.value) and str(file) in str(raised.value)
    assert REGISTRY.layers == before
    file.write_text(GOOD)
    load_plugins([str(file)])  # mended, it loads


def test_an_edited_file_replaces_what_it_was(file):
    load_plugins([str(file)])
    file.write_text(GOOD.replace("0.5", "0.4").replace("UserGate", "RenamedGate"))
    load_plugins([str(file)])
    assert REGISTRY.find("RenamedGate").build(4).factor == 0.4 and "UserGate" not in REGISTRY.layers


def test_a_class_from_elsewhere_is_remembered_too(file, tiny_config):
    file.write_text("from torch import nn\nfrom models.registry import keeps, layer\nlayer(keeps)(nn.Softplus)\n")
    load_plugins([str(file)])
    config = insert_layers(tiny_config, ["Softplus@9"], "tiny")
    assert list(plugins_in(config)) == ["Softplus"]


def test_a_planner_of_its_own_can_be_inserted(file, tiny_config):
    planner = "def mine(site, factor):\n    return Plan([site.channels[0], factor], site.channels[0])\n"
    file.write_text(
        GOOD.replace("import gates, layer", "import Plan, layer").replace("@layer(gates)", planner + "@layer(mine)")
    )
    load_plugins([str(file)])
    assert Model(insert_layers(tiny_config, ["UserGate(0.25)@9"], "tiny")).model[10].factor == 0.25


def test_two_plugins_cannot_share_a_layer_name(file, tmp_path):
    (tmp_path / "second.py").write_text(GOOD + "# another file")
    with pytest.raises(UserError, match=r"second\.py: layer name 'UserGate' is taken"):
        load_plugins([str(file), str(tmp_path / "second.py")])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.py", "does not exist"),
        ("notes.txt", "is not a Python file"),
        ("", "is a folder; name the Python file"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, name, words):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=words):
        load_plugins([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HALVES, "row 10 HalvingGate: changes the shape, 1x128x8x8 in and 1x128x4x4 out; .* must keep it"),
        (WIDENS, "row 10 UserGate: gives 256 channels, but its planner promised 128"),
        (GOOD.replace("x * self.factor", "x.double()"), "row 10 UserGate: gives float64, expected float32 as it reads"),
        (GOOD.replace("x * self.factor", "[x]"), "row 10 UserGate: gives list, expected one map"),
        (GOOD.replace("x * self.factor", "x.mean((2, 3))"), "row 10 UserGate: gives a map of shape 1x128, expected"),
        (
            GOOD.replace("x * self.factor", "x * y"),
            r"10 UserGate: cannot run on 1x128x8x8 .NameError at .*gate\.py:12: ",
        ),
    ],
)
def test_a_layer_that_breaks_its_promise_is_named_with_shapes(file, tiny_config, content, words):
    file.write_text(content)
    load_plugins([str(file)])
    name = "HalvingGate" if "HalvingGate" in content else "UserGate"
    arguments = "(128)" if content == WIDENS else ""
    with pytest.raises(UserError, match=words):
        Model(insert_layers(tiny_config, [f"{name}{arguments}@9"], "tiny"))


@pytest.fixture
def trained(file, tiny_cfg, tiny_dataset, tmp_path) -> Path:
    """Return the best weights of a run with the plug-in, which is forgotten again."""
    train.run(
        cfg=tiny_cfg, weights="", data=tiny_dataset, plugins=file, insert="UserGate@9", epochs=1, batch_size=4,
        imgsz=64, workers=0, project=tmp_path / "runs", name="user",
    )  # fmt: skip
    forget_plugins()
    return tmp_path / "runs/user/weights/best.pt"


def test_a_checkpoint_remembers_its_plugin(trained, file, tiny_dataset, tmp_path):
    common = {"weights": str(trained), "imgsz": 64}
    images, project = tiny_dataset.parent / "images/val", tmp_path / "runs"
    assert read_checkpoint(trained).plugins == {"UserGate": {"file": "user_gate.py", "sha256": hash_of(file)}}
    needs = r"need layer 'UserGate' of user_gate\.py; pass it as .* .the run's copy is '.*plugins/user_gate\.py'"
    for program, options in (
        (val.run, {"data": tiny_dataset, "project": project}),
        (detect.run, {"source": images, "project": project}),
        (export.run, {}),
        (train.run, {"data": tiny_dataset, "project": project, "epochs": 1}),
    ):
        with pytest.raises(UserError, match=needs):
            program(**common, **options)

    file.write_text(GOOD.replace("0.5", "0.4"))
    with pytest.raises(UserError, match=r"trained with another version of user_gate\.py .SHA-256 [0-9a-f]{12}\.\.\."):
        detect.run(**common, source=images, project=project, plugins=file)

    forget_plugins()
    copy = trained.parents[1] / "plugins/user_gate.py"
    assert copy.read_text() == GOOD
    result = val.run(**common, data=tiny_dataset, project=project, plugins=copy)
    assert result.images == 4


def test_a_name_that_this_project_has_taken_since_is_an_error(trained, tiny_dataset, tmp_path, monkeypatch):
    content = GOOD.replace("@layer(gates)\n", "")
    scope: dict = {"__name__": "models.later"}
    exec(content, scope)
    monkeypatch.setitem(REGISTRY.layers, "UserGate", RegisteredLayer(scope["UserGate"], gates))
    with pytest.raises(UserError, match="another of that name comes with this project"):
        val.run(weights=str(trained), data=tiny_dataset, imgsz=64, project=tmp_path / "runs")


def test_line_ends_do_not_change_the_hash(tmp_path):
    (tmp_path / "unix.py").write_bytes(b"a = 1\nb = 2\n")
    (tmp_path / "windows.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    (tmp_path / "other.py").write_bytes(b"a = 1\nb = 3\n")
    assert hash_of(tmp_path / "unix.py") == hash_of(tmp_path / "windows.py") != hash_of(tmp_path / "other.py")


class Interruption(Exception):
    pass


def interrupted_run(monkeypatch, **options) -> None:
    """Start a run of two epochs and lose it after the first."""

    def stop(self, report):
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(
            "utils.hooks.console.Console.epoch_start", lambda self, epoch, *_: stop(self, 0) if epoch else None
        )
        with pytest.raises(Interruption):
            train.run(**options)


@pytest.mark.slow
def test_a_resumed_run_uses_its_own_copy_and_ends_like_one_without_a_break(
    file, tiny_weights, tiny_dataset, tmp_path, monkeypatch
):
    options = {
        "weights": tiny_weights, "data": tiny_dataset, "plugins": file, "insert": ["UserGate@9", "NAMAttention@4"],
        "epochs": 2, "batch_size": 4, "imgsz": 64, "workers": 0, "project": tmp_path / "runs", "warmup": 1,
    }  # fmt: skip
    train.run(**options, name="whole")
    interrupted_run(monkeypatch, **options, name="broken")
    interrupted_run(monkeypatch, **options, name="broken", exist_ok=True)
    file.write_text(GOOD.replace("0.5", "0.1"))  # edited for the next experiment
    forget_plugins()
    folder = tmp_path / "runs/broken"
    assert [path.name for path in (folder / "plugins").iterdir()] == ["user_gate.py"]
    train.run(resume=str(folder))
    states = [read_checkpoint(tmp_path / f"runs/{name}/weights/last.pt").state for name in ("whole", "broken")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_lost_copy_can_be_given_when_resuming(file, tiny_weights, tiny_dataset, tmp_path, monkeypatch):
    options = {
        "weights": tiny_weights, "data": tiny_dataset, "plugins": file, "insert": "UserGate@9", "epochs": 2,
        "batch_size": 4, "imgsz": 64, "workers": 0, "project": tmp_path / "runs", "name": "run",
    }  # fmt: skip
    interrupted_run(monkeypatch, **options)
    shutil.rmtree(tmp_path / "runs/run/plugins")
    forget_plugins()
    with pytest.raises(UserError, match=r"last\.pt' need layer 'UserGate' of user_gate\.py; pass it as --plugins"):
        train.run(resume=str(tmp_path / "runs/run"))
    train.run(resume=str(tmp_path / "runs/run"), plugins=file)
    assert read_checkpoint(tmp_path / "runs/run/weights/last.pt").epoch == -1


def test_editing_the_file_while_a_run_trains_harms_nothing(file, tiny_cfg, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "utils.hooks.console.Console.epoch_end", lambda *_: file.write_text(GOOD + "# for the next run")
    )
    train.run(
        cfg=tiny_cfg, weights="", data=tiny_dataset, plugins=file, insert="UserGate@9", epochs=1, batch_size=4,
        imgsz=64, workers=0, project=tmp_path / "runs", name="run",
    )  # fmt: skip
    assert (tmp_path / "runs/run/plugins/user_gate.py").read_text() == GOOD
    assert (tmp_path / "runs/run/PR_curve.png").exists()
