"""Addresses, and what is fetched from them."""

import base64

import pytest

from tests.data.web import serve
from utils.data.sources import load_source, web
from utils.data.sources.web import fetch_image, is_address, is_camera, is_stream
from utils.errors import UserError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("YOLOV5_OFFLINE", raising=False)
    with serve() as running:
        yield running


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("0", (False, True, True)),
        ("12", (False, True, True)),
        ("-1", (False, False, False)),
        ("٣", (False, False, False)),
        ("a.jpg", (False, False, False)),
        ("rtsp://host/a.mp4", (True, False, True)),
        ("rtmp://host/live", (True, False, True)),
        ("http://host/stream", (True, False, True)),
        ("http://host", (True, False, True)),
        ("http://host.jpg", (True, False, True)),
        ("HTTPS://host/a.JPG?size=1#x", (True, False, False)),
        ("http://host/a.mp4", (True, False, False)),
        ("http://host/stream?file=a.jpg", (True, False, True)),
    ],
)
def test_kinds(text, kinds):
    assert (is_address(text), is_camera(text), is_stream(text)) == kinds


def test_content(server):
    server.files["/a.png"] = b"x" * 100_000
    server.redirects["/b.png"] = f"{server.url}/a.png"
    assert (
        fetch_image(f"{server.url}/a.png").tobytes() == fetch_image(f"{server.url}/b.png").tobytes() == b"x" * 100_000
    )


def test_letters_that_addresses_do_not_have(server):
    server.files["/%C3%B6%20%C3%BC.png"] = b"x"
    assert fetch_image(f"{server.url}/ö ü.png").tobytes() == fetch_image(f"{server.url}/%C3%B6%20%C3%BC.png").tobytes()


def test_passwords_are_sent_when_asked_for_and_not_shown(server, monkeypatch):
    sent = []

    def answer(self):
        sent.append(self.headers.get("Authorization"))
        if sent[-1]:
            self.send_error(403)
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()

    monkeypatch.setattr(server.handler, "do_GET", answer)
    with pytest.raises(UserError, match="the server answers 403") as error:
        fetch_image(server.url.replace("://", "://me:p%40ss@") + "/a.png")
    assert "p%40ss" not in str(error.value) and "://***@" in str(error.value)
    assert sent == [None, "Basic " + base64.b64encode(b"me:p@ss").decode()]


@pytest.mark.parametrize(("status", "said"), [(404, "the server answers 404"), (500, "the server answers 500")])
def test_server_that_refuses(server, status, said):
    server.errors.append(status)
    with pytest.raises(UserError, match=said):
        fetch_image(f"{server.url}/a.png")


def test_connection_that_breaks_off(server):
    server.files["/a.png"] = b"x" * 1000
    server.cut.append(10)
    with pytest.raises(UserError, match="connection ended after 10 of 1000 bytes"):
        fetch_image(f"{server.url}/a.png")


def test_limits(server, monkeypatch):
    server.files["/a.png"] = b"x" * 100_000
    monkeypatch.setattr(web, "MOST_BYTES", 1 << 10)
    with pytest.raises(UserError, match="has more than"):
        fetch_image(f"{server.url}/a.png")
    monkeypatch.setattr(web, "MOST_BYTES", 1 << 30)
    monkeypatch.setattr(web, "LONGEST", -1)
    with pytest.raises(UserError, match="it takes longer"):
        fetch_image(f"{server.url}/a.png")


def test_nobody_there_and_no_files_of_this_machine(server):
    with pytest.raises(UserError, match=r"a\.png' cannot be fetched: "):
        fetch_image("http://127.0.0.1:9/a.png")
    server.redirects["/b.png"] = "file:///etc/passwd"
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch_image(f"{server.url}/b.png")


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_offline(server, monkeypatch, name):
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    source = load_source(f"{server.url}/{name}")
    assert len(source) == (name == "a.png")
    with pytest.raises(UserError, match="cannot be fetched: YOLOV5_OFFLINE is set"):
        list(source)
    assert server.asked == []
