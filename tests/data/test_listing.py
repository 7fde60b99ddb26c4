"""Which files are images of a split, and where their labels are."""

import os
from pathlib import Path

import pytest

from tests.golden_data import load_golden
from utils.data.listing import ImageList, label_path, list_images, printable
from utils.errors import UserError


def test_golden_label_paths():
    for image, expected in load_golden("labels.json")["img2label"]:
        assert label_path(Path(image)) == Path(expected)


def test_folders_are_searched_deep_and_sorted(tmp_path):
    folder = tmp_path / "im[1]"
    for name in ("b/z.PNG", "a.jpg", "b/.hidden.jpg", "c.txt", "b/c/y.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    names = [str(path.relative_to(folder)) for path in list_images([folder])]
    assert names == ["a.jpg", str(Path("b/c/y.webp")), str(Path("b/z.PNG"))]


def test_lists_of_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("sets/images/a.jpg", "here.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    absolute = tmp_path / "far" / "b.png"
    file = tmp_path / "sets" / "train.txt"
    file.write_text(f"./images/a.jpg\nimages/c.jpg\n\nhere.jpg\n{absolute}\nnotes.md\n")
    expected = [absolute, tmp_path / "here.jpg", tmp_path / "sets/images/a.jpg", tmp_path / "sets/images/c.jpg"]
    assert list(list_images([file])) == expected


def test_missing_entry_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        list_images([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("d.1/images/a", "d.1/labels/a.txt"),
        ("d/images.2/a.b.png", "d/images.2/a.b.txt"),
        ("/images/x.jpg", "/labels/x.txt"),
    ],
)
def test_dots_of_folders_are_no_suffix(image, expected):
    assert label_path(Path(image)) == Path(expected)


def test_folder_that_leads_to_itself_is_entered_once(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    try:
        (tmp_path / "images" / "again").symlink_to(tmp_path / "images", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert [path.name for path in list_images([tmp_path / "images"])] == ["a.jpg"]


def test_linked_folder_is_searched(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    (tmp_path / "images").mkdir()
    try:
        (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert list(list_images([tmp_path / "images"])) == [tmp_path / "images" / "linked" / "a.jpg"]


def test_folder_with_the_name_of_an_image_is_none(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    (tmp_path / "a.jpg" / "b.jpg").touch()
    assert list(list_images([tmp_path])) == [tmp_path / "a.jpg" / "b.jpg"]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_folder_without_permission_is_named(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    try:
        with pytest.raises(UserError, match="locked"):
            list_images([tmp_path])
    finally:
        locked.chmod(0o700)


def test_empty_folder_has_no_images(tmp_path):
    assert len(list_images([tmp_path])) == 0


def test_image_list_is_a_sequence_of_paths():
    images = ImageList.of([Path("a.jpg"), Path("b.jpg"), Path("c.jpg")])
    assert images[1] == Path("b.jpg") and images[-1] == Path("c.jpg")
    assert list(images[1:]) == [Path("b.jpg"), Path("c.jpg")] and Path("a.jpg") in images
    assert ImageList.of(images) is images


def test_names_are_one_line_on_any_terminal():
    assert printable("ä b.jpg") == "ä b.jpg"
    assert printable("a\nb\x1b[2J.jpg") == "a\\nb\\x1b[2J.jpg"
    assert printable("\udcff.jpg") == "\\udcff.jpg"
