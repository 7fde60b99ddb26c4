"""Web pages that are one file each: they fetch nothing, and what they are told is shown, never obeyed."""

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from utils.files import atomic_write

STYLE_FILE = Path(__file__).with_name("page.css")


def escape(words: object) -> str:
    """Return the text of ``words`` so that HTML shows it as it is, inside quoted attributes, too."""
    return html.escape(str(words))


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """Return a whole page, forbidden by itself to load anything and to run anything but ``script``.

    Args:
        title: plain text.
        body: HTML.
        style: CSS that follows the common one.
        script: JavaScript that the page must do without where it is switched off.
    """
    css = STYLE_FILE.read_text(encoding="utf-8") + style
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    runs = f"; script-src 'sha256-{digest}'" if script else ""
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'{runs}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<title>{escape(title)}</title><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{css}</style></head>\n<body><main>{body}</main>"
        f"{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def section(title: str, content: str, anchor: str = "") -> str:
    """Return a framed part of the page; ``content`` is HTML, ``anchor`` a word that links lead to."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return f"<section{name}><h2>{escape(title)}</h2>{content}</section>\n"


def cards(figures: Mapping[str, str]) -> str:
    """Return figures that are seen at once, each above its label."""
    each = "".join(
        f'<div class="card"><b>{escape(figure)}</b>{escape(label)}</div>' for label, figure in figures.items()
    )
    return f'<div class="cards">{each}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of plain text, which a narrow window scrolls.

    Args:
        columns: heads.
        rows: cells of each row.
        kind: classes of the element, for style and script.
    """
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return framed_table(columns, body, kind=kind)


def framed_table(columns: Sequence[str], *bodies: str, kind: str = "", frame: str = "") -> str:
    """Do as :func:`table` for rows that are HTML already, in one or more bodies; ``frame`` says how they scroll."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    groups = "".join(f"<tbody>{body}</tbody>" for body in bodies)
    return f'<div class="wide {frame}"><table class="{kind}"><thead><tr>{head}</tr></thead>{groups}</table></div>'


def embedded(encoded: bytes, suffix: str, size_hw: tuple[int, int], description: str) -> str:
    """Return an image that is part of the page.

    Args:
        encoded: a file's content.
        suffix: ``.jpg`` or ``.png``, of which kind it is.
        size_hw: height and width, px.
        description: plain text for those who cannot see it.
    """
    kind = "png" if suffix == ".png" else "jpeg"
    data = base64.b64encode(encoded).decode()
    height, width = size_hw
    return f'<img width="{width}" height="{height}" alt="{escape(description)}" src="data:image/{kind};base64,{data}">'


def save_page(file: Path, page: str) -> None:
    """Write a page, whole or not at all."""
    with atomic_write(file) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files may be no text
