"""Videos, and a server of streams on this machine, for tests of sources."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

FPS, STEP = 25, 8  # frames a second; grey levels between two frames
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def shade(image):
    """Return the number of the frame of ``write_video`` that ``image`` is, from 0."""
    return round(float(image.mean()) / STEP)


def write_video(path, frames=10, width=64, height=48):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*CODECS[path.suffix]), FPS, (width, height))
    for number in range(frames):
        writer.write(np.full((height, width, 3), number * STEP, np.uint8))
    writer.release()
    return path


def write_noise(path, frames=30):
    """Write a video whose frames take some room."""
    generator = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*CODECS[path.suffix]), FPS, (64, 48))
    for _ in range(frames):
        writer.write(generator.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


def jpeg(level):
    return cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes()


@dataclass
class Streams:
    """A server of MJPEG.

    Its paths: ``/live`` sends pictures until the end, ``/few`` ten, ``/stall`` ten and then nothing, ``/silent`` not
    even an answer; every other path is not there.

    Attributes:
        url: where it is.
        rate: pictures a second.
        connections: how often each path was asked for.
        most: connections to ``/few`` and ``/stall`` that are served; later ones get an error.
    """

    url: str = ""
    rate: float = 100.0
    connections: dict[str, int] = field(default_factory=dict)
    most: int = 1
    closed: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve_streams():
    """Run the server within the block."""
    streams = Streams()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            count = streams.connections[path] = streams.connections.get(path, 0) + 1
            if path == "/silent":
                streams.closed.wait()
            elif path not in ("/live", "/stall", "/few") or (path != "/live" and count > streams.most):
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--picture")
                self.end_headers()
                self.send_pictures({"/live": 10**6, "/stall": 10, "/few": 10}[path], path == "/stall")

        def send_pictures(self, count, stalls):
            try:
                for number in range(count):
                    content = jpeg(number % 250)
                    head = f"----picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
                    self.wfile.write(head.encode() + content + b"\r\n")
                    if streams.closed.wait(1 / streams.rate):
                        return
                if stalls:
                    streams.closed.wait()
            except OSError:  # the client has left
                pass

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    streams.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield streams
    finally:
        streams.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()


def stream_threads():
    """Return the threads of streams that are still there, after a moment to end."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [thread for thread in threading.enumerate() if thread.name.startswith("stream ")]
        if not left:
            return []
        time.sleep(0.02)
    return left
