"""Facts behind the content of a file, as a ZIP archive: readers that start at the front never see it."""

import ast
import io
import json
import zipfile
import zlib
from pathlib import Path

from models.formats.facts import Facts, tidy
from utils.errors import UserError

SHORT_FACTS = "meta.txt"  # the first entry, a Python mapping: what later YOLOv5 reads
ALL_FACTS = "facts.json"
MOST_FACTS = 1 << 20  # bytes


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts behind the content of a file; those that are there already go."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr(SHORT_FACTS, str({key: facts[key] for key in ("stride", "names") if key in facts}))
        stream.writestr(ALL_FACTS, json.dumps(facts))
    content = path.read_bytes()
    path.write_bytes(content[: _end_of_content(content)] + archive.getvalue())


def _end_of_content(content: bytes) -> int:
    """Return where an archive begins, or the length if there is none."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return min((entry.header_offset for entry in archive.infolist()), default=len(content))


def read_facts(path: Path) -> Facts:
    """Return the facts in a file of this project or of later YOLOv5; {} if there are none.

    Raises:
        UserError: they are damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            first = entries.get(ALL_FACTS) or next(iter(entries.values()))
            if first.file_size > MOST_FACTS:
                raise ValueError("too long")
            text = archive.read(first).decode("utf-8")
        return tidy(json.loads(text) if first.filename == ALL_FACTS else ast.literal_eval(text))
    except zipfile.BadZipFile:
        return {}  # v6.1 writes none
    except (ValueError, SyntaxError, StopIteration, RuntimeError, MemoryError, zlib.error) as error:
        raise UserError(f"the metadata of '{path}' are damaged; export it again") from error
