"""``--task study``: accuracy and speed of several weights over several image sizes."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from utils.errors import UserError
from utils.eval.evaluate import Evaluation
from utils.eval.plots import lighten, plain_text, save_figure
from utils.files import atomic_write, safe_name
from utils.log import LOGGER

STUDY_SIZES = tuple(range(256, 1536 + 1, 128))  # px
COLUMNS = 10  # of a file: precision, recall, mAP50, mAP50-95, three losses; ms for preparing, inference, suppression
ACCURACY, INFERENCE = 3, 8  # columns of the chart


def study(
    weights: Sequence[str],
    data: str,
    measure: Callable[[str, int], Evaluation],
    folder: Path,
    sizes: Sequence[int] = STUDY_SIZES,
) -> list[Path]:
    """Measure each of ``weights`` at each size; leave a table of each, ``study.zip`` of them all, and ``study.png``.

    The tables are v6.1's ``study_<data>_<weights>.txt``: a row a size, ten columns (seven results, three times). They
    are written anew after every size, so that whatever ends the study, what was measured is there.

    Args:
        weights: model files.
        data: data set YAML; gives the tables their names.
        measure: takes one of ``weights`` and a size in px.
        folder: where the files go.
        sizes: longer sides of the network input, px.

    Returns:
        The tables.

    Raises:
        UserError: there are no weights, or whatever ``measure`` raises.
    """
    files = list(dict.fromkeys(weights))
    if not files:
        raise UserError("--task study has no weights to measure; name them with --weights")
    names = short_names(files)
    tables = [folder / f"study_{Path(data).stem}_{stem}.txt" for stem in _stems(names)]
    begun: dict[str, Path] = {}
    try:
        for file, name, table in zip(files, names, tables, strict=True):
            rows: list[tuple[float, ...]] = []
            for size in sizes:
                found = measure(file, size)
                rows.append((*found.results, *found.speed_ms))
                _write_table(table, rows)
                begun[name] = table
                LOGGER.info(
                    f"{name} at {size} px: mAP50-95 {found.map50_95:.3f}, mAP50 {found.map50:.3f}, "
                    f"{found.speed_ms[1]:.1f} ms inference, {found.speed_ms[2]:.1f} ms NMS an image"
                )
    finally:  # also after Ctrl-C
        if begun:
            _zip(list(begun.values()), folder / "study.zip")
            save_study_plot(begun, folder / "study.png", sizes)
            LOGGER.info(
                f"Results saved to {folder}: {', '.join(table.name for table in begun.values())}, study.zip, study.png"
            )
    return tables


def save_study_plot(tables: Mapping[str, Path], path: Path, sizes: Sequence[int] = STUDY_SIZES) -> None:
    """Draw accuracy over time an image, one line a model, its image sizes written beside it.

    v6.1 also drew a curve of EfficientDet. Its times are those of a V100 and its accuracies those on COCO; beside times
    of another machine, or another data set, it would mislead, so it is left out.

    Args:
        tables: name of the model to table of `study`; v6.1's own can be drawn, too.
        path: ``.png`` file.
        sizes: image size of each row, px.

    Raises:
        UserError: a table cannot be read.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="inference, ms an image", ylabel="mAP50-95, %", xscale="log")
    for index, (name, table) in enumerate(tables.items()):
        rows = _read_table(table)
        times, accuracies = rows[:, INFERENCE], 100 * rows[:, ACCURACY]
        (line,) = axes.plot(times, accuracies, ".-", linewidth=2, markersize=8, label=plain_text(name))
        offset = (0, -13 if index % 2 else 7)  # labels of neighbouring lines on different sides
        style = {"textcoords": "offset points", "ha": "center", "fontsize": 7, "color": line.get_color()}
        for size, time, accuracy in zip(sizes, times, accuracies, strict=False):
            axes.annotate(f"{size}", (time, accuracy), offset, **style)  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.06, y=0.08)
    lighten(axes)
    axes.legend(frameon=False)
    save_figure(figure, path, 200)


def short_names(files: Sequence[str]) -> list[str]:
    """Return the last part of each path, or as many parts as it takes to tell them all apart.

    Files that are there twice get the same name.
    """
    parts = [Path(file).parts for file in files]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return list(files)


def _write_table(path: Path, rows: list[tuple[float, ...]]) -> None:
    with atomic_write(path) as temporary:
        np.savetxt(temporary, np.array(rows), fmt="%10.4g")


def _read_table(path: Path) -> np.ndarray:
    """Return (sizes, 10)."""
    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read '{path}' ({error}); expected a table of --task study") from error
    if rows.shape[1] != COLUMNS:
        raise UserError(f"'{path}' has {rows.shape[1]} columns, expected the {COLUMNS} of --task study")
    return rows


def _zip(tables: list[Path], path: Path) -> None:
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for table in tables:
            archive.write(table, table.name)


def _stems(names: list[str]) -> list[str]:
    """Return names of files for models, without suffixes unless it takes them to tell the models apart."""
    short = [safe_name(Path(name).with_suffix("").as_posix()) for name in names]
    return short if len(set(short)) == len(names) else [safe_name(name) for name in names]
