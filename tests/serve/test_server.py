import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.golden_data import shared_path
from tests.serve.browser import Browser
from tests.serve.conftest import picture
from utils.errors import UserError
from utils.files import ROOT
from utils.serve import server
from utils.serve.__main__ import check_packages

COMMAND = [sys.executable, "-m", "utils.serve"]


def test_help_needs_neither_torch_nor_a_server():
    program = "import sys; sys.argv = ['serve', '--help']; import runpy\n"
    program += "try: runpy.run_module('utils.serve', run_name='__main__')\n"
    program += "except SystemExit as stop: print('exit', stop.code)\n"
    program += "print('heavy', sorted({'torch', 'cv2', 'numpy', 'fastapi', 'uvicorn'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--max-upload" in run.stdout
    assert "exit 0" in run.stdout
    assert "heavy []" in run.stdout


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match="pip install fastapi uvicorn python-multipart"):
        check_packages()


def test_a_taken_port_is_told_in_one_line():
    with server.bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}: .*in use.*--port"):
            server.bind("127.0.0.1", port)


def test_of_two_programs_that_start_at_once_the_later_one_is_told():
    with server.bind("127.0.0.1", 0) as first, server.bind("127.0.0.1", first.getsockname()[1]) as second:
        server.listen(first)
        with pytest.raises(UserError, match="in use"):
            server.listen(second)


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "192.0.2.1"])
def test_foreign_addresses_are_refused(host):
    with pytest.raises(UserError, match="--host"):
        server.bind(host, 0)


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("127.0.0.1", [], {"localhost", "127.0.0.1", "::1"}),
        ("127.0.0.1", ["a.org"], {"localhost", "127.0.0.1", "::1", "a.org"}),
        ("0.0.0.0", [], None),
        ("0.0.0.0", ["a.org"], {"localhost", "127.0.0.1", "::1", "0.0.0.0", "a.org"}),
    ],
)
def test_names_matter_on_loopback_and_where_they_are_given(host, allowed, expected):
    with server.bind(host, 0) as listener:
        names = server.known_names(listener, host, allowed)
        assert server.is_loopback(listener) == (host == "127.0.0.1")
        assert server.address_of(listener) == f"http://{host}:{listener.getsockname()[1]}/"
    assert (names if names is None else set(names)) == expected


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen, str, list[str]]]:
    """Start the command and give the process, the address and what it has said so far."""
    command = [*COMMAND, "--port", "0", "--device", "cpu", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    lines: queue.Queue[str] = queue.Queue()
    said: list[str] = []
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()
    try:
        while not said or " on http://" not in said[-1]:
            said.append(lines.get(timeout=60))
        yield process, said[-1].split(" on ")[1].split()[0], said
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        reader.join(10)
        said += list(lines.queue)


@pytest.mark.slow
def test_the_command_serves_until_interrupted(tiny_weights):
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")
    with started("--weights", str(tiny_weights), "--imgsz", "64", "--max-upload", "0.01") as (process, address, said):
        reply = httpx.post(f"{address}v1/object-detection/tiny", files={"image": picture(3)}, timeout=30)
        assert (reply.status_code, type(reply.json())) == (200, list)
        assert httpx.get(f"{address}health", headers={"host": "example.com"}).status_code == 403
        large = httpx.post(f"{address}v1/detect", files={"image": bytes(15_000)})
        assert large.status_code == 413
        unknown_length = httpx.post(f"{address}v1/detect", content=iter([bytes(1000)] * 15))
        assert unknown_length.status_code in (413, 415)
        second = subprocess.run(
            [*COMMAND, "--weights", str(tiny_weights), "--port", address.rsplit(":", 1)[1].strip("/")],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert "in use" in second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert said[-1] == "Stopped\n"
    assert not any("WARNING" in line or "Traceback" in line for line in said)


@pytest.mark.slow
def test_the_command_warns_where_others_can_reach_it(tiny_weights):
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")
    with started("--weights", str(tiny_weights), "--host", "0.0.0.0") as (_, address, said):
        assert any("no login" in line for line in said)
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1].strip("/"))), timeout=10) as raw:
            raw.sendall(b"GET /health HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_the_page_works_in_a_browser(tmp_path):
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")
    weights, bus = shared_path("weights/yolov5n.pt"), shared_path("images/bus.jpg")
    with started("--weights", str(weights)) as (_, address, _), Browser(tmp_path / "profile") as browser:
        for width, height, dark, phone in ((1280, 900, False, False), (390, 844, True, True)):
            browser.open(address, width, height, dark, phone)
            browser.wait_for("model !== null")
            browser.choose_file("#file", bus)
            browser.wait_for("document.querySelectorAll('#rows tr').length === 5")
            assert browser.evaluate("part('status').textContent") == "4 persons, 1 bus"
            assert browser.evaluate("Number(part('trip').textContent) > Number(part('network').textContent)")
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
            check_picture(browser)
        check_sliders(browser)
        browser.evaluate("part('camera').click()")
        browser.wait_for("Number(part('rate').textContent) > 0")
        browser.evaluate("part('camera').click()")
        assert browser.evaluate("camera === null")
        assert browser.errors == []  # nothing was refused by the policy, or failed


def check_picture(browser: Browser) -> None:
    """Check that the boxes are drawn where they belong, in the colour of their class."""
    setup = "const [l, t, , b] = shown.answer.detections[1].box; const s = canvas.width / 810"
    around = "getImageData(Math.round(l * s) - 2, Math.round((t + b) / 2 * s), 5, 1).data"  # of its left side
    pixels = browser.evaluate(f"(() => {{ {setup}; return [...canvas.getContext('2d').{around}]; }})()")
    assert [230, 25, 75, 255] in [pixels[start : start + 4] for start in range(0, 20, 4)]
    wanted = "Math.abs(canvas.height / canvas.width - 1080 / 810) < 0.01"
    assert browser.evaluate(wanted)


def check_sliders(browser: Browser) -> None:
    """Check by keyboard that confidence hides at once, and that another IoU is asked of the server."""
    browser.evaluate("part('conf').focus()")
    before = browser.evaluate("number")
    browser.evaluate("part('conf').value = 0.85; part('conf').dispatchEvent(new Event('input'))")
    assert browser.evaluate("document.querySelectorAll('#rows tr').length") == 1
    for _ in range(4):
        browser.key("ArrowRight")
    assert browser.evaluate("document.querySelectorAll('#rows tr').length") == 0
    assert browser.evaluate("number") == before
    browser.key("Tab")
    assert browser.evaluate("document.activeElement.id") == "iou"
    browser.key("ArrowLeft")
    browser.wait_for(f"number === {before + 1} && status.textContent === 'Nothing found.'")
    assert browser.evaluate("shown.answer.thresholds.iou") == pytest.approx(0.44)


def test_files_of_the_page_are_beside_the_code():
    assert {path.name for path in Path(server.__file__).parent.glob("page.*")} >= {"page.html", "page.css", "page.js"}
    assert os.path.isfile(ROOT / "utils/page.css")
