"""Which files a run of detection leaves, and the folder they go to."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from utils.detect.options import DetectOptions
from utils.detect.sinks import CropSink, ImageSink, LabelSink, Painter, Sink
from utils.detect.tables import CsvSink, JsonSink
from utils.detect.video import VideoSink
from utils.files import make_run_folder

if TYPE_CHECKING:
    from utils.detect.visualize import RowWatch


def painter_of(options: DetectOptions, names: dict[int, str]) -> Painter:
    """Return what draws the boxes of a run."""
    return Painter(names, options.line_thickness, options.hide_labels, options.hide_conf)


@contextmanager
def open_sinks(
    options: DetectOptions, names: dict[int, str], watch: "RowWatch | None"
) -> "Iterator[tuple[Path | None, list[Sink]]]":
    """Within the block, give the run folder, made only when something goes there, and what writes into it.

    Args:
        options: say what is wanted.
        names: class names by index.
        watch: sees the network work, if that is wanted.
    """
    wanted = (options.save_txt, options.save_crop, options.save_csv, options.save_json, not options.nosave, watch)
    if not any(wanted):
        yield None, []
        return
    folder = make_run_folder(options.project, options.name, options.exist_ok)
    with ExitStack() as closing:
        sinks: list[Sink] = []
        for sink in _sinks(options, folder, names, watch):
            closing.callback(sink.close)
            sinks.append(sink)
        yield folder, sinks


def _sinks(options: DetectOptions, folder: Path, names: dict[int, str], watch: "RowWatch | None") -> Iterator[Sink]:
    painter = painter_of(options, names)
    if not options.nosave:
        yield ImageSink(folder, painter)
        yield VideoSink(folder, painter)
    if options.save_txt:
        yield LabelSink(folder / "labels", options.save_conf, corners=options.save_format == 1)
    if options.save_crop:
        yield CropSink(folder / "crops", names)
    if options.save_csv:
        yield CsvSink(folder / "predictions.csv", names)
    if options.save_json:
        yield JsonSink(folder / "predictions.json")
    if watch:
        from utils.detect.visualize import StageSink

        yield StageSink(folder, watch)
