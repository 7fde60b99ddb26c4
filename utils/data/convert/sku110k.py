"""SKU-110K: ``annotations/annotations_{train,val,test}.csv`` beside ``images/``, one class.

Rows ``image,x1,y1,x2,y2,class,width,height`` without a header. Written from what is known of the format and tried on
made examples only.
"""

from pathlib import Path

from utils.data.convert.csv_files import read_rows, split_in_name
from utils.data.convert.geometry import numbers
from utils.data.convert.records import Reading, Record, Thing, Unusable
from utils.errors import UserError

VALUES = 8
NAME = "object"


def read(source: Path) -> Reading:
    """Return what the CSV files of ``source`` or of its folder ``SKU110K_fixed`` describe.

    Raises:
        UserError: there are none, or one is no CSV.
    """
    files = sorted([*source.glob("annotations/annotations_*.csv"), *source.glob("*/annotations/annotations_*.csv")])
    if not files:
        raise UserError(f"'{source}' holds no annotations/annotations_*.csv")
    records: dict[tuple[str, str], Record] = {}
    for file in files:
        split = split_in_name(file.stem)
        for line, words in read_rows(file):
            record = records.get((split, words[0]))
            if record is None:
                image = file.parent.parent / "images" / words[0]
                problem = "" if image.is_file() else f"the image is missing: '{words[0]}'"
                record = records[split, words[0]] = Record(file, split, words[0], image, problem=problem)
            _add(record, words, f"line {line}")
    return Reading({NAME: NAME}, records.values(), len(records))


def _add(record: Record, words: list[str], where: str) -> None:
    try:
        if len(words) != VALUES:
            raise Unusable(f"{len(words)} values, expected {VALUES}: {','.join(words)[:60]}")
        left, top, right, bottom, width, height = numbers([*words[1:5], *words[6:]], 6)
        record.size_hw = record.size_hw or (int(height), int(width))
        record.things.append(Thing(where, NAME, (left, top, right, bottom)))
    except Unusable as error:
        record.losses.append((where, str(error)))
