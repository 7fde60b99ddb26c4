"""Ctrl-C in the middle of a real run of detect.py: what is there is whole."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.sources.media import serve_streams, write_noise
from utils.files import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
OUTPUTS = ["--save-txt", "--save-csv", "--save-json", "--save-crop"]


def interrupted(weights: Path, source: object, project: Path, said: str, *words: object) -> tuple[Path, str]:
    """Interrupt detect.py once it has said something; return the run folder and what it had said."""
    line = [sys.executable, ROOT / "detect.py", "--weights", weights, "--source", source, "--project", project]
    line += ["--imgsz", 64, "--device", "cpu", "--conf-thres", 0, "--max-det", 2, *OUTPUTS, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*map(str, line)], start_new_session=True, **pipes)
    output = ""
    try:
        while said not in output and (more := process.stdout.readline()):
            output += more
        os.killpg(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "detect.py: error: interrupted\n"), output + rest
    return project / "exp", output + rest


def check_tables(folder: Path, output: str) -> int:
    """Return how many frames the tables have: all that were told of, two objects each, and few more."""
    rows = json.loads((folder / "predictions.json").read_text())
    with (folder / "predictions.csv").open(newline="") as file:
        names = [row["Image Name"] for row in csv.DictReader(file)]
    told = output.count("Done. (")
    assert len(rows) == len(names) and len(rows) % 2 == 0 and told <= len(rows) // 2 <= told + 12
    assert f"\n{told} image" in output, "it sums up"
    for file in folder.glob("labels/*.txt"):
        lines = file.read_text().splitlines()
        assert len(lines) == 2 and all(len(line.split()) == 5 for line in lines)
    assert all(cv2.imread(str(file)) is not None for file in folder.glob("**/*.jpg"))
    assert not list(folder.glob("**/.*")), "no temporary file is left"
    return len(rows) // 2


def frames_in(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def test_in_a_video(tiny_weights, tmp_path):
    film = write_noise(tmp_path / "film.avi", 3000)
    folder, output = interrupted(tiny_weights, film, tmp_path / "runs", "(20/3000)")
    frames = check_tables(folder, output)
    assert 20 <= frames < 3000 and frames_in(folder / "film.mp4") == frames


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_in_a_folder(tiny_weights, tmp_path, batch_size):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "images").mkdir()
    for number in range(3000):
        cv2.imwrite(str(tmp_path / f"images/{number:04d}.jpg"), pixels)
    words = ["--batch-size", batch_size]
    folder, output = interrupted(tiny_weights, tmp_path / "images", tmp_path / "runs", "image 20/3000", *words)
    assert check_tables(folder, output) <= len(list(folder.glob("*.jpg"))) < 3000


@pytest.mark.slow
@pytest.mark.parametrize("path", ["live", "stall"])
def test_in_a_stream(tiny_weights, tmp_path, path):
    with serve_streams() as streams:
        folder, output = interrupted(tiny_weights, f"{streams.url}/{path}", tmp_path / "runs", "Done. (")
    (video,) = folder.glob("*.mp4")
    assert frames_in(video) == check_tables(folder, output) >= 1


@pytest.mark.slow
def test_before_the_first_frame(tiny_weights, tmp_path):
    with serve_streams() as streams:
        folder, _ = interrupted(tiny_weights, f"{streams.url}/silent", tmp_path / "runs", "YOLOv5-NAM")
    assert not folder.exists()
