"""``val.py --as-detect`` measures what ``detect.py`` shows: both leave the same label files."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

import detect
import export
import val
from models.yolo import Model
from tests.golden_data import shared_path
from utils.checkpoint import Checkpoint, write_checkpoint

SIZES = [(48, 64), (100, 200), (64, 48), (33, 200), (48, 64), (64, 64), (200, 100), (50, 66), (130, 90), (96, 128)]
THRESHOLDS = {"conf_thres": 0.3, "iou_thres": 0.5, "max_det": 7}


@pytest.fixture(scope="module")
def weights(tiny_config, tmp_path_factory) -> Path:
    """A network with something to say about every picture: high scores, which depend on the picture."""
    torch.manual_seed(0)
    model = Model(tiny_config)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.rand(4, 3, 96, 96))  # gives its norms the scale of what passes through
    for convolution in model.detect.m:
        torch.nn.init.normal_(convolution.weight, std=0.6)
        convolution.bias.data.zero_()
    path = tmp_path_factory.mktemp("weights") / "loud.pt"
    names = {index: f"class {index}" for index in range(10)}
    write_checkpoint(path, Checkpoint(model.state_dict(), model.yaml, names, model.stride.tolist()))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data set of pictures of several shapes and sizes, some of them without labels."""
    folder = tmp_path_factory.mktemp("shapes")
    generator = np.random.default_rng(0)
    for index, size_hw in enumerate(SIZES):
        noise = generator.integers(0, 255, (6, 8, 3), np.uint8)
        image = cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
        path = folder / f"images/{index:02d}.{'png' if index % 2 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)
        label = folder / f"labels/{index:02d}.txt"
        label.parent.mkdir(exist_ok=True)
        if index % 3:
            label.write_text(f"{index} 0.5 0.5 0.4 0.4\n")
    return described(folder, "images", [f"class {index}" for index in range(10)])


def described(folder: Path, images: str, names: list[str]) -> Path:
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(folder), "train": images, "val": images, "names": names}))
    return file


def files_of_both(weights: Path, data: Path, tmp_path: Path, imgsz: int, batch_size: int = 1, **options) -> list[dict]:
    """Return what detect.py and val.py write about the images of a data set: file name to text."""
    common = {"weights": [str(weights)], "imgsz": imgsz, "project": str(tmp_path), "save_txt": True, "save_conf": True}
    common |= {"device": "cpu", **options}
    source = str(data.parent / yaml.safe_load(data.read_text())["val"])
    detect.run(source=source, name="detect", nosave=True, **common)
    val.run(data=str(data), name="val", as_detect=True, batch_size=batch_size, workers=0, noplots=True, **common)
    return [
        {file.name: file.read_text() for file in (tmp_path / name / "labels").iterdir()} for name in ("detect", "val")
    ]


def numbers(text: str) -> np.ndarray:
    return np.array([[float(word) for word in line.split()] for line in text.splitlines()])


@pytest.mark.parametrize("options", [{}, {"augment": True}], ids=["plain", "augment"])
def test_label_files_are_the_same(weights, data, tmp_path, options):
    shown, measured = files_of_both(weights, data, tmp_path, 128, **THRESHOLDS, **options)
    assert len(shown) == len(SIZES) and sum(text.count("\n") for text in shown.values()) > 30
    assert measured == shown


def test_batches_change_no_more_than_the_last_digits(weights, data, tmp_path):
    shown, measured = files_of_both(weights, data, tmp_path, 128, batch_size=4, **THRESHOLDS)
    assert measured.keys() == shown.keys()
    for name, text in shown.items():
        np.testing.assert_allclose(numbers(measured[name]), numbers(text), atol=1e-4)


@pytest.mark.parametrize("runtime", ["torchscript", "openvino"])
def test_models_of_one_shape_too(weights, data, tmp_path, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="needs openvino (requirements-dev.txt)")
    (exported,) = export.run(weights=[str(weights)], imgsz=[96], include=[runtime])
    shown, measured = files_of_both(exported, data, tmp_path, 96, **THRESHOLDS)
    assert len(shown) == len(SIZES) and measured == shown


def real_images(tmp_path: Path) -> Path:
    """Return a data set of bus.jpg and eight images of COCO128."""
    folder = tmp_path / "real"
    pictures = sorted(shared_path("datasets/coco128/images/train2017").glob("*.jpg"))[:8]
    for picture in [shared_path("images/bus.jpg"), *pictures]:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, folder / "images" / picture.name)
    for picture in pictures:
        label = shared_path("datasets/coco128/labels/train2017") / f"{picture.stem}.txt"
        if label.exists():
            (folder / "labels").mkdir(exist_ok=True)
            shutil.copyfile(label, folder / "labels" / label.name)
    names = yaml.safe_load((Path(val.__file__).parent / "data/coco128.yaml").read_text(encoding="utf-8"))["names"]
    return described(folder, "images", list(names.values() if isinstance(names, dict) else names))


@pytest.mark.parametrize("batch_size", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_real_images_and_weights(tmp_path, batch_size):
    thresholds = {"conf_thres": 0.25, "iou_thres": 0.45, "max_det": 1000}
    weights = shared_path("weights/yolov5n.pt")
    shown, measured = files_of_both(weights, real_images(tmp_path), tmp_path, 320, batch_size, **thresholds)
    assert "bus.txt" in shown and len(shown) > 5
    assert measured.keys() == shown.keys()
    for name, text in shown.items():
        if batch_size == 1:
            assert measured[name] == text
        np.testing.assert_allclose(numbers(measured[name]), numbers(text), atol=1e-4)
