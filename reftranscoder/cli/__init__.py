"""The command line: ``reftranscoder COMMAND ...``, or ``python -m reftranscoder COMMAND ...``.

A command is a module here and a name in `COMMANDS`.  It has ``add_arguments(parser)`` and
``run(options)``, which returns an exit status, or None for success.  Its docstring is its help, and
the first line of that its line in the list.  What it imports at the top is light: ``--help`` comes
at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import Error, one_line
from ..interruption import Handled, Terminated, number_of
from . import status, streams

COMMANDS = (
    "demo",
    "fit",
    "evaluate",
    "report",
    "encode",
    "predict",
    "convert",
    "cases",
    "audit",
    "faults",
    "info",
    "show",
    "guide",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``, by default that of this process; return the exit status.

    Everything that can be wrong with the input ends here, as one line on standard error, and with
    ``--json`` as an object on standard output too.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    command = next((word for word in argv if word in COMMANDS), None)
    name = f"reftranscoder {command}" if command else "reftranscoder"
    message: str | None
    streams.occupy_missing()
    streams.print_any_character()
    with streams.warnings_in_one_line(name), Handled():
        try:
            return _run(argv)
        except KeyboardInterrupt as stop:
            message = "terminated" if isinstance(stop, Terminated) else "interrupted"
            result = status.of_signal(number_of(stop))
        except BrokenPipeError:
            message, result = None, status.READER_GONE
        except (Error, OSError, MemoryError) as error:
            message, result = _said(error), status.UNUSABLE
        streams.give_up_output()
        if message is not None:
            if "--json" in argv:
                streams.answer_in_json(message)
            streams.complain(f"{name}: {message}")
        return result


def _run(argv: Sequence[str]) -> int:
    try:
        options = _parser().parse_args(argv)
        result = options.run(options)
    except SystemExit as finished:  # argparse, after --help and --version
        result = finished.code
    if sys.stdout is not None:
        sys.stdout.flush()
    return status.OK if result is None else result


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
        text = module.__doc__ or ""  # python -OO
        command = commands.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _said(error: BaseException) -> str:
    """The message of ``error``, on one line."""
    if isinstance(error, OSError) and not isinstance(error, Error) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or "out of memory"
    return one_line(text)
