"""The ``download:`` of a data set YAML: which files there are, and what becomes of them. Nothing in it is executed.

Example::

    download:
      files:
        - {url: "https://example.org/images.zip", unpack: images, gives: images/train, splits: train, size: 19000000}
        - {url: "https://example.org/labels.tar.gz", sha256: 0123...}
      convert: {kind: visdrone, source: raw}
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from utils.data.archives import is_archive, stays_inside
from utils.data.download import SCHEMES
from utils.errors import UserError, near_matches
from utils.files import safe_name

KEYS = ("files", "convert", "autosplit", "manual")
FILE_KEYS = ("url", "name", "folder", "unpack", "gives", "splits", "size", "sha256")
CONVERT_KEYS = ("kind", "source", "splits", "place")
SPLITS = ("train", "val", "test")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")  # {0..50}: one entry for 51 files
LONGEST_RANGE = 10_000


@dataclass(frozen=True)
class RemoteFile:
    """One file to be had.

    Attributes:
        name: what it is called on the disk.
        url: where it is; empty when it must be fetched by hand.
        folder: where the file goes, relative to the folder of the data set.
        unpack: the folder it is unpacked to, likewise; True for the data set's own, without the archive's top folder;
            False for no archive.
        gives: what is there when this file has done its part, likewise; empty when that cannot be told.
        splits: those that need it.
        size: about how many bytes; 0 when unknown.
        sha256: 64 hexadecimal digits, or empty.
        entry: name and URL as the YAML has them, with ranges unexpanded.
    """

    name: str
    url: str
    folder: str
    unpack: str | bool
    gives: str
    splits: tuple[str, ...]
    size: int
    sha256: str
    entry: tuple[str, str]

    def place(self, root: Path) -> Path:
        """Return where the file itself is put."""
        return root / self.folder / self.name


@dataclass(frozen=True)
class Conversion:
    """One run of a converter.

    Attributes:
        kind: a key of ``utils.data.convert.CONVERTERS``.
        source: the folder it reads, relative to that of the data set.
        splits: those that need it.
        place: what it makes, such as ``images/train`` -> where that goes in the folder of the data set, in this order;
            all of it to the same paths when empty.
    """

    kind: str
    source: str
    splits: tuple[str, ...]
    place: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """How the data of a set are had.

    Attributes:
        files: in the order to fetch them.
        conversions: to be done when all files are there.
        autosplit: a folder of images to be split into training and validation afterwards; empty for none.
        manual: what the user must know to get files by hand.
    """

    files: tuple[RemoteFile, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    autosplit: str = ""
    manual: str = ""


def read_download(file: Path, content: Any) -> Download:
    """Read the value of ``download`` in the data set YAML ``file``.

    Args:
        file: for messages.
        content: a mapping, or the URL of an archive (v6.1's short form).

    Raises:
        UserError: it is program code, or something in it is unknown or impossible.
    """
    where = f"{file}: 'download'"
    if isinstance(content, str):
        if urlsplit(content.strip()).scheme not in SCHEMES or not is_archive(_name_of(content.strip())):
            code = " ".join(content.split())
            raise UserError(
                f"{where} is program code or no archive ({code[:60] + '...' if len(code) > 60 else code}), and nothing "
                "is executed; get the data by hand, or write 'download: {files: [{url: https://.../name.zip}]}'"
            )
        content = {"files": [{"url": content.strip()}]}
    if not isinstance(content, dict):
        raise UserError(f"{where} is {content!r}, expected a mapping with 'files', or the URL of an archive")
    _check_keys(where, content, KEYS)
    entries = content.get("files") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{where}: 'files' is {entries!r}, expected a list of mappings with 'url'")
    files = [one for entry in entries for one in _read_entry(where, entry)]
    conversions = tuple(_read_conversion(where, entry) for entry in _as_list(content.get("convert")))
    autosplit = _inside(where, "autosplit", content["autosplit"]) if content.get("autosplit") else ""
    return Download(tuple(files), conversions, autosplit, " ".join(str(content.get("manual") or "").split()))


def _check_keys(where: str, content: dict[str, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            hint = near_matches(str(key), known) or f"; known are {', '.join(known)}"
            raise UserError(f"{where}: unknown key '{key}'{hint}")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _read_entry(where: str, entry: dict[str, Any]) -> Iterator[RemoteFile]:
    """Yield the files that one entry stands for: one, or as many as its range has numbers."""
    _check_keys(where, entry, FILE_KEYS)
    url, name = str(entry.get("url") or ""), str(entry.get("name") or "")
    if not url and not name:
        raise UserError(f"{where}: {entry!r} has neither 'url' nor 'name'")
    if url and (urlsplit(url).scheme not in SCHEMES or not urlsplit(url).path.strip("/")):
        raise UserError(f"{where}: '{url}' is no URL of a file; expected {', '.join(SCHEMES)}")
    name = name or _name_of(url)
    if name != safe_name(name):
        raise UserError(f"{where}: '{name}' is no file name; set 'name'")
    size, digest = entry.get("size") or 0, str(entry.get("sha256") or "")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise UserError(f"{where}: 'size' of {name} is {size!r}, expected bytes")
    if digest and not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise UserError(f"{where}: 'sha256' of {name} is '{digest}', expected 64 hexadecimal digits")
    splits = _read_splits(where, entry)
    unpacked = entry.get("unpack", is_archive(name))
    if unpacked is not False and not is_archive(name):
        raise UserError(f"{where}: {name} is no archive known here, so it cannot be unpacked")
    unpacked = unpacked if isinstance(unpacked, bool) else _inside(where, "unpack", unpacked)
    folder = _inside(where, "folder", entry.get("folder", "."))
    gives = _inside(where, "gives", entry["gives"]) if "gives" in entry else "" if unpacked else f"{folder}/{name}"
    for number in _numbers(where, url, name, gives):
        texts = [RANGE.sub(str(number), text) for text in (name, url, folder, gives)]
        target = RANGE.sub(str(number), unpacked) if isinstance(unpacked, str) else unpacked
        yield RemoteFile(texts[0], texts[1], texts[2], target, texts[3], splits, size, digest, (name, url))


def _numbers(where: str, *texts: str) -> range:
    """Return the numbers of the range in ``texts``; one that does not matter when there is none."""
    ranges = {match.groups() for text in texts for match in RANGE.finditer(text)}
    if not ranges:
        return range(1)
    first, last = map(int, next(iter(ranges)))
    if len(ranges) > 1 or not first <= last < first + LONGEST_RANGE:
        raise UserError(f"{where}: '{texts[0]}': expected one range {{first..last}}, the same in all keys of the file")
    return range(first, last + 1)


def _read_conversion(where: str, entry: Any) -> Conversion:
    from utils.data.convert import CONVERTERS  # only a first use needs it

    where = f"{where}: 'convert'"
    entry = {"kind": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not entry.get("kind"):
        raise UserError(f"{where} is {entry!r}, expected the name of a format, or a mapping with 'kind'")
    _check_keys(where, entry, CONVERT_KEYS)
    kind, place = str(entry["kind"]), entry.get("place") or {}
    if kind not in CONVERTERS:
        hint = near_matches(kind, CONVERTERS) or f"; there are {', '.join(CONVERTERS)}"
        raise UserError(f"{where}: unknown format '{kind}'{hint}")
    if not isinstance(place, dict):
        raise UserError(f"{where}: 'place' is {place!r}, expected lines 'folder: folder'")
    place = {_inside(where, "place", made): _inside(where, "place", target) for made, target in place.items()}
    return Conversion(kind, _inside(where, "source", entry.get("source", ".")), _read_splits(where, entry), place)


def _read_splits(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    splits = _as_list(entry.get("splits", list(SPLITS)))
    if not splits or not all(split in SPLITS for split in splits):
        raise UserError(f"{where}: 'splits' is {entry['splits']!r}, expected some of {', '.join(SPLITS)}")
    return tuple(splits)


def _name_of(url: str) -> str:
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def _inside(where: str, key: str, value: Any) -> str:
    """Return ``value`` as a path that stays inside the folder of the data set."""
    if not isinstance(value, str) or not stays_inside(value):
        raise UserError(f"{where}: '{key}' is {value!r}, expected a path inside the folder of the data set")
    return str(PurePosixPath(value.replace("\\", "/")))
