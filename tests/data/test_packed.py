import os
import shutil
import tarfile
import zipfile

import pytest
import yaml

from utils.data.config import load_dataset_config
from utils.errors import UserError

CONTENT = {"path": "../somewhere/else", "train": "../train/images", "val": "valid/images", "names": ["thing"]}


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Return a function that writes an archive with a data set in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(tmp_path / "datasets"))

    def pack(name="toy.zip", top="", mtime=1_000_000_000, **files):
        source = tmp_path / "source"
        shutil.rmtree(source, ignore_errors=True)
        for split in ("train", "valid"):
            (source / top / split / "images").mkdir(parents=True)
            (source / top / split / "images" / "1.jpg").write_bytes(b"jpeg")
        (source / top / "data.yaml").write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
        for file, text in files.items():
            (source / top / f"{file}.yaml").write_text(text, encoding="utf-8")
        archive = tmp_path / name
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        if name.endswith(".zip"):
            with zipfile.ZipFile(archive, "w") as opened:
                for path in paths:
                    opened.write(path, path.relative_to(source))
        else:
            with tarfile.open(archive, "w:gz" if name.endswith("gz") else "w") as opened:
                for path in paths:
                    opened.add(path, path.relative_to(source))
        os.utime(archive, (mtime, mtime))
        return str(archive)

    return pack


@pytest.mark.parametrize("name", ["toy.zip", "toy.tar", "toy.tar.gz", "toy.tgz"])
@pytest.mark.parametrize("top", ["", "inner"])
def test_archive_as_data_set(packed, tmp_path, name, top):
    config = load_dataset_config(packed(name, top))
    root = tmp_path / "datasets" / "toy" / top
    assert (config.file, config.root) == (root / "data.yaml", root)
    assert config.splits == {"train": [root / "train" / "images"], "val": [root / "valid" / "images"]}


def test_unpacked_once_and_again_when_changed(packed, tmp_path):
    archive = packed()
    load_dataset_config(archive)
    image = tmp_path / "datasets" / "toy" / "train" / "images" / "1.jpg"
    image.write_bytes(b"mine")
    load_dataset_config(archive)
    assert image.read_bytes() == b"mine"
    os.utime(image, (1, 1))  # older than the unpacking: not the user's
    for suffix in (".cache", ".images"):  # of labels and of pixels: ours
        (tmp_path / "datasets" / "toy" / f"train{suffix}").write_bytes(b"ours")
        os.utime(tmp_path / "datasets" / "toy" / f"train{suffix}", (4_000_000_000, 4_000_000_000))
    load_dataset_config(packed(mtime=1_000_000_001))
    assert image.read_bytes() == b"jpeg"
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["toy"]


def test_changes_of_the_user_are_not_lost(packed, tmp_path):
    load_dataset_config(packed())
    label = tmp_path / "datasets" / "toy" / "mine.txt"
    label.write_text("mine")
    os.utime(label, (4_000_000_000, 4_000_000_000))
    with pytest.raises(
        UserError, match=r"'.*toy.zip' has changed, and so has '.*mine.txt' since it was unpacked; move"
    ):
        load_dataset_config(packed(mtime=1_000_000_001))
    assert label.read_text() == "mine"


def test_folder_of_another_origin_is_left_alone(packed, tmp_path):
    (tmp_path / "datasets" / "toy").mkdir(parents=True)
    (tmp_path / "datasets" / "toy" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and was not unpacked from"):
        load_dataset_config(packed())


def test_of_several_yaml_files_the_first_by_name_counts(packed):
    with pytest.raises(UserError, match=r"args\.yaml: unknown key 'a'"):
        load_dataset_config(packed(args="a: 1"))
    assert load_dataset_config(packed("other.zip", zzz="a: 1")).file.name == "data.yaml"


def test_archive_without_yaml(tmp_path, packed):
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(UserError, match=r"holds no \*.yaml that describes the data set"):
        load_dataset_config(str(tmp_path / "none.zip"))


def test_missing_archive(packed):
    with pytest.raises(UserError, match=r"--data 'none\.zip' does not exist"):
        load_dataset_config("none.zip")
