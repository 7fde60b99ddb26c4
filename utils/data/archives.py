"""Archives from strangers, unpacked safely: nothing outside the folder, no links, no bombs, whole or not at all."""

import bz2
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, Any

from utils.errors import UserError
from utils.interrupts import interrupts_held_back
from utils.log import progress

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
DECOMPRESSORS: dict[str, Callable[[IO[bytes]], Any]] = {
    **dict.fromkeys((".gz", ".tgz"), gzip.open),
    **dict.fromkeys((".bz2", ".tbz2"), bz2.open),
    **dict.fromkeys((".xz", ".txz"), lzma.open),
}
FOLDER_SUFFIXES = (".zip", *TAR_SUFFIXES)  # archives that hold a folder
SUFFIXES = (*FOLDER_SUFFIXES, ".gz")
CHUNK = 1 << 20  # bytes
MOST_ENTRIES = 2_000_000
HARMLESS_SIZE = 1 << 30  # bytes that any archive may grow to
MOST_GROWTH = 100  # times the size of the archive; images hardly shrink, label files tenfold
DISK_RESERVE = 256 << 20  # bytes to leave free
LARGEST_READ = 1 << 24  # bytes; also the most that headers of a tar may have
LONGEST_END = 1 << 24  # bytes; of the zeros after the last entry of a tar, usually 10 kB
DAMAGES = (  # what the standard library raises for broken archives
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    struct.error,
    EOFError,
    UnicodeError,
    ValueError,
)

Advance = Callable[[int], None]  # takes the bytes of the archive that have been read since the last call


class DamagedArchive(UserError):
    """The archive is broken, or not what its name says."""


def is_archive(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Tell whether a file called ``name`` is an archive that can be unpacked here."""
    return name.lower().endswith(suffixes)


def stays_inside(name: str) -> bool:
    """Tell whether the relative path ``name``, from a stranger, stays in its folder on every system.

    Windows takes a backslash for a separator, a drive anywhere in a path for a new start, and ``".. "`` for ``".."``.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    leading_out = (re.match(r"[A-Za-z]:", part) or not part.strip(". ") for part in path.parts)
    return not (path.is_absolute() or "\0" in name or any(leading_out))


def unpack(archive: Path, folder: Path, drop_top: bool = False) -> None:
    """Unpack ``archive`` (zip, tar, tar.gz, tar.bz2, tar.xz, or one file in .gz) into ``folder``.

    The content grows in a hidden folder beside ``folder`` and is moved when it is complete. Files that are already in
    ``folder`` stay as they are. What macOS adds (``__MACOSX``, ``._*``) is left out; permissions and times are dropped.

    Args:
        archive: its suffix says what it is.
        folder: made when missing.
        drop_top: when everything in the archive lies in one folder, put the content of that folder into ``folder``.

    Raises:
        DamagedArchive: it is broken, or not what its name says.
        UserError: the archive is missing, encrypted or of another kind; it has a path that leads out of the
            folder, a link or a device; or it is too large for the disk or for its own size.
    """
    if not archive.is_file():
        raise UserError(f"'{archive}' does not exist" if not archive.exists() else f"'{archive}' is no file")
    if not is_archive(archive.name):
        raise UserError(f"'{archive}' is no archive known here; expected {', '.join(SUFFIXES)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        growing = Path(temporary) / "content"
        growing.mkdir()
        with _damage_reported(archive), progress((), f"Unpacking {archive.name}", archive.stat().st_size, "B") as bar:
            if not archive.stat().st_size:
                raise EOFError("it is empty")
            _unpacker(archive)(archive, _Receiver(archive, growing), bar.update)
        inside = list(growing.iterdir())
        whole = inside[0] if drop_top and len(inside) == 1 and inside[0].is_dir() else growing
        move_into(whole, folder)


def move_into(source: Path, folder: Path) -> None:
    """Move the folder ``source`` to ``folder``, on the same disk; what is already there stays, and Ctrl-C waits."""
    with interrupts_held_back():
        _merge(source, folder)


def _merge(source: Path, target: Path) -> None:
    if not target.exists():
        source.rename(target)
    elif source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _merge(entry, target / entry.name)


class _Receiver:
    """Takes the files of one archive, and refuses what no data set needs.

    Attributes:
        archive: for messages.
        folder: where the files go; nothing else is in it.
        limit: bytes that may be written.
    """

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.folder = archive, folder
        self.free = shutil.disk_usage(folder).free - DISK_RESERVE
        self.limit = max(HARMLESS_SIZE, MOST_GROWTH * archive.stat().st_size)
        self.written = 0
        self.entries = 0

    def refuse(self, reason: str) -> UserError:
        """Return the error for an archive that is not to be trusted."""
        return UserError(f"'{self.archive}' {reason}; it was not unpacked")

    def place(self, name: str) -> Path | None:
        """Return where the entry ``name`` goes, or None when it is to be left out."""
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise self.refuse(f"has more than {MOST_ENTRIES:,} entries")
        if not stays_inside(name):
            raise self.refuse(f"holds the path {name!r}, which leads out of its folder")
        path = PurePosixPath(name.replace("\\", "/"))
        if "__MACOSX" in path.parts or path.name.startswith("._"):
            return None
        return self.folder / path

    def expect(self, size: int) -> None:
        """Check that ``size`` more bytes may come."""
        if self.written + size > self.limit:
            grown = f"{readable_size(self.limit)}, {MOST_GROWTH} times its own size"
            raise self.refuse(f"grows beyond {grown if self.limit > HARMLESS_SIZE else readable_size(self.limit)}")
        if self.written + size > self.free:
            needed, free = readable_size(self.written + size), readable_size(max(self.free, 0))
            raise self.refuse(f"needs {needed}, and the disk of '{self.folder.parents[1]}' has {free} to spare")

    def write(self, path: Path, source: IO[bytes] | gzip.GzipFile, size: int | None) -> None:
        """Write the file ``path`` from ``source``, which must have ``size`` bytes when that is known."""
        path.parent.mkdir(parents=True, exist_ok=True)
        before = self.written
        with path.open("wb") as file:
            while chunk := source.read(CHUNK):
                self.expect(len(chunk))
                file.write(chunk)
                self.written += len(chunk)
        if size is not None and self.written - before != size:
            raise EOFError(f"'{path.name}' ends after {self.written - before} of {size} bytes")


def readable_size(size: float) -> str:
    """Return bytes for people: ``"512 B"``, ``"6.7 MB"``, ``"19.3 GB"``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" and size < 100 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


@contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    """Turn what a broken archive raises into one line."""
    try:
        yield
    except DAMAGES as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DamagedArchive(f"'{archive}' is damaged or not what its name says ({reason}); get it anew") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedArchive(
            f"'{archive}' is damaged: it holds a file and a folder of one name; get it anew"
        ) from error


def _unpacker(archive: Path) -> Callable[[Path, _Receiver, Advance], None]:
    if is_archive(archive.name, (".zip",)):
        return _unpack_zip
    return _unpack_tar if is_archive(archive.name, TAR_SUFFIXES) else _unpack_gz


def _unpack_zip(archive: Path, receiver: _Receiver, advance: Advance) -> None:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        receiver.expect(sum(entry.file_size for entry in entries))  # before the first is written
        for entry in entries:
            path = receiver.place(entry.filename)
            if entry.flag_bits & 1:
                raise UserError(f"'{archive}' is encrypted; unpack it by hand, with its password")
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise receiver.refuse(f"holds {entry.filename!r}, which is a link or a device")
            if path is not None and entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            elif path is not None:
                try:
                    with opened.open(entry) as source:
                        receiver.write(path, source, entry.file_size)
                except NotImplementedError as error:
                    raise UserError(f"'{archive}': {error}; unpack it by hand") from error
            advance(entry.compress_size)


class _ModestReads:
    """Lets tarfile read no more at once than headers need: their sizes are claims, and it reads them whole."""

    def __init__(self, source: IO[bytes]) -> None:
        self.seek, self.tell, self.close = source.seek, source.tell, source.close
        self._read = source.read

    def read(self, size: int) -> bytes:
        if size > LARGEST_READ:
            raise tarfile.ReadError(f"a header of {readable_size(size)}")
        return self._read(size)


def _unpack_tar(archive: Path, receiver: _Receiver, advance: Advance) -> None:
    decompress = DECOMPRESSORS.get(archive.suffix.lower())
    with archive.open("rb") as raw, decompress(raw) if decompress else nullcontext(raw) as source:
        opened = tarfile.open(fileobj=_ModestReads(source), mode="r:")  # type: ignore[call-overload]
        seen = 0
        while (entry := opened.next()) is not None:
            path = receiver.place(entry.name)
            if not (entry.isdir() or entry.isreg()) or entry.issparse():
                raise receiver.refuse(f"holds {entry.name!r}, which is a link or a device")
            receiver.expect(entry.size)
            if path is not None and entry.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif path is not None:
                content: Any = opened.extractfile(entry)
                receiver.write(path, content, entry.size)
            opened.members.clear()  # type: ignore[attr-defined]  # or a million entries stay in memory
            advance(raw.tell() - seen)
            seen = raw.tell()
        _require_end(source, opened.offset)


def _require_end(source: IO[bytes], offset: int) -> None:
    """Check that a tar ends in zeros, and the checksum after them; tarfile is content with the last whole entry."""
    if source.tell() < offset + tarfile.BLOCKSIZE:
        raise EOFError("its end is missing")
    if any(source.read(LONGEST_END)):
        raise EOFError("something else follows the last entry")


def _unpack_gz(archive: Path, receiver: _Receiver, advance: Advance) -> None:
    path = receiver.place(archive.name[: -len(".gz")])
    with gzip.open(archive) as source:
        receiver.write(path or receiver.folder / "content", source, None)
    advance(archive.stat().st_size)
