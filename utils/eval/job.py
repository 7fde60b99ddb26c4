"""The tasks of val.py: one model measured, several compared, sizes studied."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from utils.data.config import DatasetConfig
from utils.data.loader import BatchLoader, make_validation_loader
from utils.data.samples import Samples
from utils.errors import UserError
from utils.eval.class_mapping import check_classes, map_classes
from utils.eval.coco_json import save_predictions
from utils.eval.compare import compare
from utils.eval.compare_files import save_comparison
from utils.eval.evaluate import Evaluation, EvaluationSettings, Sink, evaluate
from utils.eval.findings import Findings
from utils.eval.operating_point import OperatingPoint, save_operating_point
from utils.eval.options import FULL_CONFIDENCE, ValOptions
from utils.eval.report import Leavings, measure
from utils.eval.sinks import LabelFileSink
from utils.eval.study import STUDY_SIZES, short_names, study
from utils.files import make_run_folder
from utils.log import LOGGER, speed_line
from utils.options import given_options
from utils.sizes import fit_size

if TYPE_CHECKING:
    from models.formats import Metadata

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

    def suited(self, subject: Subject) -> Subject:
        """Return a model in terms of the data set's classes.

        Raises:
            UserError: the model's classes or channels are others.
        """
        with self._naming(subject):
            return self._suited(subject)

    def _suited(self, subject: Subject) -> Subject:
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

    @contextmanager
    def _naming(self, subject: Subject) -> Iterator[None]:
        """Have errors say which of several files they are about."""
        try:
            yield
        except UserError as error:
            if len(self.options.weights) < 2:
                raise
            raise UserError(f"{' + '.join(subject.weights)}: {error}") from error

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

    def measure(self, subject: Subject, folder: Path | None = None, square: bool = False) -> Evaluation:
        """Measure one model and leave all that is asked for.

        Args:
            subject: the model.
            folder: where; a run folder of its own when None.
            square: show it squares, even if it takes any shape.
        """
        options, settings = self.options, self.settings()
        speed_only = options.task == "speed"
        if settings.confidence > FULL_CONFIDENCE and not speed_only:
            full = f"the usual mAP, at {FULL_CONFIDENCE}"
            LOGGER.warning(f"WARNING: mAP at --conf-thres {settings.confidence} is not comparable with {full}")
        loader, shape = self._loader(options.imgsz, subject, square or speed_only)
        folder = folder or self._run_folder()
        if speed_only:
            self._warm_up(subject, shape)
        sinks: list[Sink] = []
        if options.save_txt or options.save_hybrid:
            sinks.append(LabelFileSink(folder / "labels", options.save_conf, options.as_detect))
        leavings = Leavings(
            folder,
            sinks=() if options.save_hybrid else sinks,
            hybrid_sinks=sinks if options.save_hybrid else (),
            every_class=options.verbose,
            coco=not speed_only,
            draws=not options.noplots and not speed_only,
            facts=self._facts(subject, shape),
        )
        with self._naming(subject), _gone_if_empty(folder):
            result = measure(subject.predict, loader, self.config.names, settings, leavings)
        LOGGER.info(speed_line(result.speed_ms, shape))
        self._save(result, subject, folder)
        return result

    def _save(self, result: Evaluation, subject: Subject, folder: Path) -> None:
        """Write what is to be used elsewhere."""
        if self.options.writes_json and result.findings:
            file = folder / f"{subject.stem}_predictions.json"
            save_predictions(result.findings, file, self.config, self.options.split)
        if self.options.save_point:
            point = OperatingPoint.measured(result.metrics, result.names)
            if point is None:
                raise UserError("--save-point: nothing was found right at any confidence, so none is the best")
            copy = save_operating_point(Path(subject.weights[0]), point, folder)
            LOGGER.info(
                f"Best confidence {point.confidence} saved: python detect.py --conf-thres auto --weights {copy}"
            )

    def compare(self, subjects: Sequence[Subject]) -> list[Evaluation]:
        """Measure each model in a folder of its own, then compare all others with the first."""
        folder, square = self._run_folder(), any(subject.meta.input_hw for subject in subjects)
        if square:
            LOGGER.info("All models are shown squares, since one of them takes nothing else")
        titles = short_names([str(subject.weights[0]) for subject in subjects])
        results = []
        for number, (subject, title) in enumerate(zip(subjects, titles, strict=True), 1):
            LOGGER.info(f"\n{title}")
            own = folder / f"{number}_{subject.stem}"
            own.mkdir(exist_ok=True)
            results.append(self.measure(subject, own, square))
        first, *others = [cast(Findings, result.findings) for result in results]
        for number, (title, findings) in enumerate(zip(titles[1:], others, strict=True), 2):
            comparison = compare(first, findings, (titles[0], title))
            LOGGER.info("")
            for line in comparison.lines(self.options.verbose):
                LOGGER.info(line)
            save_comparison(comparison, folder, "compare" if len(others) == 1 else f"compare_{number}")
        return results

    def study(self, subjects: Sequence[Subject]) -> list[Evaluation]:
        """Measure each model at many sizes; leave tables and a chart of accuracy against speed.

        Raises:
            UserError: a model takes one size only.
        """
        for subject in subjects:
            if subject.meta.input_hw:
                raise UserError(f"--task study needs models of any size, not '{subject.weights[0]}'; use its .pt")
        by_file = {str(subject.weights[0]): subject for subject in subjects}
        results: list[Evaluation] = []

        def at_size(file: str, size: int) -> Evaluation:
            subject = by_file[file]
            loader, shape = self._loader(size, subject)
            self._warm_up(subject, shape)
            with self._naming(subject):
                result = evaluate(
                    lambda images: (subject.predict(images), None), loader, self.config.names, self.settings()
                )
            results.append(result)
            return result

        study(list(by_file), self.options.data, at_size, self._run_folder(), STUDY_SIZES)
        return results

    def _run_folder(self) -> Path:
        return make_run_folder(self.options.project, self.options.name, self.options.exist_ok)

    def _warm_up(self, subject: Subject, shape: tuple[int, int, int, int]) -> None:
        """Let a model do once, uncounted, what takes longer the first time."""
        images = torch.zeros(shape, device=self.device).contiguous(memory_format=torch.channels_last)
        subject.predict(images[: len(self.samples)])

    def _facts(self, subject: Subject, shape: tuple[int, int, int, int]) -> dict[str, str]:
        """Return what the page says was measured."""
        options = self.options
        ways = {
            "test-time augmentation": options.augment,
            "one class for all": options.single_cls,
            "classes by name": options.map_classes,
            "as detect.py": options.as_detect,
            "FP16": options.half and self.device.type == "cuda",
        }
        return {
            "weights": ", ".join(map(str, subject.weights)),
            "data": f"{self.config.file}, {options.split}",
            "input": f"{shape[3]} px, batches of {shape[0]}",
        } | ({"besides": ", ".join(name for name, on in ways.items() if on)} if any(ways.values()) else {})

    def _loader(
        self, image_size: int, subject: Subject, square: bool = False
    ) -> tuple[BatchLoader, tuple[int, int, int, int]]:
        """Return the batches for a model, and the (B, C, H, W) they have at most."""
        options, channels = self.options, self.config.channels
        size, stride = validation_size(image_size, subject.meta)
        stride = None if square else stride
        loader = make_validation_loader(
            self.samples,
            size,
            options.batch_size,
            stride,
            options.workers,
            channels=channels,
            as_detect=options.as_detect,
        )
        return loader, (options.batch_size, channels, size, size)


@contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    """Leave no empty run folder behind when measuring fails."""
    try:
        yield
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise


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
