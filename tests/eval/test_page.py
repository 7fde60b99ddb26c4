"""report.html: what it says, what it never obeys, how large it is, and how a browser sees it."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.eval.made import findings_of, make_findings
from utils.eval.album import BUDGET, PICTURES, SECTIONS, fit, load, read_pictures
from utils.eval.analysis import analyse
from utils.eval.coco import CocoMetrics
from utils.eval.confusion import ConfusionMatrix
from utils.eval.evaluate import Evaluation
from utils.eval.metrics import ap_per_class
from utils.eval.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = ["</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & <b>'`$\udce9", "1,234"]
FACTS = {"weights": "best.pt", "data": "set.yaml, val"}
LARGEST_PAGE = 4_000_000  # bytes
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Elements of a page, which must be nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.words, self.elements, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def evaluation_of(findings, names=None) -> Evaluation:
    metrics = ap_per_class(findings.correct, findings.scores, findings.classes, findings.label_classes)
    names = names or dict(findings.names)
    counts = np.bincount(findings.label_classes, minlength=len(names))
    speed = (0.5, 10.25, 1.0)
    return Evaluation(metrics, names, len(findings), counts, (0.0, 0.0, 0.0), speed, ConfusionMatrix(len(names)))


def write(folder: Path, findings=None, names=None, facts=FACTS, **more) -> Page:
    file = write_report(folder, evaluation_of(findings or make_findings(), names), facts, **more)
    assert file == folder / "report.html"
    return Page(file.read_text(encoding="utf-8"))


def save(file: Path, height=60, width=90, noise=False) -> Path:
    generator = np.random.default_rng(len(file.name))
    image = np.full((height, width, 3), 90, np.uint8)
    image[: height // 2] = generator.integers(0, 255, (height // 2, width, 3)) if noise else 200
    cv2.imwrite(str(file), image)
    return file


def fill(folder: Path, names=tuple(picture.file for picture in PICTURES)) -> None:
    for name in names:
        save(folder / name)


# Contents


def test_the_figures_are_those_of_the_evaluation(tmp_path):
    findings = make_findings(12, 4, seed=3)
    found, page = evaluation_of(findings), write(tmp_path, findings)
    for figure in (found.map50_95, found.map50, found.precision, found.recall, found.metrics.mean("f1")):
        assert f"{figure:.3f}" in page.words
    for words in (f"{found.metrics.best_confidence:.3f}", "12", f"{found.labels}", "11.8", "best.pt", "set.yaml, val"):
        assert words in page.words
    assert "0.5 ms preparing + 10.2 ms inference + 1.0 ms suppression" in page.text


def test_a_row_a_class_below_their_mean(tmp_path):
    findings = make_findings(12, 4, seed=3)
    metrics, page = evaluation_of(findings).metrics, write(tmp_path, findings)
    head, mean, *rows = page.rows
    assert head == ["Class", "Labels", "P", "R", "F1", "AP50", "AP75", "AP50-95", "Confidence"]
    assert mean[0] == "mean" and mean[7] == f"{metrics.mean('ap50_95'):.3f}"
    columns = (metrics.precision, metrics.recall, metrics.f1, metrics.ap50, metrics.ap75, metrics.ap50_95)
    for index, row in enumerate(rows):
        numbers = [column[index] for column in (*columns, metrics.class_confidence)]
        assert row == [f"class {index}", str(metrics.label_counts[index]), *(f"{number:.3f}" for number in numbers)]


def test_classes_without_labels_are_named_up_to_a_number(tmp_path):
    page = write(tmp_path, names={index: f"name {index}" for index in range(40)})
    assert "name 3, name 4, " in page.text and "name 22 and 17 more." in page.text and "name 23" not in page.text


@pytest.mark.parametrize(("classes", "scrolls"), [(3, False), (60, True)])
def test_a_long_table_scrolls(tmp_path, classes, scrolls):
    page = write(tmp_path, make_findings(60, classes, labels=12))
    assert any("long" in element.get("class", "") for element in page.all("div")) is scrolls


def test_without_labels_the_page_says_so(tmp_path):
    findings = findings_of([torch.zeros(0, 6)], [torch.zeros(0, 5)], 3)
    page = write(tmp_path, findings, analysis=analyse(findings, evaluation_of(findings).metrics))
    assert "nothing to measure against" in page.text and page.rows[1][0] == "mean"


def test_a_page_of_nothing_found_recommends_no_confidence(tmp_path):
    findings = make_findings(found=0.0, extra=0)
    page = write(tmp_path, findings, analysis=analyse(findings, evaluation_of(findings).metrics))
    assert "Nothing was found right at any confidence" in page.text and "a good --conf-thres" not in page.text
    assert "No detection is above confidence 0.1" in page.text and "Calibration error" not in page.text


def test_both_definitions_beside_each_other(tmp_path):
    precision, recall = np.full((3, 10, 4), 0.25), np.full((3, 10, 4, 3), 0.5)
    precision[:, :, 1] = np.nan  # no small objects
    page = write(tmp_path, coco=CocoMetrics("pycocotools", precision, recall))
    (row,) = [row for row in page.rows if row[0] == "COCO-style"]
    assert row[1:7] == ["0.250", "0.250", "0.250", "–", "0.250", "0.250"] and row[7:] == ["0.500"] * 6
    (row,) = [row for row in page.rows if row[0] == "YOLO-style"]
    assert row[1] == f"{evaluation_of(make_findings()).map50_95:.3f}"
    assert "pycocotools" in page.text


def test_the_dearest_error_comes_first_with_what_helps(tmp_path):
    findings = make_findings(12, 4, seed=3)
    analysis = analyse(findings, evaluation_of(findings).metrics)
    page = write(tmp_path, findings, analysis=analysis)
    start = next(number for number, row in enumerate(page.rows) if row[0] == "Kind")
    rows = page.rows[start + 1 : start + 9]
    costs = [float(row[1]) for row in rows]
    assert costs[:6] == sorted(costs[:6], reverse=True) and all(row[3] for row in rows)
    assert {row[0] for row in rows[6:]} == {"false positives", "false negatives"}
    assert {row[0]: row[1] for row in rows} == {kind: f"{cost:.3f}" for kind, cost in analysis.errors.costs.items()}
    assert f"{analysis.calibration.expected_error(1):.3f}" in page.text


def test_a_training_run_shows_its_settings_and_curves(tmp_path):
    (tmp_path / "opt.yaml").write_text("epochs: 3\nname: <b>\n", encoding="utf-8")
    (tmp_path / "hyp.yaml").write_bytes(b"lr0: 0.01\n# \xff\n")
    save(tmp_path / "results.png")
    page = write(tmp_path)
    assert f"Training run {tmp_path.name}" in page.words and "Losses and results by epoch" in page.words
    assert "epochs: 3" in page.text and "name: <b>" in page.text and "lr0: 0.01" in page.text
    assert [element["id"] for element in page.all("section")][:2] == ["what-was-measured", "training"]


# Pictures


def test_every_picture_has_its_place(tmp_path):
    fill(tmp_path)
    page = write(tmp_path)
    assert [image["alt"] for image in page.all("img")] == [
        picture.title for section in SECTIONS for picture in PICTURES if picture.section == section
    ]
    assert len({picture.file for picture in PICTURES}) == len(PICTURES)
    ids = [element["id"] for _, element in page.elements if "id" in element]
    assert len(set(ids)) == len(ids)
    links = {element["href"] for element in page.all("a")} - {"#!"}
    assert links == {f"#{name}" for name in ids}


@pytest.mark.parametrize("names", [(), ("PR_curve.png",), ("val_batch1_pred.jpg", "calibration.png")])
def test_missing_pictures_are_left_out_with_their_sections(tmp_path, names):
    fill(tmp_path, names)
    page = write(tmp_path)
    present = [picture for picture in PICTURES if picture.file in names]
    assert [image["alt"] for image in page.all("img")] == [picture.title for picture in present]
    sections = {word for word in page.words if word in SECTIONS}
    assert sections == {picture.section for picture in present}


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_an_unreadable_picture_is_told(tmp_path, content):
    (tmp_path / "errors.png").write_bytes(content)
    page = write(tmp_path)
    assert page.all("img") == [] and "unreadable" in page.words and "mAP lost to each kind of error" in page.words


def test_small_files_stay_as_they_are(tmp_path):
    file = save(tmp_path / "errors.png")
    write(tmp_path)
    assert base64.b64encode(file.read_bytes()).decode() in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("limit", [60_000, 30_000])
def test_large_files_get_smaller_and_keep_their_shape(tmp_path, limit):
    shown = fit(load(save(tmp_path / "errors.png", 900, 1200, noise=True)), limit)
    height, width = shown.size_hw
    assert len(shown.content) <= limit and width / height == pytest.approx(4 / 3, abs=0.01)
    decoded = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[:2] == shown.size_hw


def test_pictures_do_not_shrink_beyond_use(tmp_path):
    assert fit(load(save(tmp_path / "errors.png", 900, 1200, noise=True)), 1000).size_hw == (300, 400)
    assert fit(load(save(tmp_path / "labels.jpg", 2, 3000, noise=True)), 1000).size_hw[0] == 1


def test_all_pictures_together_stay_within_the_bounds(tmp_path):
    one = save(tmp_path / "one.jpg", 1200, 1600, noise=True)
    for picture in PICTURES:
        shutil.copy(one, tmp_path / picture.file)
    page = write(tmp_path)
    assert len(page.all("img")) == len(PICTURES)
    assert (tmp_path / "report.html").stat().st_size < LARGEST_PAGE
    found = read_pictures(tmp_path, [picture.file for picture in PICTURES])
    assert sum(len(encoded.content) for encoded in found.values()) <= BUDGET


# Trust


def test_hostile_text_is_only_shown(tmp_path):
    folder = tmp_path / 'x"><i onclick=alert(1)>'
    folder.mkdir()
    (folder / "opt.yaml").write_text("name: </pre><script>alert(1)</script>", encoding="utf-8")
    facts = {HOSTILE[0]: HOSTILE[1], "b": HOSTILE[2]}
    page = write(folder, make_findings(12, 4, seed=3), dict(enumerate(HOSTILE)), facts)
    assert len(page.all("script")) == 1 and page.all("img") == [] and page.all("i") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert [row[0] for row in page.rows[2:]] == [name.replace("\udce9", "\\udce9") for name in HOSTILE]


def test_nothing_is_fetched_and_only_one_script_may_run(tmp_path):
    fill(tmp_path)
    page = write(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.|url\(|@import", text)
    assert all(
        image["src"].startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for image in page.all("img")
    )
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "form", "base"}
    (policy,) = [element["content"] for element in page.all("meta") if "http-equiv" in element]
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    assert policy.startswith("default-src 'none'") and _hash(script) in policy


def test_the_page_is_replaced_as_a_whole(tmp_path):
    write(tmp_path, facts={"first": "one"})
    page = write(tmp_path, facts={"second": "two"})
    assert "first" not in page.text and [file.name for file in tmp_path.iterdir()] == ["report.html"]


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


# A browser

PROBE = """
addEventListener("load", () => {
  const names = () => [...document.querySelectorAll("table.sortable tbody:last-child td:first-child")]
    .map((cell) => cell.textContent);
  const heads = document.querySelectorAll("table.sortable th"), before = names();
  heads[7].click();
  const falling = names();
  heads[7].click();
  const told = { before, falling, rising: names(), widths: [...document.images].map((image) => image.naturalWidth),
    wide: document.documentElement.scrollWidth - innerWidth };
  document.body.dataset.told = JSON.stringify(told);
});
"""


@pytest.fixture
def real(tmp_path):
    """A page with everything on it."""
    fill(tmp_path)
    (tmp_path / "opt.yaml").write_text("epochs: 3\n", encoding="utf-8")
    findings = make_findings(60, 30, seed=3, labels=12)
    write(tmp_path, findings, analysis=analyse(findings, evaluation_of(findings).metrics))
    return tmp_path / "report.html"


def browse(page: Path, *words: str) -> str:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'browser'}"]
    command = [CHROMIUM, *flags, *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True).stdout


def test_a_browser_shows_all_of_it_and_sorts_the_classes(real):
    text = real.read_text(encoding="utf-8").replace("script-src ", f"script-src {_hash(PROBE)} ")
    probed = real.with_name("probed.html")
    probed.write_text(text.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    dom = browse(probed, "--dump-dom", "--window-size=600,900", "--virtual-time-budget=5000")
    told = json.loads(html.unescape(re.search(r'data-told="([^"]*)"', dom)[1]))
    assert told["widths"] == [90] * len(PICTURES) and told["wide"] <= 0
    metrics = evaluation_of(make_findings(60, 30, seed=3, labels=12)).metrics
    assert told["before"] == [f"class {index}" for index in metrics.classes]
    shares = dict(zip(told["before"], metrics.ap50_95.round(3), strict=True))
    assert [shares[name] for name in told["falling"]] == sorted(shares.values(), reverse=True)
    assert [shares[name] for name in told["rising"]] == sorted(shares.values())
    for section in (*SECTIONS, "What was measured", "Results of each class", "Settings of the training run"):
        assert f"<h2>{section}</h2>" in dom


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_shows_something(real, scheme):
    file = real.with_name("shot.png")
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    browse(real, f"--screenshot={file}", "--window-size=1000,1600", *dark)
    shot = cv2.imread(str(file))
    assert shot.shape[:2] == (1600, 1000)
    assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 100 and shot.std() > 10
    paper = shot[-1, 2].mean()
    assert paper < 60 if scheme == "dark" else paper > 200
