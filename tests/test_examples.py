"""Examples in docstrings run, every public name has one, and whatever returns says what."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import reftranscoder as rt

PUBLIC = [name for name in dir(rt) if name != "__version__"]
GIVEN = {"np": np, "rt": rt}  # what an example takes for granted

EXAMPLES = {
    f"{name}: {test.name}": test
    for name in PUBLIC
    for test in doctest.DocTestFinder().find(getattr(rt, name), name, globs=GIVEN)
    if test.examples
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong: list[str] = []
    doctest.DocTestRunner().run(EXAMPLES[name], out=wrong.append, clear_globs=False)
    assert not wrong, "".join(wrong)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_short_example(name):
    """In its own docstring, of at most six statements."""
    examples = EXAMPLES[f"{name}: {name}"].examples
    assert 1 <= len(examples) <= 6


def functions(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """``value`` itself; or the functions of a module and the methods of a class, without what
    begins with an underscore, but for calls."""
    if isinstance(value, ModuleType):
        for member in vars(value).get("__all__", vars(value)):
            found = getattr(value, member)
            own = getattr(found, "__module__", "").startswith(value.__name__)
            if own and not member.startswith("_") and not isinstance(found, ModuleType):
                yield from functions(found, f"{name}.{member}")
    elif inspect.isclass(value):
        for member, found in vars(value).items():
            found = getattr(found, "__func__", found)  # of a classmethod
            if inspect.isfunction(found) and (not member.startswith("_") or member == "__call__"):
                yield f"{name}.{member}", found
    elif inspect.isfunction(value):
        yield name, value


FUNCTIONS = {
    called: function for name in PUBLIC for called, function in functions(getattr(rt, name), name)
}


def unsaid(function: Any) -> str:
    """What is wrong with how ``function`` says what it returns.  The rule: the docstring of
    whatever returns something begins with "Return", or has a section "Returns:"."""
    if inspect.signature(function).return_annotation in (None, "None"):
        return ""
    docstring = inspect.getdoc(function) or ""
    if docstring.startswith("Return ") or "\nReturns:\n    " in docstring:
        return ""
    return f"begins with {docstring[:40]!r} and has no section Returns:"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_returns(name):
    assert unsaid(FUNCTIONS[name]) == ""


def test_a_function_that_does_not_say_what_it_returns_is_found():
    def silent(x) -> int:
        """The size of ``x``."""

    def titled(x):
        """Do it.

        Returns: nothing under it.
        """

    def says(x):
        """Do it.

        Returns:
            (B, O), new.
        """

    def nothing(x) -> None:
        """Do it."""

    assert [bool(unsaid(f)) for f in (silent, titled, says, nothing)] == [True, True, False, False]


def test_methods_and_functions_of_modules_are_among_those_looked_at():
    assert {"fit", "Transcoder.__call__", "Transcoder.from_arrays", "metrics.fvu"} <= {*FUNCTIONS}
    assert {"metrics.Evaluation.result", "twins.Twin.compare", "sample.load"} <= {*FUNCTIONS}
    assert "reference.topk_forward" in FUNCTIONS and "kernels.topk_forward" in FUNCTIONS
