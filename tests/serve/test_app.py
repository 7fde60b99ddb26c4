import dataclasses
import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.serve.conftest import encode, expected_of, picture, running
from tests.serve.test_limits import png_of_size
from utils.files import ROOT
from utils.serve.answers import Thresholds
from utils.serve.options import ServeOptions


def upload(content: bytes) -> dict:
    return {"image": ("any name", content, "application/octet-stream")}


def test_an_image_is_answered_with_its_objects(client_of):
    reply = client_of().post("/v1/detect", files=upload(picture(513)))
    assert reply.status_code == 200
    answer = reply.json()
    assert answer["detections"] == [expected_of(513)]
    assert answer["image"] == {"width": 30 + 513 % 40, "height": 20 + 513 % 50}
    assert answer["model"] == "pixels"
    assert answer["thresholds"] == {"conf": 0.25, "iou": 0.45, "max_det": 1000}
    steps = answer["milliseconds"]
    assert (steps["prepare"], steps["network"], steps["suppression"]) == (1, 2, 3)
    assert set(steps) == {"wait", "decode", "prepare", "network", "suppression", "total"}


@pytest.mark.parametrize(
    ("query", "fields", "expected"),
    [
        ("", {}, Thresholds()),
        ("?conf=0.5&iou=0.6&max_det=7", {}, Thresholds(0.5, 0.6, 7)),
        ("", {"conf": "0.5", "iou": "0.6", "max_det": "7"}, Thresholds(0.5, 0.6, 7)),
        ("?conf=0", {"iou": "1"}, Thresholds(0, 1)),
        ("?conf=0.1", {"conf": "0.9"}, Thresholds(0.1)),
    ],
)
def test_thresholds_come_in_the_query_or_the_form(client_of, detector, query, fields, expected):
    assert client_of().post(f"/v1/detect{query}", files=upload(picture(1)), data=fields).status_code == 200
    assert detector.asked == [expected]


def test_the_address_of_v61_answers_with_records(client_of):
    client = client_of()
    reply = client.post("/v1/object-detection/pixels", files=upload(picture(4)))
    sides = {"xmin": 0.0, "ymin": 4.0, "xmax": 300.0, "ymax": 400.0}
    assert reply.json() == [sides | {"confidence": 0.5, "class": 1, "name": "dog"}]
    other = client.post("/v1/object-detection/yolov5x", files=upload(picture(4)))
    assert other.status_code == 404
    assert other.json() == {"error": "no model 'yolov5x' here; there is 'pixels'"}


@pytest.mark.parametrize(
    ("query", "files", "status", "says"),
    [
        ("?conf=1.5", upload(picture(1)), 422, "conf: "),
        ("?conf=nan", upload(picture(1)), 422, "conf: "),
        ("?iou=-1", upload(picture(1)), 422, "iou: "),
        ("?max_det=0", upload(picture(1)), 422, "max_det: "),
        ("?max_det=1001", upload(picture(1)), 422, "max_det: "),
        ("?conf=high", upload(picture(1)), 422, "conf: "),
        ("", {"photo": ("a.png", picture(1))}, 422, "image: "),
        ("", {"image": (None, "http://169.254.169.254/")}, 422, "image: expected a file, not text"),
        ("", {"image": (None, "/etc/passwd")}, 422, "image: expected a file, not text"),
        ("", upload(b""), 400, "empty"),
        ("", upload(picture(1)[:-30]), 400, "damaged"),
        ("", upload(b"hello"), 415, "no JPEG"),
        ("", upload(png_of_size(9000, 9000)), 413, "9000x9000"),
        ("", upload(png_of_size(20_000, 20_000)), 413, "far too many pixels"),
        ("", upload(picture(1)) | {"conf": (None, "0" * 2_000_000)}, 400, "maximum size"),
        ("", upload(picture(1)) | {f"field{number}": (None, "1") for number in range(1001)}, 400, "fields"),
    ],
)
def test_mistakes_of_clients_get_one_line(client_of, detector, query, files, status, says):
    reply = client_of().post(f"/v1/detect{query}", files=files)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert says in reply.json()["error"]
    assert "\n" not in reply.json()["error"]
    assert detector.asked == []


@pytest.mark.parametrize("content_type", ["image/png", "application/json", ""])
def test_other_bodies_than_forms_are_refused(client_of, content_type):
    reply = client_of().post("/v1/detect", content=picture(1), headers={"content-type": content_type})
    assert (reply.status_code, "multipart" in reply.json()["error"]) == (415, True)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "GET"])
def test_other_methods_are_named_as_wrong(client_of, method):
    reply = client_of().request(method, "/v1/detect", headers={"content-type": "multipart/form-data; boundary=b"})
    assert (reply.status_code, reply.headers["allow"], list(reply.json())) == (405, "POST", ["error"])


def test_large_json_is_refused(client_of):
    reply = client_of().post("/v1/detect", json={"image": "A" * 3_000_000})
    assert (reply.status_code, list(reply.json())) == (415, ["error"])


def test_a_form_that_breaks_off_is_refused(client_of):
    form = {"content-type": "multipart/form-data; boundary=b"}
    reply = client_of().post("/v1/detect", content=b"--b\r\nContent-Disposition: nonsense", headers=form)
    assert reply.status_code in (400, 422)
    assert list(reply.json()) == ["error"]


@pytest.mark.parametrize("with_length", [True, False])
def test_uploads_above_the_limit_are_refused(client_of, detector, with_length):
    client = client_of(upload=5000)
    body = httpx.Request("POST", "http://x", files=upload(bytes(5000)))
    content = body.read() if with_length else iter([body.read()[:3000], body.read()[3000:]])
    reply = client.post("/v1/detect", content=content, headers={"content-type": body.headers["content-type"]})
    assert (reply.status_code, reply.json()["error"]) == (413, "the upload is larger than the 0.005 MB that are taken")
    assert ("content-length" in reply.request.headers) == with_length
    assert detector.asked == []
    assert client.post("/v1/detect", files=upload(picture(1))).status_code == 200


def test_what_fails_inside_is_told_to_the_log_only(client_of, detector, monkeypatch):
    monkeypatch.setattr(type(detector), "__call__", lambda *_: 1 / 0)
    client = client_of()
    reply = client.post("/v1/detect", files=upload(picture(1)))
    assert reply.status_code == 500
    assert reply.json() == {"error": "the server failed on this request; its log says why"}
    assert client.get("/health").json()["requests"] == 0


def test_a_request_that_takes_too_long_is_ended(client_of, detector):
    detector.go.clear()
    client = client_of(seconds=0.2)
    reply = client.post("/v1/detect", files=upload(picture(1)))
    assert (reply.status_code, reply.json()["error"]) == (504, "the work on this image took longer than 0.2 s")
    detector.go.set()
    assert client.post("/v1/detect", files=upload(picture(2))).json()["detections"] == [expected_of(2)]


def request_of(address: str, content: bytes) -> tuple[socket.socket, bytes]:
    """Return a connection to a server and the bytes that ask it for the objects of an image."""
    body = httpx.Request("POST", f"{address}/v1/detect", files=upload(content))
    head = "".join(f"{key}: {value}\r\n" for key, value in body.headers.items())
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    return connection, f"POST /v1/detect HTTP/1.1\r\n{head}\r\n".encode() + body.read()


def test_an_upload_that_never_ends_is_given_up(detector):
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")
    with running(detector, workers=1, queue=0, seconds=0.3) as address:
        connection, content = request_of(address, picture(1))
        with connection:
            connection.sendall(content[:-10])
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        assert httpx.post(f"{address}/v1/detect", files=upload(picture(2))).json()["detections"] == [expected_of(2)]
    assert len(detector.asked) == 1


def test_who_has_left_is_not_worked_for(detector):
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")
    detector.go.clear()
    with running(detector, workers=1, queue=2) as address, ThreadPoolExecutor(1) as threads:
        first = threads.submit(httpx.post, f"{address}/v1/detect", files=upload(picture(1)), timeout=30)
        assert detector.begun.acquire(timeout=10)
        waiting = [request_of(address, picture(number)) for number in (2, 3)]
        for connection, content in waiting:
            connection.sendall(content)
        busy = lambda: httpx.get(f"{address}/health").json()["requests"]  # noqa: E731
        wait_until(lambda: busy() == 3)
        for connection, _ in waiting:
            connection.close()
        wait_until(lambda: busy() == 1)
        detector.go.set()
        assert first.result().json()["detections"] == [expected_of(1)]
        assert httpx.post(f"{address}/v1/detect", files=upload(picture(4))).json()["detections"] == [expected_of(4)]
    assert len(detector.asked) == 2


def test_overload_is_refused_and_passes(client_of, detector):
    detector.go.clear()
    client = client_of(workers=2, queue=3)
    with ThreadPoolExecutor(5) as threads:
        inside = [threads.submit(client.post, "/v1/detect", files=upload(picture(number))) for number in range(5)]
        for _ in range(2):
            assert detector.begun.acquire(timeout=10)
        wait_until(lambda: client.get("/health").json()["requests"] == 5)
        refused = client.post("/v1/detect", files=upload(picture(9)))
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "busy" in refused.json()["error"]
        detector.go.set()
        assert [work.result().json()["detections"] for work in inside] == [[expected_of(n)] for n in range(5)]
    assert client.post("/v1/detect", files=upload(picture(9))).json()["detections"] == [expected_of(9)]
    assert client.get("/health").json() == {"status": "ok", "requests": 0, "most_requests": 5}


def wait_until(condition) -> None:
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it never came true")


@pytest.mark.parametrize(("queue", "all_answered"), [(14, True), (1, False)])
def test_sixteen_clients_lose_and_mix_up_nothing(detector, queue, all_answered):
    pytest.importorskip("uvicorn", reason="the server needs uvicorn")

    def ask(first: int) -> list[tuple[int, httpx.Response]]:
        with httpx.Client(base_url=address, timeout=30) as client:
            numbers = range(first, first + 12)
            return [(number, client.post("/v1/detect", files=upload(picture(number)))) for number in numbers]

    with running(detector, workers=2, queue=queue) as address, ThreadPoolExecutor(16) as threads:
        replies = [reply for replies in threads.map(ask, range(0, 16 * 100, 100)) for reply in replies]
    assert len(replies) == 16 * 12
    for number, reply in replies:
        assert reply.status_code in ((200,) if all_answered else (200, 503))
        if reply.status_code == 200:
            assert reply.json()["detections"] == [expected_of(number)]
    answered = sum(reply.status_code == 200 for _, reply in replies)
    assert answered == len(detector.asked)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:5000"}, 200),
        ({"host": "[::1]:5000"}, 200),
        ({"host": "127.0.0.1:5000", "origin": "http://127.0.0.1:5000"}, 200),
        ({"host": "vision.example.org", "origin": "https://vision.example.org"}, 200),
        ({"host": "rebound.example.com"}, 403),
        ({"host": "localhost.example.com:5000"}, 403),
        ({"host": ""}, 403),
        ({"host": "[broken"}, 403),
        ({"host": "localhost:5000", "origin": "http://localhost:8000"}, 403),
        ({"host": "localhost:5000", "origin": "https://example.com"}, 403),
        ({"host": "localhost:5000", "origin": "null"}, 403),
        ({"host": "localhost:5000", "origin": "http://[broken"}, 403),
    ],
)
def test_pages_of_other_sites_are_kept_out(client_of, headers, status):
    client = client_of(hosts=["localhost", "127.0.0.1", "::1", "vision.example.org"])
    reply = client.post("/v1/detect", files=upload(picture(1)), headers=headers)
    assert reply.status_code == status
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("path", ["/", "/health", "/v1/model", "/openapi.json", "/nothing", "/v1/detect"])
def test_every_answer_is_locked_down(client_of, path):
    reply = client_of().get(path)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert reply.status_code == {"/nothing": 404, "/v1/detect": 405}.get(path, 200)
    assert (list(reply.json()) == ["error"]) if reply.status_code > 200 else reply.content


def test_the_page_fetches_nothing_from_elsewhere(client_of):
    page = client_of().get("/")
    assert "{{" not in page.text
    assert not any(word in page.text for word in ("http://", "src=", "@import", "url("))
    assert "unsafe-inline" not in page.headers["content-security-policy"]


def test_openapi_describes_fields_answers_and_errors(client_of):
    description = client_of().get("/openapi.json").json()
    detect = description["paths"]["/v1/detect"]["post"]
    assert {parameter["name"] for parameter in detect["parameters"]} == {"conf", "iou", "max_det"}
    assert set(detect["responses"]) >= {"200", "400", "413", "415", "422", "503"}
    assert set(description["components"]["schemas"]["Answer"]["properties"]) >= {"image", "detections", "milliseconds"}
    assert set(description["components"]["schemas"]["Object"]["properties"]) == {"box", "score", "class", "name"}


def test_the_page_on_serving_says_what_is_so(client_of):
    """Fields of the example, addresses, and limits with their defaults."""
    page = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    said, answer = json.loads(example), client_of().post("/v1/detect", files=upload(picture(1))).json()
    assert said.keys() == answer.keys()
    for part in ("image", "thresholds", "milliseconds"):
        assert said[part].keys() == answer[part].keys()
    assert said["detections"][0].keys() == answer["detections"][0].keys()
    documented = {path.replace("{name}", "<model>") for path in client_of().get("/openapi.json").json()["paths"]}
    assert documented <= set(re.findall(r"`(?:GET|POST) (\S+?)`", page))
    options = {option.name: option.default for option in dataclasses.fields(ServeOptions)}
    limits = dict(re.findall(r"^\| `--([a-z-]+)` \| ([0-9]+) \|", page, re.MULTILINE))
    assert {name: options[name.replace("-", "_")] for name in limits} == {key: float(n) for key, n in limits.items()}
    assert {"max-upload", "max-pixels", "queue", "timeout"} == limits.keys()
    named = {name.replace("-", "_") for name in re.findall(r"`--([a-z-]+)", page)}
    assert named <= options.keys()


def test_the_model_is_described(client_of):
    model = client_of(upload=1234).get("/v1/model").json()
    assert model["names"] == {"0": "cat", "1": "dog", "2": "owl"}
    assert model["input"] == {"height": 640, "width": 640}
    assert model["limits"]["upload_bytes"] == 1234
    assert model["colours"][0] == "#e6194b"


def test_a_real_model_answers_as_the_detector_does(tiny_weights):
    from fastapi.testclient import TestClient

    from utils.serve.__main__ import make_service
    from utils.serve.app import make_app

    options = ServeOptions(weights=[str(tiny_weights)], imgsz=[128], conf_thres=0.001, device="cpu", max_det=20)
    service = make_service(options)
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    with TestClient(make_app(service)) as client:
        answer = client.post("/v1/detect", files=upload(encode(image))).json()
        fewer = client.post("/v1/detect?max_det=3", files=upload(encode(image))).json()
    expected = service.detect(image[..., ::-1].copy(), service.defaults).detections
    assert 3 < len(expected) <= 20
    assert [one["class"] for one in answer["detections"]] == expected.classes.tolist()
    assert np.allclose([one["box"] for one in answer["detections"]], expected.boxes, atol=0.01)
    assert fewer["detections"] == answer["detections"][:3]
    assert service.limits.workers >= 1
