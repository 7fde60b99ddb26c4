"""What to run: a file, or a shipped network, as what takes pictures; a checkpoint by the fastest runtime there is."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch

from models.formats import Backend, Ensemble, check_weights, load_backend
from models.formats.backend import FindRows
from models.formats.facts import DEFAULT_STRIDE, Facts
from models.formats.fastest import choose_runtime
from models.formats.pytorch import PyTorchBackend
from models.formats.remembered import AUTO
from models.plugins import load_plugins
from models.transfer import transfer_weights
from models.yolo import Model
from utils.checkpoint import read_checkpoint
from utils.detect.autoshape import AutoShape, Network
from utils.device import describe_device, select_device, use_half
from utils.errors import UserError
from utils.export.images import images_to_compare
from utils.export.parity import TOLERANCES
from utils.export.proof import Proof
from utils.files import ROOT
from utils.log import LOGGER
from utils.sizes import input_size

Device = str | int | torch.device | None
Weights = str | Path | Sequence[str | Path]
PRETRAINED_CHANNELS, PRETRAINED_CLASSES = 3, 80  # of the official weights
PROOF_HW = (640, 640)


def load(
    path: Weights,
    device: Device = None,
    autoshape: bool = True,
    *,
    half: bool = False,
    dnn: bool = False,
    names: Mapping[int, str] | None = None,
    plugins: Sequence[str] = (),
    runtime: str = "",
) -> AutoShape | Backend:
    """Load weights of any format.

    Args:
        path: a file, or the folder of an export; several make an ensemble. A name without ending means ``.pt``.
        device: "cpu", "mps", the number of a GPU, or a torch.device; None takes the best there is.
        autoshape: return what takes pictures, see AutoShape; else the Backend, which takes tensors.
        half: in FP16, on CUDA only.
        dnn: run ONNX files by OpenCV.
        names: of the classes, for files that do not say them.
        plugins: Python files with layers of your own.
        runtime: "auto" exports a .pt file to the fastest CPU runtime installed, once; see models/formats/fastest.py.

    Raises:
        UserError: a file is missing, damaged or foreign, its runtime is not installed, or the device is not there.
    """
    load_plugins(plugins)
    chosen = select_device("" if device is None else str(device))
    given = [path] if isinstance(path, str | Path) else list(path)
    if not given:
        raise UserError("no weights were given: the list is empty")
    named = [str(_with_ending(Path(file).expanduser())) for file in given]
    kept_by = "dnn=True" if dnn else "half=True" if half else ""
    files = runtime_weights(named, runtime, chosen, PROOF_HW, kept_by)
    backend = load_backend(files, chosen, use_half(half, chosen), dnn=dnn, names=names)
    LOGGER.info(f"YOLOv5-NAM {describe_device(chosen)}: {', '.join(files)}, {len(backend.meta.names)} classes")
    return as_autoshape(backend, chosen) if autoshape else backend


def _with_ending(path: Path) -> Path:
    return path if path.suffix or path.exists() else path.with_suffix(".pt")


def as_autoshape(backend: Backend, device: torch.device) -> AutoShape:
    """Return a model that takes pictures, of one that takes tensors on ``device``."""
    return AutoShape(Network(backend, backend.meta, device, _augmented(backend)))


def _augmented(backend: Backend) -> Backend | None:
    """Return the same model, weights shared, looking at several views of every image; None where it cannot."""
    if isinstance(backend, PyTorchBackend):
        several = copy.copy(backend)
        several.augment = True
        return several
    if isinstance(backend, Ensemble):
        members = [_augmented(member) for member in backend.members]
        return Ensemble(cast(list[Backend], members)) if all(members) else None
    return None


def load_shipped(
    name: str,
    pretrained: bool = True,
    channels: int = PRETRAINED_CHANNELS,
    classes: int = PRETRAINED_CLASSES,
    autoshape: bool = True,
    device: Device = None,
) -> AutoShape | Backend | Model:
    """Build a shipped network, such as ``yolov5n``.

    With other channels or classes than the weights have, what fits is taken over (models/transfer.py) and the rest
    has to be trained; then ``autoshape=False`` returns the Model itself, which can be.

    Args:
        name: of its YAML and of its weights, without ending.
        pretrained: start from ``<name>.pt``, in the working folder or in the project.
        channels: of the images.
        classes: their number.
        autoshape: see ``load``.
        device: see ``load``.

    Raises:
        UserError: the weights are not there.
    """
    weights = find_pretrained(name) if pretrained else None
    if weights and (channels, classes) == (PRETRAINED_CHANNELS, PRETRAINED_CLASSES):
        return load(weights, device, autoshape)
    chosen = select_device("" if device is None else str(device))
    model = Model(f"{name}.yaml", channels, classes)
    if weights:
        checkpoint = read_checkpoint(weights)
        if len(checkpoint.names) == classes:
            model.names = checkpoint.names
        transfer = transfer_weights(model, checkpoint)
        LOGGER.info(f"{transfer.taken} of {transfer.total} tensors of {name} are from {weights}")
    return as_autoshape(PyTorchBackend(model.eval(), chosen), chosen) if autoshape else model.to(chosen)


def find_pretrained(name: str) -> Path:
    """Return ``<name>.pt`` of the working folder or the project.

    Raises:
        UserError: it is in neither.
    """
    places = (Path(f"{name}.pt"), ROOT / f"{name}.pt")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(
            f"pretrained weights '{name}.pt' are not here, and nothing is downloaded; put that file of the YOLOv5 "
            f"release v6.1 into '{Path.cwd()}' or '{ROOT}', or use pretrained=False"
        )
    return found


def runtime_weights(
    weights: Sequence[str], runtime: str, device: torch.device, size: Sequence[int], kept_by: str = ""
) -> list[str]:
    """Return what to run instead of ``weights``, see models/formats/fastest.py, and say in one line what that is.

    Args:
        weights: as the user named them.
        runtime: empty for the weights themselves, "auto" for the fastest, or the runtime to use.
        device: where to run.
        size: one side or height and width of the network's input, px.
        kept_by: option that only PyTorch can do, if the user has given one.

    Raises:
        UserError: a certain runtime is asked for and cannot be had.
    """
    if not runtime:
        return list(weights)
    reason = _torch_only(weights, device, kept_by)
    if reason and runtime != AUTO:
        raise UserError(f"--runtime {runtime} cannot be used: {reason}; leave it out")
    if reason:
        LOGGER.info(f"Runtime: as named by --weights, because {reason}")
        return list(weights)
    choice = choose_runtime(Path(weights[0]), runtime, input_size(size, DEFAULT_STRIDE), _prove)
    LOGGER.info(choice.line())
    return [str(choice.path)]


def _torch_only(weights: Sequence[str], device: torch.device, kept_by: str) -> str:
    """Return why PyTorch has to run ``weights``, empty if there is no reason."""
    if len(weights) > 1:
        return f"{len(weights)} --weights make an ensemble"
    if check_weights(Path(weights[0])).argument:
        return f"'{weights[0]}' is exported already"
    if device.type != "cpu":
        return f"other runtimes are for processors, and this runs on {device.type} (--device cpu)"
    return f"{kept_by} works with PyTorch only" if kept_by else ""


def _prove(source: Backend, exported: Backend, find_rows: FindRows) -> tuple[Facts, list[str]]:
    """Compare an export with its source on the project's own images; see ``Prove``."""
    images = images_to_compare((), source.meta.channels)
    proof = Proof(source, images, PROOF_HW, 1, source.meta.names, torch.device("cpu"))
    parity = proof.of(exported, "FP32", stride=source.meta.stride)
    fault = proof.fault_of_rows(exported, find_rows, "FP32", source.meta.stride)
    return parity.as_facts(), parity.faults(TOLERANCES["FP32"]) + ([fault] if fault else [])
