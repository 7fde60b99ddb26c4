"""JSON files of users: read, and not trusted to hold what they should."""

import json
from pathlib import Path
from typing import Any

from utils.errors import UserError


def read_json(file: Path) -> dict[str, Any]:
    """Return the mapping in ``file``.

    Raises:
        UserError: it is missing, malformed (with the line) or holds no mapping.
    """
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"'{file}' does not exist") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: malformed JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"'{file}' is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # a number of a million digits, a thousand nested brackets
        raise UserError(f"{file}: malformed JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}, expected a JSON object {{...}}")
    return content


def list_of(file: Path, content: dict[str, Any], key: str) -> list[Any]:
    """Return the list ``content[key]``; raise a UserError when there is none."""
    value = content.get(key)
    if not isinstance(value, list):
        keys = ", ".join(list(content)[:8])
        raise UserError(f"{file}: '{key}' is {'missing' if value is None else 'no list'}; the file has: {keys}")
    return value


def size_of(entry: dict[str, Any], height: str, width: str) -> tuple[int, int] | None:
    """Return the (height, width) that ``entry`` states, or None when it states none that can be."""
    sides = entry.get(height), entry.get(width)
    if not all(isinstance(side, int | float) and 0 < side < 1e9 for side in sides):
        return None
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]
