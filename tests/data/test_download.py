import hashlib

import pytest

from tests.data.web import serve
from utils.data import download
from utils.data.download import FetchError, fetch
from utils.errors import UserError

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(monkeypatch):
    """Serve CONTENT as /x.bin; other tries come at once, and no proxy is asked."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("YOLOV5_OFFLINE", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with serve() as server:
        server.files["/x.bin"] = CONTENT
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "x.bin"


def test_fetches_once_and_whole(web, target):
    fetch(f"{web.url}/x.bin", target, DIGEST.upper())
    assert target.read_bytes() == CONTENT
    assert web.asked == [("/x.bin", None)]
    assert list(target.parent.iterdir()) == [target]


def test_file_url(target, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")  # no network is needed
    source = tmp_path / "sö urce.bin"
    source.write_bytes(CONTENT)
    fetch(source.as_uri(), target)
    assert target.read_bytes() == CONTENT


def test_broken_transfer_goes_on_where_it_stopped(web, target):
    web.cut = [1000]
    fetch(f"{web.url}/x.bin", target, DIGEST)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, None, "bytes=1000-"]  # the second asks for the version


def test_next_call_goes_on_where_the_last_stopped(web, target):
    web.cut = [1000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(FetchError, match="the connection ended after"):
        fetch(f"{web.url}/x.bin", target)
    assert not target.exists()
    web.cut, web.asked = [], []
    fetch(f"{web.url}/x.bin", target, DIGEST)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, "bytes=1000-"]


def test_starts_anew_without_ranges(web, target):
    web.ranges, web.cut = False, [1000]
    fetch(f"{web.url}/x.bin", target, DIGEST)
    assert target.read_bytes() == CONTENT
    assert {wanted for _, wanted in web.asked} == {None}


def test_starts_anew_when_the_file_has_changed(web, target):
    web.cut = [1000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(FetchError):
        fetch(f"{web.url}/x.bin", target)
    web.files["/x.bin"], web.etag, web.cut = CONTENT[::-1], '"2"', []
    fetch(f"{web.url}/x.bin", target)
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("code", [503, 429])
def test_a_busy_server_is_asked_again(web, target, code):
    web.errors = [code, code]
    fetch(f"{web.url}/x.bin", target, DIGEST)
    assert len(web.asked) == 3


def test_gives_up_after_some_tries(web, target):
    web.errors = [503] * 99
    with pytest.raises(FetchError, match="the server answers 503"):
        fetch(f"{web.url}/x.bin", target)
    assert len(web.asked) == download.TRIES


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_clear_no_is_not_asked_again(web, target, code):
    web.errors = [code]
    with pytest.raises(FetchError, match=f"the server answers {code}"):
        fetch(f"{web.url}/x.bin", target)
    assert len(web.asked) == 1 and not target.exists()


def test_wrong_digest_leaves_nothing(web, target):
    with pytest.raises(FetchError, match=f"it has the SHA-256 {DIGEST}, expected {'0' * 64}"):
        fetch(f"{web.url}/x.bin", target, "0" * 64)
    assert list(target.parent.iterdir()) == []


def test_redirects_are_followed_to_the_web_only(web, target, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    web.redirects = {"/good": f"{web.url}/x.bin", "/bad": (tmp_path / "secret").as_uri(), "/ftp": "ftp://127.0.0.1/x"}
    fetch(f"{web.url}/good", target, DIGEST)
    for path in ("/bad", "/ftp"):
        with pytest.raises(FetchError):
            fetch(web.url + path, target.with_name("other"))
    assert list(target.parent.iterdir()) == [target]


def test_redirect_from_https_to_http_is_refused():
    request = download.urllib.request.Request("https://example.org/x")
    with pytest.raises(FetchError, match="redirects from https to http, which is not followed"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/x")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "data:text/plain,x", "x.zip"])
def test_other_schemes_are_refused(target, url):
    with pytest.raises(FetchError, match="is none of http, https, file"):
        fetch(url, target)


def test_nobody_listens(web, target, unused_port):
    with pytest.raises(FetchError, match="refused"):
        fetch(f"http://127.0.0.1:{unused_port}/x.bin", target)
    assert not target.exists()


@pytest.fixture
def unused_port():
    with serve() as server:
        return int(server.url.rsplit(":", 1)[1])


def test_missing_local_file(target, tmp_path):
    with pytest.raises(FetchError, match="No such file"):
        fetch((tmp_path / "none").as_uri(), target)


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), ("False", False)]
)
def test_offline_switch(web, target, monkeypatch, value, offline):
    monkeypatch.setenv("YOLOV5_OFFLINE", value)
    if offline:
        with pytest.raises(FetchError, match="YOLOV5_OFFLINE is set"):
            fetch(f"{web.url}/x.bin", target)
    else:
        fetch(f"{web.url}/x.bin", target)
    assert bool(web.asked) != offline


def test_disk_too_small(web, target, monkeypatch):
    monkeypatch.setattr(download, "DISK_RESERVE", 1 << 60)
    with pytest.raises(UserError, match=r"needs 1\.0 MB, and its disk has 0 B to spare"):
        fetch(f"{web.url}/x.bin", target)


def test_interrupt_keeps_what_has_arrived(web, target, monkeypatch):
    chunks = iter([CONTENT[:1000]])

    def read(*_):
        try:
            return next(chunks)
        except StopIteration:
            raise KeyboardInterrupt from None

    with monkeypatch.context() as patch:
        patch.setattr(download, "_read", read)
        with pytest.raises(KeyboardInterrupt):
            fetch(f"{web.url}/x.bin", target)
    assert not target.exists()
    fetch(f"{web.url}/x.bin", target, DIGEST)
    assert web.asked[-1] == ("/x.bin", "bytes=1000-")
