"""Every data set YAML that comes with the project is whole: classes, recipe and converter agree."""

import importlib
import io
import json
import tarfile
import zipfile
from urllib.parse import urlsplit

import pytest
from PIL import Image

from utils.data.config import load_dataset_config
from utils.data.convert import CONVERTERS
from utils.data.listing import label_path, list_images
from utils.data.recipe import read_download
from utils.errors import UserError
from utils.files import ROOT, read_yaml

COUNTS = {
    "Argoverse.yaml": 8,
    "coco.yaml": 80,
    "coco128.yaml": 80,
    "GlobalWheat2020.yaml": 1,
    "Objects365.yaml": 365,
    "shapes10.yaml": 10,
    "SKU-110K.yaml": 1,
    "VisDrone.yaml": 10,
    "VOC.yaml": 20,
    "xView.yaml": 60,
}
FETCHED = sorted(set(COUNTS) - {"shapes10.yaml"})


def test_the_list_is_complete():
    assert {file.name for file in (ROOT / "data").glob("*.yaml")} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_classes(name):
    content = read_yaml(ROOT / "data" / name)
    names = content["names"]
    assert list(names) == list(range(COUNTS[name])) and content.get("nc", len(names)) == len(names)
    assert len(set(names.values())) == len(names) and all(isinstance(label, str) for label in names.values())


@pytest.mark.parametrize("name", FETCHED)
def test_recipe(name):
    recipe = read_download(ROOT / "data" / name, read_yaml(ROOT / "data" / name)["download"])
    for remote in recipe.files:
        assert remote.gives and remote.unpack is not None
        assert urlsplit(remote.url).scheme in ("http", "https") if remote.url else recipe.manual
    for conversion in recipe.conversions:
        assert callable(importlib.import_module(f"utils.data.convert.{CONVERTERS[conversion.kind].reader}").read)
    assert len({(remote.folder, remote.name) for remote in recipe.files}) == len(recipe.files)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("xView.yaml", "utils.data.convert.xview:CATEGORIES"),
        ("VisDrone.yaml", "utils.data.convert.visdrone:CATEGORIES"),
    ],
)
def test_classes_are_those_of_the_converter(name, table):
    module, attribute = table.split(":")
    categories = getattr(importlib.import_module(module), attribute)
    assert list(read_yaml(ROOT / "data" / name)["names"].values()) == list(categories.values())


@pytest.mark.parametrize("name", FETCHED)
def test_without_data_and_network_the_message_names_the_files(name, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(tmp_path))
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    with pytest.raises(UserError, match=r"not found in .*cannot fetch '.*put '.*' .*into '.*run again") as caught:
        load_dataset_config(name)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_shapes10_is_made_not_fetched():
    assert "download" not in read_yaml(ROOT / "data" / "shapes10.yaml")


def picture(kind="JPEG"):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24)).save(buffer, kind)
    return buffer.getvalue()


def pack(file, content):
    """Write an archive of ``content``, path -> bytes or text; or the one file it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {name: text.encode() if isinstance(text, str) else text for name, text in content.items()}
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    elif file.suffix == ".gz":
        with tarfile.open(file, "w:gz") as archive:
            for name, data in content.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    else:
        file.write_bytes(*content.values())


LABEL = "0 0.5 0.5 0.5 0.5\n"
COCO_BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": 0}


def coco_archives(name):
    split_files = {f"{split}.zip": {f"{split}/1.jpg": picture()} for split in ("train2017", "val2017")}
    lists = {f"coco/{split}.txt": f"./images/{split}/1.jpg\n" for split in ("train2017", "val2017")}
    labels = {f"coco/labels/{split}/1.txt": LABEL for split in ("train2017", "val2017")}
    return split_files | {"coco2017labels.zip": lists | labels}


def coco128_archives(name):
    images = {"coco128/images/train2017/1.jpg": picture(), "coco128/labels/train2017/1.txt": LABEL}
    return {"coco128.zip": images}


def voc_folder(year, *splits):
    annotation = (
        "<annotation><size><width>32</width><height>24</height></size><object><name>dog</name><bndbox>"
        "<xmin>1</xmin><ymin>1</ymin><xmax>16</xmax><ymax>12</ymax></bndbox></object></annotation>"
    )
    root = f"VOCdevkit/VOC{year}"
    files = {f"{root}/ImageSets/Main/trainval.txt": "1_train\n1_val\n"} if "train" in splits else {}
    for split in splits:
        files[f"{root}/ImageSets/Main/{split}.txt"] = f"1_{split}\n"
        files[f"{root}/Annotations/1_{split}.xml"] = annotation
        files[f"{root}/JPEGImages/1_{split}.jpg"] = picture()
    return files


def voc_archives(name):
    return {
        "VOCtrainval_06-Nov-2007.zip": voc_folder(2007, "train", "val"),
        "VOCtest_06-Nov-2007.zip": voc_folder(2007, "test"),
        "VOCtrainval_11-May-2012.zip": voc_folder(2012, "train", "val"),
    }


def visdrone_archives(name):
    roots = [f"VisDrone2019-DET-{part}" for part in ("train", "val")]
    return {
        f"{root}.zip": {f"{root}/annotations/1.txt": "1,1,8,8,1,4,0,0\n", f"{root}/images/1.jpg": picture()}
        for root in roots
    }


def argoverse_archives(name):
    files = {}
    categories = [{"id": index, "name": label} for index, label in read_yaml(ROOT / "data" / name)["names"].items()]
    for split in ("train", "val"):
        images = [{"id": 1, "name": "1.jpg", "sid": 0, "width": 32, "height": 24}]
        content = {"images": images, "annotations": [COCO_BOX], "categories": categories}
        content["seq_dirs"] = [f"{split}/seq/front"]
        files[f"Argoverse-HD/annotations/{split}.json"] = json.dumps(content)
        files[f"Argoverse-1.1/tracking/{split}/seq/front/1.jpg"] = picture()
    return {"Argoverse-HD-Full.zip": files}


def wheat_archives(name):
    content = read_yaml(ROOT / "data" / name)
    fields = [folder.removeprefix("images/") for folder in (*content["train"], *content["test"])]
    return {
        "GlobalWheat2020_labels.zip": {f"labels/{field}/1.txt": LABEL for field in fields},
        "global-wheat-codalab-official.zip": {f"{field}/1.png": picture("PNG") for field in fields},
    }


def sku_archives(name):
    files = {}
    for split in ("train", "val", "test"):
        files[f"SKU110K_fixed/annotations/annotations_{split}.csv"] = f"{split}_1.jpg,1,1,9,9,object,32,24\n"
        files[f"SKU110K_fixed/images/{split}_1.jpg"] = picture()
    return {"SKU110K_fixed.tar.gz": files}


def xview_archives(name):
    images = {}
    for number in range(20):  # enough for the division to give both splits something
        images[f"train_images/{number}.tif"] = picture("TIFF") + bytes([number])
    box = {"image_id": "1.tif", "type_id": 11, "bounds_imcoords": "1,1,9,9"}
    features = [{"properties": box | {"image_id": f"{number}.tif"}} for number in range(20)]
    return {
        "train_labels.zip": {"xView_train.geojson": json.dumps({"features": features})},
        "train_images.zip": images,
    }


def objects365_archives(name):
    names = read_yaml(ROOT / "data" / name)["names"].items()
    categories = [{"id": index + 1, "name": label} for index, label in names]
    archives = {}
    for split, patches in (("train", 51), ("val", 44)):
        images = [{"id": 1, "file_name": "images/v1/patch3/1.jpg", "width": 32, "height": 24}]
        text = json.dumps({"images": images, "annotations": [COCO_BOX], "categories": categories})
        packed = "zhiyuan_objv2_train.tar.gz" if split == "train" else "raw/val/zhiyuan_objv2_val.json"
        archives[packed] = {f"zhiyuan_objv2_{split}.json": text}
        for number in range(patches):
            content = {"patch3/1.jpg": picture()} if number == 3 else {f"patch{number}/other.jpg": b""}
            archives[f"raw/{split}/patch{number}.tar.gz"] = content
    return archives


ARCHIVES = {
    "coco.yaml": coco_archives,
    "coco128.yaml": coco128_archives,
    "VOC.yaml": voc_archives,
    "VisDrone.yaml": visdrone_archives,
    "Argoverse.yaml": argoverse_archives,
    "GlobalWheat2020.yaml": wheat_archives,
    "SKU-110K.yaml": sku_archives,
    "xView.yaml": xview_archives,
    "Objects365.yaml": objects365_archives,
}


@pytest.mark.parametrize("name", FETCHED)
def test_archives_put_there_by_hand_become_a_data_set(name, tmp_path, monkeypatch):
    """With archives laid out as the real ones, every split that training uses ends up with an image and its box."""
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(tmp_path))
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "caches"))
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    for file, content in ARCHIVES[name](name).items():
        pack(tmp_path / name.removesuffix(".yaml") / file, content)
    config = load_dataset_config(name)
    for split in ("train", "val"):
        images = list_images(config.splits[split])
        assert images
        for image in images:
            label, *box = map(float, label_path(image).read_text().split())
            assert label < config.nc and len(box) == 4 and all(0 <= value <= 1 for value in box)
    monkeypatch.delenv("YOLOV5_OFFLINE")
    assert load_dataset_config(name).root == config.root  # nothing more to do
