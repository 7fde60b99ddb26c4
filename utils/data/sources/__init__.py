"""What detection looks at: files, cameras, streams, the screen, standard input."""

from pathlib import Path

from utils.data.listing import has_suffix
from utils.data.pixels import read_image
from utils.data.sources.files import FileSource
from utils.data.sources.frames import Clip, Frame, Source
from utils.data.sources.lists import LIST_SUFFIXES, find_files, read_list
from utils.data.sources.screen import ScreenSource, is_screen
from utils.data.sources.standard_input import StandardInput
from utils.data.sources.streams import StreamSource
from utils.data.sources.web import check_address, is_address, is_camera, is_stream
from utils.errors import UserError

__all__ = ["Clip", "Frame", "Source", "load_source", "read_image"]


def load_source(source: str, vid_stride: int = 1) -> Source:
    """Return the frames that ``source`` means. Nothing is opened before they are asked for.

    Args:
        source: an image or video file; a folder (not searched deeper); a pattern such as ``"images/**/*.jpg"``; a
            ``.txt`` or ``.streams`` file with one file or one stream a line; the number of a camera; the address of
            a stream, an image or a video; ``"screen"``; ``"-"`` for images on standard input.
        vid_stride: one frame of so many is given, of videos and streams.

    Raises:
        UserError: nothing there, or a kind that is not supported.
    """
    if vid_stride < 1:
        raise UserError(f"--vid-stride {vid_stride}: expected a number of 1 or more")
    if source == "-":
        return StandardInput()
    if is_camera(source):
        return StreamSource([source], vid_stride)
    if is_address(source):
        check_address(source)
        return StreamSource([source], vid_stride) if is_stream(source) else FileSource([source], vid_stride)
    path = Path(source).expanduser()
    if is_screen(source) and not path.exists():
        return ScreenSource(source)
    if has_suffix(path, LIST_SUFFIXES) and path.is_file():
        entries = read_list(path)
        return StreamSource(entries, vid_stride) if is_stream(entries[0]) else FileSource(entries, vid_stride)
    files, skipped = find_files(source)
    return FileSource(files, vid_stride, skipped)
