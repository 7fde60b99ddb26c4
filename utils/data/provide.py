"""Does what the ``download:`` of a data set YAML says: fetches, unpacks and converts, and says what it cannot have."""

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.data.archives import DamagedArchive, move_into, readable_size, unpack
from utils.data.download import FetchError, check_digest, fetch
from utils.data.recipe import Conversion, Download, RemoteFile
from utils.errors import UserError
from utils.log import LOGGER

MOST_SHOWN = 12  # files in a message


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let only one process of this user and machine fill ``folder`` at a time."""
    from filelock import FileLock, Timeout  # comes with torch

    user = hashlib.sha256(f"{Path.home()}|{folder}".encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"yolov5-nam-{user}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOGGER.info(f"Waiting for another process, which fills '{folder}'")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def provide(file: Path, download: Download, root: Path, splits: Collection[str], names: Sequence[str]) -> None:
    """Fetch, unpack and convert what the data set ``file`` lacks in ``root``.

    Archives that lie where they would be fetched to are used from there and kept; fetched ones are removed after use.

    Args:
        file: the data set YAML, for messages.
        download: its ``download``.
        root: the folder of the data set; made when missing.
        splits: the missing ones; files for others only are left alone.
        names: the classes, for converters that number them.

    Raises:
        UserError: a file cannot be had (the message says which files to put where), or is damaged.
    """
    wanted = [one for one in download.files if set(one.splits) & set(splits)]
    wanted = [one for one in wanted if not (one.gives and (root / one.gives).exists())]
    for position, remote in enumerate(wanted):
        try:
            fetched = _have(file, remote, root)
        except FetchError as error:
            missing = [one for one in wanted[position:] if one is remote or not one.place(root).exists()]
            raise UserError(f"{file}: {_by_hand(missing, root, download.manual, str(error))}") from error
        if remote.unpack:
            _unpack(remote, root, fetched)
    for conversion in download.conversions:
        if set(conversion.splits) & set(splits):
            _convert(conversion, root, names)
    if download.autosplit:
        from utils.data.autosplit import autosplit, write_lists  # only a first use needs it

        images = root / download.autosplit
        write_lists(images.parent, autosplit(images))


def _have(file: Path, remote: RemoteFile, root: Path) -> bool:
    """Make sure that the file is on the disk, and tell whether it had to be fetched."""
    target = remote.place(root)
    target.parent.mkdir(parents=True, exist_ok=True)  # also for the user to put the file there
    if target.exists():
        if remote.sha256:
            check_digest(target, remote.sha256)
        return False
    if not remote.url:
        raise FetchError("it is to be fetched by hand")
    about = f" ({readable_size(remote.size)})" if remote.size else ""
    LOGGER.info(f"{file.name}: fetching {remote.url}{about} to '{target}'")
    fetch(remote.url, target, remote.sha256)
    return True


def _unpack(remote: RemoteFile, root: Path, fetched: bool) -> None:
    archive, drop_top = remote.place(root), remote.unpack is True
    folder = root if drop_top else root / str(remote.unpack)
    LOGGER.info(f"Unpacking {archive.name} to '{folder}'")
    try:
        unpack(archive, folder, drop_top)
    except DamagedArchive:
        if fetched:  # not to be found again
            archive.unlink()
        raise
    if fetched:
        archive.unlink()


def _convert(conversion: Conversion, root: Path, names: Sequence[str]) -> None:
    from utils.data.convert import CONVERTERS, convert  # only a first use needs it

    options: dict[str, Any] = {"names": list(names)} if "names" in CONVERTERS[conversion.kind].options else {}
    LOGGER.info(f"Converting '{root / conversion.source}' ({conversion.kind})")
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=root) as temporary:
        made = Path(temporary) / root.name
        report = convert(conversion.kind, root / conversion.source, made, link=True, **options)
        for line in report.lines():
            LOGGER.info(line.replace(str(made), str(root)))
        _compare_classes(list(report.categories.values()), list(names), root / conversion.source)
        for part in conversion.place or ("labels", "images"):  # the images tell that the split is there
            if (made / part).is_dir():
                target = root / conversion.place.get(part, part)
                target.parent.mkdir(parents=True, exist_ok=True)
                move_into(made / part, target)


def _compare_classes(found: list[str], names: list[str], source: Path) -> None:
    """Check that the labels made from ``source`` number the classes as ``names`` of the YAML do."""
    places = {name.lower(): index for index, name in enumerate(names)}
    moved = [name for index, name in enumerate(found) if places.get(name.lower(), index) != index]
    if moved or len(found) != len(names):
        raise UserError(
            f"'{source}' has the classes {', '.join(found)}, but 'names' of the data set are {', '.join(names)}; "
            "correct 'names'"
        )
    for ours, theirs in zip(names, found, strict=True):
        if ours.lower() != theirs.lower():
            LOGGER.warning(f"WARNING: class '{theirs}' of '{source}' is called '{ours}' in 'names'")


def _by_hand(missing: list[RemoteFile], root: Path, manual: str, reason: str) -> str:
    """Return which files to put where, when ``reason`` keeps the first of them from being fetched."""
    rows: dict[tuple[str, str, str], list[RemoteFile]] = {}
    for remote in missing:
        rows.setdefault((*remote.entry, remote.folder), []).append(remote)
    folders: dict[Path, list[str]] = {}
    for (name, url, folder), group in list(rows.items())[:MOST_SHOWN]:
        facts = [f"{len(group)} files"] if len(group) > 1 else []
        facts += [readable_size(group[0].size) + (" each" if len(group) > 1 else "")] if group[0].size else []
        about = f" ({', '.join(facts)})" if facts else ""
        folders.setdefault(root / folder, []).append(f"'{name}'{f' from {url}' if url else ''}{about}")
    places = "; ".join(f"put {' and '.join(lines)} into '{folder}'" for folder, lines in folders.items())
    more = f"; and {len(rows) - MOST_SHOWN} more like these" if len(rows) > MOST_SHOWN else ""
    return (
        f"cannot fetch '{missing[0].name}': {reason}; {places}{more}; then run again, and the rest is done from there"
        f"{f'. {manual}' if manual else ''}"
    )
