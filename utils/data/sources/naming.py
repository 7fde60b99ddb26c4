"""Names for what is written about the frames of a source: different ones."""

import re

from utils.files import safe_name
from utils.options import PASSWORD

NUMBERED = re.compile(r"(.+)_\d+")  # as frames of a clip are called


class Names:
    """Gives every file and clip of a source a name of its own, numbered from 2 where it is taken: ``a, b, a2``."""

    def __init__(self) -> None:
        self._taken: set[str] = set()  # some file systems know no case
        self._numbered: set[str] = set()  # names that frames of a clip must not get

    def of_image(self, stem: str) -> str:
        """Return a name like ``stem`` for an image."""
        return self._new(stem, self._taken)

    def of_clip(self, stem: str) -> str:
        """Return a name like ``stem`` for a clip; images have theirs already. Its frames are :func:`frame_name`."""
        return self._new(stem, self._taken | self._numbered)

    def _new(self, stem: str, taken: set[str]) -> str:
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}{number}"
        self._taken.add(name.lower())
        if match := NUMBERED.fullmatch(name.lower()):
            self._numbered.add(match[1])
        return name


def frame_name(clip: str, number: int) -> str:
    """Return the name of one frame of a clip (v6.1)."""
    return f"{clip}_{number}"


def masked(text: object) -> str:
    """Return ``text`` with stars for the passwords in it."""
    return PASSWORD.sub("***", str(text))


def address_stem(address: str) -> str:
    """Return a stem for what is written about a stream: no password, nothing of its query."""
    bare = PASSWORD.sub("", address).split("?")[0].replace("://@", "://")
    return safe_name(bare.replace("://", "_"))
