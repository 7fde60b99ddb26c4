"""A web server on this machine for tests of downloads, with the moods of real ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What the server has and how it behaves.

    Attributes:
        files: path -> content.
        ranges: whether parts can be asked for.
        cut: how many bytes each of the next answers sends before the connection ends.
        errors: status codes of the next answers.
        redirects: path -> URL.
        etag: changes when the files do.
        asked: (path, Range header) of every request.
        handler: answers requests.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    etag: str = '"1"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    handler: type[BaseHTTPRequestHandler] = BaseHTTPRequestHandler


@contextmanager
def serve() -> Iterator[Web]:
    """Run the server within the block."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            web.asked.append((self.path, wanted))
            if web.errors:
                self.send_error(web.errors.pop(0))
            elif self.path in web.redirects:
                self.send_response(302)
                self.send_header("Location", web.redirects[self.path])
                self.end_headers()
            elif self.path not in web.files:
                self.send_error(404)
            else:
                self.answer(web.files[self.path], wanted)

        def answer(self, content, wanted):
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and web.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", web.etag)
            if web.ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            end = start + web.cut.pop(0) if web.cut else len(content)
            self.wfile.write(content[start:end])

        def log_message(self, *_):
            pass

    web.handler = Handler
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # clients may leave
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
