import sys
from pathlib import Path

import pytest

from tests.golden_data import load_golden
from utils.data.autosplit import SplitOptions, autosplit, identical_files, main, run
from utils.data.listing import list_images
from utils.errors import UserError
from utils.options import run_command


def make(folder: Path, names: list[str], labelled: list[str] = ()) -> Path:
    """Write files of different contents into ``folder``/images; return that folder."""
    for number, name in enumerate(names):
        file = folder / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"content {number:06d}".encode())
    for name in labelled:
        file = (folder / "labels" / name).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return folder / "images"


def lists_in(folder: Path) -> dict[str, list[str] | None]:
    files = {split: folder / f"autosplit_{split}.txt" for split in ("train", "val", "test")}
    return {split: file.read_text().splitlines() if file.exists() else None for split, file in files.items()}


def test_golden_lists(tmp_path):
    cases = load_golden("labels.json")["autosplit"]
    assert cases
    for number, case in enumerate(cases):
        folder = make(tmp_path / str(number), case["files"], case["labelled"])
        run(folder=folder, weights=case["weights"], annotated_only=case["annotated_only"])
        assert {split: paths and sorted(paths) for split, paths in lists_in(folder.parent).items()} == case["result"]


@pytest.mark.parametrize("seed", range(5))
def test_identical_images_stay_together(tmp_path, seed):
    folder = make(tmp_path, [f"{number:02d}.jpg" for number in range(60)])
    groups = [[folder / f"{number:02d}.jpg" for number in group] for group in ((3, 40, 59), (7, 8), (20, 21))]
    for first, *others in groups:
        for other in others:
            other.write_bytes(first.read_bytes())
    plain = autosplit(make(tmp_path / "other", [f"{number:02d}.jpg" for number in range(60)]), (0.5, 0.3, 0.2), seed)
    lists = autosplit(folder, (0.5, 0.3, 0.2), seed)
    split_of = {image: split for split, images in lists.items() for image in images}
    assert len(split_of) == 60
    for group in groups:
        assert len({split_of[image] for image in group}) == 1
    repeated = {image.name for _, *others in groups for image in others}
    for split, images in plain.items():  # all others are where they would be anyway
        assert {image.name for image in images} - repeated == {image.name for image in lists[split]} - repeated


def test_files_of_one_size_with_other_content_are_not_identical(tmp_path):
    folder = make(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes())
    assert identical_files(sorted(folder.iterdir())) == [[folder / "a.jpg", folder / "c.jpg"]]


def test_seeds_differ_and_repeat(tmp_path):
    folder = make(tmp_path, [f"{number}.jpg" for number in range(40)])
    first, again, other = autosplit(folder, seed=1), autosplit(folder, seed=1), autosplit(folder, seed=2)
    assert first == again != other


def test_an_old_list_of_an_empty_split_goes(tmp_path):
    folder = make(tmp_path, [f"{number}.jpg" for number in range(20)])
    run(folder=folder, weights=[0.4, 0.3, 0.3])
    assert lists_in(tmp_path)["test"]
    assert run(folder=tmp_path, weights=[1.0, 0.0, 0.0]) == {"train": 20, "val": 0, "test": 0}
    assert list(map(bool, lists_in(tmp_path).values())) == [True, False, False]


def test_training_finds_what_the_lists_name(tmp_path):
    folder = make(tmp_path, ["a.jpg", "sub/b.png", "notes.txt"])
    run(folder=folder, weights=[1.0, 0.0, 0.0])
    assert list(list_images([tmp_path / "autosplit_train.txt"])) == [folder / "a.jpg", folder / "sub/b.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_that_no_list_can_hold_is_told(tmp_path):
    folder = make(tmp_path, ["a.jpg", "b\nc.jpg"])
    with pytest.raises(UserError, match=r"b\\nc\.jpg' cannot be in a list of one path a line; rename it"):
        run(folder=folder)
    assert lists_in(tmp_path)["train"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "'nowhere' is no folder"),
        (["images", "--weights", "0.9", "0.1"], "expected three shares"),
        (["images", "--weights", "0", "0", "0"], "expected three shares"),
        (["images", "--weights", "inf", "0", "0"], "expected three shares"),
        (["images", "--annotated-only"], "none of 1 images has a label file"),
        (["empty"], "holds no images"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, words, message):
    make(tmp_path, ["a.jpg"])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["autosplit", *words])
    with pytest.raises(SystemExit) as end:
        run_command("autosplit", SplitOptions, main, "about")
    errors = capsys.readouterr().err
    assert end.value.code == 1 and len(errors.splitlines()) == 1 and message in errors
    assert lists_in(tmp_path) == {"train": None, "val": None, "test": None}


def test_a_python_caller_gets_the_error(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        run(folder=tmp_path / "nowhere")


def test_hidden_files_are_left_out(tmp_path):
    for name in ("a.jpg", ".hidden.jpg", ".folder/b.jpg", "._mac.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name.encode())
    lists = autosplit(tmp_path / "images", (1.0, 0.0, 0.0))
    assert [path.name for path in lists["train"]] == ["a.jpg"]


def test_lists_of_another_folder_are_not_replaced(tmp_path):
    for name in ("first/a.jpg", "second/b.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    run(folder=tmp_path / "first", weights=[0.0, 1.0, 0.0])
    before = (tmp_path / "autosplit_val.txt").read_text()
    with pytest.raises(UserError, match=r"autosplit_val\.txt' lists images of 'first'"):
        run(folder=tmp_path / "second", weights=[1.0, 0.0, 0.0])
    assert (tmp_path / "autosplit_val.txt").read_text() == before and not (tmp_path / "autosplit_train.txt").exists()
    run(folder=tmp_path / "first", weights=[1.0, 0.0, 0.0])  # its own it may replace
    assert not (tmp_path / "autosplit_val.txt").exists()
