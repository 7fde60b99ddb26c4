"""The pictures of an analysis."""

from pathlib import Path

from utils.eval.analysis.analyse import Analysis
from utils.eval.analysis.charts import save_calibration, save_errors, save_sizes
from utils.eval.analysis.gallery import confident_mistakes, worst_false_positives, worst_misses
from utils.eval.draw import save_picture
from utils.eval.findings import Findings

GALLERIES = {
    "worst_false_positives.jpg": worst_false_positives,
    "worst_misses.jpg": worst_misses,
    "confident_mistakes.jpg": confident_mistakes,
}


def save_analysis(analysis: Analysis, findings: Findings, folder: Path) -> None:
    """Write ``errors.png``, ``calibration.png``, ``size_ap.png`` and three galleries; of nothing there is no picture.

    Args:
        analysis: from `analyse`.
        findings: what it is about; its image files are read again.
        folder: an existing folder.
    """
    if len(findings.label_classes):
        save_errors(analysis.errors, analysis.confidence, folder / "errors.png")
        save_sizes(analysis.sizes, folder / "size_ap.png")
    if len(findings.label_classes) and len(findings.scores):
        save_calibration(analysis.calibration, analysis.confidence, folder / "calibration.png")
    for name, draw in GALLERIES.items():
        picture = draw(analysis, findings)
        if picture is not None:
            save_picture(folder / name, picture)
