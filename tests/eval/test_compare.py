import csv
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.eval.made import make_findings
from utils.errors import UserError
from utils.eval.bootstrap import bootstrap_ap, mean_over_classes
from utils.eval.compare import FEW_IMAGES, compare
from utils.eval.compare_files import save_comparison
from utils.eval.findings import Findings
from utils.eval.metrics import ap_per_class


def picked(findings, images):
    """Return the evaluation of some of the images, in the order given."""
    found = [np.arange(len(findings.scores))[findings.detections_of(image)] for image in images]
    true = [np.arange(len(findings.label_classes))[findings.labels_of(image)] for image in images]
    rows, labels = (np.concatenate([np.zeros(0, int), *parts]) for parts in (found, true))
    return Findings(
        names=findings.names,
        paths=[findings.paths[image] for image in images],
        sizes_hw=findings.sizes_hw[images],
        boxes=findings.boxes[rows],
        scores=findings.scores[rows],
        classes=findings.classes[rows],
        correct=findings.correct[rows],
        detection_counts=findings.detection_counts[images],
        label_boxes=findings.label_boxes[labels],
        label_classes=findings.label_classes[labels],
        label_counts=findings.label_counts[images],
    )


def degraded(findings, share, seed=0, classes=None):
    """Return an evaluation in which a share of the true positives, of some classes, find nothing."""
    lost = np.random.default_rng(seed).random(len(findings.scores)) < share
    lost &= np.ones(len(lost), bool) if classes is None else np.isin(findings.classes, classes)
    return replace(findings, correct=findings.correct & ~lost[:, None])


@pytest.fixture(scope="module")
def findings():
    return make_findings(images=40, classes=3, seed=4)


def numbers(row):
    return [(one.first, one.second, one.gain, one.beyond_noise) for one in (row.ap50, row.ap50_95)]


def test_a_model_equals_itself(findings):
    result = compare(findings, findings, ("a.pt", "b.pt"), resamples=200)
    for row in (result.overall, *result.classes):
        for difference in (row.ap50, row.ap50_95):
            assert (difference.gain.value, difference.gain.low, difference.gain.high) == (0, 0, 0)
            assert not difference.beyond_noise
    assert result.verdict() == "b.pt and a.pt have the same mAP50-95 on these 40 images."


def test_a_worse_model_is_worse(findings):
    result = compare(findings, degraded(findings, 0.5), ("a.pt", "b.pt"), resamples=300)
    gain = result.overall.ap50_95.gain
    assert gain.low < gain.value < gain.high < 0
    assert result.overall.ap50_95.beyond_noise and result.overall.ap50.beyond_noise
    expected = (
        f"b.pt is worse than a.pt by {-gain.value:.3f} mAP50-95 [{-gain.high:.3f}, {-gain.low:.3f}]: beyond noise"
    )
    assert result.verdict().startswith(expected)
    assert "other seeds may differ" in result.verdict()
    assert "better than b.pt" in compare(degraded(findings, 0.5), findings, ("b.pt", "a.pt"), resamples=300).verdict()


def test_what_noise_explains(findings):
    one, other = degraded(findings, 0.1, seed=1), degraded(findings, 0.1, seed=2)
    result = compare(one, other, ("a.pt", "b.pt"), resamples=300)
    assert not result.overall.ap50_95.beyond_noise
    assert "within noise" in result.verdict()


def test_only_the_class_that_changed_stands_out(findings):
    result = compare(findings, degraded(findings, 0.7, classes=[1]), resamples=300)
    assert [row.ap50.beyond_noise for row in result.classes] == [False, True, False]
    assert [row.name for row in result.classes] == ["class 0", "class 1", "class 2"]


def test_measured_values_are_those_of_the_metrics(findings):
    other = degraded(findings, 0.3)
    metrics = [ap_per_class(one.correct, one.scores, one.classes, one.label_classes) for one in (findings, other)]
    result = compare(findings, other, resamples=100)
    rows = [result.overall, *result.classes]
    for name in ("ap50", "ap50_95"):
        for side, expected in zip(("first", "second"), metrics, strict=True):
            values = [getattr(getattr(row, name), side) for row in rows]
            assert values == pytest.approx([expected.mean(name), *getattr(expected, name)], abs=1e-12)
    assert [row.labels for row in rows] == [len(findings.label_classes), *metrics[0].label_counts]
    images = [len(set(findings.label_image[findings.label_classes == index])) for index in range(3)]
    assert [row.images for row in rows] == [40, *images]


def test_order_of_images_does_not_matter(findings):
    other = degraded(findings, 0.3)
    order = np.random.default_rng(5).permutation(len(findings))
    plain, mixed = compare(findings, other, resamples=100), compare(findings, picked(other, order), resamples=100)
    for one, two in zip([plain.overall, *plain.classes], [mixed.overall, *mixed.classes], strict=True):
        for left, right in zip(numbers(one), numbers(two), strict=True):
            assert left[:2] == pytest.approx(right[:2])
            assert (left[2].low, left[2].high) == pytest.approx((right[2].low, right[2].high))


def test_seed(findings):
    other = degraded(findings, 0.3)
    first, again, another = (compare(findings, other, resamples=100, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != another


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: picked(one, range(39)), "40 images and b.pt on 39, and they are not the same (images/000039.jpg)"),
        (lambda one: replace(one, paths=["x.jpg", *one.paths[1:]]), "not the same (images/000000.jpg)"),
        (lambda one: replace(one, names={0: "cat", 1: "dog", 2: "bird"}), "classes class 0, class 1, class 2 and b.pt"),
        (lambda one: replace(one, label_counts=one.label_counts[::-1]), "the labels were not the same"),
    ],
)
def test_what_cannot_be_compared(findings, change, message):
    with pytest.raises(UserError) as error:
        compare(findings, change(findings), ("a.pt", "b.pt"))
    assert message in str(error.value)


def test_no_image_and_too_few_resamples(findings):
    with pytest.raises(UserError, match="no image"):
        compare(picked(findings, []), picked(findings, []))
    with pytest.raises(UserError, match="at least 100"):
        compare(findings, findings, resamples=99)


@pytest.mark.parametrize("images", [1, FEW_IMAGES - 1])
def test_few_images_prove_nothing(images):
    findings = make_findings(images=images, classes=1, seed=1, labels=12)
    result = compare(findings, degraded(findings, 1.0), ("a.pt", "b.pt"), resamples=100)
    assert not result.overall.ap50_95.beyond_noise
    assert "too few" in result.verdict()
    assert " few" in result.lines()[5]


@pytest.mark.parametrize("settings", [{"labels": 0}, {"extra": 0, "found": 0.0}], ids=["no labels", "no detections"])
def test_nothing_to_find_or_nothing_found(settings):
    findings = make_findings(images=12, classes=2, seed=0, **settings)
    result = compare(findings, findings, resamples=100)
    assert result.overall.ap50_95.gain.value == 0
    assert "the same mAP50-95" in result.lines()[-1]
    assert result.overall.ap50.gain.high == 0


def test_a_wider_level_holds_more(findings):
    worse = degraded(findings, 0.1)
    wide, narrow = (compare(findings, worse, resamples=200, level=level).overall.ap50.gain for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("classes", "every_class", "listed"), [(3, False, 3), (60, False, 0), (60, True, 60)])
def test_table(classes, every_class, listed):
    findings = make_findings(images=60, classes=classes, seed=2, labels=20)
    result = compare(findings, degraded(findings, 0.02), ("a.pt", "runs/b.pt"), resamples=100)
    lines = result.lines(every_class)
    assert lines[:2] == ["A: a.pt", "B: runs/b.pt"]
    assert sum(line.lstrip().startswith("class ") for line in lines) == listed
    assert any("60 classes are not listed" in line for line in lines) == (classes == 60 and not every_class)
    assert lines[-1] == result.verdict()
    overall = lines[4].split()
    assert overall[:3] == ["all", "60", str(len(findings.label_classes))]
    assert float(overall[3]) == pytest.approx(result.overall.ap50_95.first, abs=5e-4)


@pytest.mark.parametrize("classes", [1, 70])
def test_files(tmp_path, classes):
    findings = make_findings(images=30, classes=classes, seed=2, labels=30)
    result = compare(findings, degraded(findings, 0.4), ("a$1$.pt", "b.pt"), resamples=100)
    save_comparison(result, tmp_path)
    save_comparison(result, tmp_path, "compare_c")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("compare.csv", "compare.png", "compare_c.csv", "compare_c.png")
    ]
    with (tmp_path / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + len(result.classes)
    for row, expected in zip(rows, (result.overall, *result.classes), strict=True):
        assert (row["first"], row["second"], row["class"]) == ("a$1$.pt", "b.pt", expected.name)
        assert float(row["ap50_95_gain"]) == pytest.approx(expected.ap50_95.gain.value, abs=1e-6)
        assert row["ap50_beyond_noise"] == str(expected.ap50.beyond_noise)
    assert cv2.imread(str(tmp_path / "compare.png")).shape[1] == 9 * 150


@pytest.mark.slow
@pytest.mark.parametrize("shares", [(0.1, 0.25), (0.2, 0.2)])
def test_coverage(shares):
    """Intervals of 150 images hold the difference on all 3,000 in about 95 of 100 cases, no fewer than 90."""
    everything = make_findings(images=3000, classes=4, seed=9)
    models = [degraded(everything, share, seed) for seed, share in enumerate(shares)]
    ones = np.ones((1, len(everything)), np.uint8)
    truth = np.subtract(*(mean_over_classes(bootstrap_ap(model, ones).ap50_95)[0] for model in reversed(models)))
    generator = np.random.default_rng(0)
    cases, held, alarms = 300, 0, 0
    for case in range(cases):
        images = generator.choice(len(everything), 150, replace=False)
        result = compare(*(picked(model, images) for model in models), resamples=200, seed=case)
        gain = result.overall.ap50_95.gain
        held += gain.low <= truth <= gain.high
        alarms += any(row.ap50_95.beyond_noise for row in result.classes)
    assert 0.90 <= held / cases <= 0.985, held / cases
    if shares[0] == shares[1]:
        assert alarms / cases <= 0.10, alarms / cases
