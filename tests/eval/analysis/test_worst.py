import torch

from tests.eval.made import findings_of
from utils.eval.analysis.errors import diagnose
from utils.eval.analysis.partners import find_partners
from utils.eval.analysis.worst import MOST, find_worst

BOX, STRAY = (10.0, 10.0, 50.0, 50.0), (300.0, 300.0, 350.0, 350.0)


def _worst(images, confidence=0.5):
    """Find the worst of images, each a list of (box, score) and a number of labels at BOX, the second one beside."""
    found = [torch.tensor([[*box, score, 0] for box, score in rows]).reshape(-1, 6) for rows, _ in images]
    places = torch.tensor([[0, *BOX], [0, 500.0, 500.0, 600.0, 600.0]])
    findings = findings_of(found, [places[:count] for _, count in images], 1)
    return find_worst(findings, diagnose(findings, find_partners(findings)), confidence)


def test_images_and_detections_worst_first():
    worst = _worst(
        [
            ([(BOX, 0.9), (STRAY, 0.6)], 1),
            ([(STRAY, 0.95), (STRAY, 0.7), (BOX, 0.3)], 2),
            ([(BOX, 0.9)], 1),
            ([(STRAY, 0.4)], 1),
        ]
    )
    assert worst.false_positives == [(1, 2), (0, 1)]
    assert worst.misses == [(1, 2), (3, 1)]  # of image 1, one label is found, but below the operating confidence
    assert worst.mistakes == [2, 3, 1, 6]


def test_lists_are_short_and_keep_the_order_of_equals():
    worst = _worst([([(STRAY, 0.8)], 1)] * 30)
    assert worst.false_positives == worst.misses == [(image, 1) for image in range(MOST)]
    assert worst.mistakes == list(range(MOST))


def test_nothing_wrong():
    worst = _worst([([(BOX, 0.9)], 1), ([], 0)])
    assert (worst.false_positives, worst.misses, worst.mistakes) == ([], [], [])
