"""Layers in files of the user's own: loading them, and knowing them again when a checkpoint comes back.

A plug-in file is Python that the user names with ``--plugins``; it registers its classes with ``@layer`` as the layers
here do. A checkpoint never brings code along. It remembers, for each layer that came from such a file, the file's name
and SHA-256, so that a model cannot silently run with another layer of the same name.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.registry import REGISTRY, PluginFile
from utils.errors import UserError
from utils.files import atomic_write, increment_path

HASH_SHOWN = 12  # characters


def load_plugins(files: Iterable[str]) -> None:
    """Import plug-in files. What is loaded already is left; a file that has changed since replaces what it was.

    Raises:
        UserError: a file is missing, fails to import, registers no layer or a taken name.
    """
    for file in files:
        path = Path(file).resolve()
        if not path.is_file():
            state = "is a folder" if path.is_dir() else "does not exist"
            raise UserError(f"--plugins '{file}' {state}; name the Python file of your layer")
        if path.suffix != ".py":
            raise UserError(f"--plugins '{file}' is not a Python file (*.py)")
        plugin = PluginFile(path, path.read_bytes())
        if not any(entry.plugin and entry.plugin.sha256 == plugin.sha256 for entry in REGISTRY.layers.values()):
            _load(plugin)


def _load(plugin: PluginFile) -> None:
    before = dict(REGISTRY.layers)
    for name in [name for name, entry in before.items() if entry.plugin and entry.plugin.path == plugin.path]:
        del REGISTRY.layers[name]  # an earlier version
    kept = dict(REGISTRY.layers)
    try:
        _import(plugin)
        added = {name: entry for name, entry in REGISTRY.layers.items() if kept.get(name) is not entry}
        if not added:
            raise UserError("registers no layer; put @layer(gates) above the class, see docs/plugins.md")
        REGISTRY.layers |= {name: dataclasses.replace(entry, plugin=plugin) for name, entry in added.items()}
    except BaseException as error:  # whatever ends it, nothing half-registered stays
        REGISTRY.layers.clear()
        REGISTRY.layers.update(before)
        if isinstance(error, UserError):
            raise UserError(f"plug-in {plugin.path}: {error}") from error
        if isinstance(error, Exception | SystemExit):
            raise UserError(f"plug-in {plugin.position(error)}: {type(error).__name__}: {error}") from error
        raise


def _import(plugin: PluginFile) -> None:
    name = f"yolov5_plugin_{plugin.path.stem}_{plugin.sha256[:HASH_SHOWN]}"
    specification = importlib.util.spec_from_file_location(name, plugin.path)
    assert specification and specification.loader  # any .py file has both
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickle look classes up there
    try:
        specification.loader.exec_module(module)
    except BaseException:  # as importlib itself does
        del sys.modules[name]
        raise


def _plugins_by_layer(config: dict[str, Any]) -> dict[str, PluginFile]:
    """Return the plug-in of each layer of a model YAML that comes from one."""
    entries = {row[2]: REGISTRY.layers.get(row[2]) for row in [*config["backbone"], *config["head"]]}
    return {name: entry.plugin for name, entry in entries.items() if entry and entry.plugin}


def plugins_in(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return ``{layer name: {"file": name, "sha256": hash}}`` of the plug-in layers that a model YAML names."""
    found = _plugins_by_layer(config)
    return {name: {"file": plugin.path.name, "sha256": plugin.sha256} for name, plugin in found.items()}


def save_plugins(config: dict[str, Any], folder: Path) -> None:
    """Write the plug-in files that a model YAML needs, as they were loaded, into ``folder``: the run's own copies."""
    written: set[Path] = set()
    for plugin in {plugin.sha256: plugin for plugin in _plugins_by_layer(config).values()}.values():
        path = folder / plugin.path.name
        path = increment_path(path) if path in written else path  # of an earlier run in the folder nothing is left
        with atomic_write(path) as temporary:
            temporary.write_bytes(plugin.content)
        written.add(path)


def saved_plugins(remembered: dict[str, dict[str, str]], folder: Path) -> list[str]:
    """Return the copies in ``folder`` that a checkpoint remembers."""
    wanted = {plugin["sha256"] for plugin in remembered.values()}
    return [str(path) for path in sorted(folder.glob("*.py")) if PluginFile(path, path.read_bytes()).sha256 in wanted]


def require_plugins(remembered: dict[str, dict[str, str]], source: Path, same_version: bool = True) -> None:
    """Check that the plug-in layers of a checkpoint are loaded, from the files it was trained with.

    Args:
        remembered: what ``plugins_in`` returned when the checkpoint was written.
        source: the checkpoint, for errors.
        same_version: False takes any file that has the layer, as a run that only starts from the weights may.

    Raises:
        UserError: one is missing, or its file has changed since.
    """
    for name, wanted in remembered.items():
        file = wanted["file"]
        run = source.resolve().parent.parent  # weights lie in <run>/weights
        copies = saved_plugins({name: wanted}, run / "plugins")
        copy = f"the run's copy is '{copies[0]}'" if copies else "the run that trained it has a copy in plugins/"
        if name not in REGISTRY.layers:
            raise UserError(f"weights '{source}' need layer '{name}' of {file}; pass it as --plugins {file} ({copy})")
        if not same_version:
            continue
        plugin = REGISTRY.layers[name].plugin
        if plugin is None:
            raise UserError(
                f"weights '{source}' need layer '{name}' of {file}, but another of that name comes with this project; "
                f"rename the class in {file} and train again"
            )
        if plugin.sha256 != wanted["sha256"]:
            raise UserError(
                f"weights '{source}' were trained with another version of {file} (SHA-256 "
                f"{wanted['sha256'][:HASH_SHOWN]}..., '{plugin.path}' has {plugin.sha256[:HASH_SHOWN]}...); "
                f"pass the one it was trained with ({copy}), or train from these weights with the new one"
            )
