"""Argoverse-HD: ``Argoverse-HD/annotations/{train,val}.json`` and ``Argoverse-1.1/tracking/<split>/<sequence>/...``.

COCO JSON whose images are named within sequences: ``seq_dirs[image.sid] / image.name``. Written from what is known of
the format and tried on made examples only.
"""

from pathlib import Path
from typing import Any

from utils.data.convert.coco import Document, Find, read_documents, split_of
from utils.data.convert.json_files import list_of, read_json
from utils.data.convert.records import Reading
from utils.errors import UserError

ANNOTATIONS = "Argoverse-HD/annotations"
IMAGES = "Argoverse-1.1/tracking"


def read(source: Path) -> Reading:
    """Return what the annotations of ``source``, the folder of both archives, describe.

    Raises:
        UserError: there are no annotations, or they are malformed.
    """
    files = [file for file in (source / ANNOTATIONS / f"{split}.json" for split in ("train", "val")) if file.is_file()]
    if not files:
        raise UserError(f"'{source}' holds no {ANNOTATIONS}/train.json or val.json")
    return read_documents([_document(file, source / IMAGES) for file in files])


def _document(file: Path, images: Path) -> Document:
    content = read_json(file)
    folders = list_of(file, content, "seq_dirs")
    entries = [_named(entry, folders) for entry in list_of(file, content, "images")]
    return Document(file, split_of(file), content | {"images": entries}, _finder(images))


def _named(entry: Any, folders: list[Any]) -> Any:
    """Return ``entry`` with its path as ``file_name``; what is malformed stays so, and is reported later."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return entry
    sequence = entry.get("sid")
    if not isinstance(sequence, int) or not 0 <= sequence < len(folders):
        return entry | {"file_name": entry["name"]}
    return entry | {"file_name": f"{folders[sequence]}/{entry['name']}"}


def _finder(images: Path) -> Find:
    def find(name: str) -> Path | None:
        return images / name if (images / name).is_file() else None

    return find
