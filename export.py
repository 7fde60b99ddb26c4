"""Write a model in another format: ``python export.py --weights W --include torchscript``."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError, near_matches
from utils.options import describe_options, make_options, option, run_command


@dataclass
class ExportOptions:
    """Options of export.py, with v6.1's names and defaults."""

    weights: list[str] = option([], "model files, exported in turn [newest trained best.pt, else yolov5s.pt]")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")
    imgsz: list[int] = option([640], "network input: one side, or height and width, px", "--img", "--img-size")
    batch_size: int = option(1, "images a call", least=1)
    include: list[str] = option(["torchscript"], "formats to write: torchscript")


def main(options: ExportOptions) -> list[Path]:
    """Write every format asked for, and return the files."""
    from models.formats import FORMATS, format_of
    from models.formats.pytorch import build_model
    from models.plugins import load_plugins
    from utils.checkpoint import read_checkpoint
    from utils.log import LOGGER, set_up_logging
    from utils.sizes import input_size
    from utils.weights import newest_weights

    set_up_logging()
    LOGGER.info(describe_options("export", options))
    load_plugins(options.plugins)
    writers = {row.argument: row for row in FORMATS if row.argument}
    for name in options.include:
        if name.lower() not in writers:
            raise UserError(
                f"--include {name}: unknown format{near_matches(name, writers)}; known: {', '.join(writers)}"
            )
    written = []
    for weights in [Path(name) for name in options.weights] or [newest_weights()]:
        if format_of(weights).argument:
            raise UserError(f"--weights '{weights}' is an exported model already; export from its .pt file")
        model = build_model(read_checkpoint(weights), weights).fuse().requires_grad_(False)
        size_hw = input_size(options.imgsz, model.largest_stride)
        for name in options.include:
            row = writers[name.lower()]
            path = weights.with_suffix(row.suffix)
            importlib.import_module(row.module).export(model, path, size_hw, options.batch_size)
            LOGGER.info(f"{row.name}: {path} ({path.stat().st_size / 1e6:.1f} MB)")
            written.append(path)
    LOGGER.info(f"Detect with: python detect.py --weights {written[-1]}")
    return written


def run(**options: Any) -> list[Path]:
    """Export from Python, with the names of the command-line options."""
    return main(make_options(ExportOptions, options))


if __name__ == "__main__":
    run_command("export.py", ExportOptions, main, __doc__)
