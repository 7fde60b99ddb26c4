"""Find objects in images, videos and streams: ``python detect.py --weights W --source file|folder|camera|address``."""

from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.detect.options import DetectOptions
from utils.errors import UserError
from utils.options import describe_options, make_options, run_command

if TYPE_CHECKING:
    from models.formats import Backend
    from utils.data.sources import Source
    from utils.detect.detector import Detector
    from utils.detect.visualize import RowWatch


def main(options: DetectOptions) -> Path | None:
    """Detect, write and print; return the run folder, or None when nothing is to be written."""
    from utils.data.sources import load_source
    from utils.detect.detector import Detector
    from utils.detect.settings import detection_settings
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    LOGGER.info(describe_options("detect", options))
    with closing(load_source(options.source, options.vid_stride)) as source:
        backend = make_backend(options, source)
        source.channels = backend.meta.channels
        detector = Detector(backend.find_rows, backend.meta.stride, detection_settings(options, backend.meta))
        folder = detect_all(options, source, detector, backend)
    if folder:
        LOGGER.info(f"Results saved to {folder}")
    return folder


def make_backend(options: DetectOptions, source: "Source") -> "Backend":
    """Load the weights, ready for one call a core at the same time; for one in all where the newest frame counts."""
    from models.opening import Opening, open_weights
    from utils.cores import core_count
    from utils.weights import newest_weights

    options.weights = options.weights or [str(newest_weights())]
    names = None
    if options.data:
        from utils.data.config import load_dataset_config

        names = load_dataset_config(options.data, ()).names
    torch_only = next((name for name in ("augment", "visualize", "dnn", "half") if getattr(options, name)), "")
    opening = Opening(
        device=options.device,
        half=options.half,
        augment=options.augment,
        dnn=options.dnn,
        runtime=options.runtime,
        kept_by=f"--{torch_only}" if torch_only else "",
        size=options.imgsz,
        plugins=options.plugins,
        names=names,
        parallel=1 if source.live or options.visualize else core_count(),
    )
    return open_weights(options.weights, opening)


def detect_all(options: DetectOptions, source: "Source", detector: "Detector", backend: "Backend") -> Path | None:
    """Look at every frame, write what is wanted, and tell of it; return the run folder, if there is one."""
    from utils.detect.narrator import Narrator
    from utils.detect.outputs import open_sinks, painter_of
    from utils.detect.pipeline import look, pace_for, write
    from utils.detect.video import Viewer

    names = backend.meta.names
    with ExitStack() as stack:
        watch = stack.enter_context(row_watch(options, backend))
        viewer = stack.enter_context(closing(Viewer(painter_of(options, names)))) if options.view_img else None
        narrator = stack.enter_context(Narrator(source, names))
        pace = pace_for(source, backend.parallel, options.batch_size, watched=watch is not None)
        seen = stack.enter_context(closing(look(detector, source, pace)))
        first = next(seen, None)  # nothing is made before there is a readable image to write
        if first is None:
            return None
        folder, sinks = stack.enter_context(open_sinks(options, names, watch))
        for one in stack.enter_context(closing(write(chain([first], seen), sinks, pace))):
            narrator.tell(one)
            if viewer:
                viewer.show(one.frame, one.detected.detections)
                if viewer.ended:
                    break
    return folder


def row_watch(options: DetectOptions, backend: "Backend") -> "AbstractContextManager[RowWatch | None]":
    """Return what sees the layers of the network work, if that is wanted."""
    if not options.visualize:
        return nullcontext()
    from models.formats.pytorch import PyTorchBackend
    from utils.detect.visualize import RowWatch

    if not isinstance(backend, PyTorchBackend):
        got = f"{len(options.weights)} files" if len(options.weights) > 1 else f"'{options.weights[0]}'"
        raise UserError(f"--visualize looks into one PyTorch model, got {got}; name one .pt file with --weights")
    if options.augment:
        raise UserError("--visualize shows one look at an image, --augment takes three; leave one of them out")
    return RowWatch(backend.model.model, {row.index for row in backend.model.rows if row.is_gate})


def run(**options: Any) -> Path | None:
    """Detect from Python, with the names of the command-line options: ``run(source="a.jpg", save_txt=True)``."""
    return main(make_options(DetectOptions, options))


if __name__ == "__main__":
    run_command("detect.py", DetectOptions, main, __doc__)
