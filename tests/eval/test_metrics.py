import numpy as np
import pytest
import torch

from tests.golden_data import load_golden, meta_of
from utils.eval.confusion import ConfusionMatrix
from utils.eval.metrics import (
    ap_per_class,
    average_precision,
    fitness,
    labels_per_image,
    match_detections,
    smooth,
)


@pytest.fixture(scope="module")
def golden():
    return load_golden("ap.npz")


@pytest.mark.parametrize("case", range(11))
def test_matching_follows_the_later_rule(golden, case):
    detections, labels = torch.from_numpy(golden[f"pb{case}_det"]), torch.from_numpy(golden[f"pb{case}_lab"])
    assert np.array_equal(match_detections(detections, labels).numpy(), golden[f"pb{case}_master_correct"])


def test_a_better_box_counts_at_high_thresholds():
    label = torch.tensor([[0.0, 0, 0, 100, 100]])
    detections = torch.tensor([[0.0, 0, 100, 60, 0.9, 0], [0, 0, 100, 95, 0.8, 0]])  # IoU 0.60 and 0.95
    first, second = match_detections(detections, label).int().tolist()
    assert first[:2] == [1, 1] and not any(first[3:])
    assert second[:2] == [0, 0] and all(second[3:9])


@pytest.mark.parametrize(("found", "labels"), [(0, 3), (3, 0), (0, 0)])
def test_matching_without_detections_or_labels(found, labels):
    correct = match_detections(torch.rand(found, 6), torch.rand(labels, 5))
    assert correct.shape == (found, 10)
    assert not correct.any()


@pytest.mark.parametrize("case", range(4))
def test_average_precision_of_one_curve(golden, case):
    value = average_precision(golden[f"curve{case}_recall"], golden[f"curve{case}_precision"])
    assert value == pytest.approx(float(golden[f"curve{case}_ap"]), abs=1e-9)


@pytest.mark.parametrize("fraction", [0.1, 0.05])
@pytest.mark.parametrize("case", range(2))
def test_smoothing(golden, case, fraction):
    assert np.allclose(smooth(golden[f"smooth{case}_in"], fraction), golden[f"smooth{case}_out_f{fraction}"], atol=1e-9)


def _metrics_of(golden, case):
    return ap_per_class(*(golden[f"ap{case}_{name}"] for name in ("tp", "conf", "pred_cls", "target_cls")))


@pytest.mark.parametrize("case", range(9))
def test_metrics_of_a_data_set(golden, case):
    metrics = _metrics_of(golden, case)
    names = {"precision": "p", "recall": "r", "f1": "f1", "ap": "ap", "classes": "classes"}
    names |= {"true_positives": "tp_count", "false_positives": "fp_count"}
    for ours, theirs in names.items():
        assert np.allclose(getattr(metrics, ours), golden[f"ap{case}_master_{theirs}"], rtol=0, atol=1e-9), ours
    means = meta_of(golden)["ap_cases"][case]["master"]
    assert metrics.mean("ap50") == pytest.approx(means["map50"], abs=1e-9)
    assert metrics.mean("ap50_95") == pytest.approx(means["map"], abs=1e-9)
    assert np.array_equal(metrics.ap75, metrics.ap[:, 5])


def test_each_class_has_an_operating_point_of_its_own():
    """Detections at 0.995, 0.985, ...: of class 2 those above 0.7 are right, of class 5 those above 0.3, of 9 none."""
    scores = np.tile(np.arange(0.995, 0, -0.01), 3)
    predicted = np.repeat([2.0, 5.0, 9.0], 100)
    least = np.repeat([0.7, 0.3, 2.0], 100)
    correct = np.tile((scores > least)[:, None], (1, 10))
    metrics = ap_per_class(correct, scores, predicted, np.repeat([2.0, 5.0, 9.0], [30, 70, 10]))
    assert metrics.class_confidence[:2] == pytest.approx([0.7, 0.3], abs=0.03)
    assert metrics.class_confidence[2] == metrics.best_confidence
    assert metrics.best_confidence == pytest.approx(metrics.confidence_axis[metrics.operating_point], abs=0.005)
    assert 0.3 < metrics.best_confidence < 0.7


@pytest.mark.parametrize("least", [0.01, 0.25])
def test_of_equally_good_confidences_the_middle_of_what_was_seen_counts(least):
    metrics = ap_per_class(np.ones((1, 10), bool), np.array([0.9]), np.zeros(1), np.zeros(1), least)
    smoothed = smooth(metrics.f1_curve[0])
    level = metrics.confidence_axis[smoothed > smoothed.max() - 1e-9]
    assert level[0] == 0 and level[-1] > 0.8
    assert metrics.best_confidence == pytest.approx((least + level[-1]) / 2, abs=0.002)
    assert metrics.class_confidence.tolist() == [metrics.best_confidence]


def test_a_class_that_was_hardly_found_has_no_confidence_of_its_own():
    correct = np.array([True] * 5 + [False] * 99 + [True])[:, None].repeat(10, 1)
    scores = np.concatenate([np.full(5, 0.8), np.linspace(0.7, 0.01, 100)])
    metrics = ap_per_class(correct, scores, np.array([0.0] * 5 + [1.0] * 100), np.array([0] * 5 + [1] * 10))
    assert 0 < metrics.f1_curve[1].max() < 0.1
    assert metrics.class_confidence[1] == metrics.best_confidence


def test_detections_come_in_any_order():
    generator = np.random.default_rng(0)
    count = 500
    correct, scores = generator.random((count, 10)) < 0.5, generator.permutation(count) / count
    predicted, true = generator.integers(0, 7, count), generator.integers(1, 6, 300)
    shuffled = generator.permutation(count)
    metrics = ap_per_class(correct, scores, predicted, true)
    other = ap_per_class(correct[shuffled], scores[shuffled], predicted[shuffled].astype(np.float32), true)
    known = np.isin(predicted, true)
    filtered = ap_per_class(correct[known], scores[known], predicted[known], true)
    for name in ("classes", "label_counts", "ap", "precision_curve", "recall_curve", "precision_by_recall"):
        assert np.array_equal(getattr(metrics, name), getattr(other, name))
        assert np.array_equal(getattr(metrics, name), getattr(filtered, name))


def test_a_data_set_without_labels_measures_zero():
    metrics = ap_per_class(np.zeros((4, 10), bool), np.linspace(1, 0, 4), np.zeros(4), np.zeros(0))
    assert len(metrics.classes) == 0
    assert [metrics.mean(name) for name in ("precision", "recall", "ap50", "ap50_95")] == [0, 0, 0, 0]
    assert metrics.best_confidence == 0
    assert metrics.class_confidence.shape == (0,)


def test_result_cannot_be_changed(golden):
    with pytest.raises(AttributeError):
        _metrics_of(golden, 0).ap = None


def test_fitness_weighs_map():
    assert fitness(0.9, 0.9, 0.5, 0.3) == pytest.approx(0.1 * 0.5 + 0.9 * 0.3)


def test_labels_are_split_by_image_and_scaled():
    targets = torch.tensor([[2, 7, 0.5, 0.5, 0.2, 0.4], [0, 1, 0.25, 0.5, 0.5, 1.0]])
    first, second, third = labels_per_image(targets, 3, (100, 200))
    assert first.tolist() == [[1, 0, 0, 100, 100]]
    assert second.shape == (0, 5)
    assert third[0].tolist() == pytest.approx([7, 80, 30, 120, 70])


@pytest.mark.parametrize("case", range(6))
def test_confusion_matrix(case):
    golden = load_golden("confusion.npz")
    settings = meta_of(golden)["cases"][case]
    confusion = ConfusionMatrix(settings["nc"], settings["conf"], settings["iou_thres"])
    for image in range(settings["n_batches"]):
        found, labels = (torch.from_numpy(golden[f"c{case}_b{image}_{part}"]) for part in ("det", "lab"))
        confusion.update(found, labels)
    assert np.array_equal(confusion.matrix, golden[f"c{case}_matrix_master"])
    assert np.array_equal(confusion.true_positives, golden[f"c{case}_tp_v61"])
    assert np.array_equal(confusion.false_positives, golden[f"c{case}_fp_v61"])


def test_confusion_counts_labels_of_images_without_detections_as_missed():
    confusion = ConfusionMatrix(2)
    confusion.update(torch.zeros(0, 6), torch.tensor([[1.0, 0, 0, 9, 9]]))
    confusion.update(torch.tensor([[0, 0, 9, 9, 0.1, 1.0]]), torch.tensor([[1.0, 0, 0, 9, 9]]))  # below 0.25
    assert confusion.matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 2, 0]]


def test_confusion_ignores_images_without_labels():
    confusion = ConfusionMatrix(1)
    confusion.update(torch.tensor([[0, 0, 9, 9, 0.9, 0.0]]), torch.zeros(0, 5))
    assert not confusion.matrix.any()


@pytest.mark.parametrize("size", [640, 320])
def test_saved_detections_of_coco128_give_the_measured_map(size):
    """Detections saved by v6.1's validator: mAP50 is the same rule in both, mAP50-95 is checked with pycocotools'."""
    saved, truth = load_golden(f"val_detections_v61_{size}.npz"), load_golden("coco_gt.json.gz")
    runs = load_golden("val.json")["v61"]["runs"]
    wanted = next(run for run in runs if run["name"] == str(size))
    corners = saved["bbox_xywh_topleft"].copy()
    corners[:, 2:] += corners[:, :2]
    found = torch.from_numpy(np.column_stack([corners, saved["score"], saved["cls"]]).astype(np.float32))
    correct, classes = np.zeros((len(found), 10), bool), []
    for image in truth["images"]:
        own = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        labels = torch.tensor([[row["category_id"], *row["bbox"]] for row in own]).reshape(-1, 5)
        labels[:, 3:] += labels[:, 1:3]
        here = saved["image_id"] == image["id"]
        correct[here] = match_detections(found[here], labels).numpy()
        classes.append(labels[:, 0].numpy())
    score, predicted = found[:, 4].numpy(), found[:, 5].numpy()
    metrics = ap_per_class(correct, score, predicted, np.concatenate(classes))
    assert metrics.mean("ap50") == pytest.approx(wanted["mAP50"], abs=0.002)
    assert metrics.mean("ap50") == pytest.approx(wanted["pycocotools"]["AP50"], abs=0.005)
    assert metrics.mean("ap50_95") == pytest.approx(wanted["pycocotools"]["AP"], abs=0.005)
    assert metrics.label_counts.tolist() == wanted["per_class"]["labels"]
    unsmoothed = metrics.f1_curve.mean(0).argmax()  # v6.1's operating point
    assert metrics.precision_curve[:, unsmoothed].mean() == pytest.approx(wanted["P"], abs=0.01)
    assert metrics.recall_curve[:, unsmoothed].mean() == pytest.approx(wanted["R"], abs=0.01)
