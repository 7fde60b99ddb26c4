"""What the README promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.registry import REGISTRY
from models.yolo import Model

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SCRIPTS = ("train", "val", "detect", "export")


def commands() -> list[list[str]]:
    """Return the arguments of every ``python <script>.py ...`` line of the README."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("#")[0].split("&&")]
    return [line.split()[1:] for line in lines if line.split()[:1] == ["python"]]


def test_every_command_line_is_understood():
    import importlib

    from utils.options import build_parser

    seen = set()
    for script, *arguments in commands():
        if not script.endswith(".py") or script.startswith("benchmarks"):
            continue
        name = script.removesuffix(".py")
        module = importlib.import_module(name)
        options_class = next(
            value for key, value in vars(module).items() if key.endswith("Options") and key.lower().startswith(name)
        )
        build_parser(script, options_class, "").parse_args([argument.strip("'") for argument in arguments])
        seen.add(name)
    assert seen == set(SCRIPTS)


def test_the_plug_in_of_the_readme_works():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope = {"__name__": "readme_plugin"}
    exec(code, scope)
    try:
        row = [-1, 1, "ChannelScale", [16, {"start": 0.5}]]
        head = [[[1], 1, "Detect", ["nc", "anchors"]]]
        config = {"nc": 2, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13]]}
        model = Model(config | {"backbone": [[-1, 1, "Conv", [16, 3, 2]], row], "head": head})
        assert torch.equal(model.model[1].scale, torch.full((1, 16, 1, 1), 0.5))
    finally:
        del REGISTRY.layers["ChannelScale"]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_linked_files_are_there(target):
    assert (PROJECT / target).exists()


def test_nam_alone_prints_its_shape():
    run = subprocess.run([sys.executable, "models/nam.py"], cwd=PROJECT, capture_output=True, text=True)
    assert run.stdout.strip() == "torch.Size([1, 64, 64, 64])", run.stderr
