"""The tasks of val.py: one model measured, several compared, sizes studied."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from utils.data.config import DatasetConfig
from utils.data.loader import BatchLoader, make_validation_loader
from utils.data.samples import Samples
from utils.errors import UserError
from utils.eval.class_mapping import check_classes, map_classes
from utils.eval.evaluate import Evaluation, EvaluationSettings
from utils.eval.options import ValOptions
from utils.eval.report import measure, speed_line
from utils.eval.sinks import LabelFileSink
from utils.log import LOGGER
from utils.options import given_options
from utils.sizes import fit_size

if TYPE_CHECKING:
    from models.formats import Metadata

FULL_CONFIDENCE = 0.001  # from here down, mAP is what it is
SPEED_THRESHOLDS = {"confidence": ("conf_thres", 0.25), "iou": ("iou_thres", 0.45)}  # of --task speed (v6.1)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to be measured.

    Attributes:
        weights: its files; several for an ensemble.
        predict: (B, C, H, W) images in 0..1 to (B, N, 5 + classes), as a Backend does.
        meta: what it says of itself.
    """

    weights: Sequence[str]
    predict: Callable[[Tensor], Tensor]
    meta: "Metadata"

    @property
    def stem(self) -> str:
        """Its name in file names."""
        return "+".join(Path(file).stem for file in self.weights)


@dataclasses.dataclass(frozen=True)
class Job:
    """A data set to be measured on, and how.

    Attributes:
        options: of the command line.
        config: the data set.
        samples: the images and labels of its split.
        device: where networks run.
    """

    options: ValOptions
    config: DatasetConfig
    samples: Samples
    device: torch.device

    def fit(self, subject: Subject) -> Subject:
        """Return a model in terms of the data set's classes.

        Raises:
            UserError: the model's classes or channels are others.
        """
        meta, config = subject.meta, self.config
        if meta.channels != config.channels:
            raise UserError(
                f"the model takes images of {meta.channels} channels, but {config.file} says ch: {config.channels}"
                "; measure on the data set it was trained for, or correct 'ch'"
            )
        if self.options.map_classes:
            predict = map_classes(subject.predict, meta.names, config.names)
            return dataclasses.replace(subject, predict=predict)
        if not self.options.single_cls:
            check_classes(meta.names, config.names, config.file)
        return subject

    def settings(self) -> EvaluationSettings:
        """Return thresholds and the like."""
        options = self.options
        settings = EvaluationSettings(
            confidence=options.conf_thres,
            iou=options.iou_thres,
            max_detections=options.max_det,
            single_class=options.single_cls,
            multi_label=not options.as_detect,
            whole_pixels=options.as_detect,
            device=self.device,
        )
        if options.task != "speed":
            return settings
        given = given_options(options)
        changes = {name: value for name, (flag, value) in SPEED_THRESHOLDS.items() if flag not in given}
        return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]

    def measure(self, subject: Subject, folder: Path) -> Evaluation:
        """Measure one model and leave all that is asked for in ``folder``."""
        options, settings = self.options, self.settings()
        if settings.confidence > FULL_CONFIDENCE and options.task != "speed":
            LOGGER.warning(f"WARNING: --conf-thres {settings.confidence} above 0.001 makes mAP lower than it is")
        loader, shape = self._loader(options.imgsz, subject)
        sink = [LabelFileSink(folder / "labels", options.save_conf)] if options.save_txt or options.save_hybrid else []
        result = measure(
            subject.predict,
            loader,
            self.config.names,
            settings,
            folder,
            sinks=[] if options.save_hybrid else sink,
            hybrid_sinks=sink if options.save_hybrid else [],
            every_class=options.verbose,
            draws=not options.noplots and options.task != "speed",
        )
        LOGGER.info(speed_line(result.speed_ms, shape))
        return result

    def _loader(self, image_size: int, subject: Subject) -> tuple[BatchLoader, tuple[int, int, int, int]]:
        """Return the batches for a model, and the (B, C, H, W) they have at most."""
        options, channels = self.options, self.config.channels
        size, stride = validation_size(image_size, subject.meta)
        if options.task == "speed":
            stride = None  # squares (v6.1)
        loader = make_validation_loader(
            self.samples, size, options.batch_size, stride, options.workers, channels=channels
        )
        return loader, (options.batch_size, channels, size, size)


def validation_size(requested: int, meta: "Metadata") -> tuple[int, int | None]:
    """Return the longer side of the input, and the stride of rectangular batches or None for squares.

    Raises:
        UserError: the model takes one shape only, and that is no square.
    """
    if meta.input_hw is None:
        return fit_size(requested, meta.stride), meta.stride
    height, width = meta.input_hw
    if height != width:
        raise UserError(f"the model takes images of {height}x{width} only; for val.py export it for a square")
    if requested != height:
        LOGGER.warning(f"WARNING: --imgsz {requested}: the model was exported for {height} px; using that")
    return height, None
