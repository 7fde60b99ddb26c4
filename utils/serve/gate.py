"""The door of the server: who may come in, how many, with how much, and for how long. Plain ASGI."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from utils.serve.limits import MEGABYTE, Limits, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
RETRY_SECONDS = 1
LOCKED_DOWN = "default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
    "content-security-policy": LOCKED_DOWN,
}


class Gate:
    """Stands before an application and lets through what keeps to the limits; whole uploads only, held in memory.

    Attributes:
        application: what answers.
        limits: see there.
        hosts: names by which clients may call the server, against DNS rebinding; None for any.
        inside: uploads that are being worked on.
    """

    def __init__(self, application: Application, limits: Limits, hosts: Sequence[str] | None) -> None:
        self.application = application
        self.limits = limits
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self.inside = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or let the application do so."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            self._check_origin(headers)
            if scope["method"] == "POST":
                await self._take_upload(scope, headers, receive, answer)
            else:  # no other method is given a body to read
                await self.application(scope, receive, answer)
        except Refusal as refusal:
            await answer.refuse(refusal)

    def _check_origin(self, headers: MutableMapping[str, str]) -> None:
        """Refuse what other web pages make a browser ask for: under a foreign name, or from their own."""
        host = headers.get("host", "")
        if self.hosts is not None and _host_name(f"//{host}") not in self.hosts:
            raise Refusal(403, "this server is not known by that name; name it with --allowed-hosts")
        origin = headers.get("origin")
        if origin is not None and _authority(origin) != host.lower():
            raise Refusal(403, "pages of other sites may not use this server")

    async def _take_upload(
        self, scope: Message, headers: MutableMapping[str, str], receive: Receive, answer: "_Answer"
    ) -> None:
        """Hold the upload in memory and let the application work on it, if there is room for one more."""
        upload = _Upload(receive, self.limits.upload)
        full = self.inside >= self.limits.requests
        with answer.place:
            if not full:
                self.inside += 1
                answer.place.callback(self._leave)
            try:
                work = upload.drop() if full else self._answer(scope, headers, upload, answer)
                await asyncio.wait_for(work, self.limits.seconds)
            except asyncio.TimeoutError:
                late, status = ("the work on this image", 504) if upload.ended else ("the upload", 408)
                raise Refusal(status, f"{late} took longer than {self.limits.seconds:g} s") from None
        if full:
            raise Refusal(503, "busy with other images; try again in a moment")

    def _leave(self) -> None:
        self.inside -= 1

    async def _answer(
        self, scope: Message, headers: MutableMapping[str, str], upload: "_Upload", answer: "_Answer"
    ) -> None:
        length = headers.get("content-length", "")
        try:
            if length.isdecimal() and int(length) > self.limits.upload:
                raise _too_large(self.limits.upload)
            if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
                raise Refusal(415, "expected multipart/form-data with a file named 'image'")
            await upload.read()
        except Refusal:
            await upload.drop()
            raise
        await _while_wanted(self.application(scope, upload.replay, answer), upload, answer)


async def _while_wanted(work: Awaitable[None], upload: "_Upload", answer: "_Answer") -> None:
    """Let ``work`` be done, unless the client leaves first: nobody would read the answer, and others wait."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(upload.wait_for_leave())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done() or answer.begun:
            await working
    finally:
        leaving.cancel()
        if working.cancel():
            await asyncio.wait((working,))


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"the upload is larger than the {most / MEGABYTE:g} MB that are taken")


class _Upload:
    """A request's body, read whole and given on as one message.

    Attributes:
        ended: nothing more is to come.
    """

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive = receive
        self.most = most
        self.content = b""
        self.ended = False
        self.given = False

    async def _next(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            self.ended = True
            raise Refusal(400, "the upload was broken off")
        self.ended = not message.get("more_body", False)
        return message.get("body", b"")

    async def read(self) -> None:
        """Read the body, counting, for nobody has to say its length, or the truth.

        Raises:
            Refusal: it is larger than allowed, or the client has left.
        """
        parts, size = [], 0
        while not self.ended:
            parts.append(await self._next())
            size += len(parts[-1])
            if size > self.most:
                raise _too_large(self.most)
        self.content = b"".join(parts)

    async def drop(self) -> None:
        """Read what is left into nowhere, as much as could be taken: clients that still send miss an answer."""
        left = self.most
        while left > 0 and not self.ended:
            left -= len(await self._next())

    async def wait_for_leave(self) -> None:
        """Return when the client has left."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def replay(self) -> Message:
        """Be the application's ``receive``."""
        if self.given:
            return await self.receive()
        self.given = True
        return {"type": "http.request", "body": self.content, "more_body": False}


class _Answer:
    """An application's ``send`` that adds the headers.

    Attributes:
        begun: the answer has begun.
        place: of the request; closed before the last word, for who has heard it may ask again at once.
    """

    def __init__(self, send: Send) -> None:
        self.send = send
        self.begun = False
        self.place = ExitStack()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            own = {key.lower() for key, _ in message.get("headers", [])}
            added = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in own]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        elif not message.get("more_body", False):
            self.place.close()
        await self.send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, unless another answer has begun."""
        if self.begun:
            return
        body = json.dumps({"error": refusal.message}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refusal.status == 503:
            headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
        await self({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
