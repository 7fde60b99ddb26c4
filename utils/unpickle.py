"""Reading YOLOv5's pickled modules without running anything they name.

An official ``.pt`` is a zip archive: ``*/data.pkl`` pickles whole module objects, ``*/data/<key>`` hold raw tensor
storages. Loading it the usual way imports and calls whatever the pickle says. This reader instead maps the few names
such files need to inert stand-ins, builds tensors itself, and refuses every other name.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError

STORAGE_TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
INERT_MODULES = ("models.", "utils.activations", "utils.loggers", "torch.nn.modules.")  # beginnings of their names
INERT_NAMES = {  # what training checkpoints carry besides, of no use here
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("torch", "device"),
    ("torch", "Size"),
    ("argparse", "Namespace"),
}


class Inert:
    """Stand-in for an object of the pickle: keeps its attributes and does nothing.

    Attributes:
        origin: dotted name the pickle used.
    """

    origin = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Storage:
    """One storage of the archive, not yet read."""

    def __init__(self, dtype: torch.dtype, content: bytes) -> None:
        self.tensor = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _rebuild_tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage.tensor, size, stride, offset).clone()


def _rebuild_parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding in ("latin1", "iso-8859-1") else "utf-8")


def _path(*parts: str) -> str:
    return str(PurePosixPath(*parts))


SAFE_CALLS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("_codecs", "encode"): _encode,
    ("pathlib", "PosixPath"): _path,
    ("pathlib", "WindowsPath"): _path,
    ("pathlib", "Path"): _path,
}


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, pickle_name: str, source: Path) -> None:
        super().__init__(archive.open(pickle_name))
        self._archive = archive
        self._folder = pickle_name.rsplit("/", 1)[0] + "/data"
        self._source = source
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in SAFE_CALLS:
            return SAFE_CALLS[module, name]
        if module in ("torch", "torch.storage") and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        inert = module.startswith(INERT_MODULES) or (module, name) in INERT_NAMES
        if inert and "." not in name:
            return type(name, (Inert,), {"origin": f"{module}.{name}"})
        raise UserError(
            f"'{self._source}' asks for '{module}.{name}', which no YOLOv5 checkpoint needs; refused, nothing was run. "
            "Use an official YOLOv5 v5-v7 .pt or one written by this project"
        )

    def persistent_load(self, reference: Any) -> _Storage:
        _, dtype, key, *_ = reference
        if key not in self._storages:
            self._storages[key] = _Storage(dtype, self._archive.read(f"{self._folder}/{key}"))
        return self._storages[key]


def read_inert(path: Path) -> Any:
    """Read the object pickled in a torch zip archive, with inert stand-ins for all classes.

    Raises:
        UserError: not such an archive, truncated, or naming anything outside the allow-list (the name is given).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if len(pickles) != 1:
                raise UserError(f"'{path}' is a zip file but holds no torch checkpoint")
            return _InertUnpickler(archive, pickles[0], path).load()
    except zipfile.BadZipFile as error:
        raise UserError(f"'{path}' is not a torch checkpoint, or it is cut short; get the file again") from error
    except UserError:
        raise
    except Exception as error:  # what pickle and zipfile raise on damaged files has no common class
        raise UserError(f"'{path}' is damaged and cannot be read ({type(error).__name__}: {error})") from error


def module_state(module: Inert, prefix: str = "") -> dict[str, Tensor]:
    """Return the state_dict of an inert nn.Module, in torch's order: parameters, buffers, then children."""
    state: dict[str, Tensor] = {}
    content = module.__dict__
    transient = content.get("_non_persistent_buffers_set", ())
    for name, tensor in content.get("_parameters", {}).items():
        if tensor is not None:
            state[prefix + name] = tensor
    for name, tensor in content.get("_buffers", {}).items():
        if tensor is not None and name not in transient:
            state[prefix + name] = tensor
    for name, child in content.get("_modules", {}).items():
        if child is not None:
            state |= module_state(child, f"{prefix}{name}.")
    return state
