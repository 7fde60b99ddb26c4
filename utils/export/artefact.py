"""Exported files and folders that are there whole or not at all."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_when_done(target: Path, is_folder: bool = False) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside ``target``; put it in place when the block succeeds.

    Whatever goes wrong inside the block, Ctrl-C included, leaves what was at ``target`` as it was. Programs that are
    using an old folder keep the files they have open.

    Args:
        target: a file or folder.
        is_folder: make the folder at the path that is yielded.
    """
    with (
        tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent, ignore_cleanup_errors=True) as folder,
        _known_name(target, folder),
    ):
        path = Path(folder) / target.name
        if is_folder:
            path.mkdir()
        yield path
        _flush(path)
        if target.is_dir() and not target.is_symlink():  # no system call replaces a folder that is not empty
            old = target.rename(Path(folder) / f"old-{secrets.token_hex(4)}")
            with _put_back_on_failure(old, target):
                path.rename(target)
            return
        if path.is_dir():
            target.unlink(missing_ok=True)
        path.replace(target)


@contextmanager
def _known_name(target: Path, folder: str) -> Iterator[None]:
    """Let errors of the system name the target instead of what is in the temporary folder."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(folder):
            error.filename = str(target)
        raise


@contextmanager
def _put_back_on_failure(old: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        old.rename(target)
        raise


def _flush(path: Path) -> None:
    """See that everything at ``path`` is on the disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("r+b") as stream:  # Windows flushes only what is open for writing
                os.fsync(stream.fileno())


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
