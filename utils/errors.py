"""The one exception a user can cause."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line that says what was got, what was expected and what to do. Scripts print it and exit 1.
    """


def near_matches(word: str, known: Iterable[str]) -> str:
    """Return a ready-to-append hint such as ``"; did you mean 'C3'?"``, or an empty string when nothing is close."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(by_lower[name]) for name in close)}?" if close else ""


def listed(words: Sequence[str], most: int = 3) -> str:
    """Return ``"a, b, c and 4 more"``: the first words, and how many follow."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def not_finite(image: object) -> UserError:
    """Return the error of a network whose outputs for ``image``, a file, are no numbers."""
    return UserError(
        f"the network gives NaN or infinite values for '{image}': its weights are damaged, or too large for FP16; "
        "try an earlier checkpoint, or FP32"
    )
