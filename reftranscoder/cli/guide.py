"""the pages of the guide: guarantees, auditing, embedding, coming from other libraries, and more

Without PAGE, lists them.
"""

from __future__ import annotations

import argparse
import re
from importlib import resources

from ..errors import OptionError
from .arguments import add_json
from .printing import print_report

_FOLDER = resources.files(__package__.partition(".")[0]) / "guide"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[PAGE]."""
    parser.add_argument("page", metavar="PAGE", nargs="?", help="the name of a page")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Print the page, or the names and titles of all."""
    pages = _pages()
    if options.page is None:
        titles = {name: text.partition("\n")[0] for name, text in pages.items()}
        text = "\n".join(f"{name:14}{title}" for name, title in titles.items())
        print_report(options, {"pages": titles}, text)
        return
    if options.page not in pages:
        raise OptionError("PAGE", f"one of {', '.join(pages)}", options.page)
    text = pages[options.page]
    print_report(options, {"page": options.page, "text": text}, plain(text))


def _pages() -> dict[str, str]:
    """The reStructuredText of every page, by name."""
    files = sorted(_FOLDER.iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".rst"): file.read_text(encoding="utf-8").rstrip("\n")
        for file in files
        if file.name.endswith(".rst")
    }


def plain(text: str) -> str:
    """A page as it reads in a terminal: without the marks that only a renderer needs."""
    text = re.sub(r"^\.\. code-block:: \w+\n\n", "", text, flags=re.M)
    text = re.sub(r"^\.\. _.+: .+\n?", "", text, flags=re.M)  # where the links lead
    text = re.sub(r"``(.+?)``", r"\1", text, flags=re.S)
    return re.sub(r"`([^`]+)`_", r"\1", text).rstrip("\n")
