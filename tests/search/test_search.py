import csv
import dataclasses
import logging
import math
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from utils.errors import UserError
from utils.files import ROOT
from utils.hooks.csv_file import COLUMNS
from utils.search import pulse, report
from utils.search import search as search_module
from utils.search import study as search_study
from utils.search.search import RANGES, search
from utils.train.hyperparameters import Hyperparameters, read_hyperparameters

optuna = pytest.importorskip("optuna")

BASE = Hyperparameters(fliplr=0.25, perspective=0.0005, nam_l1=0.001, label_smoothing=0.1)
FILES = ["evolve.csv", "evolve.png", "hyp_evolve.yaml"]


def results_of(fitness):
    return (0.5, 0.5, fitness, fitness, 0.1, 0.2, math.nan)


def quality(hyp):
    return math.exp(-((math.log10(hyp.lr0) + 2.5) ** 2) - 10 * (hyp.momentum - 0.8) ** 2)


class Objective:
    """Remembers what it was asked; ``faults`` are raised by the trials of these places."""

    def __init__(self, faults=None, epochs=0):
        self.asked = []
        self.faults = faults or {}
        self.epochs = epochs

    def __call__(self, hyp, report):
        self.asked.append(hyp)
        if len(self.asked) - 1 in self.faults:
            raise self.faults[len(self.asked) - 1]
        for epoch in range(self.epochs):
            report(epoch, quality(hyp) * (epoch + 1) / self.epochs)
        return results_of(quality(hyp))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(search_module, "POLL", 0.02)
    monkeypatch.setattr(search_study, "OPENING_PAUSE", 0.01)
    monkeypatch.setattr(report, "save_search_plot", lambda *arguments: arguments[-1].touch())


@pytest.fixture
def lines(caplog):
    logger = logging.getLogger("yolov5")
    propagate, logger.propagate = logger.propagate, True
    caplog.set_level(logging.INFO, "yolov5")
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.propagate = propagate


def rows_of(folder):
    with (folder / "evolve.csv").open() as file:
        return [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def journal(folder):
    return f"journal:{folder / 'shared'}"


def test_a_search_begins_with_the_base_and_finds_better(tmp_path):
    objective = Objective()
    best = search(tmp_path, BASE, 20, objective, storage=journal(tmp_path))
    assert len(objective.asked) == 20 == len(set(map(dataclasses.astuple, objective.asked)))
    assert objective.asked[0] == BASE
    assert quality(best) == max(map(quality, objective.asked)) > quality(BASE)
    for hyp in objective.asked:
        for key, value in dataclasses.asdict(hyp).items():
            if key not in RANGES or key == "anchors":
                assert value == getattr(BASE, key)
            else:
                assert RANGES[key][0] <= value <= RANGES[key][1]
    small = sum(hyp.lr0 < 0.01 for hyp in objective.asked)
    assert small > 5  # of a linear scale, one in ten


def test_files(tmp_path):
    best = search(tmp_path, BASE, 6, Objective(faults={1: UserError("no")}), storage=journal(tmp_path))
    hyp_file = tmp_path / "hyp_evolve.yaml"
    assert read_hyperparameters(hyp_file) == dataclasses.replace(best, label_smoothing=0.0)
    header = [line for line in hyp_file.read_text().splitlines() if line.startswith("#")]
    rows = rows_of(tmp_path)
    place = max(range(5), key=lambda index: rows[index]["metrics/mAP_0.5:0.95"])
    assert f"# best trial: {[0, 2, 3, 4, 5][place]}" in header
    assert "# trials: 6 (5 complete, 0 pruned, 1 failed)" in header
    assert f"# metrics/mAP_0.5: {quality(best):.5g}" in header
    keys = [field.name for field in dataclasses.fields(BASE) if field.name not in ("anchors", "label_smoothing")]
    assert list(rows[0]) == [*COLUMNS[4:11], *keys]
    assert {key: rows[place][key] for key in keys} == {key: getattr(best, key) for key in keys}  # every digit is there
    header, *lines = (tmp_path / "evolve.csv").read_text().splitlines()
    assert len(lines) == 5
    assert all(len(value) == 20 for line in lines for value in line.split(","))
    assert header.startswith("   metrics/precision,      metrics/recall,")


@pytest.mark.filterwarnings("error")
@pytest.mark.slow
def test_picture(tmp_path, monkeypatch):
    monkeypatch.undo()
    search(tmp_path, BASE, 2, Objective())
    assert cv2.imread(str(tmp_path / "evolve.png")).shape[2] == 3


@pytest.mark.parametrize("anchors", [None, 4.0])
def test_anchors_take_part_where_the_base_sets_them(tmp_path, anchors):
    objective = Objective()
    search(tmp_path, dataclasses.replace(BASE, anchors=anchors), 4, objective, storage=journal(tmp_path))
    asked = {hyp.anchors for hyp in objective.asked}
    assert asked == {None} if anchors is None else len(asked) == 4 and all(2 <= value <= 10 for value in asked)
    assert ("anchors" in rows_of(tmp_path)[0]) == (anchors is not None)


def test_a_base_out_of_range_is_moved_to_the_end(tmp_path, lines):
    objective = Objective()
    base = dataclasses.replace(BASE, lr0=0.0, box=0.5, perspective=0.002)
    search(tmp_path, base, 1, objective, storage=journal(tmp_path))
    assert objective.asked == [dataclasses.replace(base, lr0=1e-5, box=0.2)]  # what is not searched stays
    assert lines()[0] == "The search begins within its ranges: lr0 0 to 1e-05, box 0.5 to 0.2"


def test_the_same_seed_gives_the_same_trials(tmp_path):
    asked = []
    for name, seed, parts in (("a", 3, [14]), ("b", 3, [5, 14]), ("c", 4, [14])):
        objective = Objective()
        for trials in parts:
            search(tmp_path / name, BASE, trials, objective, storage=journal(tmp_path) + name, seed=seed)
        asked.append(objective.asked)
    assert asked[0] == asked[1]
    assert asked[0][1:] != asked[2][1:]


@pytest.mark.parametrize("storage", ["", "sqlite", "journal"])
def test_a_second_call_goes_on(tmp_path, storage):
    url = {"": "", "sqlite": f"sqlite:///{tmp_path}/x.db", "journal": f"{tmp_path}/x.log"}[storage]
    folder = tmp_path / "a b{c}#%ü"
    first, second, third = Objective(), Objective(), Objective()
    search(folder, BASE, 3, first, storage=url)
    best = search(folder, BASE, 5, second, storage=url)
    assert (len(first.asked), len(second.asked), len(rows_of(folder))) == (3, 2, 5)
    for name in FILES:
        (folder / name).unlink()
    assert search(folder, BASE, 5, third, storage=url) == best
    assert not third.asked
    assert len(rows_of(folder)) == 5
    assert (folder / "study.db").is_file() == (storage == "")


def test_another_base_is_tried_too(tmp_path):
    objective = Objective()
    other = dataclasses.replace(BASE, lr0=0.003, fliplr=0.0)
    search(tmp_path, BASE, 2, objective, storage=journal(tmp_path))
    best = search(tmp_path, other, 3, objective, storage=journal(tmp_path))
    assert objective.asked[2] == other
    assert quality(best) >= quality(other)


def test_poor_trials_are_pruned_but_not_the_base(tmp_path, lines):
    class Poor(Objective):
        def __call__(self, hyp, report):
            self.asked.append(hyp)
            fitness = 0.0 if len(self.asked) > 6 else 0.5
            for epoch in range(8):
                report(epoch, fitness)
            return results_of(fitness)

    objective = Poor()
    search(tmp_path, BASE, 8, objective, storage=journal(tmp_path))
    assert len(rows_of(tmp_path)) == 6
    assert lines()[6] == "evolve 7/8: trial 6 pruned after epoch 5 at fitness 0, best 0.5 (trial 0)"
    other = dataclasses.replace(BASE, lr0=0.003)
    search(tmp_path, other, 9, objective, storage=journal(tmp_path))
    assert len(rows_of(tmp_path)) == 7


def test_a_failed_trial_is_counted_and_the_search_goes_on(tmp_path, lines):
    objective = Objective(faults={0: UserError("the loss is not finite"), 2: UserError("again")})
    search(tmp_path, BASE, 5, objective, storage=journal(tmp_path))
    assert len(objective.asked) == 5
    assert len(rows_of(tmp_path)) == 3
    assert lines()[0] == "evolve 1/5: trial 0 failed: the loss is not finite"


def test_many_failures_in_a_row_stop(tmp_path):
    objective = Objective(faults={place: UserError(f"fault {place}") for place in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11)})
    with pytest.raises(UserError, match="6 trials in a row failed, the last one by: fault 11"):
        search(tmp_path, BASE, 50, objective, storage=journal(tmp_path))
    assert len(rows_of(tmp_path)) == 2


def test_only_failures(tmp_path):
    with pytest.raises(UserError, match="none of 2 trials came to its end; the last one failed by: b"):
        search(tmp_path, BASE, 2, Objective(faults={0: UserError("a"), 1: UserError("b")}), storage=journal(tmp_path))
    assert not (tmp_path / "hyp_evolve.yaml").exists()


def test_a_fitness_that_is_no_number_is_a_failure(tmp_path):
    values = iter([0.5, math.nan])
    search(tmp_path, BASE, 2, lambda hyp, report: results_of(next(values)), storage=journal(tmp_path))
    assert len(rows_of(tmp_path)) == 1


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_trial_does_not_count(tmp_path, place, fault):
    objective = Objective(faults={place: fault()})
    with pytest.raises(fault):
        search(tmp_path, BASE, 4, objective, storage=journal(tmp_path))
    assert (len(rows_of(tmp_path)) if place else 0) == place
    search(tmp_path, BASE, 4, objective, storage=journal(tmp_path))
    assert len(objective.asked) == 5
    assert len(rows_of(tmp_path)) == 4
    assert objective.asked.count(BASE) == (2 if place == 0 else 1)


def test_ctrl_c_waits_until_a_result_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "save_search_plot", lambda *arguments: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, BASE, 4, Objective(), storage=journal(tmp_path))
    assert len(rows_of(tmp_path)) == 1
    study = search_study.open_study(tmp_path, journal(tmp_path), "yolov5-nam", 0)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]


def test_a_trial_whose_process_died_is_made_up_for(tmp_path, monkeypatch):
    monkeypatch.setattr(pulse, "PATIENCE", 0.3)
    study = search_study.open_study(tmp_path, journal(tmp_path), "yolov5-nam", 0)
    study.enqueue_trial({}, user_attrs={"base": search_module.as_dict(BASE)})
    study.ask()
    objective = Objective()
    search(tmp_path, BASE, 3, objective, storage=journal(tmp_path))
    assert len(objective.asked) == 3
    assert BASE in objective.asked


def test_a_pulse_is_alive_as_long_as_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(pulse, "PATIENCE", 1.0)
    monkeypatch.setattr(pulse, "INTERVAL", 0.05)
    study = search_study.open_study(tmp_path, journal(tmp_path), "yolov5-nam", 0)
    trial, watch, now = study.ask(), pulse.PulseWatch(), [0.0]
    monkeypatch.setattr(pulse.time, "monotonic", lambda: now[0])
    assert watch.is_alive(study.trials[0])
    with pulse.beating(trial):
        assert watch.is_alive(study.trials[0])
        while not study.trials[0].user_attrs["pulse"]:
            time.sleep(0.02)
        now[0] = 5.0
        assert watch.is_alive(study.trials[0])
    now[0] = 5.9
    watch.is_alive(study.trials[0])
    now[0] = 7.0
    assert not watch.is_alive(study.trials[0])


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"^--evolve needs Optuna: pip install optuna$"):
        search(tmp_path, BASE, 1, Objective())


def test_without_sqlalchemy_the_search_is_in_memory(tmp_path, monkeypatch, lines):
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    search(tmp_path, BASE, 2, Objective())
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert lines()[0].startswith("The search is kept in memory and cannot be resumed")


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("study.db", "expected a data base such as"),
        ("foo://x", "foo"),
        ("postgresql://me:secret@127.0.0.1:port/x", "me:***@127.0.0.1"),
        ("sqlite:////no/such/folder/x.db", "unable to open"),
        ("journal:/no/such/folder/x", "No such file"),
        ("journal:", "Is a directory|No such file|Permission"),
        ("{folder}/other.log", "Expecting value"),
        ("{folder}/folder.journal", "Is a directory|Permission"),
    ],
)
def test_a_wrong_storage_is_explained(tmp_path, storage, reason):
    (tmp_path / "other.log").write_text("epoch 1\nepoch 2\n")
    (tmp_path / "folder.journal").mkdir()
    with pytest.raises(
        UserError, match=r"^--evolve-storage '.*expected .*postgresql://.*sqlite:///.*journal:"
    ) as caught:
        search(tmp_path, BASE, 1, Objective(), storage=storage.format(folder=tmp_path))
    assert any(part in str(caught.value) for part in reason.split("|"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(UserError, match="its driver is missing: pip install psycopg2-binary"):
        search(tmp_path, BASE, 1, Objective(), storage="postgresql+psycopg2://me@host/x")


WORKER = """
import sys, time
from pathlib import Path
from utils.search import report, search
from utils.train.hyperparameters import Hyperparameters
report.save_search_plot = lambda *arguments: arguments[-1].touch()
search.POLL = 0.05
folder, storage, trials, pause = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
def objective(hyp, report):
    report(0, hyp.lr0)
    time.sleep(pause)
    with open(folder / "asked", "a") as file:
        file.write(f"{hyp.lr0} {hyp.momentum}\\n")
    return (0.5, 0.5, hyp.lr0, hyp.lr0, 0.1, 0.2, 0.3)
search.import_optuna()
print("ready", flush=True)
input()
search.search(folder, Hyperparameters(), trials, objective, storage=storage)
"""


def start(folders, storage, trials, pause):
    """Start a worker for each folder; they begin together, however long the machine takes to load each."""
    workers = []
    for folder in folders:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", WORKER, str(folder), storage, str(trials), str(pause)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        workers.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes))
    for worker in workers:
        worker.stdout.readline()
    for worker in workers:
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    return workers


@pytest.mark.parametrize(
    "storage",
    ["journal:{}/shared", *(pytest.param(one, marks=pytest.mark.slow) for one in ("", "sqlite:///{}/shared.db"))],
)
def test_two_processes_share_the_work(tmp_path, storage):
    trials = 8
    folders = [tmp_path / "a", tmp_path / ("b" if storage else "a")]
    for worker in start(folders, storage.format(tmp_path), trials, 0.3):  # 0.3 s each: both get some
        assert (worker.communicate(timeout=60)[1], worker.returncode) == (b"", 0)
    asked = [line for folder in {*folders} for line in (folder / "asked").read_text().splitlines()]
    assert len(asked) == trials == len(set(asked))
    for folder in folders:
        rows = rows_of(folder)
        assert sorted(f"{row['lr0']} {row['momentum']}" for row in rows) == sorted(asked)
        assert set(FILES) <= {path.name for path in folder.iterdir()}
    assert len({(folder / "hyp_evolve.yaml").read_text() for folder in folders}) == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(pulse, "PATIENCE", 0.5)
    (worker,) = start([tmp_path / "a"], "", 4, 0.3)
    deadline = time.monotonic() + 60
    while not (tmp_path / "a/evolve.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)  # into the second trial
    worker.kill()
    worker.communicate()
    before = len(rows_of(tmp_path / "a"))
    objective = Objective()
    search(tmp_path / "a", BASE, 4, objective)
    assert len(rows_of(tmp_path / "a")) == 4
    assert len(objective.asked) == 4 - before


def test_result_columns_are_those_of_results_csv():
    assert report.RESULT_KEYS == COLUMNS[4:11]
