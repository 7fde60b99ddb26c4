import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.eval.study import STUDY_SIZES, save_study_plot, short_names, study

RESULTS = (0.6, 0.5, 0.55, 0.123456789, 0.01, 0.02, 0.0)


class Measure:
    """Stands in for an evaluation; ends with an error at one size."""

    def __init__(self, stops_at=0, error=KeyboardInterrupt):
        self.calls = []
        self.stops_at, self.error = stops_at, error

    def __call__(self, weights, size):
        self.calls.append((weights, size))
        if size == self.stops_at:
            raise self.error("no more")
        results = (*RESULTS[:3], size / 2000, *RESULTS[4:])
        return SimpleNamespace(results=results, map50=0.5, map50_95=size / 2000, speed_ms=(0.1, size / 100, 1.5))


def test_sizes_are_those_of_v6_1():
    assert STUDY_SIZES == (256, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408, 1536)


def test_study(tmp_path, caplog):
    measure = Measure()
    with caplog.at_level("INFO", "yolov5"):
        tables = study(["w/a.pt", "w/b.pt"], "data/coco128.yaml", measure, tmp_path)
    assert measure.calls == [(f"w/{name}.pt", size) for name in "ab" for size in STUDY_SIZES]
    assert [table.name for table in tables] == ["study_coco128_a.txt", "study_coco128_b.txt"]
    rows = np.loadtxt(tables[1])
    expected = [[*RESULTS[:3], size / 2000, *RESULTS[4:], 0.1, size / 100, 1.5] for size in STUDY_SIZES]
    np.testing.assert_allclose(rows, expected, rtol=1e-4)
    assert tables[0].read_text().splitlines()[0].startswith("       0.6        0.5       0.55      0.128")
    with zipfile.ZipFile(tmp_path / "study.zip") as archive:
        assert archive.namelist() == ["study_coco128_a.txt", "study_coco128_b.txt"]
        assert archive.read("study_coco128_a.txt") == tables[0].read_bytes()
    assert cv2.imread(str(tmp_path / "study.png")).shape == (1200, 1800, 3)
    assert "b.pt at 640 px: mAP50-95 0.320, mAP50 0.500, 6.4 ms inference, 1.5 ms NMS an image" in caplog.messages
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_what_was_measured_before_an_end_stays(tmp_path, error):
    measure = Measure(stops_at=512, error=error)
    (tmp_path / "study_d_b.txt").write_text("of another study")
    with pytest.raises(error):
        study(["a.pt", "b.pt"], "d.yaml", measure, tmp_path)
    assert len(np.loadtxt(tmp_path / "study_d_a.txt")) == 2
    with zipfile.ZipFile(tmp_path / "study.zip") as archive:
        assert archive.namelist() == ["study_d_a.txt"]
    assert (tmp_path / "study.png").exists()


def test_nothing_measured_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        study(["a.pt"], "d.yaml", Measure(stops_at=256), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no weights"):
        study([], "d.yaml", Measure(), tmp_path)


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        (["r/exp/weights/best.pt", "r/exp2/weights/best.pt"], ["exp_weights_best", "exp2_weights_best"]),
        (["m/a.pt", "m/a.onnx"], ["a.pt", "a.onnx"]),
        (["a.pt", "a.pt"], ["a"]),
        (["a.b.pt", "x/a.pt"], ["a.b", "a"]),
    ],
)
def test_tables_of_weights_do_not_meet(tmp_path, weights, names):
    tables = study(weights, "d.yaml", Measure(), tmp_path, sizes=[64])
    assert [table.name for table in tables] == [f"study_d_{name}.txt" for name in names]
    assert all(table.exists() for table in tables)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([], []),
        (["a/b.pt"], ["b.pt"]),
        (["a/b.pt", "a/c.pt"], ["b.pt", "c.pt"]),
        (["x/a/b.pt", "x/c/b.pt", "d.pt"], ["a/b.pt", "c/b.pt", "d.pt"]),
        (["b.pt", "a/b.pt"], ["b.pt", "a/b.pt"]),
        (["a.pt", "a.pt"], ["a.pt", "a.pt"]),
    ],
)
def test_short_names(files, names):
    assert short_names(files) == names


@pytest.mark.parametrize("content", [None, "words\n", "1 2 3\n"], ids=["missing", "words", "columns"])
def test_a_table_that_is_none(tmp_path, content):
    table = Path(tmp_path / "study_d_a.txt")
    if content is not None:
        table.write_text(content)
    with pytest.raises(UserError, match="study_d_a"):
        save_study_plot({"a": table}, tmp_path / "study.png")
    assert not (tmp_path / "study.png").exists()
