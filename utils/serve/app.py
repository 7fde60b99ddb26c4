"""The server's answers: the page, detection as JSON, and what there is to know about the model."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np

from utils.detect.detector import Detected, Detector
from utils.eval.draw import PALETTE
from utils.serve.answers import Answer, Found, Problem, Record, Steps, Thresholds, answer, asked, records
from utils.serve.gate import Gate
from utils.serve.limits import KINDS_SHOWN, Limits, Refusal, decode_upload
from utils.serve.page import demo_page

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

Number = TypeVar("Number", int, float)

ERRORS = {
    400: "damaged image or request",
    403: "asked by a page of another site, or under a name that is not allowed",
    408: "the upload took too long",
    413: "too large an upload or image",
    415: "no image of a kind that is taken",
    422: "wrong parameter",
    503: "busy; Retry-After says when to come back",
    504: "the work took too long",
}
NOT_FOUND = "there is no such page; detection is POST /v1/detect, and /openapi.json describes all"


Detect = Callable[[np.ndarray, Thresholds], Detected]
"""Finds the objects of an (H, W, C) uint8 image, called by several threads at once."""


@dataclass(frozen=True)
class Model:
    """What the server shows of its model.

    Attributes:
        name: of its file, without suffix.
        names: of the classes, by index.
        size_hw: of its input, px.
        channels: of the images it takes.
    """

    name: str
    names: dict[int, str]
    size_hw: tuple[int, int] = (640, 640)
    channels: int = 3


def detect_with(detector: Detector) -> Detect:
    """Return ``detector`` as a function that takes other thresholds with every image."""

    def detect(image: np.ndarray, thresholds: Thresholds) -> Detected:
        settings = dataclasses.replace(detector.settings, **dataclasses.asdict(thresholds))
        return dataclasses.replace(detector, settings=settings)(image, "upload")

    return detect


@dataclass
class Service:
    """Detects in a few threads what requests bring."""

    detect: Detect
    model: Model
    defaults: Thresholds = field(default_factory=Thresholds)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="detect")

    async def find(self, content: bytes, thresholds: Thresholds) -> Found:
        """Detect in an upload when a thread is free for it. What is cancelled before is not done."""
        came = time.perf_counter()
        return await asyncio.get_running_loop().run_in_executor(self.pool, self._find, content, thresholds, came)

    def _find(self, content: bytes, thresholds: Thresholds, came: float) -> Found:
        began = time.perf_counter()
        image = decode_upload(content, self.model.channels, self.limits.pixels)
        height, width = image.shape[:2]
        decoded = time.perf_counter()
        detected = self.detect(image, thresholds)
        prepare, network, suppression = detected.seconds
        steps: Steps = {
            "wait": _milliseconds(began - came),
            "decode": _milliseconds(decoded - began),
            "prepare": _milliseconds(prepare),
            "network": _milliseconds(network),
            "suppression": _milliseconds(suppression),
            "total": _milliseconds(time.perf_counter() - came),
        }
        return Found((height, width), detected, steps)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)


def make_app(service: Service, hosts: Sequence[str] | None = None) -> Gate:
    """Return the ASGI application.

    Args:
        service: see there; its threads end with the application.
        hosts: names by which clients may call it; None for any.
    """
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title=f"YOLOv5-NAM: {service.model.name}",
        version="1",
        description="Finds the objects of an image.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    gate = Gate(app, service.limits, hosts)
    _add_errors(app)
    _add_information(app, service, gate)
    _add_detection(app, service)
    return gate


def _add_errors(app: "FastAPI") -> None:
    """Answer every error with one line of JSON; what is the program's own fault is told to its log only."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    def tell(status: int, message: str, headers: Mapping[str, str] | None = None) -> "Response":
        return JSONResponse({"error": " ".join(message.split())}, status, headers)

    @app.exception_handler(Refusal)
    async def refused(_: "Request", error: Refusal) -> "Response":
        return tell(error.status, error.message)

    @app.exception_handler(HTTPException)
    async def failed(_: "Request", error: HTTPException) -> "Response":
        return tell(error.status_code, NOT_FOUND if error.status_code == 404 else error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: "Request", error: RequestValidationError) -> "Response":
        return tell(422, "; ".join(f"{one['loc'][-1]}: {_fault(one['msg'])}" for one in error.errors()))

    @app.exception_handler(Exception)
    async def faulty(_: "Request", error: Exception) -> "Response":
        return tell(500, "the server failed on this request; its log says why")


def _fault(message: str) -> str:
    return "expected a file, not text" if "UploadFile" in message else message


def _add_information(app: "FastAPI", service: Service, gate: Gate) -> None:
    from fastapi.responses import HTMLResponse

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        html, policy = demo_page()
        return HTMLResponse(html, headers={"content-security-policy": policy})

    @app.get("/health", summary="Is the server there, and how busy is it?")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "requests": gate.inside, "most_requests": service.limits.requests}

    @app.get("/v1/model", summary="Classes and settings")
    async def model() -> dict[str, Any]:
        return {
            "name": service.model.name,
            "names": service.model.names,
            "input": dict(zip(("height", "width"), service.model.size_hw, strict=True)),
            "defaults": asked(service.defaults),
            "limits": {"upload_bytes": service.limits.upload, "pixels": service.limits.pixels},
            "colours": [f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in PALETTE],
        }


def _first(in_query: Number | None, in_form: Number | None, default: Number) -> Number:
    return next((value for value in (in_query, in_form) if value is not None), default)


def _add_detection(app: "FastAPI", service: Service) -> None:
    from fastapi import Depends, File, Form, Query, UploadFile

    share = {"ge": 0, "le": 1}
    count = {"ge": 1, "le": service.defaults.max_detections}

    async def thresholds(
        conf: Annotated[float | None, Query(**share, description="least score of a detection")] = None,
        iou: Annotated[float | None, Query(**share, description="overlap above which a weaker box is dropped")] = None,
        max_det: Annotated[int | None, Query(**count, description="most detections")] = None,
        conf_field: Annotated[float | None, Form(alias="conf", **share)] = None,
        iou_field: Annotated[float | None, Form(alias="iou", **share)] = None,
        max_det_field: Annotated[int | None, Form(alias="max_det", **count)] = None,
    ) -> Thresholds:
        defaults = service.defaults
        return Thresholds(
            _first(conf, conf_field, defaults.confidence),
            _first(iou, iou_field, defaults.iou),
            _first(max_det, max_det_field, defaults.max_detections),
        )

    image_file = Annotated[UploadFile, File(description=f"a {KINDS_SHOWN} image")]
    wanted = Annotated[Thresholds, Depends(thresholds)]
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": meaning, "model": Problem} for status, meaning in ERRORS.items()
    }

    @app.post("/v1/detect", summary="Find the objects of an image", responses=errors)
    async def detect(image: image_file, thresholds: wanted) -> Answer:  # type: ignore[valid-type]
        found = await service.find(await image.read(), thresholds)
        return answer(found, service.model.name, service.model.names, thresholds)

    @app.post("/v1/object-detection/{name}", summary="The same as YOLOv5 v6.1's server says it", responses=errors)
    async def as_v61(name: str, image: image_file, thresholds: wanted) -> list[Record]:  # type: ignore[valid-type]
        if name != service.model.name:
            raise Refusal(404, f"no model '{name[:100]}' here; there is '{service.model.name}'")
        found = await service.find(await image.read(), thresholds)
        return records(found, service.model.names)
