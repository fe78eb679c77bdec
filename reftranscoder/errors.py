"""The exceptions of reftranscoder.  Each says what was expected, what was received and what to do,
in one line, and carries the same facts as attributes for a program to read.

All derive from `Error`; those about values also derive from `ValueError`, so that code that knows
nothing of this library still catches them by the name it would expect.

>>> rt.build(input_size=4, output_size=3, dict_size=8, top_k=9)
Traceback (most recent call last):
    ...
reftranscoder.errors.OptionError: top_k must be from 1 to dict_size = 8; got 9. Lower it.
"""

from __future__ import annotations

import reprlib
from typing import Any

LONGEST = 300  # characters of a message: what was wrong and what to do fit on a few lines
_LONGEST_VALUE = 80  # of these, for the value that was received


def one_line(text: str, longest: int = LONGEST) -> str:
    """Return ``text`` on one line of at most ``longest`` characters, fit for any terminal.

    Blanks and line breaks become one blank; what does not print (control characters, halves of
    characters in the name of a file) becomes its escape; what is too long loses its middle, as the
    beginning says what it is about and the end what to do.
    """
    if len(text) > 4 * longest:  # escaping a text of a gigabyte would take a while
        text = text[: 2 * longest] + text[-2 * longest :]
    text = printable(" ".join(text.split()))
    if len(text) <= longest:
        return text
    head = (longest - 5) // 2
    return f"{text[:head]} ... {text[head + 5 - longest :]}"


def printable(text: str) -> str:
    """Return ``text`` with escapes for what does not print, line breaks too: for names of files."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Shown(reprlib.Repr):
    """Parts of a large value only, so that a list of a million numbers is not written out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _LONGEST_VALUE

    def repr_int(self, value: int, level: int) -> str:
        try:
            return super().repr_int(value, level)
        except ValueError:  # Python writes out no number of thousands of digits
            return f"a whole number of {value.bit_length()} bits"


def shown(value: object) -> str:
    """Return ``value`` as a message can quote it: its repr, shortened to one line."""
    try:
        text = _Shown().repr(value)
    except Exception:  # whatever somebody else's __repr__ raises
        text = f"an object of type {type(value).__name__}"
    return one_line(text, _LONGEST_VALUE)


def words(value: object) -> str:
    """Return ``value`` as it prints, shortened as `shown` does it."""
    try:
        return one_line(str(value), _LONGEST_VALUE)
    except Exception:
        return shown(value)


class Error(Exception):
    """Anything this library refuses on purpose.  The command line prints it and exits with 2.

    Whatever the message is made from, it is one line of at most ``longest`` characters.
    """

    longest = LONGEST

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message, self.longest))

    def say_where(self, place: str) -> None:
        """Begin the message with ``place``, which who raised it could not know."""
        self.args = (one_line(f"{place}: {self}", self.longest),)

    def __reduce__(self) -> tuple[Any, ...]:
        # The parameters of a subclass are facts, not the message in ``args``, so that unpickling
        # must not call its ``__init__``.
        return _rebuild, (type(self), self.args, self.__dict__)


class ShapeError(Error, ValueError):
    """An array whose shape does not fit the others.

    Attributes: ``name`` (of the array), ``want`` and ``got`` (shapes, or axis counts).
    """

    def __init__(self, name: str, want: object, got: object, hint: str = "", letters: str = ""):
        self.name, self.want, self.got = name, want, got
        meaning = f"{letters} = " if letters else ""
        text = f"{name} must have shape {meaning}{words(want)}; got {words(got)}."
        super().__init__(f"{text} {hint}" if hint else text)


class DTypeError(Error, TypeError):
    """An array of numbers that cannot be used: complex, strings, objects.

    Attributes: ``name``, ``got`` (the dtype received).
    """

    def __init__(self, name: str, got: object, hint: str):
        self.name, self.got = name, got
        text = f"{name} must hold real floating-point numbers; got dtype {words(got)}."
        super().__init__(f"{text} {hint}" if hint else text)


class NonFiniteError(Error, ValueError):
    """NaN or infinity where a finite number is needed.

    Attributes: ``name``, ``index`` (of the first offender, in C order), ``value``.
    """

    def __init__(self, name: str, index: tuple[int, ...], value: object, hint: str = ""):
        self.name, self.index, self.value = name, index, value
        axes = ("row", "column") if len(index) == 2 else ("index",) * len(index)
        where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index))
        text = f"{name} must be finite; got {words(value)} at {where}."
        super().__init__(f"{text} {hint}" if hint else text)


class OptionError(Error, ValueError):
    """An option whose value is outside what it can be.

    Attributes: ``name``, ``want`` (in words), ``got``.
    """

    def __init__(self, name: str, want: str, got: object, hint: str = ""):
        self.name, self.want, self.got = name, want, got
        text = f"{name} must be {want}; got {shown(got)}."
        super().__init__(f"{text} {hint}" if hint else text)


class RowError(Error, IndexError):
    """Indices that are not those of rows.

    Attributes: ``name`` (of what has the rows).
    """

    def __init__(self, name: str, problem: str):
        self.name = name
        super().__init__(f"{name}: {problem}")


class FileError(Error, OSError):
    """A file that cannot be used: missing, truncated, of another format, or not to be overwritten.

    Attributes: ``path``.
    """

    def __init__(self, path: object, problem: str, hint: str = ""):
        self.path = str(path)
        text = f"{printable(self.path)}: {problem}."
        super().__init__(f"{text} {hint}" if hint else text)


class ClusterError(Error, RuntimeError):
    """A cluster that cannot go on: no worker is left, or the same work is lost again and again."""


class KinkError(Error, ArithmeticError):
    """A derivative asked for where there is none, or a step that would cross a kink: the selected
    features, or the sign of one, change within it.

    Attributes: ``step`` (the step asked for, or None), ``radius`` (the largest step without a kink;
    0 where the point itself lies on one).
    """

    def __init__(self, message: str, step: float | None, radius: float):
        self.step, self.radius = step, radius
        super().__init__(message)


class GradientError(Error, AssertionError):
    """A gradient that is not the derivative of its loss.

    Attributes: ``block`` (what moved: the name of an array, or ``"parameters"``), ``analytic``,
    ``numeric`` and ``tolerance`` along that direction, ``index`` (of an entry where the fault
    shows by itself, or None).
    """

    longest = 2000  # a judgement, with its numbers

    def __init__(
        self,
        message: str,
        block: str,
        analytic: float,
        numeric: float,
        tolerance: float,
        index: tuple[int, ...] | None,
    ):
        self.block, self.analytic, self.numeric = block, analytic, numeric
        self.tolerance, self.index = tolerance, index
        super().__init__(message)


class VersionWarning(UserWarning):
    """A run that goes on with other versions than it began with: its last bits may differ."""


def _rebuild(kind: type[Error], args: tuple[Any, ...], attributes: dict[str, Any]) -> Error:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error
