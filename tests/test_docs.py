"""The pages in docs/: their code runs, their commands are understood, their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from utils.files import ROOT

DOCS = ROOT / "docs"
PLUGINS_PAGE = (DOCS / "plugins.md").read_text(encoding="utf-8")
LINKS = [
    (page.name, target)
    for page in sorted(DOCS.glob("*.md"))
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """Return the page's plug-in as the file it tells the reader to save."""
    (code,) = re.findall(r"```python\n(.*?)```", PLUGINS_PAGE, re.DOTALL)
    file = tmp_path_factory.mktemp("user") / "my_attention.py"
    file.write_text(code, encoding="utf-8")
    return file


def run(*words: object) -> str:
    """Run a script as a user does, and return all it printed."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_plugin_page_in_its_own_words(plugin, tiny_weights, tiny_dataset, tmp_path):
    """Every command of the page, with the reader's files in place of the page's."""
    assert len([line for line in plugin.read_text().splitlines() if line.strip()]) <= 30
    best = tmp_path / "exp/weights/best.pt"
    places = {
        "my_attention.py": plugin,
        "yolov5s.pt": tiny_weights,
        "my.yaml": tiny_dataset,
        "runs/train/exp/weights/best.pt": best,
        "images/": tiny_dataset.parent / "images/val",
        "my-model.yaml": tmp_path / "my-model.yaml",
    }
    smaller = {
        "train.py": ["--epochs", 1, "--batch-size", 4, "--imgsz", 64, "--workers", 0, "--exist-ok"],
        "val.py": ["--imgsz", 64, "--workers", 0],
        "detect.py": ["--imgsz", 64, "--name", "seen"],
        "export.py": ["--imgsz", 64],
    }
    blocks = re.findall(r"```bash\n(.*?)```", PLUGINS_PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        words = [places.get(word.strip("'"), word.strip("'")) for word in line.split()[1:]]
        project = [] if words[0] in ("-m", "export.py") else ["--project", tmp_path]
        output = run(*words, *smaller.get(str(words[0]), []), *project)
        if "before-Detect" not in line and words[0] == "train.py":
            assert "24 RowGate" in output and "start out changed" not in output
            assert "[-1, 1, RowGate, [1024]]" in (tmp_path / "exp/model.yaml").read_text()
    assert (tmp_path / "exp/plugins/my_attention.py").read_text() == plugin.read_text()
    assert list((tmp_path / "seen").rglob("*RowGate_gate.png"))


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page, target):
    assert (DOCS / target).exists()
