import numpy as np
import pytest

from tests.eval.made import make_findings
from utils.eval import bootstrap
from utils.eval.bootstrap import bootstrap_ap, mean_over_classes, resample_counts
from utils.eval.metrics import ap_per_class


def copies_of(findings, counts):
    """Return what `ap_per_class` finds when each image is repeated."""
    images = np.repeat(np.arange(len(findings)), counts)
    found = [np.arange(len(findings.scores))[findings.detections_of(image)] for image in images]
    true = [np.arange(len(findings.label_classes))[findings.labels_of(image)] for image in images]
    rows, labels = (np.concatenate([np.zeros(0, int), *parts]) for parts in (found, true))
    columns = (findings.correct[rows], findings.scores[rows], findings.classes[rows], findings.label_classes[labels])
    return ap_per_class(*columns)


def expect_equal(findings, counts):
    measured = bootstrap_ap(findings, counts)
    means = {"ap50": mean_over_classes(measured.ap50), "ap50_95": mean_over_classes(measured.ap50_95)}
    assert measured.ap50.shape == measured.ap50_95.shape == (len(counts), len(measured.classes))
    for index, row in enumerate(counts):
        expected = copies_of(findings, row)
        present = np.isin(measured.classes, expected.classes)
        assert np.array_equal(measured.classes[present], expected.classes)
        for name, mean in means.items():
            own = getattr(measured, name)[index]
            np.testing.assert_allclose(own[present], getattr(expected, name), rtol=0, atol=1e-12)
            assert np.isnan(own[~present]).all()
            assert mean[index] == pytest.approx(expected.mean(name), abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_equals_repeating_the_images(seed):
    generator = np.random.default_rng(seed)
    found, noise = generator.choice([0.1, 0.8, 1.0]), generator.choice([0.01, 0.08])
    images, classes = int(generator.integers(1, 25)), int(generator.integers(1, 7))
    findings = make_findings(images, classes, seed, found=found, noise=noise)
    counts = np.concatenate([np.ones((1, images), np.uint8), resample_counts(images, 8, generator)])
    expect_equal(findings, counts)


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": 0},
        {"extra": 0, "found": 0.0},
        {"found": 1.0, "noise": 0.0, "right_class": 1.0, "extra": 0},
        {"found": 0.0, "extra": 20},
    ],
    ids=["no labels", "no detections", "nothing wrong", "nothing found"],
)
def test_extremes(settings):
    findings = make_findings(images=6, classes=2, seed=3, **settings)
    counts = np.array([[1] * 6, [0] * 6, [6, 0, 0, 0, 0, 0], [255, 1, 0, 0, 7, 0]], np.uint8)
    expect_equal(findings, counts)


def test_blocks_change_nothing(monkeypatch):
    findings = make_findings(images=10, classes=3, seed=1)
    counts = resample_counts(10, 25, np.random.default_rng(0))
    whole = bootstrap_ap(findings, counts)
    monkeypatch.setattr(bootstrap, "CELLS", 200)
    blocks = bootstrap_ap(findings, counts)
    assert np.array_equal(whole.ap50, blocks.ap50, equal_nan=True)
    assert np.array_equal(whole.ap50_95, blocks.ap50_95, equal_nan=True)


def test_draws():
    counts = resample_counts(300, 200, np.random.default_rng(0))
    assert counts.shape == (200, 300)
    assert (counts.sum(1) == 300).all()
    assert counts.var() == pytest.approx(1, abs=0.05)  # nearly Poisson
    assert np.array_equal(counts, resample_counts(300, 200, np.random.default_rng(0)))
    assert not np.array_equal(counts, resample_counts(300, 200, np.random.default_rng(1)))


def test_mean_leaves_out_what_a_resample_lacks():
    ap = np.array([[0.2, 0.4], [np.nan, 0.4], [np.nan, np.nan]])
    assert mean_over_classes(ap).tolist() == pytest.approx([0.3, 0.4, 0.0])
