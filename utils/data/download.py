"""One file from the internet: resumed after a break, checked, and in place only when it is whole."""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from zlib import crc32

from utils.data.archives import CHUNK, DISK_RESERVE, readable_size
from utils.errors import UserError
from utils.log import LOGGER, progress

SCHEMES = ("http", "https", "file")
OFFLINE = "YOLOV5_OFFLINE"  # environment variable; any value but 0 and false forbids the network
PATIENCE = 10.0  # s without an answer or a byte
TRIES = 4  # without any headway
HEADWAY = 16 << 20  # bytes more than ever before, after which tries are counted anew
PAUSE = 1.0  # s before the second try, doubled before each further one
PASSING_ERRORS = (408, 429, 500, 502, 503, 504)  # HTTP; worth another try
PARTIAL_CONTENT = 206
SYSTEM_REASONS = {"Name or service not known": "no internet connection, or no such host"}


class FetchError(Exception):
    """The file could not be had; the message says why, in a few words."""


class _Broken(FetchError):
    """The connection broke after ``done`` bytes of the file; another try may do better."""

    def __init__(self, reason: str, done: int = 0) -> None:
        super().__init__(reason)
        self.done = done


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, and from https to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise FetchError(f"the server redirects from {before} to {after}, which is not followed: {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_offline() -> bool:
    """Tell whether ``YOLOV5_OFFLINE`` forbids the network."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false")


def fetch(url: str, target: Path, sha256: str = "") -> None:
    """Download ``url`` to ``target``, which appears only when it is complete.

    What has arrived is kept in a hidden file beside ``target``; another call goes on from there if the server can and
    still has the same file.

    Args:
        url: ``http``, ``https`` or ``file``.
        target: its folder is made when missing.
        sha256: expected digest, 64 hexadecimal digits; not checked when empty.

    Raises:
        FetchError: there is no connection, no such file, or it has another digest.
        UserError: it is larger than the free space of the disk.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise FetchError(f"'{url}' is none of {', '.join(SCHEMES)}")
    if is_offline() and urlsplit(url).scheme != "file":
        raise FetchError(f"{OFFLINE} is set")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _fetch_patiently(url, target)
    if sha256:
        _check_digest(partial, sha256)
    partial.replace(target)


def _fetch_patiently(url: str, target: Path) -> Path:
    """Do as ``_fetch_once``, again when the connection breaks."""
    tries, most = 0, 0
    while True:
        try:
            return _fetch_once(url, target)
        except _Broken as error:
            tries = 1 if error.done >= most + HEADWAY else tries + 1
            most = max(most, error.done)
            if tries == TRIES:
                raise
            LOGGER.warning(f"WARNING: {target.name}: {error}; trying again")
            time.sleep(PAUSE * 2 ** (tries - 1))


def _fetch_once(url: str, target: Path) -> Path:
    """Download what is missing of ``url``, and return the hidden file that holds it whole."""
    answer = _open(url)
    try:
        total = int(answer.headers.get("Content-Length") or 0)
        partial = _partial_file(url, answer.headers, target)
        done = partial.stat().st_size if partial.exists() else 0
        if total and done == total:
            return partial
        if 0 < done < total and answer.headers.get("Accept-Ranges") == "bytes":
            answer.close()
            answer = _open(url, done)
        done = done if answer.status == PARTIAL_CONTENT else 0
        _check_space(target, total - done)
        with progress((), f"Fetching {target.name}", total or None, "B") as bar:
            bar.initial = bar.n = done
            with partial.open("ab" if done else "wb") as file:
                while chunk := _read(answer, done):
                    file.write(chunk)
                    done += len(chunk)
                    bar.update(len(chunk))
    finally:
        answer.close()
    if total and done != total:
        raise _Broken(f"the connection ended after {readable_size(done)} of {readable_size(total)}", done)
    return partial


def _open(url: str, start: int = 0) -> Any:
    """Return the server's answer to a request for ``url`` from byte ``start`` on."""
    headers = {"User-Agent": "yolov5-nam", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={start}-"} if start else {}))
    opener = urllib.request.build_opener(_Redirects)
    try:
        return opener.open(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        kind = _Broken if error.code in PASSING_ERRORS else FetchError
        raise kind(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        text = str(getattr(reason, "strerror", None) or reason)
        raise FetchError(SYSTEM_REASONS.get(text, text) or type(error).__name__) from error


def _read(answer: IO[bytes], done: int) -> bytes:
    try:
        return answer.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke ({error or type(error).__name__})", done) from error


def _partial_file(url: str, headers: Message, target: Path) -> Path:
    """Return where the beginning of ``url`` is kept; another file when the server's has changed."""
    version = headers.get("ETag") or headers.get("Last-Modified") or ""
    code = crc32(f"{url} {version} {headers.get('Content-Length')}".encode())
    return target.with_name(f".{target.name}-{code:08x}.part")


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free - DISK_RESERVE
    if needed > free:
        raise UserError(
            f"'{target}' needs {readable_size(needed)}, and its disk has {readable_size(max(free, 0))} to spare; "
            "free space, or set YOLOV5_DATASETS_DIR to a folder on another disk"
        )


def check_digest(file: Path, sha256: str) -> None:
    """Raise a FetchError unless ``file`` has the digest ``sha256``."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256.lower():
        raise FetchError(f"it has the SHA-256 {digest.hexdigest()}, expected {sha256.lower()}")


def _check_digest(partial: Path, sha256: str) -> None:
    try:
        check_digest(partial, sha256)
    except FetchError:
        partial.unlink()  # nothing to go on from
        raise
