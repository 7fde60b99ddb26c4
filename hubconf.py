"""Models for ``torch.hub.load(folder, "custom", path="best.pt", source="local")``. Nothing is downloaded."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

dependencies = ["cv2", "matplotlib", "numpy", "PIL", "torch", "torchvision", "tqdm", "yaml"]


def custom(
    path: Any = "path/to/model.pt",
    autoshape: bool = True,
    verbose: bool = True,
    device: Any = None,
    _verbose: bool | None = None,
) -> Any:
    """Load weights of any format, see models/loading.py.

    Args:
        path: a file, or the folder of an export; several make an ensemble.
        autoshape: return what takes files, addresses, Pillow images and arrays; else what takes tensors.
        verbose: say what is loaded.
        _verbose: the same; torch.hub.load keeps ``verbose`` to itself and passes this one on.
        device: "cpu", "mps", the number of a GPU, or a torch.device; None takes the best there is.
    """
    _check_own_modules()
    from models.loading import load

    with _speaking(verbose if _verbose is None else _verbose):
        return load(path, device, autoshape)


def _shipped(name: str) -> Callable[..., Any]:
    """Return the entry point of a shipped network."""

    def entry_point(
        pretrained: bool = True,
        channels: int = 3,
        classes: int = 80,
        autoshape: bool = True,
        verbose: bool = True,
        device: Any = None,
        _verbose: bool | None = None,
    ) -> Any:
        _check_own_modules()
        from models.loading import load_shipped

        with _speaking(verbose if _verbose is None else _verbose):
            return load_shipped(name, pretrained, channels, classes, autoshape, device)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = f"""Build {name}.

    Args:
        pretrained: start from {name}.pt, which has to be in the working folder or in this one.
        channels: of the images.
        classes: their number.
        autoshape: return what takes files, addresses, Pillow images and arrays; else the network.
        verbose: say what is loaded.
        _verbose: the same; torch.hub.load keeps ``verbose`` to itself and passes this one on.
        device: "cpu", "mps", the number of a GPU, or a torch.device; None takes the best there is.
    """
    return entry_point


yolov5n, yolov5s, yolov5m, yolov5l, yolov5x = map(_shipped, ("yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x"))
yolov5n6, yolov5s6, yolov5m6, yolov5l6, yolov5x6 = map(
    _shipped, ("yolov5n6", "yolov5s6", "yolov5m6", "yolov5l6", "yolov5x6")
)


def _speaking(verbose: bool) -> Any:
    """Return a block in which the log is printed, or says errors only."""
    from utils.log import quietly, set_up_logging

    set_up_logging()
    return quietly(not verbose)


def _check_own_modules() -> None:
    """See that ``models`` and ``utils`` are ours: a program that has imported others of these names gets no model."""
    here = Path(__file__).resolve().parent
    for name in ("models", "utils"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in sys.modules and (file is None or Path(file).resolve().parent.parent != here):
            place = file or "another folder"
            raise ImportError(f"'{name}' is already imported from {place}; it has to be that of {here}: load first")
