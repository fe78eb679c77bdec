"""Standard output and standard error, whatever became of them: closed, full, without a reader."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator

from ..errors import Error, VersionWarning, one_line


def occupy_missing() -> None:
    """Give the standard streams that this process was started without a place to go.

    Otherwise the next file that is opened gets their number, and what a library prints with it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def print_any_character() -> None:
    """Where the terminal's encoding lacks a character of a text, print ``?`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def tell(text: str, made: object = None) -> None:
    """Print ``text`` to standard output; characters that do not print become escapes.

    Raises:
        Error: it cannot be written, and the file ``made`` is there all the same.
        OSError: it cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        print(escaped(text), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        if made is None:
            raise
        raise Error(f"standard output: {error.strerror}; {made} is written") from None


def escaped(text: str) -> str:
    """``text`` with escapes for characters that do not print, apart from line breaks.

    The escapes are those of Python and of JSON, in a string of which they mean the same character.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def complain(line: str) -> None:
    """Print ``line`` to standard error, if there is one."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def answer_in_json(message: str) -> None:
    """Print ``{"error": message}`` to standard output, if that can be written."""
    with contextlib.suppress(OSError):
        tell(json.dumps({"error": message}, ensure_ascii=False))


@contextlib.contextmanager
def warnings_in_one_line(name: str) -> Iterator[None]:
    """Say a warning of ours as one line that begins with ``name``, and none of anybody else's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", VersionWarning)
        warnings.showwarning = lambda message, *more: complain(f"{name}: {one_line(str(message))}")
        yield


def give_up_output() -> None:
    """Send what is left of our output nowhere: its flush at exit would fail, and say so, again."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except AttributeError:  # started without a standard output
        pass


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
