"""Which sinks a run has, and that they are closed."""

import pytest

from tests.detect.fakes import NAMES, TWO, clip_of, frame_of
from utils.detect.options import DetectOptions
from utils.detect.outputs import open_sinks


def options_of(tmp_path, **settings):
    return DetectOptions(project=str(tmp_path), **settings)


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, {"a.png", "film.mp4"}),
        ({"nosave": True, "save_txt": True}, {"labels/a.txt", "labels/film_1.txt"}),
        (
            {"nosave": True, "save_crop": True},
            {f"crops/{name}/{stem}.jpg" for name in NAMES.values() for stem in ("a", "film_1")},
        ),
        ({"nosave": True, "save_csv": True, "save_json": True}, {"predictions.csv", "predictions.json"}),
    ],
)
def test_what_is_written(tmp_path, settings, files):
    with open_sinks(options_of(tmp_path, **settings), NAMES, None) as (folder, sinks):
        for sink in sinks:
            sink.write(frame_of(), TWO)
            sink.write(frame_of(clip=clip_of()), TWO)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == files


def test_no_folder_for_nothing(tmp_path):
    with open_sinks(options_of(tmp_path, nosave=True), NAMES, None) as (folder, sinks):
        assert folder is None and not sinks
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_all_are_closed_after_an_error_even_if_closing_one_fails(tmp_path, monkeypatch, error):
    monkeypatch.setattr("utils.detect.tables.CsvSink.close", lambda self: 1 / 0)
    wanted = options_of(tmp_path, save_csv=True, save_json=True)
    with pytest.raises((error, ZeroDivisionError)), open_sinks(wanted, NAMES, None) as (folder, sinks):
        for sink in sinks:
            sink.write(frame_of(clip=clip_of()), TWO)
        raise error
    assert sorted(path.name for path in folder.iterdir()) == ["film.mp4", "predictions.csv", "predictions.json"]
