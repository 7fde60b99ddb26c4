"""One dataclass gives the parser, the help and the options of ``run(**options)``."""

import dataclasses
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from utils.errors import UserError, near_matches
from utils.options import build_parser, describe_options, make_options, option, run_command

SCRIPTS = {"train": "TrainOptions", "val": "ValOptions", "detect": "DetectOptions", "export": "ExportOptions"}


@dataclass
class Options:
    weights: list[str] = option(["a.pt"], "files")
    imgsz: list[int] = option([640], "sides", "--img", "--img-size")
    batch_size: int = option(16, "images a batch", least=1)
    conf_thres: float = option(0.25, "100% of the score", least=0, most=1)
    classes: list[int] | None = option(None, "classes")
    save_txt: bool = option(False, "write labels")
    cfg: str = option("", "model")
    resume: str | None = option(None, "go on", nargs="?", const="newest")
    task: str = option("val", "part", choices=("val", "test"))
    least: float | str = option(0.5, "score", least=0, most=1, words=("auto", "per-class"))


def parse(*words: str) -> Options:
    return make_options(Options, vars(build_parser("x.py", Options, "X.").parse_args(words)))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--img", "320"], {"imgsz": [320]}),
        (["--img-size", "320", "640"], {"imgsz": [320, 640]}),
        (["--imgsz=96"], {"imgsz": [96]}),
        (["--batch", "4"], {"batch_size": 4}),
        (["--conf", "0.5"], {"conf_thres": 0.5}),
        (["--conf", "1"], {"conf_thres": 1.0}),
        (["--weights", "a.pt", "b.pt"], {"weights": ["a.pt", "b.pt"]}),
        (["--classes", "0", "2"], {"classes": [0, 2]}),
        (["--save-txt"], {"save_txt": True}),
        (["--cfg", ""], {"cfg": ""}),
        (["--resume"], {"resume": "newest"}),
        (["--resume", "runs/exp"], {"resume": "runs/exp"}),
        (["--task", "test"], {"task": "test"}),
        (["--least", "0.1"], {"least": 0.1}),
        (["--least", "auto"], {"least": "auto"}),
        (["--batch", "2", "--batch-size", "8"], {"batch_size": 8}),
    ],
)
def test_words_become_options(words, expected):
    options = parse(*words)
    assert options == dataclasses.replace(Options(), **expected)
    for name, value in expected.items():
        assert type(getattr(options, name)) is type(value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"weights": "b.pt"}, {"weights": ["b.pt"]}),
        ({"weights": Path("b.pt")}, {"weights": ["b.pt"]}),
        ({"weights": (Path("b.pt"), "c.pt")}, {"weights": ["b.pt", "c.pt"]}),
        ({"imgsz": 320}, {"imgsz": [320]}),
        ({"imgsz": (320, 640)}, {"imgsz": [320, 640]}),
        ({"conf_thres": 1}, {"conf_thres": 1.0}),
        ({"classes": 3}, {"classes": [3]}),
        ({"classes": None}, {"classes": None}),
        ({"cfg": Path("a.yaml")}, {"cfg": "a.yaml"}),
        ({"least": 1}, {"least": 1.0}),
        ({"least": "per-class"}, {"least": "per-class"}),
        ({"save_txt": True}, {"save_txt": True}),
        ({"resume": True}, {"resume": "newest"}),
        ({"resume": False}, {"resume": None}),
    ],
)
def test_python_callers_need_no_exact_types(given, expected):
    assert make_options(Options, given) == dataclasses.replace(Options(), **expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batchsize": 4}, "unknown option 'batchsize'; did you mean 'batch_size'"),
        ({"zebra": 4}, "unknown option 'zebra'"),
        ({"batch_size": 0}, "--batch-size 0: expected a number of 1 or more"),
        ({"batch_size": "4"}, "--batch-size '4': expected int, got str"),
        ({"batch_size": 4.0}, "--batch-size 4.0: expected int, got float"),
        ({"batch_size": True}, "--batch-size True: expected int, got bool"),
        ({"batch_size": None}, "--batch-size None: expected int, got NoneType"),
        ({"conf_thres": 1.5}, "--conf-thres 1.5: expected a number from 0 to 1"),
        ({"conf_thres": float("nan")}, "--conf-thres nan"),
        ({"conf_thres": "high"}, "--conf-thres 'high': expected float, got str"),
        ({"classes": ["cat"]}, "--classes 'cat': expected int, got str"),
        ({"save_txt": "yes"}, "--save-txt 'yes': expected bool, got str"),
        ({"cfg": 3.5}, "--cfg 3.5: expected str, got float"),
        ({"task": "train"}, "--task train: expected one of val, test"),
        ({"least": "best"}, "--least 'best': expected float or auto or per-class, got str"),
        ({"least": 1.5}, "--least 1.5: expected a number from 0 to 1"),
    ],
)
def test_wrong_overrides_are_named(given, said):
    with pytest.raises(UserError) as error:
        make_options(Options, given)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wieghts", "a.pt"], "unrecognized arguments: --wieghts a.pt; did you mean '--weights'"),
        (["extra"], "unrecognized arguments: extra; x.py --help lists the options"),
        (["--batch", "many"], "argument --batch-size: invalid int value: 'many'"),
        (["--classes"], "--classes: expected at least one argument"),
        (["--save-txt=1"], "--save-txt: ignored explicit argument '1'"),
        (["--task", "speed"], "--task: invalid choice: 'speed'"),
        (["--least", "aut"], "--least: invalid value: 'aut', expected a number or auto or per-class; did you mean"),
    ],
)
def test_wrong_words_end_with_2_in_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*words)
    errors = capsys.readouterr().err
    assert end.value.code == 2
    assert errors.startswith("x.py: error: ") and errors.count("\n") == 1
    assert said in errors


def test_defaults_are_copied():
    first, second = Options(), Options()
    first.imgsz.append(1)
    assert second.imgsz == [640]
    parse().weights.append("b.pt")
    assert parse().weights == ["a.pt"]


def test_options_survive_opt_yaml():
    options = parse("--img", "320", "640", "--classes", "1", "--save-txt", "--resume")
    stored = yaml.safe_load(yaml.safe_dump(dataclasses.asdict(options)))
    assert make_options(Options, stored) == options


@pytest.mark.parametrize(("script", "name"), SCRIPTS.items())
def test_help_and_defaults_of_every_script(script, name, capsys):
    options_class = getattr(importlib.import_module(script), name)
    parser = build_parser(f"{script}.py", options_class, "What it does.")
    assert make_options(options_class, vars(parser.parse_args([]))) == options_class()
    assert make_options(options_class, dataclasses.asdict(options_class())) == options_class()
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for field in dataclasses.fields(options_class):
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.metadata["help"].strip()


def test_help_shows_percent_signs_and_defaults(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "100% of the score [0.25]" in text and "images a batch [16]" in text


def test_echo_line():
    line = describe_options("detect", Options())
    assert line.startswith("detect: weights=['a.pt'], imgsz=[640], batch_size=16, ")


def test_a_command_passes_its_options_and_returns(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["x.py", "--batch", "2"])
    run_command("x.py", Options, seen.append, "X.")
    assert seen == [Options(batch_size=2)]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("two\nlines"), 1, "two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.pt"), 1, "No space left on device: 'a.pt'; free space"),
        (PermissionError(13, "Permission denied", "a.pt"), 1, "Permission denied: 'a.pt'"),
        (IsADirectoryError(21, "Is a directory", "a"), 1, "Is a directory: 'a'"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_what_a_command_says_of_errors(monkeypatch, capsys, error, code, said):
    def main(_options: Options) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["x.py"])
    with pytest.raises(SystemExit) as end:
        run_command("folder/x.py", Options, main, "X.")
    errors = capsys.readouterr().err
    assert end.value.code == code
    assert errors.startswith(f"x.py: error: {said}") and errors.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("no errno"), ZeroDivisionError()])
def test_faults_of_the_program_are_not_hidden(monkeypatch, error):
    def main(_options: Options) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["x.py"])
    with pytest.raises(type(error)):
        run_command("x.py", Options, main, "X.")


def test_names_the_console_lacks_are_printed_all_the_same(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x.py"])
    run_command("x.py", Options, lambda _: print("a\udcff.jpg"), "X.")
    assert capsys.readouterr().out == "a\\udcff.jpg\n"


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("c3", ["C3", "Conv"], "; did you mean 'C3'?"),
        ("weigth", ["weights", "height"], "; did you mean 'weights' or 'height'?"),
        ("zebra", ["weights"], ""),
        ("x", [], ""),
    ],
)
def test_near_matches(word, known, hint):
    assert near_matches(word, known) == hint
