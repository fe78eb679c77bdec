"""README.rst and the pages of the guide, as docutils reads them."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import docutils.core
from docutils import nodes

import reftranscoder as rt

PACKAGE = Path(rt.__file__).parent
ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "reftranscoder" / "guide"
README = ROOT / "README.rst"
PAGES = sorted(GUIDE.glob("*.rst"))


def parsed(text: str, warnings: io.StringIO | None = None) -> nodes.document:
    settings = {
        "report_level": 1,
        "halt_level": 5,
        "syntax_highlight": "none",
        "warning_stream": warnings or io.StringIO(),
    }
    return docutils.core.publish_doctree(text, settings_overrides=settings)


@functools.cache
def document(path: Path) -> nodes.document:
    return parsed(path.read_text(encoding="utf-8"))


def page(name: str) -> Path:
    return GUIDE / f"{name}.rst"


def find(path: Path, title: str) -> nodes.Element:
    """The section of a file called ``title``: all of it, if that is the title of the file."""
    if document(path).get("title") == title:
        return document(path)
    for section in document(path).findall(nodes.section):
        if section.next_node(nodes.title).astext() == title:
            return section
    raise KeyError(title)


def blocks(path: Path, title: str) -> list[str]:
    """The literal blocks of the section of a file called ``title``."""
    return [block.astext() for block in find(path, title).findall(nodes.literal_block)]
