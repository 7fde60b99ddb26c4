"""Can an image be used, and how large is it? Told from its header, without decoding it."""

import os

from PIL import Image

from utils.data.listing import IMAGE_SUFFIXES

MIN_SIDE = 10  # px
EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # Windows has text files, too
HEAD_BYTES = 4096  # JPEG files without metadata have their header in fewer
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JFIF, FRAMES, SCAN_START = 0xE0, (0xC0, 0xC1, 0xC2), 0xDA
NO_SURPRISES = (0xC4, 0xDD, 0xEE, 0xFE)  # Huffman tables, restart interval, Adobe's colour transform, comment
TABLES, TABLE_BYTES, LAST_TABLE = 0xDB, 65, 3  # quantization tables of 8 bits: their number, then 64 values

Name = str | os.PathLike[str]


def check_image(path: Name) -> tuple[tuple[int, int], str | None]:
    """Check that an image can be used, reading little more than its header.

    Returns:
        size_hw: height and width in px, after EXIF rotation.
        warning: None, or what is odd about it.

    Raises:
        ValueError: it cannot be used; the message says why.
    """
    head, tail, _ = read_ends(path)
    return check_ends(path, head, tail)


def read_ends(path: Name) -> tuple[bytes, bytes, os.stat_result | None]:
    """Return the first 4096 and the last two bytes of a file and its status: nothing of one that cannot be read."""
    try:
        descriptor = os.open(path, READ_ONLY)  # a file object would take twice as long
    except OSError:
        return b"", b"", None
    try:
        status, head = os.fstat(descriptor), os.read(descriptor, HEAD_BYTES)
        if status.st_size > len(head):
            os.lseek(descriptor, -len(JPEG_END), os.SEEK_END)
            return head, os.read(descriptor, len(JPEG_END)), status
        return head, head[-len(JPEG_END) :], status
    except OSError:
        return b"", b"", None
    finally:
        os.close(descriptor)


def check_ends(path: Name, head: bytes, tail: bytes) -> tuple[tuple[int, int], str | None]:
    """Do as :func:`check_image` for a file of which the ends are known."""
    size_hw = _jpeg_hw(head, tail)
    return (size_hw, None) if size_hw else _check_with_pillow(path)


def plain_jpeg_hw(path: Name) -> tuple[int, int] | None:
    """Return height and width of a JPEG file with nothing unusual in it, such as EXIF; None for all others.

    It looks at what Pillow looks at, markers up to the first scan, and takes a fifth of the time.
    """
    head, tail, _ = read_ends(path)
    return _jpeg_hw(head, tail)


def _jpeg_hw(head: bytes, tail: bytes) -> tuple[int, int] | None:
    if head[:2] != JPEG_START or tail != JPEG_END:
        return None
    size_hw = _walk_segments(head)
    if size_hw and min(size_hw) >= MIN_SIDE and size_hw[0] * size_hw[1] <= (Image.MAX_IMAGE_PIXELS or 0):
        return size_hw
    return None


def _walk_segments(head: bytes) -> tuple[int, int] | None:
    """Return height and width of the only frame, if only harmless segments lie before the first scan."""
    position, size_hw = len(JPEG_START), None
    while position + 4 <= len(head) and head[position] == 0xFF:
        marker, length = head[position + 1], head[position + 2] << 8 | head[position + 3]
        if marker == SCAN_START:
            return size_hw if position + 2 + length <= len(head) else None
        content = head[position + 4 : position + 2 + length]
        if marker in FRAMES and size_hw is None:
            size_hw = _frame_hw(content)
            if size_hw is None:
                return None
        elif not _is_harmless(marker, content):
            return None
        position += 2 + length
    return None


def _frame_hw(content: bytes) -> tuple[int, int] | None:
    """Return height and width from the ``content`` of a frame's segment, if it is one of 8 bits that Pillow takes."""
    if len(content) < 6 or content[0] != 8 or content[5] not in (1, 3, 4) or len(content) != 6 + 3 * content[5]:
        return None
    return content[1] << 8 | content[2], content[3] << 8 | content[4]


def _is_harmless(marker: int, content: bytes) -> bool:
    if marker == TABLES:
        return len(content) % TABLE_BYTES == 0 and max(content[::TABLE_BYTES], default=0) <= LAST_TABLE
    return marker in NO_SURPRISES or (marker == JFIF and content.startswith(b"JFIF\0"))


def _check_with_pillow(path: Name) -> tuple[tuple[int, int], str | None]:
    try:
        with Image.open(path) as image:
            size_hw, file_format = _upright_hw(image), str(image.format).lower()
            image.verify()
        if min(size_hw) < MIN_SIDE:
            raise ValueError(f"{size_hw[1]}x{size_hw[0]} px, expected at least {MIN_SIDE} px a side")
        if file_format not in IMAGE_SUFFIXES:
            raise ValueError(f"holds {file_format} data, expected one of {' '.join(IMAGE_SUFFIXES)}")
        if file_format in ("jpeg", "mpo") and not _ends_like_jpeg(path):
            with Image.open(path) as image:
                image.load()
            return size_hw, "JPEG without end marker at its end; used as it is"
    except ValueError:
        raise
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(f"has more than {most} million pixels; make it smaller, or cut it into several") from None
    except Exception as error:  # Pillow's readers raise many kinds (SyntaxError, struct.error, ...) on broken files
        raise ValueError(
            f"cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    return size_hw, None


def _upright_hw(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if "exif" in image.info and image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:  # elsewhere Pillow would decode
        return width, height
    return height, width


def _ends_like_jpeg(path: Name) -> bool:
    with open(path, "rb") as file:
        file.seek(-len(JPEG_END), os.SEEK_END)
        return file.read() == JPEG_END
