"""a transcoder of another library in our own format, or one written as another library reads it

SRC is a file, or a folder as a library or the Hugging Face hub leaves it.  DST is a file, .npz or
.safetensors, or with --format a folder.  What was written is read again, and is equal to the bit in
every array and option, or refused: then so is every stage that is computed from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import FileError, printable
from ..formats import OURS, AnyModel, Decisions, load, save
from ..formats.writing import WRITERS, difference, write
from .arguments import add_choice, add_json, chosen
from .printing import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC DST."""
    parser.add_argument("source", metavar="SRC", help="a file or folder with a transcoder")
    parser.add_argument("output", metavar="DST", help="what is written")
    parser.add_argument("--format", choices=(OURS, *WRITERS), default=OURS, help="that of DST")
    add_choice(parser, "SRC")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Read SRC, write DST, and compare."""
    told = chosen(options)
    which = {name: told.pop(name, None) for name in ("layer", "hook")}
    model = load(options.source, **which, decisions=Decisions(**told))
    path = Path(options.output)
    if options.format == OURS:
        save(model, path, force=options.force)
    else:
        path = write(model, path, options.format, force=options.force)
    _compare(model, path)
    origin = model.origin
    report = {
        "from": None if origin is None else origin.to_dict(),
        "format": options.format,
        "path": str(path),
        "equal": True,
    }
    text = f"{printable(str(path))}: format {options.format}, equal in every array and option"
    print_report(options, report, text, made=printable(str(path)))


def _compare(model: AnyModel, path: Path) -> None:
    try:
        differs = difference(model, load(path))
    except FileError as error:
        differs = str(error)
    if differs is not None:
        raise FileError(path, f"does not say what was to be written: {differs}", "Do not use it.")
