"""An evaluation as users see it: the tables, the speeds, the pictures, the page."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from utils.data.loader import BatchLoader
from utils.eval.analysis import analyse, save_analysis
from utils.eval.coco import MISSING_HINT, CocoMetrics, coco_metrics
from utils.eval.evaluate import Evaluation, EvaluationSettings, Sink, evaluate
from utils.eval.findings import Findings
from utils.eval.page import write_report
from utils.eval.plots import save_evaluation_plots
from utils.eval.sinks import BatchPictureSink
from utils.log import LOGGER


@dataclasses.dataclass(frozen=True)
class Leavings:
    """What a measurement leaves besides its figures.

    Attributes:
        folder: where pictures and page go.
        sinks: what receives the detections of each batch.
        hybrid_sinks: what receives them with the labels merged in.
        every_class: list the classes even if there are 50 or more.
        coco: print the same in COCO's definition.
        draws: leave pictures and page.
        facts: what the page says was measured, by name, besides the settings.
    """

    folder: Path
    sinks: Sequence[Sink] = ()
    hybrid_sinks: Sequence[Sink] = ()
    every_class: bool = False
    coco: bool = True
    draws: bool = True
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def measure(
    predict: Callable[[Tensor], Tensor],
    loader: BatchLoader,
    names: Mapping[int, str],
    settings: EvaluationSettings,
    leavings: Leavings,
) -> Evaluation:
    """Evaluate a model, print v6.1's table and COCO's, and leave pictures and ``report.html``.

    Args:
        predict: (B, C, H, W) images in [0, 1] to (B, N, 5 + classes), as a Backend does.
        loader: the images.
        names: class names by index.
        settings: thresholds and device.
        leavings: what else is wanted.

    Returns:
        the figures, with their findings.
    """
    folder = leavings.folder
    pictures = [BatchPictureSink(folder, names)] if leavings.draws else []
    result = evaluate(
        lambda images: (predict(images), None),
        loader,
        names,
        dataclasses.replace(settings, keeps_findings=True),
        sinks=[*pictures, *leavings.sinks],
        hybrid_sinks=leavings.hybrid_sinks,
    )
    for line in result.table(leavings.every_class):
        LOGGER.info(line)
    findings = result.findings
    assert findings  # they were asked for
    if not len(findings.scores):
        LOGGER.warning(f"WARNING: nothing was detected above confidence {settings.confidence:g}: every metric is 0")
    coco = _in_coco_style(findings, result) if leavings.coco else None
    if result.map50 > 0:
        LOGGER.info(f"F1 is highest, {result.f1:.3f}, at confidence {result.best_confidence:.3f}")
    if leavings.draws:
        save_evaluation_plots(result, folder)
        analysis = analyse(findings, result.metrics)
        save_analysis(analysis, findings, folder)
        write_report(folder, result, {**leavings.facts, **_facts(settings)}, coco, analysis)
    if any(folder.iterdir()):
        LOGGER.info(f"Results saved to {folder}")
    return result


def _facts(settings: EvaluationSettings) -> dict[str, str]:
    limits = f"confidence {settings.confidence:g}, IoU {settings.iou:g}"
    return {
        "thresholds": f"{limits}, at most {settings.max_detections} detections an image",
        "device": str(settings.device),
    }


def _in_coco_style(findings: Findings, result: Evaluation) -> CocoMetrics | None:
    coco = coco_metrics(findings)
    for line in coco.lines(result.metrics) if coco else [MISSING_HINT]:
        LOGGER.info(line)
    return coco
