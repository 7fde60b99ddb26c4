"""Devices, worker counts and default weights."""

import os
import time

import pytest
import torch

from utils import weights
from utils.device import Stopwatch, select_device, use_half, worker_count
from utils.errors import UserError


@pytest.mark.parametrize("request_", ["cpu", " CPU "])
def test_cpu(request_):
    assert select_device(request_) == torch.device("cpu")


@pytest.mark.parametrize(("request_", "index"), [("0", 0), ("cuda:1", 1), ("cuda", 0), ("", 0)])
def test_cuda_when_there_is_one(monkeypatch, request_, index):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_device(request_) == torch.device("cuda", index)


def test_mps_when_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert select_device("") == select_device("mps") == torch.device("mps")


@pytest.mark.parametrize("request_", ["3", "cuda:9", "mps", "gpu"])
def test_a_device_that_is_not_there(monkeypatch, request_):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device"):
        select_device(request_)


@pytest.mark.parametrize(
    ("limit", "batch_size", "cores", "expected"),
    [(8, 16, 2, 2), (8, 16, 64, 8), (0, 16, 64, 0), (8, 1, 64, 0), (8, 3, 64, 3)],
)
def test_worker_count(monkeypatch, limit, batch_size, cores, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert worker_count(limit, batch_size) == expected


def test_half_is_for_cuda():
    assert use_half(True, torch.device("cuda")) and not use_half(True, torch.device("cpu"))
    assert not use_half(False, torch.device("cuda"))


def test_a_stopwatch_adds_up():
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch:
            time.sleep(0.01)
    assert watch.seconds >= 0.02


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    monkeypatch.setattr(weights, "runs_dir", lambda kind: tmp_path / "runs" / kind)
    return tmp_path


def test_default_weights(project):
    with pytest.raises(UserError, match=r"neither runs/train/\*/weights/best.pt nor yolov5s.pt"):
        weights.newest_weights()
    assert weights.pretrained_weights() is None
    (project / "yolov5s.pt").touch()
    assert weights.newest_weights().name == "yolov5s.pt"
    for age, run in enumerate(("exp3", "exp", "exp2")):  # newest first
        path = project / "runs/train" / run / "weights/best.pt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert weights.newest_weights().parts[-3] == "exp3"
