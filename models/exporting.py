"""One checkpoint written in any format, and compared with what it was made from."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from models.formats import Format
from models.formats.exported import CannotRunHere
from models.formats.pytorch import PyTorchBackend, build_model
from models.formats.settings import ExportSettings, NmsSettings
from models.formats.writing import add_facts, load_written, settings_for, write
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.export.artefact import replaced_when_done, size_of
from utils.export.data import ExportData
from utils.export.options import ExportOptions
from utils.export.parity import TOLERANCES, Parity, Suppression
from utils.export.proof import Proof
from utils.log import LOGGER
from utils.sizes import input_size


@dataclass(frozen=True)
class Work:
    """A model, and how it is written.

    Attributes:
        weights: its file. model: fused.
        settings: what the options ask for; every format takes what it understands.
        proof: what the files are compared with. force: keep files beyond the tolerance.
    """

    weights: Path
    model: Model
    settings: ExportSettings
    proof: Proof
    force: bool

    def write(self, row: Format) -> Path:
        """Write the model in one format, prove it, put it in place and say so.

        Raises:
            UserError: the format or its converter cannot do it, or the file is too far from its source.
        """
        settings, start = settings_for(row, self.settings), time.perf_counter()
        target = row.path_for(self.weights, settings.int8, settings.mlmodel)
        with replaced_when_done(target, row.is_folder) as path, failures_told(row, settings.verbose):
            facts = write(row, self.model, path, settings, self.weights)
            parity, verdict = self.prove(row, path, settings)
            add_facts(row, path, facts | {"parity": parity and parity.as_facts()})
        seconds = time.perf_counter() - start
        verdict = verdict.replace(str(path), str(target))
        LOGGER.info(f"{row.name}: {target} ({size_of(target) / 1e6:.1f} MB, {seconds:.1f} s)\n  {verdict}")
        return target

    def prove(self, row: Format, path: Path, settings: ExportSettings) -> tuple[Parity | None, str]:
        """Compare a file with its source; return the figures, None if this machine cannot run it, and them in words.

        Raises:
            UserError: the file is too far from its source, or its runtime is missing, and the user does not insist.
        """
        try:
            backend = load_written(row, path, settings)
        except CannotRunHere as error:
            return None, f"not proven here: {error}"
        except UserError as error:
            if not self.force:
                raise
            return None, f"not proven, kept by --force: {error}"
        precision = "INT8" if settings.int8 else "FP16" if settings.half else "FP32"
        nms = settings.nms
        suppression = Suppression(nms.confidence, nms.iou, nms.most, nms.agnostic, nms.most_per_class) if nms else None
        stride = self.model.largest_stride if settings.dynamic else None
        parity = self.proof.of(backend, precision, suppression, stride)
        faults = parity.faults(TOLERANCES[precision])
        if row.finds_rows:
            way = load_written(row, path, settings, pixels=True).find_rows
            faults += [fault] if (fault := self.proof.fault_of_rows(backend, way, precision, stride)) else []
        if faults and not self.force:
            raise UserError(f"too far from its source for {precision}: {'; '.join(faults)}; --force keeps it")
        return parity, parity.line() + (f"; kept by --force although {'; '.join(faults)}" if faults else "")


@contextmanager
def failures_told(row: Format, verbose: bool) -> Iterator[None]:
    """Turn whatever a converter raises into one line; with ``verbose`` the traceback is shown, too."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        if verbose:
            LOGGER.exception(f"{row.name} failed")
        first = next(iter(str(error).strip().splitlines()), "no reason given")
        raise UserError(f"{type(error).__name__}: {first} (--verbose shows more)") from error


def make_work(weights: Path, options: ExportOptions, device: torch.device, data: ExportData) -> Work:
    """Read a checkpoint, and return what writes it in any format."""
    model = build_model(read_checkpoint(weights), weights)
    data.check(model.names, model.channels)
    size_hw = input_size(options.imgsz, model.largest_stride)
    proof = Proof(
        PyTorchBackend(copy.deepcopy(model), device),
        data.images_to_compare(model.channels),
        size_hw,
        options.batch_size,
        model.names,
        device,
        data.samples,
    )
    settings = make_settings(options, size_hw, device, data, model.channels)
    return Work(weights, model.fuse().requires_grad_(False), settings, proof, options.force)


def make_settings(
    options: ExportOptions, size_hw: tuple[int, int], device: torch.device, data: ExportData, channels: int
) -> ExportSettings:
    """Return all that the options ask for; each format takes what it understands."""
    limits = (options.conf_thres, options.iou_thres, options.topk_per_class, options.topk_all, options.agnostic_nms)
    return ExportSettings(
        size_hw,
        options.batch_size,
        dynamic=options.dynamic,
        half=options.half,
        int8=options.int8,
        calibration=data.calibration(size_hw, channels),
        simplify=options.simplify,
        opset=options.opset,
        nms=NmsSettings(*limits) if options.nms else None,
        optimize=options.optimize,
        per_tensor=options.per_tensor,
        mlmodel=options.mlmodel,
        workspace=options.workspace,
        timing_cache=options.cache,
        verbose=options.verbose,
        device=str(device),
    )
