import numpy as np
import pytest
import torch

from tests.golden_data import load_golden, meta_of
from utils.errors import UserError
from utils.eval import nms as nms_module
from utils.eval.nms import append_labels, non_max_suppression

CASES = 25
NAMES = {"conf_thres": "confidence", "iou_thres": "iou", "max_det": "max_detections"}


@pytest.fixture(scope="module")
def golden():
    return load_golden("nms.npz")


def _prediction(golden, cases, index):
    recipe = cases[index]["recipe"]
    if f"c{index}_pred" in golden.files:
        rows = golden[f"c{index}_pred"]
    elif recipe.startswith("pred of c"):
        rows = golden[f"c{recipe.removeprefix('pred of c')}_pred"]
    else:
        rows = np.random.RandomState(77).rand(1, 42000, 6).astype(np.float32)
        rows[..., :2] *= 640
        rows[..., 2:4] = rows[..., 2:4] * 60 + 4
    rows = torch.from_numpy(rows)
    if cases[index]["has_labels"]:
        labels = [torch.from_numpy(golden[f"c{index}_label{image}"]) for image in range(len(rows))]
        targets = torch.cat([torch.nn.functional.pad(own, (1, 0), value=i) for i, own in enumerate(labels)])
        rows = append_labels(rows, targets, (1, 1))
    return rows


@pytest.mark.parametrize("index", range(CASES))
def test_agrees_with_v61(golden, index):
    cases = meta_of(golden)["cases"]
    prediction = _prediction(golden, cases, index)
    before = prediction.clone()
    options = {NAMES.get(name, name): value for name, value in cases[index]["options"].items()}
    detections = non_max_suppression(prediction, **options)
    assert len(detections) == len(prediction)
    for image, found in enumerate(detections):
        wanted = golden[f"c{index}_out{image}"]
        assert found.shape == wanted.shape, cases[index]["name"]
        assert np.allclose(found.numpy(), wanted, rtol=0, atol=1e-6)
    assert torch.equal(prediction, before), "the prediction must stay as it was"


def test_every_case_is_covered(golden):
    assert len(meta_of(golden)["cases"]) == CASES


def _random_prediction(rows, classes):
    generator = torch.Generator().manual_seed(3)
    prediction = torch.rand(1, rows, 5 + classes, generator=generator)
    prediction[..., :2] *= 300
    prediction[..., 2:4] = prediction[..., 2:4] * 60 + 4
    return prediction


def _plain(rows, confidence, iou, classes, agnostic, multi_label, max_detections):
    """The rules one at a time, in (N, 5 + classes) ``rows``, without any short cut."""
    candidates = []
    for x, y, width, height, objectness, *probabilities in rows.double().tolist():
        if objectness <= confidence or not all(2 <= side <= 7680 for side in (width, height)):
            continue
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        scores = [objectness * probability for probability in probabilities]
        for label in range(len(scores)) if multi_label else [scores.index(max(scores))]:
            if scores[label] > confidence and (classes is None or label in classes):
                candidates.append((*box, scores[label], label))
    kept = []
    for candidate in sorted(candidates, key=lambda candidate: -candidate[4]):
        rivals = kept if agnostic else [better for better in kept if better[5] == candidate[5]]
        if all(_overlap(candidate, better) <= iou for better in rivals):
            kept.append(candidate)
    return torch.tensor(kept[:max_detections]).reshape(-1, 6)


def _overlap(a, b):
    width, height = (min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]) for axis in (0, 1))
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_rules_one_at_a_time(monkeypatch, seed):
    generator = np.random.default_rng(seed)
    classes = int(generator.choice([1, 2, 5]))
    prediction = torch.from_numpy(generator.random((2, 150, 5 + classes)).astype(np.float32))
    prediction[..., :2] *= 60
    prediction[..., 2:4] = prediction[..., 2:4] * 40 + 1
    prediction[..., 4:] = (prediction[..., 4:] * 8).ceil() / 8  # many equal scores
    options = {
        "confidence": float(generator.choice([0.05, 0.3])),
        "iou": float(generator.choice([0.3, 0.6])),
        "classes": [0, 3, 99] if seed % 3 == 0 else None,
        "agnostic": bool(seed % 4 == 0),
        "multi_label": bool(seed % 2),
        "max_detections": int(generator.choice([10, 60, 1000])),
    }
    monkeypatch.setattr(nms_module, "FIRST_CANDIDATES", 20)  # far from all: the first try is seldom enough
    monkeypatch.setattr(nms_module, "BLOCK", int(generator.choice([1, 30])))
    for rows, found in zip(prediction, non_max_suppression(prediction, **options), strict=True):
        wanted = _plain(rows, **options)
        assert len(wanted)
        assert found.shape == wanted.shape
        assert np.allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("max_detections", [10, 300, 5000])
@pytest.mark.parametrize("steps", [0, 20])
def test_trying_the_best_few_first_changes_nothing(monkeypatch, max_detections, steps):
    prediction = _random_prediction(3000, 2)
    if steps:
        prediction[..., 4:] = (prediction[..., 4:] * steps).ceil() / steps  # many equal scores
    options = {"confidence": 0.01, "iou": 0.5, "multi_label": True, "max_detections": max_detections}
    monkeypatch.setattr(nms_module, "FIRST_CANDIDATES", 10**6)
    (whole,) = non_max_suppression(prediction, **options)
    monkeypatch.setattr(nms_module, "FIRST_CANDIDATES", 16)
    (stepwise,) = non_max_suppression(prediction, **options)
    assert torch.equal(whole, stepwise)
    assert len(whole) == min(max_detections, len(whole))


def test_only_the_best_candidates_take_part(monkeypatch):
    prediction = _random_prediction(500, 3)
    options = {"confidence": 0.01, "iou": 1.0, "multi_label": True, "max_detections": 10_000}
    (everything,) = non_max_suppression(prediction, **options)
    monkeypatch.setattr(nms_module, "MAX_CANDIDATES", 100)
    (best,) = non_max_suppression(prediction, **options)
    assert len(everything) > 1000
    assert torch.equal(best, everything[:100])


def test_classes_are_chosen_before_the_best_candidates(monkeypatch):
    prediction = _random_prediction(500, 3)
    monkeypatch.setattr(nms_module, "MAX_CANDIDATES", 100)
    (found,) = non_max_suppression(prediction, 0.01, 1.0, [2], multi_label=True, max_detections=10_000)
    assert len(found) == 100
    assert (found[:, 5] == 2).all()


def test_half_precision_gives_single_precision_boxes():
    (found,) = non_max_suppression(_random_prediction(200, 80).half(), 0.25)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert found[:, 5].max() > 8, "a class offset in half precision would overflow from class 9 on"


def test_rows_that_are_not_numbers_are_dropped():
    prediction = _random_prediction(50, 3)
    (wanted,) = non_max_suppression(prediction[:, 10:])
    prediction[:, :10] = torch.nan
    (found,) = non_max_suppression(prediction)
    assert torch.equal(found, wanted)


def test_a_class_that_is_not_a_number_leaves_the_others_of_its_row(monkeypatch):
    prediction = _random_prediction(50, 3)
    monkeypatch.setattr(nms_module, "FIRST_CANDIDATES", 5)
    (wanted,) = non_max_suppression(prediction, multi_label=True)
    prediction[0, :, 7] = torch.nan
    (found,) = non_max_suppression(prediction, multi_label=True)
    assert torch.equal(found, wanted[wanted[:, 5] < 2])


def test_the_kernel_is_torchvisions_even_without_importing_it(monkeypatch):
    prediction = _random_prediction(300, 4)
    (wanted,) = non_max_suppression(prediction, 0.1)
    monkeypatch.setattr(nms_module, "_kernel", nms_module._kernel.__wrapped__)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert nms_module._kernel().__module__.startswith("torchvision")
    (found,) = non_max_suppression(prediction, 0.1)
    assert torch.equal(found, wanted)


def test_the_number_of_threads_stays():
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        non_max_suppression(_random_prediction(5, 2))
        with pytest.raises(UserError):
            non_max_suppression(_random_prediction(5, 2), 7.0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(count)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"confidence": 1.5}, "--conf-thres"), ({"confidence": -0.1}, "--conf-thres"), ({"iou": 45}, "--iou-thres")],
)
def test_thresholds_outside_0_to_1_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        non_max_suppression(torch.zeros(1, 4, 7), **options)


def test_labels_become_certain_rows():
    prediction = torch.zeros(3, 2, 7)
    targets = torch.tensor([[0, 1, 0.5, 0.25, 0.1, 0.2], [2, 0, 0.1, 0.1, 0.2, 0.2], [2, 1, 0.3, 0.3, 0.2, 0.2]])
    extended = append_labels(prediction, targets, (100, 200))
    assert extended.shape == (3, 4, 7)
    assert extended[0, 2].tolist() == pytest.approx([100, 25, 20, 20, 1, 0, 1])
    assert not extended[1].any()
    assert extended[2, 2:, 4].tolist() == [1, 1]
