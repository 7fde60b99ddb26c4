"""Objects365 v2: ``zhiyuan_objv2_{train,val}.json`` and images unpacked anywhere below, in patches.

COCO JSON whose file names still have the folders of the original server; images are found by their own names. Written
from what is known of the format and tried on made examples only.
"""

from pathlib import Path

from utils.data.convert.coco import Document, read_documents
from utils.data.convert.csv_files import split_in_name
from utils.data.convert.images import index_images
from utils.data.convert.json_files import list_of, read_json
from utils.data.convert.records import Reading
from utils.errors import UserError


def read(source: Path) -> Reading:
    """Return what the JSON files below ``source`` describe.

    Raises:
        UserError: there are none, or they are malformed.
    """
    files = sorted(source.rglob("zhiyuan_objv2_*.json"))
    if not files:
        raise UserError(f"'{source}' holds no zhiyuan_objv2_train.json or zhiyuan_objv2_val.json")
    index = index_images([source], deep=True)
    return read_documents([_document(file, index) for file in files])


def _document(file: Path, index: dict[str, Path]) -> Document:
    content = read_json(file)
    entries = list_of(file, content, "images")
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            entry["file_name"] = entry["file_name"].replace("\\", "/").rsplit("/", 1)[-1]
    return Document(file, split_in_name(file.name), content, index.get)
