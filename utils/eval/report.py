"""An evaluation as users see it: the table, the speeds, the plots."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from utils.data.loader import BatchLoader
from utils.eval.evaluate import Evaluation, EvaluationSettings, Sink, evaluate
from utils.eval.plots import save_evaluation_plots
from utils.eval.sinks import BatchPictureSink
from utils.log import LOGGER


def measure(
    predict: Callable[[Tensor], Tensor],
    loader: BatchLoader,
    names: Mapping[int, str],
    settings: EvaluationSettings,
    folder: Path,
    sinks: Sequence[Sink] = (),
    hybrid_sinks: Sequence[Sink] = (),
    every_class: bool = False,
    draws: bool = True,
) -> Evaluation:
    """Evaluate a model, print v6.1's table and leave curves, confusion matrix and pictures of the first batches.

    Args:
        predict: (B, C, H, W) images in [0, 1] to (B, N, 5 + classes), as a Backend does.
        loader: the images.
        names: class names by index.
        settings: thresholds and device.
        folder: where the pictures go.
        sinks: what else receives the detections.
        hybrid_sinks: what receives them with the labels merged in.
        every_class: list the classes even if there are 50 or more.
        draws: leave curves and pictures.
    """
    pictures = [BatchPictureSink(folder, names)] if draws else []
    settings = dataclasses.replace(settings, keeps_findings=True)
    result = evaluate(
        lambda images: (predict(images), None),
        loader,
        names,
        settings,
        sinks=[*pictures, *sinks],
        hybrid_sinks=hybrid_sinks,
    )
    for line in result.table(every_class):
        LOGGER.info(line)
    if draws:
        save_evaluation_plots(result, folder)
    LOGGER.info(f"Results saved to {folder}")
    return result


def speed_line(milliseconds: Sequence[float], shape: tuple[int, ...]) -> str:
    """Return v6.1's line of times an image: preparing, inference, suppression; and the (B, C, H, W) of the input."""
    times = "{:.1f}ms pre-process, {:.1f}ms inference, {:.1f}ms NMS".format(*milliseconds)
    return f"Speed: {times} per image at shape {shape}"
