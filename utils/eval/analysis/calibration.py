"""How far confidence can be believed: whether of detections that say 0.8 indeed 80 % are right."""

from dataclasses import dataclass

import numpy as np

from utils.eval.findings import Findings

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Detections by confidence, in B bins of equal width over 0..1.

    Attributes:
        counts: (B,) detections of each bin.
        confidence: (B,) their mean confidence, NaN without any.
        precision: (B,) fraction of them that are right: of the true class, IoU 0.5 or more; NaN without any.
    """

    counts: np.ndarray
    confidence: np.ndarray
    precision: np.ndarray

    def expected_error(self, first_bin: int = 0) -> float:
        """Return the expected calibration error: how far confidence is from precision, averaged over detections.

        An evaluation keeps very many detections of hardly any confidence; they are right about as rarely as they say,
        and hide the others in the mean.

        Args:
            first_bin: leave out the bins before.
        """
        counts = self.counts[first_bin:]
        apart = np.abs(self.confidence - self.precision)[first_bin:]
        return float((np.nan_to_num(apart) * counts).sum() / max(counts.sum(), 1))


def calibrate(findings: Findings, bins: int = BINS) -> Calibration:
    """Compare confidence with precision.

    Args:
        findings: detections, of which every one counts.
        bins: number of bins; a confidence on the border of two belongs to the upper one.
    """
    place = np.minimum((findings.scores * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights, bins) for weights in (findings.scores, findings.correct[:, 0])]
    confidence, precision = (
        np.divide(total, counts, out=np.full(bins, np.nan), where=counts > 0, casting="unsafe") for total in sums
    )
    return Calibration(counts, confidence, precision)
