import struct
import zlib

import numpy as np
import pytest

from tests.serve.conftest import encode
from utils.serve.limits import Limits, Refusal, decode_upload

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims to be large."""
    content = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", content), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_images_arrive_as_bgr(kind):
    assert np.array_equal(decode_upload(encode(NOISE, kind), 3, 10**6), NOISE[..., ::-1])


@pytest.mark.parametrize(("channels", "shape"), [(3, (40, 60, 3)), (1, (40, 60, 1))])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_images_get_the_channels_of_the_model(kind, channels, shape):
    assert decode_upload(encode(NOISE, kind), channels, 10**6).shape == shape


def test_bytes_after_the_end_do_no_harm():
    content = encode(NOISE, "JPEG")
    assert np.array_equal(decode_upload(content + b"trailer", 3, 10**6), decode_upload(content, 3, 10**6))


HALVES = {kind: encode(NOISE, kind)[: len(encode(NOISE, kind)) // 2] for kind in ("JPEG", "PNG", "WEBP", "BMP")}
UNUSABLE = {
    "empty": (b"", 400),
    "gif": (b"GIF89a" + bytes(100), 415),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "tiff": (encode(NOISE, "TIFF"), 415),
    "start of a JPEG": (b"\xff\xd8\xff", 415),
    **{f"half a {kind}": (content, 400) for kind, content in HALVES.items()},
    "a hole": (encode(NOISE)[:60] + bytes(60) + encode(NOISE)[120:], 400),
    "too large": (png_of_size(2001, 2000), 413),
    "huge": (png_of_size(20_000, 20_000), 413),
    "absurd": (png_of_size(2**31 - 1, 2**31 - 1), 413),
    "no width": (png_of_size(0, 10), 415),
    "less than it says": (png_of_size(1000, 1000), 400),
}


@pytest.mark.parametrize(("content", "status"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_refused(content, status):
    with pytest.raises(Refusal) as refusal:
        decode_upload(content, 3, 4_000_000)
    assert refusal.value.status == status
    assert "\n" not in refusal.value.message


def test_an_image_with_too_few_channels_for_the_model_is_refused():
    with pytest.raises(Refusal, match="3 channels, expected 4") as refusal:
        decode_upload(encode(NOISE), 4, 10**6)
    assert refusal.value.status == 422


def test_requests_inside_are_those_at_work_and_those_that_wait():
    assert Limits(workers=2, queue=3).requests == 5


def test_a_chunk_that_announces_more_than_there_is_takes_no_memory():
    whole = png_of_size(10, 10)
    lying = whole[:33] + struct.pack(">I", 2**31) + b"tEXt" + whole[33:]  # behind the header; the end is there
    with pytest.raises(Refusal) as caught:
        decode_upload(lying, 3, 10**6)
    assert caught.value.status == 400
