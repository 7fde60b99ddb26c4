"""results.csv, and results.png from it."""

import math

import pytest

from tests.hooks.reports import epoch_report
from utils.eval.plots import save_results_plot
from utils.hooks.csv_file import COLUMNS, CsvFile, epoch_values, training_losses


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def test_a_row_has_v61s_columns_and_ours(tmp_path):
    file = CsvFile(tmp_path / "results.csv", figures={"nam/x": lambda report: report.seconds})
    file.epoch_end(epoch_report(0))
    header, row = (tmp_path / "results.csv").read_text().splitlines()
    assert cells(header) == [*COLUMNS, "nam/x"]
    expected = [0, 0.1, 0.02, 0.003, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0.01, 0.02, 0.03, 20]
    assert [float(cell) for cell in cells(row)] == expected
    assert {len(cell) for line in (header, row) for cell in line.split(",")} == {20}


def test_an_epoch_without_validation_has_nan_for_its_seven_cells(tmp_path):
    file = CsvFile(tmp_path / "results.csv")
    file.epoch_end(epoch_report(0, evaluation=None))
    row = cells(file.lines[1])
    assert row[4:11] == ["nan"] * 7 and "nan" not in row[:4] + row[11:]


def test_further_parts_of_the_loss_take_no_column():
    values = epoch_values(epoch_report(losses=[1.0, 2.0, 3.0, 4.0]))
    assert [values[name] for name in COLUMNS[1:4]] == [1.0, 2.0, 3.0] and 4.0 not in values.values()


@pytest.mark.parametrize("first_epoch", [1, 2, 3])
@pytest.mark.parametrize("source", ["file", "lines", "rows"])
def test_going_on_gives_the_file_that_was_never_interrupted(tmp_path, first_epoch, source):
    path, whole = tmp_path / "results.csv", CsvFile(tmp_path / "whole.csv")
    interrupted = CsvFile(path)
    for epoch in range(3):
        interrupted.epoch_end(epoch_report(epoch))
    for epoch in range(5):
        whole.epoch_end(epoch_report(epoch))
    rows = {"file": [], "lines": interrupted.lines, "rows": interrupted.lines[1:]}[source]
    if source != "file":
        path.write_text("rubbish\n1,2\n")
    resumed = CsvFile(path, first_epoch, rows=rows)
    assert len(resumed.lines) == 1 + first_epoch
    for epoch in range(first_epoch, 5):
        resumed.epoch_end(epoch_report(epoch))
    assert path.read_bytes() == whole.path.read_bytes() and resumed.lines == whole.lines


def test_a_new_run_takes_nothing_from_an_old_file(tmp_path):
    CsvFile(tmp_path / "results.csv").epoch_end(epoch_report(0))
    assert len(CsvFile(tmp_path / "results.csv").lines) == 1


def test_the_lines_are_a_copy(tmp_path):
    file = CsvFile(tmp_path / "results.csv")
    file.lines.append("rubbish")
    assert len(file.lines) == 1


@pytest.mark.parametrize("draw", [True, False])
def test_a_run_that_was_interrupted_after_its_last_epoch_gets_its_file_and_picture(tmp_path, draw):
    file = CsvFile(tmp_path / "old.csv")
    file.epoch_end(epoch_report(0))
    CsvFile(tmp_path / "results.csv", 1, rows=file.lines, draw=draw).epochs_done()
    assert (tmp_path / "results.csv").read_bytes() == (tmp_path / "old.csv").read_bytes()
    assert (tmp_path / "results.png").is_file() is draw


@pytest.mark.parametrize("validated", [(), (3,), (0, 3)])
def test_gaps_do_not_keep_the_picture_from_being_drawn(tmp_path, validated, recwarn):
    file = CsvFile(tmp_path / "results.csv")
    for epoch in range(4):
        file.epoch_end(epoch_report(epoch) if epoch in validated else epoch_report(epoch, evaluation=None))
    assert save_results_plot(file.path).stat().st_size > 10_000
    assert not recwarn


def test_losses_are_read_back(tmp_path):
    file = CsvFile(tmp_path / "results.csv", figures={"nam/x": lambda _: math.nan})
    for epoch in range(2):
        file.epoch_end(epoch_report(epoch, losses=[1.0 + epoch, 2.0, 3.0, 9.0]))
    assert training_losses(file.lines) == [6.0, 7.0]
