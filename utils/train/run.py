"""One training run: a network and a data set in, checkpoints and pictures out."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from utils.checkpoint import Checkpoint
from utils.data.doctor.diagnose import verdict
from utils.data.loader import QUAD, Batch, BatchLoader
from utils.eval.evaluate import Evaluation
from utils.eval.plots import save_label_plot
from utils.files import remove_leftovers, write_yaml
from utils.hooks.base import EpochReport, Hook
from utils.hooks.csv_file import CsvFile
from utils.log import LOGGER
from utils.sizes import fit_size
from utils.train.anchors import fit_anchors
from utils.train.batch_size import choose_batch_size, unchanged
from utils.train.batches import BatchSource, image_weighting
from utils.train.compilation import compile_network
from utils.train.ema import ModelAverage
from utils.train.fit import Fit
from utils.train.header import describe_run
from utils.train.hyperparameters import as_dict
from utils.train.listeners import make_hooks
from utils.train.objective import detection_loss, training_loss
from utils.train.optim import freeze_layers, make_optimizer
from utils.train.precision import choose_precision
from utils.train.saving import CheckpointWriter
from utils.train.schedule import EarlyStopper, Schedule, scaled_weight_decay, warmup_iterations
from utils.train.setup import Setup
from utils.train.state import TrainState
from utils.train.step import MultiScale, TrainingStep
from utils.train.sync_norm import share_batch_norms
from utils.train.validation import Validator

if TYPE_CHECKING:
    from models.yolo import Model


class Run:
    """A network about to be trained.

    Args:
        setup: options, data and place. The processes must be connected.
        model: fresh, or as built for ``resumed``. It is brought to its device and into the form in which it is trained.
        resumed: checkpoint to go on from; None for a new run, whose anchors are checked and batch size chosen.

    Attributes:
        image_size: px, a multiple of the network's stride.
        precision: what the network computes in.
        batches: makes the loaders.
    """

    def __init__(self, setup: Setup, model: "Model", resumed: Checkpoint | None = None) -> None:
        options, stride = setup.options, model.largest_stride
        self.setup, self.model, self.resumed = setup, model, resumed
        self.image_size = fit_size(options.imgsz, stride, floor=2 * stride)
        self.batches = BatchSource(setup, self.image_size, stride)
        self._hooks: list[Hook] = []
        self._csv: CsvFile | None = None
        model.to(setup.device).to(memory_format=torch.channels_last)
        frozen = freeze_layers(model, options.freeze)
        if frozen:
            LOGGER.info(f"freezing {len(frozen)} parameter tensors of --freeze {' '.join(map(str, options.freeze))}")
        if resumed is None and not options.noautoanchor:
            fit_anchors(model.detect, setup.samples["train"], self.image_size, setup.hyp.anchor_t, options.seed)
        setup.processes.copy_from_main(model.state_dict().values())  # another kind of machine may draw other numbers
        if resumed:
            model.load_state_dict(resumed.state)  # which says what rounding does to this very network
        precision = choose_precision(options.precision, model, setup.device, self.image_size, model.channels)
        self.precision = setup.processes.broadcast(precision)  # or need other precision
        if options.batch_size == -1:
            options.batch_size = self._choose_batch_size()

    def train(self, folder: Path) -> Path:
        """Train; leave stripped checkpoints and pictures in ``folder``.

        Returns:
            the best checkpoint.

        Raises:
            UserError: an image is gone, or the loss is not finite.
        """
        options, is_main = self.setup.options, self.setup.processes.is_main
        writer = CheckpointWriter(folder / "weights", self._header(), options.save_period, options.nosave)
        state = self._initial_state()
        fit = self._fit(state)  # before the state is that of a run: to compile, steps are tried
        self._begin(state, writer, folder)
        if is_main:
            csv, self._hooks = make_hooks(self.setup, fit, state, folder)
            self._csv = csv

            def save(state: TrainState, report: EpochReport, is_best: bool, is_last: bool) -> None:
                state.results = csv.lines
                writer(state, report, is_best, is_last)

            fit = dataclasses.replace(fit, save=save, hooks=self._hooks)
        LOGGER.info(f"Training epochs {state.epoch} to {options.epochs - 1} at {self.image_size} px in {folder}")
        try:
            fit(state)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not options.nosave:
                LOGGER.info(f"\nInterrupted; go on with: python train.py --resume {shlex.quote(str(folder))}")
            for hook in self._hooks:
                hook.training_failed()
            raise
        if is_main:
            writer.finish()
        for hook in self._hooks:
            hook.epochs_done()
        return writer.best if writer.best.exists() else writer.last

    def add_final_row(self, evaluation: Evaluation) -> None:
        """Add to results.csv what the best weights achieved, as v6.1 does on COCO."""
        if self._csv:
            self._csv.add_final(evaluation)

    def close(self) -> None:
        """Tell the listeners that nothing more will come, so that they record what there is."""
        for hook in self._hooks:
            hook.training_end()

    def measure(self, report: Callable[[int, float], None]) -> tuple[float, ...]:
        """Train and leave nothing but v6.1's seven results, as a trial of a search does.

        Args:
            report: told the fitness of each epoch that is validated; may raise to end the trial.
        """
        state = self._initial_state()
        evaluation = dataclasses.replace(self._fit(state), hooks=[_Reporter(report)])(state)
        return cast(Evaluation, evaluation).results

    def _choose_batch_size(self) -> int:
        loss = detection_loss(self.setup.hyp, self.model, self.image_size)
        step = TrainingStep(self.model, loss, self.precision, may_split=False)
        state, stride = self._initial_state(), self.model.largest_stride
        side = self.image_size * 3 // 2 // stride * stride if self.setup.options.multi_scale else self.image_size

        def run(size: int) -> None:
            state.model.train()
            step(state, self._empty_batch(size, (side, side)), 0)

        return choose_batch_size(self.model, side, self.setup.device, run, len(self.setup.samples["train"]))

    def _empty_batch(self, size: int, image_hw: tuple[int, int]) -> Batch:
        """Return ``size`` black images of ``image_hw`` px, each with an object."""
        images = torch.zeros(size, self.model.channels, *image_hw, dtype=torch.uint8)
        targets = torch.tensor([[index, 0, 0.5, 0.5, 0.2, 0.2] for index in range(size)])
        return Batch(images.contiguous(memory_format=torch.channels_last), targets, [], [], [], [])

    def _initial_state(self) -> TrainState:
        options, hyp = self.setup.options, self.setup.hyp
        decay = scaled_weight_decay(hyp.weight_decay, max(options.batch_size, 1))
        optimizer = make_optimizer(self.model, hyp, decay, options.optimizer)
        scaler = torch.amp.GradScaler(self.setup.device.type, enabled=self.precision.scales_losses)
        return TrainState(self.model, ModelAverage(self.model), optimizer, scaler, EarlyStopper(options.patience))

    def _begin(self, state: TrainState, writer: CheckpointWriter, folder: Path) -> None:
        """Bring ``state`` to where the run begins or goes on, and see that a checkpoint says so."""
        resumed, is_main = self.resumed, self.setup.processes.is_main
        if resumed and resumed.training:
            state.restore(resumed.training, resumed.state)
        elif resumed:
            state.extend(resumed.finished or {}, resumed.state)
            LOGGER.info(
                f"The run was over after {state.epoch} epochs: going on from its averaged weights, with fresh momenta "
                f"and the learning rate of epoch {state.epoch} in a run of {self.setup.options.epochs}"
            )
        if is_main:
            remove_leftovers(folder)
            remove_leftovers(writer.folder)
            self._describe(folder)
            writer.start(state, resumed)
        self.resumed = None  # it is as large as all the rest

    def _fit(self, state: TrainState) -> Fit:
        """Return the epochs to run, without listeners and checkpoints."""
        setup, options, processes = self.setup, self.setup.options, self.setup.processes
        loader = self.batches.training()
        gain = processes.size * (QUAD if options.quad else 1)
        sizes = MultiScale(self.image_size, self.model.largest_stride, options.seed) if options.multi_scale else None
        network = self._shared(self._compiled(state, loader) if options.compile else self.model)
        criterion = training_loss(setup.hyp, self.model, self.image_size, processes.sum, processes.size)
        step = TrainingStep(network, criterion, self.precision, gain, sizes, processes.size == 1)
        loss = detection_loss(setup.hyp, self.model, self.image_size)
        batches = self.batches.validation(self.model.largest_stride, processes.share)
        validate = Validator(batches, setup.config.names, setup.evaluation_settings, loss, processes)
        weigh = image_weighting(setup.samples["train"], setup.config.nc) if options.image_weights else None
        schedule = self._schedule(loader)
        return Fit(
            loader,
            step,
            schedule,
            validate,
            processes=processes,
            seed=options.seed,
            every_epoch=not options.noval,
            weigh=weigh,
        )

    def _shared(self, network: nn.Module) -> nn.Module:
        """Return the network itself, or wrapped so that gradients are averaged over the processes."""
        if self.setup.processes.size == 1:
            return network
        if self.setup.options.sync_bn:
            share_batch_norms(self.model)
        devices = [self.setup.device] if self.setup.device.type == "cuda" else None
        may_skip = bool(self.model.plugins)  # nobody knows whether the layers of a plug-in use all their parameters
        return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=may_skip)

    def _compiled(self, state: TrainState, loader: BatchLoader) -> nn.Module:
        """Return the model compiled for whole batches of ``loader``; each process tries without the others."""
        images = -(-min(self.setup.options.batch_size, len(loader.dataset)) // self.setup.processes.size)
        height, width = loader.dataset.frame_hw(0)
        if loader.quad:
            images, height, width = -(-images // QUAD), 2 * height, 2 * width
        batch = self._empty_batch(images, (height, width))
        loss = detection_loss(self.setup.hyp, self.model, self.image_size)

        def run(network: nn.Module) -> None:
            TrainingStep(network, loss, self.precision, may_split=False)(state, batch, 0)

        self.model.train()
        with unchanged(self.model, self.setup.device):
            return compile_network(self.model, run, self.setup.device)

    def _schedule(self, loader: BatchLoader) -> Schedule:
        """Return the schedule; warn when warm-up takes more than half of the run."""
        options, hyp, batches = self.setup.options, self.setup.hyp, len(loader)
        warmup = warmup_iterations(options.warmup, hyp.warmup_epochs, options.epochs, batches)
        if warmup > options.epochs * batches / 2:
            LOGGER.warning(
                f"WARNING: warm-up takes {warmup} iterations and the run has {options.epochs * batches}, so the "
                "learning rate stays low for half of it or more; for a small data set add --warmup auto"
            )
        return Schedule(options.epochs, batches, options.batch_size, hyp, warmup, options.cos_lr)

    def _header(self) -> Checkpoint:
        """Return what all checkpoints of the run say."""
        return Checkpoint(
            state={},
            yaml=self.model.yaml,
            names=self.setup.config.names,
            stride=self.model.stride.tolist(),
            plugins=self.model.plugins,
            options=dataclasses.asdict(self.setup.options),
            hyperparameters=as_dict(self.setup.hyp),
        )

    def _describe(self, folder: Path) -> None:
        """Say what is trained on what; write opt.yaml, hyp.yaml, model.yaml and labels.jpg."""
        setup, options = self.setup, self.setup.options
        for line in describe_run(setup.hyp, setup.samples, setup.config.names):
            LOGGER.info(line)
        LOGGER.info(verdict(setup.samples, setup.config, options.imgsz))
        write_yaml(folder / "model.yaml", self.model.yaml)
        write_yaml(folder / "opt.yaml", dataclasses.asdict(options) | {"save_dir": str(folder)})
        write_yaml(folder / "hyp.yaml", as_dict(setup.hyp))
        if not options.noplots:
            save_label_plot(setup.samples["train"].labels, setup.config.names, folder / "labels.jpg")


class _Reporter(Hook):
    """Passes the fitness of each validated epoch on."""

    def __init__(self, report: Callable[[int, float], None]) -> None:
        self._report = report

    def epoch_end(self, report: EpochReport) -> None:
        if report.evaluation:
            self._report(report.epoch, report.evaluation.fitness)
