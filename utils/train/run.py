"""One training run: a model and a data set in, checkpoints and pictures out."""

import copy
import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from utils.checkpoint import Checkpoint
from utils.data.augment import Augmentation
from utils.data.config import DatasetConfig
from utils.data.dataset import DetectionDataset
from utils.data.labels import Sample
from utils.data.loader import BatchLoader, make_loader, make_validation_loader
from utils.device import worker_count
from utils.eval.evaluate import Evaluation, EvaluationSettings, evaluate
from utils.eval.plots import save_label_plot
from utils.files import write_yaml
from utils.hooks.base import EpochReport, Hook
from utils.hooks.console import Console
from utils.hooks.csv_file import CsvFile
from utils.hooks.pictures import TrainingPictures
from utils.hooks.scales import ScaleFigures
from utils.log import LOGGER
from utils.train.ema import ModelAverage
from utils.train.fit import Criterion, fit
from utils.train.hyperparameters import Hyperparameters, as_dict, scale_gains
from utils.train.loss import DetectionLoss
from utils.train.optim import make_optimizer
from utils.train.options import TrainOptions
from utils.train.saving import CheckpointWriter
from utils.train.schedule import EarlyStopper, Schedule, scaled_weight_decay
from utils.train.sparsity import PenalisedLoss, sparse_scales
from utils.train.state import TrainState

if TYPE_CHECKING:
    from models.yolo import Model


@dataclass(frozen=True)
class Run:
    """What stays the same while a run trains.

    Attributes:
        folder: where it writes.
        options: as given.
        hyp: as read, before gains are scaled to head and image size.
        config: the data set.
        samples: its images and labels, by split.
        image_size: px, a multiple of the stride.
        device: where it runs.
    """

    folder: Path
    options: TrainOptions
    hyp: Hyperparameters
    config: DatasetConfig
    samples: dict[str, list[Sample]]
    image_size: int
    device: torch.device

    def train(self, model: "Model", resumed: Checkpoint | None = None) -> CheckpointWriter:
        """Train ``model``, from ``resumed`` if given; leave stripped checkpoints and pictures.

        Raises:
            UserError: an image is gone, or the loss is not finite.
        """
        model.to(self.device).to(memory_format=torch.channels_last)
        loader = self.training_loader()
        validator = self.validator(model)
        schedule = self.schedule(len(loader))
        state = self.initial_state(model)
        writer = CheckpointWriter(self.folder / "weights", self.checkpoint_header(model))
        if resumed:
            state.restore(resumed.training or {}, resumed.state)
        else:
            self.describe(model)
            writer.start(state)
        criterion = self.training_criterion(model)
        hooks = self.hooks(state, criterion)
        LOGGER.info(f"Training epochs {state.epoch} to {schedule.epochs - 1} at {self.image_size} px in {self.folder}")
        try:
            fit(state, loader, criterion, schedule, validator, writer, hooks)
        except KeyboardInterrupt:
            LOGGER.info(f"\nInterrupted; go on with: python train.py --resume {shlex.quote(str(self.folder))}")
            raise
        writer.finish()
        for hook in hooks:
            hook.training_end()
        return writer

    def hooks(self, state: TrainState, criterion: Criterion) -> list[Hook]:
        """Return what listens to the run."""
        figures: dict[str, Callable[[EpochReport], float]] = {}
        if "nam" in criterion.part_names:
            figures["train/nam_loss"] = lambda report: report.losses[criterion.part_names.index("nam")]
        scales = sparse_scales(state.average.model)
        listeners: list[Hook] = [TrainingPictures(self.folder, self.config.names)]
        if scales:
            listener = ScaleFigures(self.folder, scales, state.epoch)
            figures[listener.column] = lambda _: listener.share_below()
            listeners.append(listener)
        return [Console(criterion.part_names), CsvFile(self.folder / "results.csv", state.epoch, figures), *listeners]

    def training_loader(self) -> BatchLoader:
        """Return the augmented, shuffled batches."""
        samples = self.samples["train"]
        strengths = {field.name: getattr(self.hyp, field.name) for field in dataclasses.fields(Augmentation)}
        dataset = DetectionDataset(samples, self.image_size, Augmentation(**strengths))
        batch_size = min(self.options.batch_size, len(samples))
        workers = worker_count(self.options.workers, batch_size)
        pin_memory = self.device.type == "cuda"
        return make_loader(dataset, batch_size, workers, True, self.options.seed, pin_memory)

    def validation_loader(self, stride: int) -> BatchLoader:
        """Return the validation images in batches twice as large as those of training (v6.1)."""
        batch_size, workers = 2 * self.options.batch_size, self.options.workers
        return make_validation_loader(self.samples["val"], self.image_size, batch_size, stride, workers)

    def validator(self, model: "Model") -> "Validator":
        """Return what measures the averaged weights after each epoch."""
        loader = self.validation_loader(model.largest_stride)
        return Validator(loader, self.config.names, self.evaluation_settings(), self.criterion(model))

    def evaluation_settings(self) -> EvaluationSettings:
        """Return v6.1's thresholds for measuring while and after training."""
        return EvaluationSettings(single_class=self.options.single_cls, device=self.device)

    def criterion(self, model: "Model") -> DetectionLoss:
        """Return the loss of the model's head."""
        head = model.detect
        hyp = scale_gains(self.hyp, head.nl, head.nc, self.image_size)
        return DetectionLoss(
            anchors=head.anchors,
            classes=head.nc,
            strides=head.strides,
            box_gain=hyp.box,
            objectness_gain=hyp.obj,
            class_gain=hyp.cls,
            objectness_positive_weight=hyp.obj_pw,
            class_positive_weight=hyp.cls_pw,
            ratio_limit=hyp.anchor_t,
            focal_gamma=hyp.fl_gamma,
            label_smoothing=hyp.label_smoothing,
        )

    def training_criterion(self, model: "Model") -> Criterion:
        """Return what training minimises: the loss of the head, and nam_l1's penalty where there is something to press.

        Args:
            model: the trained one, on its device.
        """
        scales = sparse_scales(model)
        if self.hyp.nam_l1 and scales:
            return PenalisedLoss(self.criterion(model), self.hyp.nam_l1, list(scales.values()))
        if self.hyp.nam_l1:
            LOGGER.warning(
                f"WARNING: nam_l1 {self.hyp.nam_l1:g} of the --hyp file has no effect: the network has no NAM layers; "
                "choose one that has, such as --cfg models/yolov5-NAM.yaml"
            )
        return self.criterion(model)

    def schedule(self, batches: int) -> Schedule:
        """Return the schedule; warn when warm-up takes more than half of the run."""
        options = self.options
        schedule = Schedule(
            options.epochs, batches, options.batch_size, self.hyp, options.cos_lr, least_warmup=options.warmup_min
        )
        if schedule.warmup > options.epochs * batches / 2:
            LOGGER.warning(
                f"WARNING: warm-up takes {schedule.warmup} of the run's {options.epochs * batches} iterations, so the "
                "learning rate stays low; for a small data set add --warmup-min 100"
            )
        return schedule

    def initial_state(self, model: "Model") -> TrainState:
        """Return the state before the first step."""
        decay = scaled_weight_decay(self.hyp.weight_decay, self.options.batch_size)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.device.type == "cuda")
        optimizer = make_optimizer(model, self.hyp, decay)
        return TrainState(model, ModelAverage(model), optimizer, scaler, EarlyStopper(self.options.patience))

    def checkpoint_header(self, model: "Model") -> Checkpoint:
        """Return what all checkpoints of the run say."""
        return Checkpoint(
            state={},
            yaml=model.yaml,
            names=self.config.names,
            stride=model.stride.tolist(),
            plugins=model.plugins,
            options=dataclasses.asdict(self.options),
            hyperparameters=as_dict(self.hyp),
        )

    def describe(self, model: "Model") -> None:
        """Write opt.yaml, hyp.yaml, model.yaml and labels.jpg."""
        write_yaml(self.folder / "model.yaml", model.yaml)
        write_yaml(self.folder / "opt.yaml", dataclasses.asdict(self.options) | {"save_dir": str(self.folder)})
        write_yaml(self.folder / "hyp.yaml", as_dict(self.hyp))
        labels = np.concatenate([sample.labels for sample in self.samples["train"]])
        save_label_plot(labels, self.config.names, self.folder / "labels.jpg")


@dataclass(frozen=True)
class Validator:
    """Measures a model on the validation split, as training sees it: with losses, without pictures."""

    loader: BatchLoader
    names: dict[int, str]
    settings: EvaluationSettings
    criterion: DetectionLoss

    def __call__(self, model: nn.Module) -> Evaluation:
        """Evaluate ``model``; a fused copy runs, which gives the same values sooner."""
        fused = cast("Model", copy.deepcopy(model)).fuse().eval()
        return evaluate(fused, self.loader, self.names, self.settings, self.criterion)
