"""What tests of whole commands share: a tiny data set, a tiny network, and caches kept out of the real folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from models.yolo import Model
from utils.checkpoint import Checkpoint, write_checkpoint
from utils.data.synthetic import CLASS_NAMES, generate_shapes10
from utils.files import ROOT, read_yaml

TINY_COUNTS = {"train": 8, "val": 4}
TINY_WIDTH = 0.125  # width_multiple: 8 to 128 channels


@pytest.fixture(scope="session", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep label caches and generated data sets in a temporary folder, and one core per test process."""
    folder = tmp_path_factory.mktemp("private")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOV5_CACHE_DIR", str(folder / "caches"))
        patch.setenv("YOLOV5_DATASETS_DIR", str(folder / "datasets"))
        patch.setenv("YOLOV5_OFFLINE", "1")
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # for the commands that tests start
            patch.setenv(name, os.environ.get(name, "1"))
        yield folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data YAML with 8 training and 4 validation images of shapes10; not to be changed by tests."""
    folder = tmp_path_factory.mktemp("tiny") / "shapes10"
    generate_shapes10(folder, counts=TINY_COUNTS)
    content = {"path": str(folder), "train": "images/train", "val": "images/val", "names": list(CLASS_NAMES)}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_config() -> dict:
    """Return the model YAML of yolov5n for 10 classes, half as wide (0.5 M parameters); copy it before a change."""
    return read_yaml(ROOT / "models/yolov5n.yaml") | {"nc": len(CLASS_NAMES), "width_multiple": TINY_WIDTH}


@pytest.fixture(scope="session")
def tiny_cfg(tmp_path_factory: pytest.TempPathFactory, tiny_config: dict) -> Path:
    """Return ``tiny_config`` as a file for ``--cfg``."""
    file = tmp_path_factory.mktemp("cfg") / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_config), encoding="utf-8")
    return file


def write_random_weights(file: Path, config: dict) -> Path:
    """Write a checkpoint of ``config`` with seeded random weights and the names of shapes10."""
    torch.manual_seed(0)
    model = Model(config)
    names = dict(enumerate(CLASS_NAMES))
    write_checkpoint(file, Checkpoint(model.state_dict(), model.yaml, names, model.stride.tolist()))
    return file


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory, tiny_config: dict) -> Path:
    """Return a checkpoint of ``tiny_config``."""
    return write_random_weights(tmp_path_factory.mktemp("weights") / "tiny.pt", tiny_config)


@pytest.fixture(scope="session")
def tiny_nam_weights(tmp_path_factory: pytest.TempPathFactory, tiny_nam_config: dict) -> Path:
    """Return a checkpoint of ``tiny_nam_config``."""
    return write_random_weights(tmp_path_factory.mktemp("weights") / "tiny-nam.pt", tiny_nam_config)


@pytest.fixture(scope="session")
def tiny_nam_config(tiny_config: dict) -> dict:
    """Return ``tiny_config`` with a NAM of both branches before the coarsest level, where yolov5-NAM.yaml has it."""
    *rows, detect = tiny_config["head"]
    nam = [-1, 1, "NAMAttention", [1024, {"no_spatial": False}]]
    return tiny_config | {"head": [*rows, nam, [[17, 20, 24], *detect[1:]]]}


@pytest.fixture(scope="session")
def tiny_nam_cfg(tmp_path_factory: pytest.TempPathFactory, tiny_nam_config: dict) -> Path:
    """Return ``tiny_nam_config`` as a file for ``--cfg``."""
    file = tmp_path_factory.mktemp("cfg") / "tiny-nam.yaml"
    file.write_text(yaml.safe_dump(tiny_nam_config), encoding="utf-8")
    return file
