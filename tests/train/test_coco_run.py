"""What a training run on COCO does besides: v6.1 knows COCO by its list of validation images."""

import json
import math
from pathlib import Path

import pytest
import yaml

import train
from tests.train.watching import QUICK, SMALL
from utils.data.synthetic import CLASS_NAMES, generate_shapes10
from utils.eval import report

COUNTS = {"train": 4, "val": 3}


def dataset_named(folder: Path, name: str) -> Path:
    """Make a small data set whose images are in lists, as COCO's are; return its YAML file."""
    root = folder / name
    generate_shapes10(root, counts=COUNTS)
    for split in COUNTS:
        images = sorted((root / "images" / split).iterdir())
        (root / f"{split}2017.txt").write_text("".join(f"./images/{split}/{image.name}\n" for image in images))
    content = {"path": str(root), "train": "train2017.txt", "val": "val2017.txt", "names": list(CLASS_NAMES)}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize("name", ["coco", "other"])
def test_the_final_measurement_on_coco(name, tmp_path, monkeypatch):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    ious, evaluate = [], report.evaluate

    def watched(forward, loader, names, settings, *rest, **more):
        ious.append(settings.iou)
        return evaluate(forward, loader, names, settings, *rest, **more)

    monkeypatch.setattr(report, "evaluate", watched)
    options = QUICK | {"epochs": 2, "cfg": str(tmp_path / "small.yaml"), "project": str(tmp_path)}
    final = train.run(data=str(dataset_named(tmp_path, name)), **options)
    header, *rows = (tmp_path / "exp/results.csv").read_text().splitlines()
    table = [dict(zip(header.replace(" ", "").split(","), map(float, row.split(",")), strict=True)) for row in rows]
    predictions = tmp_path / "exp/best_predictions.json"
    if name == "other":
        assert ious == [0.6] and len(rows) == 2 and not predictions.exists()
        return
    assert ious == [0.65] and len(json.loads(predictions.read_text())) == len(final.findings.scores)
    assert [row["epoch"] for row in table] == [0, 1, 1]
    results = {
        "precision": final.precision,
        "recall": final.recall,
        "mAP_0.5": final.map50,
        "mAP_0.5:0.95": final.map50_95,
    }
    for column, value in table[2].items():
        if column.startswith("metrics/"):
            assert value == pytest.approx(results[column.removeprefix("metrics/")], rel=1e-4)
        elif column.startswith("val/"):
            assert math.isnan(value)
        else:
            assert value == table[1][column]
