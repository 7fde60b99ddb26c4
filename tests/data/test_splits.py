import logging

import cv2
import numpy as np
import pytest

from tests.golden_data import shared_path
from utils.data.config import DatasetConfig
from utils.data.splits import load_samples
from utils.errors import UserError


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    """Return a function that writes images with the given label texts and returns their data set."""
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "caches"))

    def make(*texts, split="train", names=("cat", "dog")):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number, text in enumerate(texts):
            cv2.imwrite(str(tmp_path / "images" / split / f"{number}.png"), np.zeros((20, 30, 3), np.uint8))
            if text is not None:
                (tmp_path / "labels" / split / f"{number}.txt").write_text(text)
        splits = {split: [tmp_path / "images" / split]}
        return DatasetConfig(tmp_path / "data.yaml", tmp_path, dict(enumerate(names)), splits)

    return make


def test_load_samples_summary(make_config, caplog):
    config = make_config("0 .5 .5 .2 .3", "", None, "1 .5 .5", "1 .5 .5 .2 .3\n1 .5 .5 .2 .3")
    with caplog.at_level(logging.INFO, "yolov5"):
        samples = load_samples(config, "train")
    assert [len(sample.labels) for sample in samples] == [1, 0, 0, 1]
    assert "5 images, labels 4 found, 1 missing, 1 empty, 1 corrupt" in caplog.text
    assert "3.txt:1: 3 values" in caplog.text and "1 duplicate rows" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "yolov5"):
        load_samples(config, "train")
    assert "(cached)" in caplog.text and "3.txt:1: 3 values" in caplog.text, "warnings are repeated from the cache"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "split 'train' has no images"),
        (["x", "y"], "split 'train': all 2 images.*unusable.*0.txt:1"),
        (["", None], "split 'train' has no labels"),
        (["0 .5 .5 .2 .3", "\n0 .5 .5 .2 .3\n2 .5 .5 .2 .3"], r"1.txt:3: class 2, but .*data.yaml has 2 classes"),
    ],
)
def test_unusable_training_split(make_config, texts, message):
    config = make_config(*texts)
    with pytest.raises(UserError, match=message) as caught:
        load_samples(config, "train")
    assert "train" in str(caught.value) and "\n" not in str(caught.value)


def test_many_warnings_are_cut_short_and_summed_up(make_config, caplog):
    load_samples(make_config("0 .5 .5 .2 .3", *["0 1.5 .5 .2 .3"] * 25), "train")
    assert sum("image ignored" in line for line in caplog.messages) == 20
    assert "and 5 more; python -m utils.data.doctor" in caplog.text
    assert "only 1 of 26 images can be used" in caplog.text


def test_validation_split_without_labels_is_allowed(make_config, caplog):
    assert len(load_samples(make_config("", split="val"), "val")) == 1
    assert "has no labels" in caplog.text


def test_split_that_the_file_does_not_name(make_config):
    with pytest.raises(UserError, match="no 'test' split; it has train"):
        load_samples(make_config("0 .5 .5 .2 .3"), "test")


def test_single_class_makes_all_labels_zero(make_config):
    config = make_config("1 .5 .5 .2 .3\n0 .2 .2 .1 .1\n7 .3 .3 .1 .1").as_single_class()
    assert load_samples(config, "train")[0].labels[:, 0].tolist() == [0, 0, 0]


def test_coco128(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path))
    images = shared_path("datasets/coco128/images/train2017")
    config = DatasetConfig(tmp_path / "coco128.yaml", images, dict.fromkeys(range(80), "x"), {"train": [images]})
    samples = load_samples(config, "train")
    assert len(samples) == 128
    assert sum(len(sample.labels) > 0 for sample in samples) == 126
    assert sum(len(sample.labels) for sample in samples) == 929
