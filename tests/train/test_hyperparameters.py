"""Hyperparameter files."""

import dataclasses

import pytest

from utils.data.strength import Augmentation
from utils.errors import UserError
from utils.files import ROOT, read_yaml
from utils.train.hyperparameters import Hyperparameters, as_dict, read_hyperparameters

FILES = sorted((ROOT / "data/hyps").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_shipped_file_is_read_whole(file):
    hyp = as_dict(read_hyperparameters(file))
    assert {key: hyp[key] for key in read_yaml(file)} == read_yaml(file)


def test_the_defaults_are_scratch_low():
    assert read_hyperparameters(ROOT / "data/hyps/hyp.scratch-low.yaml") == Hyperparameters()


def test_every_augmentation_strength_is_a_hyperparameter():
    names = {field.name for field in dataclasses.fields(Hyperparameters)}
    assert {field.name for field in dataclasses.fields(Augmentation)} <= names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 0.1", "unknown hyperparameter 'lr'; did you mean 'lrf' or 'lr0'?"),
        ("lr0: fast", "lr0 is 'fast', expected a number"),
        ("lr0: true", "lr0 is True, expected a number"),
        ("lr0: 1e-3", "lr0 is '1e-3', expected a number (write 1e-3 as 0.001"),
        ("- lr0", "must hold a YAML mapping"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, said):
    file = tmp_path / "hyp.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_hyperparameters(file)
    assert said in str(error.value) and "hyp.yaml" in str(error.value)
