"""Facts behind the content of a file, and sessions shared by threads."""

import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.formats.appended import read_facts, write_facts
from models.formats.sharing import shared
from utils.errors import UserError

CONTENT = b"TFL3" + bytes(range(256)) * 4
FACTS = {"stride": 32, "names": {0: "a", 1: "b 'quoted'"}, "nms": False}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(CONTENT)
    return path


def test_facts_come_back_and_the_content_stays(file):
    assert read_facts(file) == {}
    write_facts(file, FACTS)
    assert read_facts(file) == FACTS
    assert file.read_bytes().startswith(CONTENT)


def test_facts_are_replaced_not_heaped_up(file):
    write_facts(file, FACTS)
    once = file.stat().st_size
    write_facts(file, FACTS | {"stride": 64})
    assert file.stat().st_size == once
    assert read_facts(file) == FACTS | {"stride": 64}


def test_later_yolov5_reads_its_own_text_first(file):
    write_facts(file, FACTS)
    with zipfile.ZipFile(file) as archive:
        first = archive.read(archive.namelist()[0]).decode()
    assert first == str({"stride": 32, "names": FACTS["names"]})


def test_files_of_later_yolov5_are_read(file):
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("temp_meta.txt", "{'stride': 32, 'names': {0: 'cat'}}")
    assert read_facts(file) == {"stride": 32, "names": {0: "cat"}}


@pytest.mark.parametrize("text", ["{'stride': ", "[1, 2]", "", "{'names': 3}"])
def test_damaged_facts_are_told(file, text):
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("temp_meta.txt", text)
    with pytest.raises(UserError, match=r"the metadata of '.*a\.tflite' are damaged; export it again"):
        read_facts(file)


def test_a_session_serves_one_call_at_a_time():
    busy, at_once = threading.Semaphore(2), []

    def session():
        lock = threading.Lock()

        def run(images):
            at_once.append(lock.acquire(blocking=False) and busy.acquire(blocking=False))
            threading.Event().wait(0.002)
            busy.release()
            lock.release()
            return images + 1

        return run

    run = shared([session(), session()])
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(run, [torch.tensor(float(value)) for value in range(40)]))
    assert [value.item() for value in found] == [value + 1 for value in range(40)]
    assert at_once == [True] * 40


def test_a_session_whose_call_failed_serves_on():
    def session(images):
        if images < 0:
            raise ValueError("negative")
        return images

    run = shared([session])
    with pytest.raises(ValueError, match="negative"):
        run(torch.tensor(-1.0))
    assert run(torch.tensor(1.0)) == 1
