"""Layers in files of the user's own: loading them, and knowing them again when a checkpoint comes back.

A plug-in file is Python that the user names with ``--plugins``; it registers its classes with ``@layer`` as the layers
here do. A checkpoint never brings code along. It remembers, for each layer that came from such a file, the file's name
and SHA-256, so that a model cannot silently run with another layer of the same name.
"""

import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.registry import REGISTRY
from utils.errors import UserError
from utils.files import atomic_write, increment_path

MODULE_PREFIX = "yolov5_plugin_"  # of the names under which plug-in files are imported
HASH_SHOWN = 12  # characters


def load_plugins(files: Iterable[str]) -> None:
    """Import plug-in files, each content once.

    Raises:
        UserError: a file is missing, fails to import, registers no layer or a taken name.
    """
    for file in files:
        path = Path(file).resolve()
        if not path.is_file():
            raise UserError(f"--plugins '{file}' does not exist")
        if path.suffix != ".py":
            raise UserError(f"--plugins '{file}' is not a Python file")
        if _module_name(path) not in sys.modules:
            _import(path)


def _module_name(path: Path) -> str:
    """Return a name by content: a copy of a loaded file is the same plug-in."""
    return f"{MODULE_PREFIX}{path.stem}_{hash_file(path)[:HASH_SHOWN]}"


def _import(path: Path) -> None:
    before = dict(REGISTRY.layers)
    specification = importlib.util.spec_from_file_location(_module_name(path), path)
    assert specification and specification.loader  # any .py file has both
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses and pickle look classes up there
    try:
        specification.loader.exec_module(module)
        if REGISTRY.layers.keys() == before.keys():
            raise UserError("registers no layer; put @layer(gates) above the class, see docs/plugins.md")
    except BaseException as error:
        REGISTRY.layers.clear()
        REGISTRY.layers.update(before)
        del sys.modules[module.__name__]
        if isinstance(error, UserError):
            raise UserError(f"plug-in {path}: {error}") from error
        if isinstance(error, Exception):
            raise UserError(f"plug-in {_position(error, path)}: {type(error).__name__}: {error}") from error
        raise


def _position(error: Exception, path: Path) -> str:
    """Return ``file:line`` of the deepest line of the plug-in that led to the error."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)


def plugins_in(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return ``{layer name: {"file": name, "sha256": hash}}`` of the plug-in layers that a model YAML names."""
    found = {}
    for row in [*config["backbone"], *config["head"]]:
        path = _plugin_file(row[2])
        if path is not None:
            found[row[2]] = {"file": path.name, "sha256": hash_file(path)}
    return found


def save_plugins(config: dict[str, Any], folder: Path) -> None:
    """Copy the plug-in files that a model YAML needs into ``folder``: a run's checkpoints cannot be used without."""
    paths = (_plugin_file(row[2]) for row in [*config["backbone"], *config["head"]])
    for path in sorted({path for path in paths if path is not None}):
        with atomic_write(increment_path(folder / path.name)) as temporary:
            shutil.copyfile(path, temporary)


def _plugin_file(name: str) -> Path | None:
    entry = REGISTRY.layers.get(name)
    module = getattr(entry.build, "__module__", "") if entry else ""
    return Path(str(sys.modules[module].__file__)) if module.startswith(MODULE_PREFIX) else None


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a text file, the same whatever its line ends are."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def require_plugins(remembered: dict[str, dict[str, str]], source: Path, same_version: bool = True) -> None:
    """Check that the plug-in layers of a checkpoint are loaded, from the files it was trained with.

    Args:
        remembered: what ``plugins_in`` returned when the checkpoint was written.
        source: the checkpoint, for errors.
        same_version: False takes any file that has the layer, as a run that only starts from the weights may.

    Raises:
        UserError: one is missing, or its file has changed since.
    """
    for name, plugin in remembered.items():
        file, wanted = plugin["file"], plugin["sha256"]
        copy = f"a copy of it is in the plugins folder of the run that trained '{source.name}'"
        if name not in REGISTRY.layers:
            raise UserError(f"weights '{source}' need layer '{name}' of {file}; pass it as --plugins {file} ({copy})")
        if not same_version:
            continue
        path = _plugin_file(name)
        if path is None:
            raise UserError(
                f"weights '{source}' need layer '{name}' of {file}, but another of that name comes with this project; "
                f"rename the class in {file} and train again"
            )
        got = hash_file(path)
        if got != wanted:
            raise UserError(
                f"weights '{source}' were trained with another version of {file} (SHA-256 {wanted[:HASH_SHOWN]}..., "
                f"'{path}' has {got[:HASH_SHOWN]}...); pass the one it was trained with ({copy}), "
                "or train from these weights with the new one"
            )
