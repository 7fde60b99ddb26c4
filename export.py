"""Write a model in other formats, and prove that they see the same: ``python export.py --weights W --include onnx``."""

from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.export.options import ExportOptions
from utils.options import describe_failure, describe_options, make_options, run_command


def main(options: ExportOptions) -> list[Path]:
    """Write every format asked for, and return the files; if one fails, the others are written all the same.

    Raises:
        UserError: the options make no sense, something is missing, or a format failed.
    """
    from models.exporting import make_work
    from models.formats import FORMATS
    from models.plugins import load_plugins
    from utils.device import describe_device, select_device
    from utils.export.checks import check_options, check_packages, chosen_formats
    from utils.export.data import load_data
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    LOGGER.info(describe_options("export", options))
    known = {row.argument: row for row in FORMATS if row.argument}
    rows = chosen_formats(options.include, known)
    device = select_device(options.device)
    check_options(options, rows, known, device)
    sources = checked_sources(options)
    check_packages(rows, may_stay_unproven=options.force)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    load_plugins(options.plugins)
    data = load_data(options, rows)
    works = [make_work(weights, options, device, data) for weights in sources]
    written, failures = [], []
    for work in works:
        for row in rows:
            try:
                written.append(work.write(row))
            except (UserError, OSError) as error:
                failures.append(describe_failure(error))
                LOGGER.error(f"{row.name} failed: {failures[-1]}")
    if written:
        LOGGER.info(f"Detect with: python detect.py --weights {written[-1]}")
    if failures:
        count = f"{len(failures)} of {len(works) * len(rows)} exports failed, the first: " if len(written) else ""
        raise UserError(f"{count}{failures[0]}")
    return written


def checked_sources(options: ExportOptions) -> list[Path]:
    """Return the files to export.

    Raises:
        UserError: one is missing, or is no checkpoint.
    """
    from models.formats import check_weights, format_of
    from utils.weights import newest_weights

    sources = [Path(name) for name in filter(None, options.weights)] or [newest_weights()]
    for weights in sources:
        if format_of(weights).argument:
            raise UserError(f"--weights '{weights}' is an exported model already; export from its .pt file")
        check_weights(weights)
    return sources


def run(**options: Any) -> list[Path]:
    """Export from Python, with the names of the command-line options."""
    return main(make_options(ExportOptions, options))


if __name__ == "__main__":
    run_command("export.py", ExportOptions, main, __doc__)
