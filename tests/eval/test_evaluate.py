from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from utils.data.label_lines import format_labels
from utils.errors import UserError
from utils.eval.evaluate import EvaluationSettings, evaluate, header
from utils.eval.sinks import BatchPictureSink, LabelFileSink

NAMES = {0: "bolt", 1: "nut", 2: "Schraubenschlüssel"}
# class, left, top, right, bottom in px of the original images, one list an image
OBJECTS = [[(0, 10, 20, 60, 80), (1, 100, 40, 180, 110)], [(1, 0, 0, 90, 50)], []]
SIZES_HW = [(120, 200), (60, 100), (120, 200)]
INPUT_HW = (128, 224)


def _letterbox(size_hw):
    """Ratio and padding of an image in the network input."""
    ratio = min(INPUT_HW[0] / size_hw[0], INPUT_HW[1] / size_hw[1])
    return ratio, ((INPUT_HW[1] - size_hw[1] * ratio) / 2, (INPUT_HW[0] - size_hw[0] * ratio) / 2)


def _batch(objects=OBJECTS, sizes=SIZES_HW):
    """Three blank images of two sizes with the objects above, as the loader would hand them over."""
    geometry, targets = [_letterbox(size) for size in sizes], []
    for image, (boxes, (ratio, (pad_x, pad_y))) in enumerate(zip(objects, geometry, strict=True)):
        for label, left, top, right, bottom in boxes:
            x, y = ((left + right) / 2 * ratio + pad_x), ((top + bottom) / 2 * ratio + pad_y)
            sizes_wh = [(right - left) * ratio / INPUT_HW[1], (bottom - top) * ratio / INPUT_HW[0]]
            targets.append([image, label, x / INPUT_HW[1], y / INPUT_HW[0], *sizes_wh])
    return SimpleNamespace(
        images=torch.full((len(objects), 3, *INPUT_HW), 90, dtype=torch.uint8),
        targets=torch.tensor(targets, dtype=torch.float32).reshape(-1, 6),
        paths=[f"images/{name}.jpg" for name in "abc"[: len(objects)]],
        original_hw=sizes,
        ratios=[ratio for ratio, _ in geometry],
        pads_xy=[pad for _, pad in geometry],
    )


def _perfect_network(batch, classes=3, score=0.9):
    """A network that finds exactly the objects of ``batch``."""
    rows = torch.zeros(len(batch.images), 8, 5 + classes)
    for position, (image, label, x, y, w, h) in enumerate(batch.targets.tolist()):
        box = [x * INPUT_HW[1], y * INPUT_HW[0], w * INPUT_HW[1], h * INPUT_HW[0], score]
        rows[int(image), position, :5] = torch.tensor(box)
        rows[int(image), position, 5 + int(label)] = 1
    return lambda images: (rows, [images])


def test_a_perfect_network_scores_full_marks():
    batch = _batch()
    result = evaluate(_perfect_network(batch), [batch], NAMES, EvaluationSettings())
    assert (result.images, result.labels) == (3, 3)
    assert result.results == pytest.approx((1, 1, 0.995, 0.995, 0, 0, 0), abs=0.01)
    assert result.fitness == pytest.approx(0.995)
    assert result.label_counts.tolist() == [1, 2, 0]
    assert result.confusion.matrix.tolist() == [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert len(result.speed_ms) == 3 and min(result.speed_ms) > 0


def test_table_has_the_columns_of_v61():
    batch = _batch()
    lines = evaluate(_perfect_network(batch), [batch], NAMES, EvaluationSettings()).table()
    assert lines[0] == header()
    assert lines[0] == "               Class     Images     Labels          P          R     mAP@.5 mAP@.5:.95"
    assert lines[1].split()[:3] == ["all", "3", "3"]
    assert [line.split()[0] for line in lines[2:]] == ["bolt", "nut"]
    assert lines[3] == f"{'nut':>20}{3:>11}{2:>11}" + "".join(f"{value:>11.3g}" for value in (1, 1, 0.995, 0.995))


@pytest.mark.parametrize(("every_class", "rows"), [(False, 2), (True, 4)])
def test_table_of_many_classes_is_short_unless_asked(every_class, rows):
    batch, names = _batch(), {index: str(index) for index in range(60)}
    result = evaluate(_perfect_network(batch, classes=60), [batch], names, EvaluationSettings())
    assert len(result.table(every_class)) == rows


def test_images_reach_the_network_as_fractions():
    batch, seen = _batch(), []
    network = _perfect_network(batch)

    def forward(images):
        seen.append(images)
        return network(images)

    evaluate(forward, [batch], NAMES, EvaluationSettings())
    assert seen[0].dtype == torch.float32
    assert torch.allclose(seen[0], torch.tensor(90 / 255))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_single_class_forgets_classes():
    batch = _batch()
    wrong = _batch([[(2, *box) for _, *box in boxes] for boxes in OBJECTS])
    strict = evaluate(_perfect_network(wrong), [batch], NAMES, EvaluationSettings())
    relaxed = evaluate(_perfect_network(wrong), [batch], NAMES, EvaluationSettings(single_class=True))
    assert strict.map50 == 0
    assert relaxed.map50 == pytest.approx(0.995)
    assert relaxed.label_counts.tolist() == [3]
    assert relaxed.names == {0: "item"}
    assert len(relaxed.table()) == 2


def test_losses_are_averaged_over_batches():
    batch, parts = _batch(), iter([torch.tensor([1.0, 2, 3]), torch.tensor([3.0, 4, 5])])

    def criterion(raw, targets):
        assert targets is not None and raw[0].shape == batch.images.shape
        return torch.tensor(0.0), next(parts)

    result = evaluate(_perfect_network(batch), [batch, batch], NAMES, EvaluationSettings(), criterion)
    assert result.losses == pytest.approx((2, 3, 4))


@pytest.mark.parametrize("objects", [OBJECTS, [[], [], []]], ids=["labels", "no labels"])
def test_a_network_that_finds_nothing_scores_zero(objects):
    batch = _batch(objects)
    result = evaluate(lambda images: (torch.zeros(3, 9, 8), None), [batch], NAMES, EvaluationSettings())
    assert result.results == (0, 0, 0, 0, 0, 0, 0)
    assert result.confusion.matrix[-1].sum() == sum(map(len, objects))


def test_wrong_class_count_is_explained():
    batch = _batch()
    with pytest.raises(UserError, match="predicts 80 classes but the data set names 3"):
        evaluate(_perfect_network(batch, classes=80), [batch], NAMES, EvaluationSettings())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_explained(value):
    batch = _batch()
    rows = torch.zeros(3, 8, 8)
    rows[1, 2, 4] = value
    with pytest.raises(UserError, match=r"NaN or infinite values for 'images/b\.jpg': its weights are damaged"):
        evaluate(lambda images: (rows, None), [batch], NAMES, EvaluationSettings())


def test_findings_hold_all_that_was_found_and_is_there():
    batch = _batch()
    result = evaluate(_perfect_network(batch), [batch] * 2, NAMES, EvaluationSettings(keeps_findings=True))
    found = result.findings
    assert found.paths == [*batch.paths, *batch.paths]
    assert found.sizes_hw.tolist() == [list(size) for size in SIZES_HW * 2]
    assert found.detection_counts.tolist() == found.label_counts.tolist() == [2, 1, 0] * 2
    truth = [box for boxes in OBJECTS * 2 for box in boxes]
    assert np.allclose(found.label_boxes, [box for _, *box in truth], atol=0.01)
    assert found.label_classes.tolist() == [label for label, *_ in truth]
    assert sorted(map(tuple, found.boxes.round().tolist())) == sorted(tuple(map(float, box)) for _, *box in truth)
    assert found.correct.all() and found.scores == pytest.approx(0.9)
    assert found.label_image.tolist() == [0, 0, 1, 3, 3, 4]
    assert found.label_boxes[found.labels_of(4)] == pytest.approx(found.label_boxes[5:6])
    assert found.detections_of(2) == slice(3, 3)


def test_boxes_are_not_kept_unless_asked_for():
    batch = _batch()
    assert evaluate(_perfect_network(batch), [batch], NAMES, EvaluationSettings()).findings is None


@pytest.mark.parametrize("whole", [False, True])
def test_whole_pixels(whole):
    batch = _batch()
    network = _perfect_network(batch)

    def shifted(images):
        rows, raw = network(images)
        return torch.cat([rows[..., :2] + 0.3, rows[..., 2:]], -1), raw

    settings = EvaluationSettings(whole_pixels=whole, keeps_findings=True)
    boxes = evaluate(shifted, [batch], NAMES, settings).findings.boxes
    assert np.array_equal(boxes, boxes.round()) == whole


@pytest.mark.parametrize(("multi_label", "count"), [(True, 6), (False, 3)])
def test_one_class_a_box(multi_label, count):
    batch = _batch()
    network = _perfect_network(batch)

    def doubtful(images):
        rows, raw = network(images)
        rows = rows.clone()
        rows[..., 7] = 0.5  # the third class is half as likely
        return rows, raw

    settings = EvaluationSettings(multi_label=multi_label, keeps_findings=True)
    assert len(evaluate(doubtful, [batch], NAMES, settings).findings.scores) == count


class _Recorder:
    def __init__(self):
        self.found = []

    def write(self, batch, detections, native):
        self.found.extend(native)


def test_hybrid_output_has_the_labels_and_no_figure_does():
    batch = _batch()
    plain, hybrid = _Recorder(), _Recorder()
    network = lambda images: (_perfect_network(_batch([[], [], []]))(images)[0], None)  # noqa: E731  finds nothing
    result = evaluate(network, [batch], NAMES, EvaluationSettings(), sinks=[plain], hybrid_sinks=[hybrid])
    assert result.results == (0, 0, 0, 0, 0, 0, 0)
    assert [len(found) for found in plain.found] == [0, 0, 0]
    assert [len(found) for found in hybrid.found] == [2, 1, 0]
    assert hybrid.found[1].tolist()[0] == pytest.approx([0, 0, 90, 50, 1, 1], abs=0.01)


def test_an_empty_data_set_is_explained():
    with pytest.raises(UserError, match="no image"):
        evaluate(lambda images: (images, None), [], NAMES, EvaluationSettings())


@pytest.mark.parametrize("with_confidence", [False, True])
def test_label_files_repeat_the_truth_in_native_space(tmp_path, with_confidence):
    batch = _batch()
    sink = LabelFileSink(tmp_path / "labels", with_confidence)
    evaluate(_perfect_network(batch), [batch], NAMES, EvaluationSettings(), sinks=[sink])
    assert sorted(path.name for path in sink.folder.iterdir()) == ["a.txt", "b.txt"]
    rows = sorted([float(word) for word in line.split()] for line in (sink.folder / "a.txt").read_text().splitlines())
    wanted = [[0, 35 / 200, 50 / 120, 50 / 200, 60 / 120], [1, 140 / 200, 75 / 120, 80 / 200, 70 / 120]]
    for row, expected in zip(rows, wanted, strict=True):
        assert row == pytest.approx(expected + [0.9] * with_confidence, abs=1e-5)


def test_label_lines_have_six_significant_digits():
    line = format_labels(np.array([[0.0, 0, 10, 30, 1 / 3, 7]]), (90, 30), with_score=True)
    assert line == "7 0.166667 0.166667 0.333333 0.333333 0.333333\n"


def test_pictures_of_the_first_batches(tmp_path):
    batch = _batch()
    sink = BatchPictureSink(tmp_path, NAMES, batches=2)
    evaluate(_perfect_network(batch), [batch] * 4, NAMES, EvaluationSettings(), sinks=[sink])
    names = [f"val_batch{index}_{kind}.jpg" for index in (0, 1) for kind in ("labels", "pred")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    picture = cv2.imread(str(tmp_path / names[1]))
    assert picture.shape == (2 * INPUT_HW[0], 2 * INPUT_HW[1], 3)
    assert np.ptp(picture[: INPUT_HW[0], : INPUT_HW[1]]) > 100, "boxes are drawn on the grey image"
