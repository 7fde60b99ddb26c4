"""A server whose detector tells from the pixels of an image which image it was."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the server needs fastapi")
pytest.importorskip("python_multipart", reason="the server needs python-multipart")
pytest.importorskip("httpx", reason="fastapi.testclient needs httpx")

from fastapi.testclient import TestClient

from utils.detect.detector import Detected, Detections
from utils.serve.answers import Thresholds
from utils.serve.app import Model, Service, make_app
from utils.serve.limits import Limits

NAMES = {0: "cat", 1: "dog", 2: "owl"}


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    """Return an (H, W, 3) RGB image as a file's content."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def picture(number: int) -> bytes:
    """Return a PNG of which the red and green say ``number``, and the size too."""
    image = np.zeros((20 + number % 50, 30 + number % 40, 3), np.uint8)
    image[:] = number // 256, number % 256, 0
    return encode(image)


def expected_of(number: int) -> dict:
    """Return the only detection that `PixelDetector` finds in ``picture(number)``."""
    box = [float(number // 256), float(number % 256), 300.0, 400.0]
    return {"box": box, "score": 0.5, "class": number % 3, "name": NAMES[number % 3]}


@dataclass
class PixelDetector:
    """Finds one object, at red, green; keeps the thresholds it was asked for. Works only while ``go`` is set."""

    go: threading.Event = field(default_factory=threading.Event)
    asked: list[Thresholds] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, image: np.ndarray, thresholds: Thresholds) -> Detected:
        self.asked.append(thresholds)
        self.begun.release()
        assert self.go.wait(30)
        _, green, red = map(int, image[0, 0])
        boxes = np.array([[red, green, 300, 400]], np.float32)
        found = Detections(boxes, np.array([0.5]), np.array([(red * 256 + green) % 3]))
        return Detected(found, (640, 640), (0.001, 0.002, 0.003))


@pytest.fixture
def detector() -> Iterator[PixelDetector]:
    detector = PixelDetector()
    detector.go.set()
    yield detector
    detector.go.set()  # or the threads of the pool would hold up the end


@pytest.fixture
def client_of(detector) -> Iterator[Callable[..., TestClient]]:
    """Return what makes a client of a server with other limits than usual."""
    opened: list[TestClient] = []

    def make(hosts: list[str] | None = None, **limits) -> TestClient:
        service = Service(detector, Model("pixels", NAMES), limits=Limits(**limits))
        client = TestClient(make_app(service, hosts), raise_server_exceptions=False)
        opened.append(client)
        client.__enter__()
        return client

    yield make
    detector.go.set()
    for client in opened:
        client.__exit__(None, None, None)


@contextmanager
def running(detector: PixelDetector, **limits) -> Iterator[str]:
    """Serve on a free port of this machine and give the address."""
    import uvicorn

    from utils.serve.server import bind, listen

    listener = bind("127.0.0.1", 0)
    listen(listener)
    app = make_app(Service(detector, Model("pixels", NAMES), limits=Limits(**limits)), ["127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        detector.go.set()
        server.should_exit = True
        thread.join(20)
