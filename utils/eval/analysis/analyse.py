"""Everything that is said about an evaluation beyond its metrics, in one object."""

from dataclasses import dataclass

from utils.eval.analysis.calibration import Calibration, calibrate
from utils.eval.analysis.errors import ErrorBreakdown, break_down
from utils.eval.analysis.partners import find_partners
from utils.eval.analysis.sizes import SizeResult, by_size
from utils.eval.analysis.worst import Worst, find_worst
from utils.eval.findings import Findings
from utils.eval.metrics import ClassMetrics

DEFAULT_CONFIDENCE = 0.25


@dataclass(frozen=True)
class Analysis:
    """What is behind the metrics of an evaluation.

    Attributes:
        confidence: operating confidence, 0..1: where mean F1 is highest; detect.py's 0.25 where nothing is right.
        errors: false positives and misses by kind, each with what it costs.
        calibration: how far confidence can be believed.
        sizes: average precision of small, medium and large objects.
        worst: the images and single detections that went wrong most.
    """

    confidence: float
    errors: ErrorBreakdown
    calibration: Calibration
    sizes: tuple[SizeResult, ...]
    worst: Worst


def analyse(findings: Findings, metrics: ClassMetrics) -> Analysis:
    """Look into an evaluation.

    Args:
        findings: its detections and labels.
        metrics: what `ap_per_class` made of them.
    """
    confidence = metrics.best_confidence if metrics.f1_curve.any() else DEFAULT_CONFIDENCE
    partners = find_partners(findings)
    errors = break_down(findings, partners, confidence)
    return Analysis(
        confidence,
        errors,
        calibrate(findings),
        by_size(findings, partners),
        find_worst(findings, errors.diagnosis, confidence),
    )
