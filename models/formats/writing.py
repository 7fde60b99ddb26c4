"""One model written in one format, and loaded again."""

import copy
import importlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from models.formats import Format, missing_package
from models.formats.exported import ExportedBackend
from models.formats.facts import Facts, facts_of
from models.formats.settings import ExportSettings, LoadSettings
from models.yolo import Model

FOR_EVERY_FORMAT = ("input_hw", "batch_size", "calibration", "device", "verbose")


def settings_for(row: Format, settings: ExportSettings) -> ExportSettings:
    """Return what a format understands of ``settings``, with what is on in any case."""
    defaults = ExportSettings()
    ignored = {field.name for field in fields(settings)} - row.options - {*FOR_EVERY_FORMAT}
    changes: dict[str, Any] = {name: getattr(defaults, name) for name in ignored} | dict.fromkeys(row.implied, True)
    if not row.gpu:
        changes["device"] = "cpu"
    understood = replace(settings, **changes)
    return replace(understood, half=understood.half and not understood.int8)


def write(row: Format, model: Model, path: Path, settings: ExportSettings, weights: Path) -> Facts:
    """Write a model.

    Args:
        row: the format.
        model: fused, in evaluation mode; left as it is.
        path: temporary place with the name of the result; a folder that exists, where ``row.is_folder``.
        settings: of ``settings_for``.
        weights: file the model comes from.

    Returns:
        what the file says of itself.

    Raises:
        UserError: the format cannot do what is asked for, or a package is not installed.
    """
    module, exported = importlib.import_module(row.module), copy.deepcopy(model).to(settings.device)
    facts = facts_of(model, settings, weights)
    try:
        module.export(exported.half() if settings.half and row.half_on_gpu else exported, path, settings)
        module.write_facts(path, facts)
    except ImportError as error:
        raise missing_package(row.name, row.needs, error) from error
    return facts


def add_facts(row: Format, path: Path, facts: Facts) -> None:
    """Let what ``write`` has written say more of itself."""
    importlib.import_module(row.module).write_facts(path, facts)


def load_written(
    row: Format, path: Path, settings: ExportSettings, threads: int | None = None, pixels: bool = False
) -> ExportedBackend:
    """Load what ``write`` has written.

    Args:
        row: the format.
        path: what ``write`` has written.
        settings: as ``write`` got them.
        threads: of the processor; None for one a core.
        pixels: see LoadSettings.

    Raises:
        CannotRunHere: the machine cannot run it.
        UserError: its runtime is not installed, or cannot read it.
    """
    load_settings = LoadSettings(settings.device, settings.half and row.half_on_gpu, threads=threads, pixels=pixels)
    try:
        return ExportedBackend(importlib.import_module(row.module).load(path, load_settings), path)
    except ImportError as error:
        raise missing_package(row.name, row.runs_with, error) from error
