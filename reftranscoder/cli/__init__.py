"""The command line: ``reftranscoder COMMAND ...``, or ``python -m reftranscoder COMMAND ...``.

A command is a module here and a name in `COMMANDS`.  It has ``add_arguments(parser)`` and
``run(options)``, which returns an exit status, or None for success.  Its docstring is its help, and
the first line of that its line in the list.  What it imports at the top is light: ``--help`` comes
at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import Error
from . import status

COMMANDS = ("demo", "fit", "encode", "predict", "cases", "audit", "info", "show")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``, by default that of this process; return the exit status.

    Everything that can be wrong with the input ends here, as one line on standard error.
    """
    name = "reftranscoder"
    try:
        _print_any_character()
        try:
            options = _parser().parse_args(argv)
            name = f"reftranscoder {options.command}"
            result = options.run(options)
        except SystemExit as finished:  # argparse, after --help and --version
            result = finished.code
        if sys.stdout is not None:
            sys.stdout.flush()
        return status.OK if result is None else result
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return status.INTERRUPTED
    except BrokenPipeError:
        _give_up_output()
        return status.READER_GONE
    except (Error, OSError, MemoryError) as error:
        _give_up_output()
        print(f"{name}: {_one_line(error)}", file=sys.stderr)
        return status.UNUSABLE


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line, and leaves the exit to `main`."""

    def error(self, message: str) -> NoReturn:
        raise Error(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reftranscoder",
        description="Transcoders on the CPU, and a reference that judges them.",
        epilog="reftranscoder COMMAND --help says more about each.",
    )
    parser.add_argument("--version", action="version", version=f"reftranscoder {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f".{name}", __name__)
        command = commands.add_parser(
            name,
            help=module.__doc__.partition("\n")[0],
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, Error) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or "out of memory"
    return " ".join(text.split())


def _print_any_character() -> None:
    """Where the terminal's encoding lacks a character of a text, print ``?`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _give_up_output() -> None:
    """Send what is left of our output nowhere: its flush at exit would fail, and say so, again."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except AttributeError:  # started without a standard output
        pass
