"""The page and the command."""

import base64
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tests.data.doctor.conftest import ROWS, picture, write_image
from utils.data.doctor import run
from utils.data.doctor.charts import Axis, heat_map, histogram
from utils.errors import UserError
from utils.files import ROOT

VOID = {"meta", "img", "br", "line", "rect", "path", "polygon"}


class Page(HTMLParser):
    """Reads a page and checks that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def broken(made):
    """Return the set with several faults, some in a file whose name is markup."""
    made.write("\n".join([*ROWS, "9 .5 .5 .2 .2", "0 .5 .5 .001 .2"]))
    shutil.copy(made.image("train", 1), made.image("val", 1))
    made.image(index=3).write_bytes(b"no image")
    odd = made.image().with_name("a&amp;<b onclick=x>é.jpg")
    write_image(odd, picture(50))
    (made.labels().parent / f"{odd.stem}.txt").write_text("0 .5 .5 .99 .99\n", encoding="utf-8")
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no text")
def test_names_that_are_no_text(made, tmp_path):
    image = made.image()
    odd = image.rename(image.with_name(os.fsdecode(b"caf\xe9.jpg")))
    run(data=str(made.yaml), output=str(tmp_path / "page.html"))
    assert "caf\\udce9.jpg" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert odd.exists()


def test_the_page_stands_alone_and_shows_the_cases(broken, tmp_path):
    file = tmp_path / "new" / "doctor.html"
    report = run(data=broken.yaml, imgsz=128, output=file)
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:|//\w+\.|url\(|@import|src=\"(?!data:image/jpeg;base64,)", text)
    assert "<b onclick" not in text and any("a&amp;<b onclick=x>é.jpg" in part for part in page.text)
    assert report.verdict() in page.text
    for source in page.pictures:
        data = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    assert len(page.pictures) >= 8
    assert [path.name for path in file.parent.iterdir()] == ["doctor.html"]


def test_without_images_the_page_has_none(broken, tmp_path):
    file = tmp_path / "doctor.html"
    report = run(data=broken.yaml, output=file, no_images=True)
    page = Page(file.read_text(encoding="utf-8"))
    assert page.pictures == [] and "leak" not in [finding.kind for finding in report.findings]


def test_a_page_of_nothing(made, tmp_path):
    """No usable image in a split, no box in the other."""
    made.write_all("")
    for index in range(4):
        made.image("val", index).write_bytes(b"")
    file = tmp_path / "doctor.html"
    report = run(data=made.yaml, output=file)
    Page(file.read_text(encoding="utf-8"))
    assert {"split-unlabelled", "image-corrupt"} <= {finding.kind for finding in report.errors}


def test_a_page_for_many_channels_and_many_classes(made, tmp_path):
    made.configure(ch=4, names=[f"class {index}" for index in range(300)])
    for split, count in (("train", 6), ("val", 4)):
        for index in range(count):
            image = np.dstack([picture(10 * count + index), picture(index)[..., :1]])
            made.image(split, index).unlink()
            write_image(made.image(split, index).with_suffix(".png"), image)
    file = tmp_path / "doctor.html"
    report = run(data=made.yaml, output=file)
    page = Page(file.read_text(encoding="utf-8"))
    assert report.errors == [] and len(page.pictures) >= 10
    assert any("of 300 classes" in part for part in page.text)


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "utils.data.doctor", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_fails_when_something_is_wrong(broken, tmp_path):
    done = command(broken.yaml, "--imgsz", 128, "-o", tmp_path / "page.html")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"utils.data.doctor: error: {broken.yaml}: 3 errors (1 unreadable image, ")
    assert "ERROR  train: 1 box of a class outside names" in done.stdout and (tmp_path / "page.html").exists()


def test_the_command_succeeds_with_remarks_only(made, tmp_path):
    made.write("\n".join([*ROWS, "0 .5 .5 .99 .99"]))
    done = command(made.yaml, "--imgsz", 128, "--output", tmp_path / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "verdict: set.yaml: no errors, 1 remark (1 box over 95 % of its image)" in done.stdout


def test_help_comes_at_once():
    program = "import sys, runpy; sys.argv = ['doctor', '--help']\n"
    program += "try: runpy.run_module('utils.data.doctor', run_name='__main__')\n"
    program += "except SystemExit: print(sorted({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--no-images" in done.stdout and done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchors": [1.0, 2, 3]}, "--anchors has 3 numbers, expected pairs"),
        ({"output": "page.png"}, "is no page; name an .html file"),
        ({"imgsz": 0}, "--imgsz 0: expected a number of 1 or more"),
        ({"data": "nowhere.yaml"}, "'nowhere.yaml' does not exist"),
    ],
)
def test_wrong_options(options, message, made):
    with pytest.raises(UserError, match=re.escape(message)):
        run(**({"data": made.yaml, "output": made.root / "x.html"} | options))


def test_the_page_goes_to_a_run_folder_by_default(made, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.data.doctor.command.runs_dir", lambda kind: tmp_path / "runs" / kind)
    for _ in range(2):
        run(data=made.yaml)
    assert sorted(path.parent.name for path in (tmp_path / "runs/doctor").rglob("*.html")) == ["exp", "exp2"]


@pytest.mark.parametrize("values", [[], [0.0], [1e9], [8, 16, 300]])
def test_charts_take_any_values(values):
    axis = Axis(-1, 10, (1, 32, 1024), "side, px")
    Page(histogram({"train": np.array(values), "a<b": np.array([3.0])}, axis, 10, [8, 16]))
    points = np.stack([np.array(values, float)] * 2, 1)
    Page(heat_map(points, (axis, axis), np.array([[10.0, 13]])))
