"""The optional transforms, with a stand-in for their package where it is not installed."""

import sys
import types

import numpy as np
import pytest

from tests.data.test_dataset import make_samples
from utils.data import transforms
from utils.data.dataset import DetectionDataset
from utils.data.strength import Augmentation


class Shade:
    """Sets all pixels to a random value."""

    def __init__(self, p):
        assert p == 1

    def set_random_seed(self, seed):
        self.value = seed % 256

    def __call__(self, image):
        return {"image": np.full_like(image, self.value)}


@pytest.fixture
def install(monkeypatch):
    """Return a function that puts a stand-in of the given version in place."""

    def put(version, kinds=("Blur", "MedianBlur", "ToGray", "CLAHE")):
        package = types.ModuleType("albumentations")
        for kind in kinds:
            setattr(package, kind, type(kind, (Shade,), {}))
        package.__spec__ = types.SimpleNamespace(name="albumentations")
        monkeypatch.setitem(sys.modules, "albumentations", package)
        monkeypatch.setattr(transforms.importlib.metadata, "version", lambda _: version)

    return put


def test_without_the_package_there_are_none(monkeypatch):
    monkeypatch.setattr(transforms.importlib.util, "find_spec", lambda _: None)
    assert transforms.load_transforms() is None


@pytest.mark.parametrize(
    ("version", "kinds", "said"),
    [("1.4.3", ("Blur",), "1.4.3 is not used: version 2 or newer"), ("2.0.8", ("Blur",), "not used: AttributeError")],
)
def test_package_that_does_not_do_is_passed_over(install, caplog, version, kinds, said):
    install(version, kinds)
    assert transforms.load_transforms() is None
    assert said in caplog.text


def test_each_is_applied_to_one_image_in_a_hundred(install):
    install("2.0.8")
    loaded, image = transforms.load_transforms(), np.zeros((4, 4, 3), np.uint8)
    results = [loaded(image, seed) for seed in range(3000)]
    assert 80 < sum(result.any() for result in results) < 160
    for seed in range(100):
        np.testing.assert_array_equal(loaded(image, seed), results[seed])


@pytest.mark.parametrize(("probability", "channels", "expected"), [(1.0, 3, True), (0.0, 3, False), (1.0, 1, False)])
def test_dataset_applies_them_to_colour_images(tmp_path, probability, channels, expected):
    calls = []
    dataset = DetectionDataset(
        make_samples(tmp_path, [(40, 60)]),
        64,
        Augmentation(albumentations=probability),
        channels=channels,
        transforms=lambda image, seed: calls.append(seed) or image,
    )
    for seed in range(5):
        dataset[0, seed]
    assert bool(calls) == expected and len(set(calls)) == len(calls)
