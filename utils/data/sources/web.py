"""Addresses: what they mean, and images that are fetched from them."""

import http.client
import re
import string
import time
import urllib.error
import urllib.request
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from utils.data.download import is_offline
from utils.data.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix
from utils.data.sources.naming import masked
from utils.errors import UserError

STREAM_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp")
VIDEO_PAGES = ("youtube.com", "youtu.be", "youtube-nocookie.com")
MOST_BYTES = 100 << 20  # of an image
PATIENCE, LONGEST = 10.0, 60.0  # s without an answer or a byte, s in all
PIECE = 1 << 16  # bytes


def is_address(text: str) -> bool:
    """Tell whether ``text`` is the address of something on a network."""
    return "://" in text


def is_camera(text: str) -> bool:
    """Tell whether ``text`` is the number of a camera."""
    return text.isdecimal() and text.isascii()


def is_stream(text: str) -> bool:
    """Tell whether ``text`` means a camera or an address of neither an image nor a video file."""
    return is_camera(text) or (is_address(text) and not is_web_file(text, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))


def is_web_file(text: str, suffixes: tuple[str, ...]) -> bool:
    """Tell whether ``text`` is an http address whose path ends in one of ``suffixes``."""
    return text.lower().startswith(("http://", "https://")) and has_suffix(path_of(text), suffixes)


def path_of(address: str) -> str:
    """Return the path of an address: neither its host nor its query."""
    return re.split("[?#]", address, maxsplit=1)[0].partition("://")[2].partition("/")[2]


def check_address(address: str) -> None:
    """Raise a UserError for an address of which nothing can be had."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise UserError(f"--source '{masked(address)}' is no address: {error}") from error
    if parts.scheme.lower() not in STREAM_SCHEMES:
        raise UserError(
            f"--source '{masked(address)}': '{parts.scheme}' is not supported; expected {', '.join(STREAM_SCHEMES)}"
        )
    host = (parts.hostname or "").lower()
    if not host:
        raise UserError(f"--source '{masked(address)}' has no host; expected an address like 'rtsp://camera/stream'")
    if any(host == page or host.endswith(f".{page}") for page in VIDEO_PAGES):
        raise UserError(
            f"--source '{masked(address)}' is a page, no video; save its video to a file (yt-dlp does that), "
            "and give the file"
        )


def check_online(address: str) -> None:
    """Raise a UserError when the network is forbidden."""
    if is_offline():
        raise UserError(f"'{masked(address)}' cannot be fetched: YOLOV5_OFFLINE is set; unset it, or give a file")


def fetch_image(address: str) -> np.ndarray:
    """Return the (n,) uint8 content of the image file at ``address``.

    Raises:
        UserError: it cannot be had, is too large or takes too long; the message begins with the quoted address.
    """
    check_online(address)
    name = masked(address)
    try:
        return np.frombuffer(_download(address), np.uint8)
    except urllib.error.HTTPError as error:
        raise UserError(f"'{name}' cannot be fetched: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise UserError(f"'{name}' cannot be fetched: {why}") from error


def _download(address: str) -> bytes:
    """Return what is at ``address``. A ValueError says that it is too much or too slow."""
    begun, content = time.monotonic(), bytearray()
    with _open(address) as answer:
        while piece := answer.read1(PIECE):
            content += piece
            if len(content) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
            if time.monotonic() - begun > LONGEST:
                raise ValueError(f"it takes longer than {LONGEST:.0f} s")
    promised = int(answer.headers.get("Content-Length") or len(content))
    if len(content) < promised:
        raise ValueError(f"the connection ended after {len(content)} of {promised} bytes")
    return bytes(content)


def _open(address: str) -> http.client.HTTPResponse:
    """Ask for ``address``; user name and password in it are sent as the server wants them."""
    parts = urlsplit(address)
    bare = quote(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), safe=string.punctuation)
    request = urllib.request.Request(bare, headers={"User-Agent": "yolov5-nam", "Accept-Encoding": "identity"})
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, bare, unquote(parts.username or ""), unquote(parts.password or ""))
    handlers = [urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)]
    opener = urllib.request.build_opener(*(handlers if parts.username else ()))
    return opener.open(request, timeout=PATIENCE)
