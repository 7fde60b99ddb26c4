"""XML files of users, read without the parts of XML that can attack a reader."""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from utils.data.convert.records import Unusable


def read_xml(file: Path) -> ElementTree.Element:
    """Return the root element of ``file``.

    A DOCTYPE is refused: it is where entities come from that read other files or grow to gigabytes.

    Raises:
        Unusable: malformed (with the line), or it has a DOCTYPE.
    """
    content = file.read_bytes()

    def refuse(*_: object) -> None:
        raise Unusable("the XML has a DOCTYPE, which is not read: remove that line")

    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(content, True)
        return ElementTree.fromstring(content)
    except (expat.ExpatError, ElementTree.ParseError) as error:
        raise Unusable(f"malformed XML: {error}") from error
    except (LookupError, ValueError) as error:  # an encoding that does not exist, a NUL
        raise error if isinstance(error, Unusable) else Unusable(f"malformed XML: {error}") from error


def text_of(element: ElementTree.Element, path: str) -> str:
    """Return the stripped text at ``path`` below ``element``, empty when there is none."""
    return (element.findtext(path) or "").strip()
