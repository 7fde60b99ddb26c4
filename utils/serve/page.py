"""The page: one file that fetches nothing but this server's answers."""

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from utils.page import STYLE_FILE

PAGE_FILE, OWN_STYLE_FILE, SCRIPT_FILE = (Path(__file__).with_suffix(suffix) for suffix in (".html", ".css", ".js"))


@lru_cache(maxsize=1)
def demo_page() -> tuple[str, str]:
    """Return the HTML, style and script inside, and the policy that lets a browser run these and nothing else."""
    style = STYLE_FILE.read_text(encoding="utf-8") + OWN_STYLE_FILE.read_text(encoding="utf-8")
    script = SCRIPT_FILE.read_text(encoding="utf-8")
    page = PAGE_FILE.read_text(encoding="utf-8").replace("{{style}}", style).replace("{{script}}", script)
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src 'self' blob: data:; media-src blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
