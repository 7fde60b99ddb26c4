"""Paths, YAML files, and writes that leave the old file or the new one, never half of either."""

import os
import stat
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.files import (
    ROOT,
    atomic_write,
    datasets_dir,
    find_file,
    increment_path,
    make_run_folder,
    read_yaml,
    runs_dir,
    safe_name,
    write_yaml,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_makes_folders_and_replaces_the_file(tmp_path):
    file = tmp_path / "a" / "b" / "file.txt"
    for text in ("old", "new"):
        with atomic_write(file) as temporary:
            assert temporary.parent == file.parent and temporary.suffix == ".txt" and temporary != file
            temporary.write_text(text)
        assert file.read_text() == text
    assert names(file.parent) == ["file.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_atomic_write_keeps_to_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "file") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt(), ValueError("bad")])
@pytest.mark.parametrize("exists", [True, False])
def test_atomic_write_keeps_the_old_file_when_writing_fails(tmp_path, error, exists):
    file = tmp_path / "file.txt"
    if exists:
        file.write_text("old")
    with pytest.raises(type(error)), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["file.txt"] if exists else [])
    assert not exists or file.read_text() == "old"


def test_atomic_write_keeps_the_old_file_when_the_disk_is_full_at_the_end(tmp_path, monkeypatch):
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "file.txt"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error, atomic_write(file) as temporary:
        temporary.write_text("new")
    assert error.value.filename == str(file)  # the user knows nothing of the temporary name
    assert file.read_text() == "old" and names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize(
    ("taken", "wanted", "expected"),
    [
        ([], "exp", "exp"),
        (["exp"], "exp", "exp2"),
        (["exp", "exp2", "exp3"], "exp", "exp4"),
        (["exp", "exp7"], "exp", "exp8"),
        (["exp2"], "exp", "exp"),
        (["exp", "expert", "exp2b", "experiment9"], "exp", "exp2"),
        (["exp", "exp10", "exp9"], "exp", "exp11"),
        (["a.jpg"], "a.jpg", "a2.jpg"),
        (["a.jpg", "a2.jpg", "a3.png"], "a.jpg", "a3.jpg"),
        (["a+b"], "a+b", "a+b2"),
        (["v1.0"], "v1.0", "v1.02"),
    ],
)
def test_increment_path(tmp_path, taken, wanted, expected):
    for name in taken:
        (tmp_path / name).touch() if name.endswith((".jpg", ".png")) else (tmp_path / name).mkdir()
    assert increment_path(tmp_path / wanted) == tmp_path / expected
    assert increment_path(tmp_path / wanted, exist_ok=True) == tmp_path / wanted


def test_make_run_folder(tmp_path):
    project = tmp_path / "runs" / "train"
    assert [make_run_folder(str(project), "exp").name for _ in range(3)] == ["exp", "exp2", "exp3"]
    assert make_run_folder(str(project), "exp", exist_ok=True).name == "exp"
    assert make_run_folder(str(project), "new", exist_ok=True).name == "new"
    assert names(project) == ["exp", "exp2", "exp3", "new"]
    assert names(project / "exp") == []


@pytest.mark.parametrize("exist_ok", [True, False])
@pytest.mark.parametrize("project", ["file", "file/below"])
def test_make_run_folder_where_none_can_be(tmp_path, project, exist_ok):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot write run folder .*exp.* choose another --project"):
        make_run_folder(str(tmp_path / project), "exp", exist_ok)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("hyp.scratch-low.yaml", "data/hyps/hyp.scratch-low.yaml"),
        ("yolov5n.yaml", "models/yolov5n.yaml"),
        ("yolov5s6.yaml", "models/hub/yolov5s6.yaml"),
        ("models/yolov5n.yaml", "models/yolov5n.yaml"),
        ("coco128.yaml", "data/coco128.yaml"),
    ],
)
def test_shipped_files_are_found_from_anywhere(tmp_path, monkeypatch, name, found):
    monkeypatch.chdir(tmp_path)
    assert find_file(name, "--x") == ROOT / found


def test_a_file_that_is_there_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolov5n.yaml").write_text("nc: 1")
    assert find_file("yolov5n.yaml", "--cfg") == Path("yolov5n.yaml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yolov5z.yaml", "--cfg 'yolov5z.yaml' does not exist; did you mean 'yolov5"),
        ("nothing/like/this", "--cfg 'nothing/like/this' does not exist"),
        ("folder", "--cfg 'folder' is a folder, expected a file"),
    ],
)
def test_files_that_are_not_found(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as error:
        find_file(name, "--cfg")
    assert said in str(error.value)


def test_files_of_one_name_are_ambiguous(tmp_path, monkeypatch):
    for folder in ("data/a", "models"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "same.yaml").write_text("nc: 1")
    monkeypatch.setattr("utils.files.ROOT", tmp_path)
    with pytest.raises(UserError, match=r"'same.yaml' is ambiguous: .*give the whole path"):
        find_file("same.yaml", "--cfg")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: [1, 2\nc: 3\n", "x.yaml:3: malformed YAML"),
        (b"a: 1\n\tb: 2\n", "x.yaml:2: malformed YAML"),
        (b"a: 1\nb: !!python/object/apply:os.getcwd []\n", "x.yaml:2: malformed YAML"),
        (b"a: *nothing\n", "x.yaml:1: malformed YAML"),
        (b"a: 2024-13-01\n", "malformed YAML: month must be in 1..12"),
        (b"[" * 5000, "malformed YAML"),
        (b"a: \xff\n", "is not a UTF-8 text file (invalid start byte at byte 3)"),
        (b"a\x00: 1\n", "malformed YAML"),
        (b"", "must hold a YAML mapping ('word: value' lines), got NoneType"),
        (b"- a\n", "got list"),
        (b"text\n", "got str"),
        (b"7: a\n", "got the keys [7]"),
    ],
)
def test_yaml_that_cannot_be_read(tmp_path, content, said):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_yaml(tmp_path / "x.yaml")
    assert said in str(error.value) and "x.yaml" in str(error.value)


def test_yaml_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml' does not exist"):
        read_yaml(tmp_path / "none.yaml")


def test_yaml_round_trip_keeps_order_and_letters(tmp_path):
    content = {"z": 1, "a": [0.5, None, True], "ü": {"Schlüssel": "日本"}}
    write_yaml(tmp_path / "x.yaml", content)
    assert list(read_yaml(tmp_path / "x.yaml").items()) == list(content.items())
    assert "日本" in (tmp_path / "x.yaml").read_text(encoding="utf-8")


def test_yaml_content_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_yaml(tmp_path / "x.yaml", {"a": 1})
    with pytest.raises(Exception, match="represent"):
        write_yaml(tmp_path / "x.yaml", {"a": object()})
    assert read_yaml(tmp_path / "x.yaml") == {"a": 1} and names(tmp_path) == ["x.yaml"]


def test_datasets_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(tmp_path / "sets"))
    assert datasets_dir() == (tmp_path / "sets").resolve()
    for unset in (
        lambda: monkeypatch.setenv("YOLOV5_DATASETS_DIR", ""),
        lambda: monkeypatch.delenv("YOLOV5_DATASETS_DIR"),
    ):
        unset()
        assert datasets_dir() == ROOT.parent / "datasets"


@pytest.mark.parametrize(("where", "expected"), [(ROOT, Path("runs/train")), (ROOT / "data", ROOT / "runs/train")])
def test_runs_dir(monkeypatch, where, expected):
    monkeypatch.chdir(where)
    assert runs_dir("train") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("traffic light", "traffic light"),
        ("a/b", "a_b"),
        ("..", "_"),
        ("../../x", "_.._x"),
        ("c:\\d?", "c__d_"),
        ("", "_"),
    ],
)
def test_safe_names_stay_in_their_folder(tmp_path, name, expected):
    assert safe_name(name) == expected
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()


def test_atomic_write_takes_the_longest_names(tmp_path):
    path = tmp_path / ("n" * 250 + ".txt")
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
