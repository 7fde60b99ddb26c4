"""A data set in one archive, ``--data name.zip``: unpacked once into the data sets folder."""

import json
import tempfile
from pathlib import Path

from utils.data.archives import FOLDER_SUFFIXES, unpack
from utils.data.provide import one_at_a_time
from utils.errors import UserError
from utils.files import atomic_write, datasets_dir
from utils.interrupts import interrupts_held_back
from utils.log import LOGGER

MARK = ".unpacked.json"  # in the folder: what archive it comes from
CACHE_SUFFIXES = (".cache", ".images")  # written by us beside the data


def unpacked_yaml(archive: Path) -> Path:
    """Return the YAML of the data set that ``archive`` holds, after unpacking it to ``<datasets>/<stem>``.

    That happens again when the archive has another size or time of change; the old content is replaced then.

    Raises:
        UserError: the archive cannot be unpacked or holds no YAML; or the folder is not from it, or was changed since.
    """
    suffix = max((one for one in FOLDER_SUFFIXES if archive.name.lower().endswith(one)), key=len)
    folder = datasets_dir() / archive.name[: -len(suffix)]
    status = archive.stat()
    origin = {"archive": archive.name, "size": status.st_size, "modified_ns": status.st_mtime_ns}
    with one_at_a_time(folder):
        if _read_mark(folder) != origin:
            _require_ours(folder, archive)
            _unpack(archive, folder, origin)
    files = sorted(file for kind in ("*.yaml", "*.yml") for file in folder.rglob(kind))
    if not files:
        raise UserError(f"'{archive}' holds no *.yaml that describes the data set; add one with train, val and names")
    file = min(files, key=lambda one: len(one.parts))  # of several in a folder, the first by name
    if len(files) > 1:
        LOGGER.info(f"'{archive.name}' holds {len(files)} YAML files; using '{file.relative_to(folder)}'")
    return file


def _read_mark(folder: Path) -> dict[str, object] | None:
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


def _require_ours(folder: Path, archive: Path) -> None:
    """Check that nothing of the user's is in ``folder``."""
    if not folder.exists():
        return
    if _read_mark(folder) is None:
        raise UserError(
            f"'{folder}' exists and was not unpacked from '{archive}'; name the YAML in it with --data, or move it away"
        )
    unpacked_at = (folder / MARK).stat().st_mtime_ns
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix not in CACHE_SUFFIXES and file.stat().st_mtime_ns > unpacked_at:
            raise UserError(
                f"'{archive}' has changed, and so has '{file}' since it was unpacked; move '{folder}' away to use the "
                "archive, or name the YAML in it with --data"
            )


def _unpack(archive: Path, folder: Path, origin: dict[str, object]) -> None:
    LOGGER.info(f"Unpacking '{archive}' to '{folder}'")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        growing = Path(temporary) / "new"
        unpack(archive, growing)
        with atomic_write(growing / MARK) as mark:
            mark.write_text(json.dumps(origin), encoding="utf-8")
        with interrupts_held_back():
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            growing.rename(folder)
