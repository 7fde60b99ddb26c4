"""An evaluation on one page: ``report.html``, a file that needs no other."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from utils.errors import listed
from utils.eval.album import BATCHES, ERRORS, PICTURES, SECTIONS, TRAINING, WORST, Encoded, Picture, read_pictures
from utils.eval.analysis import Analysis
from utils.eval.coco import AREAS, MOST_DETECTIONS, WHY, CocoMetrics
from utils.eval.evaluate import Evaluation
from utils.page import cards, document, embedded, escape, framed_table, save_page, section, table

PAGE_FILE = "report.html"
STYLE_FILE, SCRIPT_FILE = (Path(__file__).with_suffix(suffix) for suffix in (".css", ".js"))
COLUMNS = ("Class", "Labels", "P", "R", "F1", "AP50", "AP75", "AP50-95", "Confidence")
LONG_TABLE = 25  # classes from which on their table scrolls
NAMED = 20  # classes without labels of which the names are told
BROAD = 1.6  # width by height from which on a picture gets a row of its own
SETTINGS = {"Options (opt.yaml)": "opt.yaml", "Hyperparameters (hyp.yaml)": "hyp.yaml"}
COCO_COLUMNS = (
    *("", "AP", "AP50", "AP75", *(f"AP {size}" for size in AREAS[1:])),
    *(f"AR {most}" for most in MOST_DETECTIONS),
    *(f"AR {size}" for size in AREAS[1:]),
)
IN_YOLO_STYLE = ("ap50_95", "ap50", "ap75")  # the first of them
REMEDIES = {
    "classification": "Found, but called another class. Check the labels of both, or merge them.",
    "localisation": "The right class, but the box is off. Are labels drawn tightly? Try a larger --imgsz.",
    "both": "The wrong class, and the box is off.",
    "duplicate": "A second box on an object that is found. Try a lower --iou-thres.",
    "background": "Nothing is labelled there. Look for missing labels; add images without objects.",
    "missed": "Labelled, but not found at all. Add such images; try a larger --imgsz.",
    "false positives": "All detections that are wrong, together.",
    "false negatives": "All labels that no detection finds, together.",
}


def write_report(
    folder: Path,
    evaluation: Evaluation,
    facts: Mapping[str, str],
    coco: CocoMetrics | None = None,
    analysis: Analysis | None = None,
) -> Path:
    """Write ``report.html`` with all figures, and with the pictures that are in the run folder by now.

    Args:
        folder: the run folder; of a training run if it has an ``opt.yaml``.
        evaluation: what was measured.
        facts: with what and on what, by name, such as weights, data and thresholds.
        coco: the same in COCO's definition.
        analysis: what is behind the figures.

    Returns:
        the page.
    """
    training = (folder / "opt.yaml").is_file()
    title = f"{'Training run' if training else 'Evaluation'} {folder.resolve().name}"
    albums = _albums(read_pictures(folder, [picture.file for picture in PICTURES]))
    contents = {
        "What was measured": _facts(facts),
        TRAINING: "",
        "Results of each class": _class_table(evaluation),
        "Two definitions": _coco_table(evaluation, coco) if coco else "",
        **dict.fromkeys(SECTIONS, ""),
        ERRORS: _error_table(analysis) if analysis else "",
        "Settings of the training run": _settings(folder) if training else "",
    }
    contents = {name: content + albums.get(name, "") for name, content in contents.items()}
    contents = {name: content for name, content in contents.items() if content}
    body = _head(title, folder, evaluation, list(contents))
    body += "".join(section(name, content, _anchor(name)) for name, content in contents.items())
    style, script = (file.read_text(encoding="utf-8") for file in (STYLE_FILE, SCRIPT_FILE))
    page = folder / PAGE_FILE
    save_page(page, document(f"{title}: mAP50-95 {evaluation.map50_95:.3f}", body, style, script))
    return page


def _head(title: str, folder: Path, evaluation: Evaluation, sections: Sequence[str]) -> str:
    figures = {
        "mAP50-95": f"{evaluation.map50_95:.3f}",
        "mAP50": f"{evaluation.map50:.3f}",
        "precision": f"{evaluation.precision:.3f}",
        "recall": f"{evaluation.recall:.3f}",
        "F1": f"{evaluation.f1:.3f}",
        "confidence": f"{evaluation.best_confidence:.3f}" if evaluation.f1 > 0 else "–",
        "images": f"{evaluation.images:,}",
        "labels": f"{evaluation.labels:,}",
        "ms/image": f"{sum(evaluation.speed_ms):.1f}",
    }
    links = " ".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in sections)
    return (
        f'<header><h1>{escape(title)}</h1><p class="file">{escape(folder.resolve())}</p>{cards(figures)}'
        f'<p class="note">{escape(_reading(evaluation))}</p><nav>{links}</nav></header>\n'
    )


def _reading(evaluation: Evaluation) -> str:
    """Return the sentence that goes with the cards."""
    if not evaluation.labels:
        return "These images have no labels, so there is nothing to measure against: all figures are 0."
    if not evaluation.f1 > 0:
        return "Nothing was found right at any confidence: no detection meets a label of its class at IoU 0.50."
    times = " + ".join(
        f"{time:.1f} ms {name}"
        for name, time in zip(("preparing", "inference", "suppression"), evaluation.speed_ms, strict=True)
    )
    return (
        "All figures are means over the classes that have labels. Precision, recall and F1 are those at the confidence "
        f"given, where mean F1 is highest: a good --conf-thres for detect.py. An image took {times}."
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>' if facts else ""


def _class_table(evaluation: Evaluation) -> str:
    """Return the table of classes with labels, below one row of means, and a note on the others."""
    found = evaluation.metrics
    measures = np.stack([found.precision, found.recall, found.f1, found.ap50, found.ap75, found.ap50_95], 1)  # (C, 6)
    rows = zip(found.classes.tolist(), found.label_counts, measures, found.class_confidence, strict=True)
    body = "".join(_class_row(_name(evaluation, index), *figures) for index, *figures in rows)
    means = measures.mean(0) if len(measures) else np.zeros(measures.shape[1])
    mean = _class_row("mean", evaluation.labels, means, found.best_confidence)
    frame = "long" if len(measures) >= LONG_TABLE else ""
    every = framed_table(COLUMNS, mean, body, kind="classes sortable", frame=frame)
    note = "Confidence: where the F1 of the class is highest; P, R and F1 are those at the common one."
    return f'<p class="note">{note} {escape(_unlabelled(evaluation))}</p>{every}'


def _class_row(name: str, labels: int, shares: np.ndarray, confidence: float) -> str:
    cells = "".join(f'<td class="share" style="--part:{100 * share:.1f}%">{share:.3f}</td>' for share in shares)
    return f'<tr><td title="{escape(name)}">{escape(name)}</td><td>{labels:,}</td>{cells}<td>{confidence:.3f}</td></tr>'


def _name(evaluation: Evaluation, index: int) -> str:
    return evaluation.names.get(index, f"class {index}")


def _unlabelled(evaluation: Evaluation) -> str:
    labelled = set(evaluation.metrics.classes.tolist())
    absent = [name for index, name in evaluation.names.items() if index not in labelled]
    if not absent:
        return ""
    return f"Left out, as these images have no labels of them: {listed(absent, NAMED)}."


def _coco_table(evaluation: Evaluation, coco: CocoMetrics) -> str:
    ours = [f"{evaluation.metrics.mean(name):.3f}" for name in IN_YOLO_STYLE]
    theirs = ["–" if np.isnan(value) else f"{value:.3f}" for value in coco.summary]
    rows = [["YOLO-style", *ours, *[""] * (len(theirs) - len(ours))], ["COCO-style", *theirs]]
    note = (
        "Small objects have up to 32 x 32 px in the original image, medium ones up to 96 x 96. AR is the share of "
        f"objects found, with up to {MOST_DETECTIONS[-1]} detections of a class in an image or as many as it says. "
        f"Computed by {coco.package}."
    )
    return f'<p class="note">{escape(WHY)}</p>{table(COCO_COLUMNS, rows)}<p class="note">{escape(note)}</p>'


def _error_table(analysis: Analysis) -> str:
    """Return what each kind of error costs, the dearest first, the two sums last."""
    errors = analysis.errors
    kinds = sorted(errors.costs, key=lambda kind: (kind.startswith("false"), -errors.costs[kind]))
    rows = [(kind, f"{errors.costs[kind]:.3f}", f"{errors.counts_used[kind]:,}", REMEDIES[kind]) for kind in kinds]
    columns = ("Kind", "mAP50 lost", f"Count at {analysis.confidence:.2f}", "What it is, and what helps")
    note = (
        "What mAP50 would gain without errors of a kind, in the manner of TIDE; the costs do not add up, as one object "
        "can suffer from several. The count is of detections from the best confidence on."
    )
    trust = (
        "Calibration error of the detections above confidence 0.1, the mean distance between their confidence and how "
        f"often they are right: {analysis.calibration.expected_error(1):.3f}."
        if analysis.calibration.counts[1:].any()
        else "No detection is above confidence 0.1."
    )
    return f'<p class="note">{note}</p>{table(columns, rows, "remedies")}<p class="note">{trust}</p>'


def _albums(pictures: Mapping[str, Encoded | None]) -> Mapping[str, str]:
    """Return the HTML of each section that has pictures."""
    present = [picture for picture in PICTURES if picture.file in pictures]
    return {
        name: f'<div class="album">{"".join(_figure(picture, pictures[picture.file]) for picture in group)}</div>'
        for name, group in groupby(present, lambda picture: picture.section)
    }


def _figure(picture: Picture, encoded: Encoded | None) -> str:
    """Return a picture with title and caption; a click on it makes it as large as the window."""
    kind, anchor = Path(picture.file).suffix == ".png", _anchor(picture.file.replace(".", "-"))
    shown = '<div class="blank">unreadable</div>'
    broad = False
    if encoded:
        height, width = encoded.size_hw
        broad = picture.section == WORST or (width / height >= BROAD and picture.section != BATCHES)
        image = embedded(encoded.content, encoded.suffix, encoded.size_hw, picture.title)
        shown = f'<a href="#{anchor}">{image}</a><a class="close" href="#!">close</a>'
    names = " ".join(name for name, has in (("chart", kind), ("broad", broad)) if has)
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f'<figure id="{anchor}" class="{names}"><h3>{escape(picture.title)}</h3>{caption}{shown}</figure>'


def _settings(folder: Path) -> str:
    """Return the files that say how the run was made, as they are."""
    texts = {
        title: (folder / file).read_text(encoding="utf-8", errors="replace")
        for title, file in SETTINGS.items()
        if (folder / file).is_file()
    }
    return "".join(
        f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>" for title, text in texts.items()
    )
