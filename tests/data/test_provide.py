import hashlib
import io
import threading
import zipfile

import pytest
import yaml
from PIL import Image

from tests.data.web import serve
from utils.data import download
from utils.data.config import load_dataset_config
from utils.data.provide import one_at_a_time
from utils.data.recipe import read_download
from utils.errors import UserError


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24)).save(buffer, "JPEG")
    return buffer.getvalue()


IMAGES = {f"{split}/{split}1.jpg": b"jpeg" for split in ("train", "val")}
LABELS = {f"toy/labels/{split}/{split}1.txt": b"0 0.5 0.5 0.1 0.1" for split in ("train", "val")}


@pytest.fixture
def web(monkeypatch, tmp_path):
    """Serve archives; work in an empty folder with the data sets folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("YOLOV5_OFFLINE", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with serve() as server:
        for split in ("train", "val"):
            server.files[f"/{split}.zip"] = zipped({f"{split}/{split}1.jpg": b"jpeg"})
        server.files["/labels.zip"] = zipped(LABELS)
        yield server


@pytest.fixture
def toy(web, tmp_path):
    """Return a function that writes toy.yaml and the folder its data go to."""

    def write(recipe, **changes):
        content = {"path": "../datasets/toy", "train": "images/train", "val": "images/val", "names": ["thing"]}
        content |= {"download": recipe} | changes
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(tmp_path / "toy.yaml")

    return write


def coco_like(web, **changes):
    """Return a recipe like that of coco.yaml: labels for all, images a split."""
    files = [{"url": f"{web.url}/labels.zip", "gives": "labels/val"}]
    for split in ("val", "train"):
        files.append({"url": f"{web.url}/{split}.zip", "unpack": "images", "gives": f"images/{split}", "splits": split})
    return {"files": files} | changes


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_fetches_what_is_missing_and_only_once(web, toy, tmp_path):
    file = toy(coco_like(web))
    config = load_dataset_config(file)
    assert config.root == tmp_path / "datasets" / "toy"
    assert tree(config.root) == {f"images/{name}" for name in IMAGES} | {name[4:] for name in LABELS}
    count = len(web.asked)
    load_dataset_config(file)
    assert len(web.asked) == count == 3


def test_only_the_split_in_use_is_fetched(web, toy):
    file = toy(coco_like(web))
    load_dataset_config(file, splits=("val",))
    assert [path for path, _ in web.asked] == ["/labels.zip", "/val.zip"]
    load_dataset_config(file)
    assert [path for path, _ in web.asked] == ["/labels.zip", "/val.zip", "/train.zip"]


def test_files_put_there_by_hand_are_used_and_kept(web, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    root = tmp_path / "datasets" / "toy"
    root.mkdir(parents=True)
    for name in ("train.zip", "val.zip", "labels.zip"):
        (root / name).write_bytes(web.files[f"/{name}"])
    load_dataset_config(toy(coco_like(web)))
    assert {"train.zip", "val.zip", "labels.zip", "images/train/train1.jpg"} <= tree(root)
    assert web.asked == []


def test_offline_message_says_what_to_put_where(web, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    recipe = coco_like(web)
    recipe["files"][2]["size"] = 19_300_000_000
    with pytest.raises(UserError) as caught:
        load_dataset_config(toy(recipe))
    root = tmp_path / "datasets" / "toy"
    assert str(caught.value).startswith(
        f"{tmp_path / 'toy.yaml'}: 'images/train' (train), 'images/val' (val) not found"
    )
    assert str(caught.value).endswith(
        f"cannot fetch 'labels.zip': YOLOV5_OFFLINE is set; put 'labels.zip' from {web.url}/labels.zip and "
        f"'val.zip' from {web.url}/val.zip and 'train.zip' from {web.url}/train.zip (19.3 GB) into '{root}'; "
        "then run again, and the rest is done from there"
    )
    assert "\n" not in str(caught.value)


def test_message_names_only_what_is_still_needed(web, toy, tmp_path):
    del web.files["/val.zip"]
    file = toy(coco_like(web))
    (tmp_path / "datasets" / "toy").mkdir(parents=True)
    (tmp_path / "datasets" / "toy" / "train.zip").write_bytes(web.files["/train.zip"])
    with pytest.raises(
        UserError, match=r"cannot fetch 'val.zip': the server answers 404.*put 'val.zip' from"
    ) as caught:
        load_dataset_config(file)
    assert "labels.zip" not in str(caught.value) and "train.zip" not in str(caught.value)
    (tmp_path / "datasets" / "toy" / "val.zip").write_bytes(zipped({"val/val1.jpg": b"jpeg"}))
    load_dataset_config(file)


def test_manual_files(toy, tmp_path):
    recipe = {"files": [{"name": "images.zip", "gives": "images"}], "manual": "Sign in at https://example.org."}
    with pytest.raises(UserError, match=r"put 'images.zip' into .*\. Sign in at https://example\.org\.$"):
        load_dataset_config(toy(recipe))
    (tmp_path / "datasets" / "toy" / "images.zip").write_bytes(zipped({f"images/{name}": b"x" for name in IMAGES}))
    with pytest.raises(UserError, match="though the data set was made or fetched there"):
        load_dataset_config(toy(recipe))  # the top folder goes unless it is asked for
    recipe["files"][0]["unpack"] = "."
    load_dataset_config(toy(recipe))


def test_short_form_of_v61(web, toy):
    web.files["/toy.zip"] = zipped({f"toy/images/{name}": b"jpeg" for name in IMAGES})
    config = load_dataset_config(toy(f"{web.url}/toy.zip"))
    assert tree(config.root) == {f"images/{name}" for name in IMAGES}


@pytest.mark.parametrize("code", ["bash data/scripts/get_coco.sh", "import os\nos.mkdir('mark')", "https://x.org/page"])
def test_program_code_is_never_run(web, toy, tmp_path, code):
    with pytest.raises(
        UserError, match=r"program code or no archive .*nothing is executed; get the data by hand"
    ) as got:
        load_dataset_config(toy(code))
    assert "'download: {files: [{url: https://.../name.zip}]}'" in str(got.value)
    assert not (tmp_path / "mark").exists() and "\n" not in str(got.value)


def test_program_code_does_not_matter_when_the_data_are_there(toy, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "datasets" / "toy" / "images" / split).mkdir(parents=True)
    assert load_dataset_config(toy("import os")).root == tmp_path / "datasets" / "toy"


def test_damaged_archive_is_fetched_anew(web, toy, tmp_path):
    good = web.files["/train.zip"]
    web.files["/train.zip"] = b"<html>busy</html>"
    with pytest.raises(UserError, match=r"'.*train.zip' is damaged or not what its name says"):
        load_dataset_config(toy(coco_like(web)))
    assert not (tmp_path / "datasets" / "toy" / "train.zip").exists()
    web.files["/train.zip"], web.etag = good, '"2"'
    load_dataset_config(toy(coco_like(web)))


def test_checks_digests_of_fetched_and_of_given_files(web, toy, tmp_path):
    recipe = coco_like(web)
    recipe["files"][0]["sha256"] = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(UserError, match=r"cannot fetch 'labels.zip': it has the SHA-256"):
        load_dataset_config(toy(recipe))
    root = tmp_path / "datasets" / "toy"
    (root / "labels.zip").write_bytes(b"other data")
    with pytest.raises(UserError, match=r"'labels.zip': it has the SHA-256"):
        load_dataset_config(toy(recipe))
    assert (root / "labels.zip").exists()  # it is the user's


def test_ranges_fetch_one_file_a_number(web, toy, monkeypatch):
    for number in (0, 1, 2):
        web.files[f"/patch{number}.zip"] = zipped({f"{number}.jpg": b"jpeg"})
    entry = {"url": f"{web.url}/patch{{0..2}}.zip", "folder": "raw", "unpack": "images/train/{0..2}"}
    recipe = {"files": [entry | {"gives": "images/train/{0..2}"}, {"url": f"{web.url}/val.zip", "unpack": "images"}]}
    config = load_dataset_config(toy(recipe))
    assert {f"images/train/{number}/{number}.jpg" for number in (0, 1, 2)} <= tree(config.root)
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    with pytest.raises(UserError, match=r"put 'patch\{0\.\.2\}\.zip' from \S+ \(3 files\) into '\S+raw'"):
        load_dataset_config(toy(recipe, path="../datasets/other"))


def test_list_of_images_that_are_not_there_counts_as_missing(web, toy, tmp_path):
    root = tmp_path / "datasets" / "toy"
    root.mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text(f"./images/{split}/{split}1.jpg\n", encoding="utf-8")
    config = load_dataset_config(toy(coco_like(web), train="train.txt", val="val.txt"))
    assert (config.root / "images" / "train" / "train1.jpg").exists()


VOC = """<annotation><filename>{0}.jpg</filename><size><width>32</width><height>24</height></size><object>
<name>thing</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>16</xmax><ymax>12</ymax></bndbox></object></annotation>"""


def voc_archive():
    files = {}
    for split in ("train", "val"):
        files[f"VOC/ImageSets/Main/{split}.txt"] = f"{split}1\n"
        files[f"VOC/JPEGImages/{split}1.jpg"] = picture()
        files[f"VOC/Annotations/{split}1.xml"] = VOC.format(f"{split}1")
    return zipped(files)


def test_converts_and_places(web, toy):
    web.files["/voc.zip"] = voc_archive()
    place = {f"{kind}/{split}": f"{kind}/{split}2007" for split in ("train", "val") for kind in ("labels", "images")}
    recipe = {
        "files": [{"url": f"{web.url}/voc.zip", "unpack": "raw", "gives": "raw/VOC"}],
        "convert": {"kind": "voc", "source": "raw", "place": place},
    }
    config = load_dataset_config(toy(recipe, train="images/train2007", val="images/val2007"))
    labels = (config.root / "labels" / "train2007" / "train1.txt").read_text().split()
    assert [float(word) for word in labels] == pytest.approx([0, 0.25, 0.25, 0.5, 0.5], abs=1e-6)
    assert (config.root / "images" / "val2007" / "val1.jpg").read_bytes() == picture()
    assert not [path for path in config.root.iterdir() if path.name.startswith(".")]


def test_conversion_and_division(web, toy):
    web.files["/voc.zip"] = voc_archive()
    recipe = {
        "files": [{"url": f"{web.url}/voc.zip", "unpack": "raw"}],
        "convert": {"kind": "voc", "source": "raw", "place": {"labels": "labels", "images": "images"}},
        "autosplit": "images/train",
    }
    splits = {"train": "images/autosplit_train.txt", "val": "images/val"}
    config = load_dataset_config(toy(recipe, **splits))
    assert (config.root / "images" / "autosplit_train.txt").read_text() == "./train/train1.jpg\n"


def test_other_classes_than_named_are_an_error(web, toy):
    web.files["/lm.zip"] = zipped({"annotations/1.txt": "1,1,9,9,1,1,0,0\n", "images/1.jpg": picture()})
    recipe = {
        "files": [{"url": f"{web.url}/lm.zip", "unpack": "raw"}],
        "convert": {"kind": "visdrone", "source": "raw"},
    }
    with pytest.raises(UserError, match=r"has the classes pedestrian, people.* but 'names' of the data set are thing"):
        load_dataset_config(toy(recipe))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (["x"], r"expected a mapping with 'files'"),
        ({"file": []}, "unknown key 'file'; did you mean 'files'"),
        ({"files": {"url": "x"}}, "expected a list of mappings"),
        ({"files": [{"urls": "https://x.org/a.zip"}]}, "unknown key 'urls'; did you mean 'url'"),
        ({"files": [{}]}, "neither 'url' nor 'name'"),
        ({"files": [{"url": "ftp://x.org/a.zip"}]}, "no URL of a file"),
        ({"files": [{"url": "https://x.org"}]}, "no URL of a file"),
        ({"files": [{"url": "https://x.org/a/"}]}, "is no file name; set 'name'"),
        ({"files": [{"url": "https://x.org/a.zip", "name": "../a.zip"}]}, "is no file name"),
        ({"files": [{"url": "https://x.org/a.zip", "size": "7 MB"}]}, "'size' of a.zip is '7 MB', expected bytes"),
        ({"files": [{"url": "https://x.org/a.zip", "sha256": "12"}]}, "expected 64 hexadecimal digits"),
        ({"files": [{"url": "https://x.org/a.zip", "splits": "vel"}]}, "'splits' is 'vel'"),
        ({"files": [{"url": "https://x.org/a.zip", "unpack": "../x"}]}, "'unpack' is '../x', expected a path inside"),
        ({"files": [{"url": "https://x.org/a.zip", "gives": "/etc"}]}, "'gives' is '/etc', expected a path inside"),
        ({"files": [{"url": "https://x.org/a.zip", "folder": "C:\\x"}]}, "'folder' is .*expected a path inside"),
        ({"files": [{"url": "https://x.org/a.json", "unpack": True}]}, "no archive known here"),
        ({"files": [{"url": "https://x.org/a{3..1}.zip"}]}, "expected one range"),
        ({"files": [{"url": "https://x.org/a{0..1}.zip", "gives": "{0..2}"}]}, "expected one range"),
        ({"convert": "vok"}, "unknown format 'vok'; did you mean 'voc'"),
        ({"convert": {"source": "raw"}}, "expected the name of a format"),
        ({"convert": {"kind": "voc", "from": "raw"}}, "unknown key 'from'"),
        ({"convert": {"kind": "voc", "source": "../raw"}}, "'source' is '../raw', expected a path inside"),
        ({"convert": {"kind": "voc", "place": "x"}}, "'place' is 'x'"),
    ],
)
def test_mistakes_in_a_recipe(toy, recipe, message):
    with pytest.raises(UserError, match=message) as caught:
        load_dataset_config(toy(recipe))
    assert "toy.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_defaults_of_a_file(tmp_path):
    (one, two) = read_download(
        tmp_path / "x.yaml", {"files": [{"url": "https://x.org/a%20b.tar.gz?raw=1"}, {"url": "https://x.org/c.json"}]}
    ).files
    assert (one.name, one.unpack, one.gives, one.splits) == ("a b.tar.gz", True, "", ("train", "val", "test"))
    assert (two.name, two.unpack, two.gives) == ("c.json", False, "./c.json")


def test_two_runs_at_once_fetch_once(web, toy, tmp_path):
    file, root = toy(coco_like(web)), tmp_path / "datasets" / "toy"
    with one_at_a_time(root):
        runs = [threading.Thread(target=load_dataset_config, args=(file,)) for _ in range(2)]
        for run in runs:
            run.start()
    for run in runs:
        run.join()
    assert len(web.asked) == 3
    assert len(tree(root)) == 4
