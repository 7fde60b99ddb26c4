"""Where the reference numbers measured on YOLOv5 v6.1 are found."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT.parent / "shared"


def golden_path(name: str) -> Path:
    """Return the file of that name in tests/golden, else in ../shared/golden; skip the test when neither has it."""
    for folder in (PROJECT / "tests" / "golden", SHARED / "golden"):
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"reference file {name} is neither in tests/golden nor in {SHARED / 'golden'}")


def shared_path(name: str) -> Path:
    """Return a file of ../shared, such as ``weights/yolov5n.pt``; skip the test when it is not there."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there; this case needs the real file")
    return path


def load_golden(name: str) -> Any:
    """Return the parsed reference file: a dict for .json and .json.gz, an ``NpzFile`` for .npz."""
    path = golden_path(name)
    if name.endswith(".json.gz"):
        return json.loads(gzip.decompress(path.read_bytes()))
    if name.endswith(".json"):
        return json.loads(path.read_text())
    return np.load(path)


def meta_of(archive: Any) -> dict[str, Any]:
    """Return the parsed ``meta`` entry of a golden .npz."""
    return json.loads(str(archive["meta"]))
