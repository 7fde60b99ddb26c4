"""CSV and JSON."""

import csv
import json

import pytest

from tests.detect.fakes import NAMES, NONE, TWO, clip_of, frame_of
from utils.detect.tables import CsvSink, JsonSink


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_is_complete_after_every_frame(tmp_path):
    path = tmp_path / "a.csv"
    sink = CsvSink(path, {0: 'a "quoted", name', 1: "ö"})
    assert rows_of(path) == [] or rows_of(path) == [["Image Name", "Prediction", "Confidence"]]
    sink.write(frame_of(path="x/a, b.png"), TWO)
    expected = [["Image Name", "Prediction", "Confidence"], ["a, b.png", "ö", "0.50"]]
    expected += [["a, b.png", 'a "quoted", name', "0.90"]]
    assert rows_of(path) == expected
    sink.write(frame_of(), NONE)
    sink.write(frame_of(clip=clip_of(4)), TWO)
    sink.close()
    assert rows_of(path)[3:] == [["film_4", "ö", "0.50"], ["film_4", 'a "quoted", name', "0.90"]]


def test_json_is_coco(tmp_path):
    sink = JsonSink(tmp_path / "a.json")
    sink.write(frame_of(path="000000000042.jpg"), TWO)
    sink.write(frame_of(), NONE)
    sink.write(frame_of(clip=clip_of(4)), TWO)
    assert not (tmp_path / "a.json").exists()
    sink.close()
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row["image_id"] for row in rows] == [42, 42, "film_4", "film_4"]
    assert rows[1] == {"image_id": 42, "category_id": 1, "bbox": [20.4, 10.0, 39.6, 30.0], "score": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_json_of_nothing(tmp_path):
    JsonSink(tmp_path / "a.json").close()
    assert json.loads((tmp_path / "a.json").read_text()) == []


@pytest.mark.parametrize("full", ["csv", "json"])
def test_full_disk(tmp_path, monkeypatch, full):
    sink = CsvSink(tmp_path / "a.csv", NAMES) if full == "csv" else JsonSink(tmp_path / "a.json")

    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        close = flush = write

    if full == "csv":
        sink._rows = csv.writer(Full())
    else:
        sink._file.close()
        sink._file = Full()
    with pytest.raises(OSError, match="No space"):
        sink.write(frame_of(), TWO)
    if full == "json":
        with pytest.raises(OSError, match="No space"):
            sink.close()
        assert not list(tmp_path.iterdir()), "no half file"
