"""``--html FILE``: a page that a command writes beside what it prints."""

from __future__ import annotations

import argparse

from ..errors import OptionError
from ..files.atomic import atomic_write, check_replaceable


def add_html(parser: argparse.ArgumentParser, what: str) -> None:
    """``--html``."""
    parser.add_argument("--html", metavar="FILE", help=what)


def check_html(options: argparse.Namespace) -> None:
    """Refuse a page that cannot be written, before the work is done.

    Raises:
        OptionError: it has no name.
        FileError: it cannot become a file.
    """
    if options.html == "":
        raise OptionError("--html", "the name of a file", options.html)
    if options.html is not None:
        check_replaceable(options.html)


def write_html(path: str, page: str) -> None:
    """Write ``page``; another one there is replaced.

    Raises:
        FileError: it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(page.encode())
