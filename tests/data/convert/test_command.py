import re
import shlex
import subprocess
import sys

import pytest

from tests.data.convert.made import images_of, write_image, write_json, write_text
from utils.data.autosplit import SplitOptions
from utils.data.config import load_dataset_config
from utils.data.convert import CONVERTERS, ConvertOptions, convert, run
from utils.data.convert import main as convert_main
from utils.data.convert.images import Places, place_image, read_size
from utils.data.convert.yolo_writer import data_yaml
from utils.data.listing import label_path
from utils.errors import UserError
from utils.files import ROOT
from utils.options import build_parser, run_command

DOCS = (ROOT / "docs/data.md").read_text(encoding="utf-8")


@pytest.fixture
def source(tmp_path):
    write_image(tmp_path / "in/images/train/a.png")
    write_image(tmp_path / "in/images/val/b.png")
    for number, (split, name) in enumerate((("train", "a.png"), ("val", "b.png"))):
        boxes = [{"id": one, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5 * one, 5]} for one in range(20 - number)]
        content = {
            "images": [{"id": 1, "file_name": name}],
            "annotations": boxes,
            "categories": [{"id": 1, "name": "no"}],
        }
        write_json(tmp_path / f"in/annotations/instances_{split}.json", content)
    return tmp_path / "in"


def command(monkeypatch, capsys, *words):
    """Run ``python -m utils.data.convert`` in this process; return exit code, output, errors."""
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
    code = 0
    try:
        run_command("convert", ConvertOptions, convert_main, "about")
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_account(monkeypatch, capsys, source, tmp_path):
    code, output, errors = command(monkeypatch, capsys, "coco", source, tmp_path / "out")
    assert (code, errors) == (0, "")
    assert "in:  2 images, 39 boxes, 1 classes" in output
    assert "out: 2 images (train 1, val 1), 37 boxes, 1 classes (1 with boxes)" in output
    assert "boxes dropped: 2 (no area: 2)" in output
    assert "annotation 0: no area: 0 x 5 px" in output
    written = (tmp_path / "out/conversion.txt").read_text(encoding="utf-8")
    assert "    0        39        37  no" in written
    config = load_dataset_config(str(tmp_path / "out/out.yaml"))
    assert config.names == {0: "no"}
    assert [path.is_dir() for paths in config.splits.values() for path in paths] == [True, True]


def test_only_a_few_losses_are_printed(source, tmp_path):
    report = convert("coco", source, tmp_path / "out")
    assert any(line.endswith("and 1 more, all listed in conversion.txt") for line in report.lines(most_shown=1))


@pytest.mark.parametrize("link", [False, True])
def test_images_are_copies_unless_links_are_wanted(source, tmp_path, link):
    original = source / "images/train/a.png"
    before = original.read_bytes()
    run(kind="coco", source=source, destination=tmp_path / "out", link=link)
    made = tmp_path / "out/images/train/a.png"
    assert made.read_bytes() == original.read_bytes() == before
    assert made.samefile(original) == link


def test_images_are_copied_where_links_cannot_be(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    image = write_image(tmp_path / "a.png")
    place_image(image, tmp_path / "b/c.png", link=True)
    assert (tmp_path / "b/c.png").read_bytes() == image.read_bytes()


def test_a_link_to_an_image_becomes_the_image(tmp_path):
    image = write_image(tmp_path / "a.png")
    link = tmp_path / "link.png"
    try:
        link.symlink_to(image)
    except OSError:
        pytest.skip("symbolic links need a permission here")
    place_image(link, tmp_path / "out.png", link=True)
    assert not (tmp_path / "out.png").is_symlink()
    assert (tmp_path / "out.png").read_bytes() == image.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["voice", "in", "out"], "unknown format 'voice'"),
        (["coco", "nowhere", "out"], "'nowhere' does not exist; expected COCO JSON"),
        (["coco", "in", "in"], "'in' is not empty, nothing is written over it; name a new folder, or empty it"),
        (["coco", "in", "in/annotations/instances_val.json"], "is a file, expected a new folder to write to"),
        (["coco", "in", "out", "--keep-difficult"], "--keep-difficult is for voc, not for coco"),
        (["coco", "in", "out", "--names", "a"], "--names is for voc and labelme, not for coco"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(monkeypatch, capsys, source, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    code, _, errors = command(monkeypatch, capsys, *words)
    assert code == 1
    assert errors.startswith("convert: error: ") and len(errors.splitlines()) == 1
    assert message in errors
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_wrong_options_end_with_two(monkeypatch, capsys):
    assert command(monkeypatch, capsys, "coco")[0] == 2
    assert command(monkeypatch, capsys, "coco", "a", "b", "--box-only")[0] == 2


def test_an_interrupted_conversion_leaves_nothing(source, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("utils.data.convert.yolo_writer.place_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert("coco", source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_empty_folder_may_be_the_destination(source, tmp_path):
    (tmp_path / "out").mkdir()
    convert("coco", source, tmp_path / "out")
    assert images_of(tmp_path / "out") == ["train/a.png", "val/b.png"]


@pytest.mark.parametrize("module", ["convert", "autosplit"])
def test_help_loads_nothing_heavy(module):
    program = f"import sys; sys.argv = ['{module}', '--help']; import runpy\n"
    program += f"try: runpy.run_module('utils.data.{module}', run_name='__main__')\n"
    program += "except SystemExit as stop: print('exit', stop.code)\n"
    program += "print('heavy', sorted({'torch', 'cv2', 'numpy', 'matplotlib', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "exit 0" in done.stdout and "heavy []" in done.stdout


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["val", "train", "test"], {"train": "images/train", "val": "images/val", "test": "images/test"}),
        (
            ["train2012", "train2007", "valid"],
            {"train": ["images/train2007", "images/train2012"], "val": "images/valid"},
        ),
        (["all"], {"train": "images/all", "val": "images/all"}),
        (["test"], {"train": "images/test", "val": "images/test", "test": "images/test"}),
    ],
)
def test_splits_in_the_yaml(splits, expected):
    content, notes = data_yaml(splits, ["a"])
    assert content == {"path": ".", **expected, "names": ["a"]}
    assert bool(notes) == ("val" not in splits and "valid" not in splits)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("x/y/a.b.jpg", "x/y/a.b.jpg"),
        ("../../../etc/a.jpg", "etc/a.jpg"),
        ("/abs/a.jpg", "abs/a.jpg"),
        ("C:\\data\\a.jpg", "C_/data/a.jpg"),
        ("images/train/labels/a.jpg", "a.jpg"),
        ("what?.jpg", "what_.jpg"),
        ("..", "_"),
    ],
)
def test_places_stay_inside_and_labels_are_found(tmp_path, name, path):
    place = Places().claim("train", name)
    assert place.as_posix() == path
    image = tmp_path / "images/train" / place
    assert label_path(image) == tmp_path / "labels/train" / place.with_suffix(".txt")


@pytest.mark.parametrize(("orientation", "size_hw"), [(1, (20, 40)), (3, (20, 40)), (6, (40, 20)), (8, (40, 20))])
def test_sizes_are_those_of_the_upright_image(tmp_path, orientation, size_hw):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    image = write_image(tmp_path / "a.jpg", exif=exif)
    assert read_size(image) == read_size(image.read_bytes()) == size_hw


COMMANDS = re.findall(r"^python -m utils\.data\.(convert|autosplit) (.*)$", DOCS, re.MULTILINE)


@pytest.mark.parametrize(("module", "words"), COMMANDS, ids=[" ".join(pair) for pair in COMMANDS])
def test_commands_of_the_page_are_understood(module, words):
    options = {"convert": ConvertOptions, "autosplit": SplitOptions}[module]
    parsed = build_parser(module, options, "").parse_args(shlex.split(words, comments=True))
    assert module == "autosplit" or parsed.kind in CONVERTERS


def test_the_page_has_every_format():
    assert {words.split()[0] for module, words in COMMANDS if module == "convert"} >= {
        "coco",
        "voc",
        "visdrone",
        "labelme",
        "yolo",
    }
    assert all(f"`{kind}`" in DOCS for kind in CONVERTERS)


def test_unknown_kind_from_python(tmp_path):
    write_text(tmp_path / "a", "")
    with pytest.raises(UserError, match="unknown format 'COCOO'; did you mean 'coco'"):
        convert("COCOO", tmp_path, tmp_path / "out")
