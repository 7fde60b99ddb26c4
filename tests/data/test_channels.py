"""Images of any number of channels, from the data set's ``ch`` to every program's output."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

import detect
import export
import train
import val
from tests.conftest import write_random_weights
from utils.checkpoint import read_checkpoint
from utils.data.sources import load_source
from utils.errors import UserError
from utils.eval import plots
from utils.files import read_yaml

SIZE = 64
COMMON = {"imgsz": SIZE, "workers": 0, "device": "cpu", "exist_ok": True}


def grey(image):
    return "png", [image[..., 1]]


def deep(image):
    return "png", [image[..., 1].astype(np.uint16) * 257]


def alpha(image):
    return "png", [np.dstack([image, image[..., 1]])]


def pages(image):
    return "tif", [*np.moveaxis(image, 2, 0), *np.moveaxis(image // 2, 2, 0)]


KINDS = {"grey": (1, grey), "deep": (1, deep), "alpha": (4, alpha), "pages": (6, pages)}


def rewrite(tiny_dataset: Path, folder: Path, kind: str) -> Path:
    """Return the YAML of a copy of the tiny data set whose images are of ``kind``."""
    channels, change = KINDS[kind]
    shutil.copytree(tiny_dataset.parent, folder)
    for file in [*folder.rglob("*.jpg"), *folder.rglob("*.png")]:
        suffix, content = change(cv2.imread(str(file)))
        file.unlink()
        encoded = cv2.imencodemulti(".tiff", content) if len(content) > 1 else cv2.imencode(f".{suffix}", content[0])
        file.with_suffix(f".{suffix}").write_bytes(encoded[1].tobytes())
    data = folder / "tiny.yaml"
    data.write_text(yaml.safe_dump(read_yaml(data) | {"path": str(folder), "ch": channels}), encoding="utf-8")
    return data


@pytest.fixture(autouse=True, scope="module")
def shortcuts():
    """Leave out figures, which know no channels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save_figure", lambda *_: None)
        yield


@pytest.fixture(
    scope="module",
    params=["grey", "pages", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("deep", "alpha"))],
)
def trained(request, tiny_dataset, tiny_cfg, tmp_path_factory):
    """Return what a run of one epoch on images of each kind leaves."""
    root = tmp_path_factory.mktemp(request.param)
    data = rewrite(tiny_dataset, root / "Bilder ä", request.param)
    log_to = ["tensorboard"] if request.param == "pages" else []
    options = {
        "log_to": log_to,
        "epochs": 1,
        "batch_size": 4,
        "cfg": str(tiny_cfg),
        "weights": "",
        "project": str(root),
        "name": "run",
    }
    train.run(data=str(data), **options, **COMMON)
    folder = root / "run"
    return SimpleNamespace(
        kind=request.param,
        channels=KINDS[request.param][0],
        data=data,
        folder=folder,
        weights=folder / "weights/last.pt",
        images=data.parent / "images/val",
    )


def test_a_run_leaves_a_model_of_these_channels_and_pictures(trained):
    checkpoint = read_checkpoint(trained.weights)
    assert checkpoint.channels == checkpoint.yaml["ch"] == trained.channels
    assert checkpoint.state["model.0.conv.weight"].shape[1] == trained.channels
    for name in ("train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"):
        picture = cv2.imread(str(trained.folder / name), cv2.IMREAD_UNCHANGED)
        assert picture.shape[2] == 3 and picture.std() > 10


def test_val_and_detect_and_export(trained, tmp_path, capsys):
    exported = export.run(weights=[str(trained.weights)], imgsz=[SIZE])
    for weights in (trained.weights, exported[0]):
        result = val.run(weights=[str(weights)], data=str(trained.data), project=str(tmp_path), name="val", **COMMON)
        assert all(np.isfinite(result.results[:4]))
        assert f"(32, {trained.channels}, {SIZE}, {SIZE})" in capsys.readouterr().out
        folder = detect.run(
            weights=[str(weights)], source=str(trained.images), conf_thres=0.001, max_det=3, imgsz=[SIZE],
            save_crop=True, project=str(tmp_path), name="detect", exist_ok=True,
        )  # fmt: skip
        assert f"(1, {trained.channels}, {SIZE}, {SIZE})" in capsys.readouterr().out
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    assert len(pictures) == 4
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[2] == 3 for path in pictures)
    assert list(folder.glob("crops/*/*.jpg"))


def test_a_run_goes_on_with_the_same_channels_only(trained):
    content = trained.data.read_text(encoding="utf-8")
    try:
        trained.data.write_text(yaml.safe_dump(read_yaml(trained.data) | {"ch": 3}), encoding="utf-8")
        with pytest.raises(
            UserError, match=rf"images of 3 channels now \('ch'\), but the run began with {trained.channels}"
        ):
            train.run(resume=str(trained.folder), epochs=2)
    finally:
        trained.data.write_text(content, encoding="utf-8")
    train.run(resume=str(trained.folder), epochs=2)
    assert read_checkpoint(trained.weights).state["model.0.conv.weight"].shape[1] == trained.channels


@pytest.fixture
def four(tiny_dataset, tmp_path):
    return rewrite(tiny_dataset, tmp_path / "four", "alpha")


def test_pretrained_weights_of_three_channels_are_taken_whole(four, tiny_weights, tmp_path, capsys):
    project = {"project": str(tmp_path), "name": "run"}
    train.run(
        data=str(four),
        weights=str(tiny_weights),
        epochs=1,
        batch_size=-1,
        precision="bf16",
        log_to=[],
        noplots=True,
        **project,
        **COMMON,
    )
    said = capsys.readouterr().out
    assert "conv.weight fitted from 3 to 4 image channels" in said
    total = len(read_checkpoint(tiny_weights).state)
    assert f"Transferred {total} of {total} tensors" in said


def test_a_model_yaml_that_disagrees(four, tiny_config, tmp_path):
    cfg = tmp_path / "three.yaml"
    cfg.write_text(yaml.safe_dump(tiny_config | {"ch": 3}), encoding="utf-8")
    with pytest.raises(UserError, match=r"three\.yaml says ch: 3, but the data set has images of 4 channels"):
        train.run(data=str(four), cfg=str(cfg), weights="", project=str(tmp_path), **COMMON)


def test_val_on_other_channels_than_the_model_takes(four, tiny_weights, tmp_path):
    with pytest.raises(UserError, match=r"takes images of 3 channels, but .*tiny\.yaml says ch: 4"):
        val.run(weights=[str(tiny_weights)], data=str(four), project=str(tmp_path), **COMMON)


def test_images_of_other_channels_than_the_data_set_says(four, tiny_cfg, tmp_path):
    four.write_text(yaml.safe_dump(read_yaml(four) | {"ch": 5}), encoding="utf-8")
    with pytest.raises(UserError, match=r"has 4 channels, expected 5"):
        train.run(data=str(four), cfg=str(tiny_cfg), weights="", epochs=1, project=str(tmp_path), **COMMON)


def test_detecting_skips_images_of_other_channels(four, tiny_dataset, caplog):
    folder = four.parent / "images/val"
    shutil.copy(next(tiny_dataset.parent.glob("images/val/*")), folder / "colour.jpg")
    source = load_source(str(folder))
    source.channels = 4
    frames = list(source)
    assert len(frames) == 4 and all(frame.image.shape[2] == 4 for frame in frames)
    assert "colour.jpg' skipped: has 3 channels, expected 4" in caplog.text
    source.channels = 5
    with pytest.raises(UserError, match=r"--source: none of the 5 files can be used; the last one, .* expected 5"):
        list(source)


def test_an_ensemble_takes_the_same_images(four, tiny_weights, tiny_config, tmp_path):
    other = write_random_weights(tmp_path / "grey.pt", tiny_config | {"ch": 1})
    with pytest.raises(UserError, match=r"ensemble must take the same images, got channels \[3, 1\]"):
        detect.run(weights=[str(tiny_weights), str(other)], source=str(four.parent / "images/val"))
