"""Serve detection on a web page and as JSON: ``python -m utils.serve --weights W``."""

from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.options import describe_options, run_command
from utils.serve.options import ServeOptions

if TYPE_CHECKING:
    from utils.serve.app import Service

PACKAGES = ("fastapi", "uvicorn", "python-multipart")


def main(options: ServeOptions) -> None:
    """Load the model and answer requests until told to stop."""
    check_packages()
    from utils.log import LOGGER, set_up_logging
    from utils.serve.server import address_of, bind, is_loopback, known_names, listen, serve

    set_up_logging()
    LOGGER.info(describe_options("serve", options))
    listener = bind(options.host, options.port)  # first, for a taken port is told before a model has been loaded
    try:
        from utils.serve.app import make_app

        service = make_service(options)
        if not is_loopback(listener):
            LOGGER.warning(
                f"WARNING: --host {options.host} lets other machines in, and there is no login; "
                "behind a reverse proxy use 127.0.0.1"
            )
        app = make_app(service, known_names(listener, options.host, options.allowed_hosts))
        listen(listener)  # so that who reads the next line can connect already
        LOGGER.info(f"Serving {service.model.name} on {address_of(listener)} (Ctrl-C stops)")
        serve(app, listener)
        LOGGER.info("Stopped")
    finally:
        listener.close()


def check_packages() -> None:
    """Refuse to start where a package is missing.

    Raises:
        UserError: one is; it names them.
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"the server needs {', '.join(PACKAGES)} ({error}): pip install {' '.join(PACKAGES)}") from None


def make_service(options: ServeOptions) -> "Service":
    """Load the model and return what detects with it."""
    from models.opening import Opening, open_weights
    from utils.detect.detector import Detector
    from utils.detect.options import DetectOptions
    from utils.detect.settings import detection_settings
    from utils.serve.answers import Thresholds
    from utils.serve.app import Model, Service, detect_with
    from utils.serve.limits import MEGABYTE, Limits
    from utils.weights import newest_weights

    weights = options.weights or [str(newest_weights())]
    opening = Opening(
        device=options.device,
        half=options.half,
        runtime=options.runtime,
        kept_by="--half" if options.half else "",
        size=options.imgsz,
        plugins=options.plugins,
        parallel=options.workers,
    )
    backend = open_weights(weights, opening)
    wanted = DetectOptions(
        weights=weights,
        imgsz=options.imgsz,
        conf_thres=options.conf_thres,
        iou_thres=options.iou_thres,
        max_det=options.max_det,
        classes=options.classes,
        agnostic_nms=options.agnostic_nms,
    )
    settings = detection_settings(wanted, backend.meta)
    detector = Detector(backend.find_rows, backend.meta.stride, settings)
    name = "+".join(Path(path).stem for path in weights)
    return Service(
        detect_with(detector),
        Model(name, backend.meta.names, settings.size_hw, backend.meta.channels),
        Thresholds(options.conf_thres, options.iou_thres, options.max_det),
        Limits(
            upload=round(options.max_upload * MEGABYTE),
            pixels=options.max_pixels,
            workers=options.workers or backend.parallel,
            queue=options.queue,
            seconds=options.timeout,
        ),
    )


if __name__ == "__main__":
    run_command("utils.serve", ServeOptions, main, __doc__)
