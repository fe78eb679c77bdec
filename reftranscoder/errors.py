"""The exceptions of reftranscoder.  Each says what was expected, what was received and what to do,
in one line, and carries the same facts as attributes for a program to read.

All derive from `Error`; those about values also derive from `ValueError`, so that code that knows
nothing of this library still catches them by the name it would expect.
"""

from __future__ import annotations


class Error(Exception):
    """Anything this library refuses on purpose.  The command line prints it and exits with 2."""

    def __reduce__(self):
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
        text = f"{name} must have shape {meaning}{want}; got {got}."
        super().__init__(f"{text} {hint}" if hint else text)


class DTypeError(Error, TypeError):
    """An array of numbers that cannot be used: complex, strings, objects.

    Attributes: ``name``, ``got`` (the dtype received).
    """

    def __init__(self, name: str, got: object, hint: str):
        self.name, self.got = name, got
        super().__init__(f"{name} must hold real floating-point numbers; got dtype {got}. {hint}")


class NonFiniteError(Error, ValueError):
    """NaN or infinity where a finite number is needed.

    Attributes: ``name``, ``index`` (of the first offender, in C order), ``value``.
    """

    def __init__(self, name: str, index: tuple[int, ...], value: object, hint: str = ""):
        self.name, self.index, self.value = name, index, value
        axes = ("row", "column") if len(index) == 2 else ("index",) * len(index)
        where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index))
        text = f"{name} must be finite; got {value} at {where}."
        super().__init__(f"{text} {hint}" if hint else text)


class OptionError(Error, ValueError):
    """An option whose value is outside what it can be.

    Attributes: ``name``, ``want`` (in words), ``got``.
    """

    def __init__(self, name: str, want: str, got: object, hint: str = ""):
        self.name, self.want, self.got = name, want, got
        text = f"{name} must be {want}; got {got!r}."
        super().__init__(f"{text} {hint}" if hint else text)


class FileError(Error, OSError):
    """A file that cannot be used: missing, truncated, of another format, or not to be overwritten.

    Attributes: ``path``.
    """

    def __init__(self, path: object, problem: str, hint: str = ""):
        self.path = str(path)
        text = f"{path}: {problem}."
        super().__init__(f"{text} {hint}" if hint else text)


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


def _rebuild(kind, args, attributes):
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error
