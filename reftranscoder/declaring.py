"""Options, each declared once: a field of a dataclass with its default and what it means.

From these fields come the parameters and the ``Args`` of the functions that take them (`takes`),
and the flags of the command line.  What a value may be is checked where the dataclass is made.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeVar

O = TypeVar("O")
T = TypeVar("T")
P = ParamSpec("P")
_OPTION = "option"  # the key in a field's metadata


class Option(NamedTuple):
    """What is declared of an option."""

    default: Any
    meaning: str  # a phrase, in the help of its flag too
    details: str  # what only a docstring has room for
    choices: tuple[str, ...]


def option(default: T, meaning: str, details: str = "", choices: Iterable[str] = ()) -> T:
    """A field of a dataclass that declares an option.  (To type checkers it is its default.)"""
    declaration = Option(default, meaning, details, tuple(choices))
    return dataclasses.field(default=default, metadata={_OPTION: declaration})


def declared(kind: type) -> dict[str, Option]:
    """The options that the dataclass ``kind`` declares or inherits, by name."""
    fields = dataclasses.fields(kind)
    return {field.name: field.metadata[_OPTION] for field in fields if _OPTION in field.metadata}


def chosen(kind: type, options: Any) -> dict[str, Any]:
    """The values that ``options`` has for the fields of the dataclass ``kind``, by name."""
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(kind)}


def takes(
    kind: Callable[P, O], swapped: tuple[str, str] | None = None
) -> Callable[[Callable[[O], T]], Callable[P, T]]:
    """Make a function of one ``kind``, a dataclass, a function of the fields of ``kind``.

    Its signature, for type checkers too, is that of ``kind``, with the options ``swapped`` in each
    other's place; and its docstring lists what they mean, before what is raised.
    """

    def decorate(body: Callable[[O], T]) -> Callable[P, T]:
        signature = _signature(kind, inspect.signature(body).return_annotation, swapped)
        name = body.__qualname__
        most = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())
        kind.__init__.__qualname__ = name  # what a TypeError calls it

        @functools.wraps(body)
        def function(*args: P.args, **options: P.kwargs) -> T:
            if len(args) > most:  # Python would count ``self`` too
                s, were = "" if most == 1 else "s", "was" if len(args) == 1 else "were"
                got = f"{len(args)} {were} given"
                raise TypeError(f"{name}() takes {most} positional argument{s} but {got}")
            return body(kind(*args, **options))

        described: Any = function
        described.__signature__ = signature
        described.__annotations__ = {n: p.annotation for n, p in signature.parameters.items()}
        described.__annotations__["return"] = signature.return_annotation
        if function.__doc__ is not None:  # python -OO
            before, raises, after = inspect.cleandoc(function.__doc__).partition("Raises:")
            function.__doc__ = before + _arguments(signature, kind) + raises + after
        return function

    return decorate


def _signature(kind: Any, result: Any, swapped: tuple[str, str] | None) -> inspect.Signature:
    hints = typing.get_type_hints(kind)
    parameters = inspect.signature(kind).parameters
    names = list(parameters)
    if swapped:
        first, second = map(names.index, swapped)
        names[first], names[second] = names[second], names[first]
    return inspect.Signature(
        [parameters[name].replace(annotation=hints[name]) for name in names],
        return_annotation=result,
    )


def _arguments(signature: inspect.Signature, kind: Any) -> str:
    options = declared(kind)
    lines = ["Args:"]
    for name in signature.parameters:
        if name in options:
            text = "; ".join(filter(None, (options[name].meaning, options[name].details)))
            lines += textwrap.wrap(
                f"{name}: {text}.", 92, initial_indent=" " * 4, subsequent_indent=" " * 8
            )
    return "\n".join(lines) + "\n\n"
