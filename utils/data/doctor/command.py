"""The command: options, and what is done with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.files import make_run_folder, runs_dir
from utils.options import make_options, option

if TYPE_CHECKING:
    from utils.data.doctor.diagnose import Report

ANCHORS = [10.0, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326]  # v6.1's, width and height


@dataclass
class DoctorOptions:
    """Options of the command."""

    data: str = option("", "data set YAML", positional=True)
    imgsz: int = option(640, "image size of training, px", "--img", "--img-size", least=1)
    stride: list[int] = option([8, 16, 32], "strides of the model, px", least=1)
    anchors: list[float] = option(ANCHORS, "widths and heights of the model's anchors, px", least=1)
    output: str = option("", "page to write; else doctor.html in a new folder runs/doctor/exp", "-o")
    no_images: bool = option(False, "do not decode images: no search for copies, no pictures on the page")


def examine_and_write(options: DoctorOptions) -> "Report":
    """Examine the data set, print the findings, write the page, and return the report."""
    import numpy as np

    from utils.data.config import load_dataset_config
    from utils.data.doctor.diagnose import Scale, examine
    from utils.data.doctor.page import write_page
    from utils.data.doctor.report import report_lines
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    if len(options.anchors) % 2:
        raise UserError(f"--anchors has {len(options.anchors)} numbers, expected pairs of width and height")
    if options.output and Path(options.output).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output '{options.output}' is no page; name an .html file")
    config = load_dataset_config(options.data)
    scale = Scale(options.imgsz, options.stride, np.array(options.anchors).reshape(-1, 2))
    report = examine(config, scale, not options.no_images)
    for line in report_lines(report):
        LOGGER.info(line)
    page = Path(options.output) if options.output else make_run_folder(str(runs_dir("doctor")), "exp") / "doctor.html"
    write_page(page, report)
    LOGGER.info(f"Page saved to {page}")
    return report


def main(options: DoctorOptions) -> None:
    """Examine the data set and fail if something is wrong.

    Raises:
        UserError: the report has errors.
    """
    from utils.data.doctor.findings import summarise

    report = examine_and_write(options)
    if report.errors:
        raise UserError(f"{report.config.file}: {summarise(report.errors, 'error')}; see above")


def run(**options: Any) -> "Report":
    """Examine from Python: ``run(data="my.yaml", no_images=True).errors``."""
    return examine_and_write(make_options(DoctorOptions, options))
