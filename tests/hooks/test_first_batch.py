"""What is said about the first batch, and about an mAP of 0."""

import numpy as np
import pytest
import torch

from tests.hooks.reports import batch_report, epoch_report, evaluation
from utils.hooks.csv_file import CsvFile
from utils.hooks.first_batch import FirstBatch
from utils.hooks.zero_map import ZeroMap
from utils.log import LOGGER

ANCHORS = torch.tensor([[[1.0, 1.0], [2.0, 2.0]], [[2.0, 2.0], [4.0, 4.0]]])  # 8 to 64 px


@pytest.fixture
def lines(monkeypatch) -> list[str]:
    logged: list[str] = []
    monkeypatch.setattr(LOGGER, "info", logged.append)
    monkeypatch.setattr(LOGGER, "warning", logged.append)
    return logged


def test_only_the_first_batch_of_a_run_is_looked_at(lines):
    hook = FirstBatch(ANCHORS, [8.0, 16.0], 4.0)
    for epoch, number in [(0, 0), (0, 1), (1, 0)]:
        hook.batch_end(batch_report(epoch, number, boxes=[(0, 1, 0.5, 0.5, 0.5, 0.5)]))
    assert len(lines) == 1
    assert lines[0].startswith("First batch: 2 images of 64 x 64 px with 1 labels, 1 matched by anchors (")


def test_warnings_follow_the_line(lines):
    FirstBatch(ANCHORS, [8.0, 16.0], 4.0).batch_end(batch_report())
    assert "0 labels" in lines[0] and lines[1].startswith("WARNING: no labels in the first batch")


def zero_map(tmp_path, warmup: int, steps: int) -> tuple[ZeroMap, CsvFile]:
    csv = CsvFile(tmp_path / "results.csv")
    return ZeroMap(np.array([3, 1]), warmup, True, lambda: steps, lambda: csv.lines), csv


def play(hook: ZeroMap, csv: CsvFile, reports) -> None:
    for report in reports:
        hook.epoch_start(report.epoch, 9, 10)
        csv.epoch_end(report)
        hook.epoch_end(report)


def test_each_reason_is_given_once(tmp_path, lines):
    play(*zero_map(tmp_path, 20, 1000), [epoch_report(epoch) for epoch in range(5)])
    assert [line.split()[4] for line in lines] == ["warm-up", "the"]  # two epochs of warm-up, then losses that stay


@pytest.mark.parametrize("seen", [None, evaluation(found=3)])
def test_nothing_is_said_without_a_zero(tmp_path, lines, seen):
    play(*zero_map(tmp_path, 1000, 0), [epoch_report(0, evaluation=seen)])
    assert lines == []
