"""Options that are declared once, and the functions made from them."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any, get_type_hints

import pytest

import reftranscoder as rt
from reftranscoder.declaring import Option, chosen, declared, option, takes
from reftranscoder.params import Architecture
from reftranscoder.training.options import FitOptions


@dataclasses.dataclass(frozen=True)
class _Given:
    x: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options(_Given):
    size: int
    width: int = option(2, "of a row", "from 1 upwards")
    mode: str = option("fast", "how", choices=("fast", "slow"))


@takes(_Options, swapped=("width", "mode"))
def made(options: _Options) -> tuple[Any, ...]:
    """Make it.

    Raises:
        TypeError: without a size.
    """
    return dataclasses.astuple(options)


def written(x: Any, *, size: int, mode: str = "fast", width: int = 2) -> tuple[Any, ...]:
    return x, size, width, mode


written.__qualname__ = "made"
CALLS = [((1,), {"size": 2}), ((), {"x": 1, "size": 2, "mode": "slow", "width": 3})]
NO_CALLS = [
    ((), {"size": 2}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1,), {"size": 2, "speed": 3}),
    ((1,), {"size": 2, "x": 3}),
]


def test_it_takes_what_the_same_function_written_out_takes():
    names = [(p.name, p.kind, p.default) for p in inspect.signature(made).parameters.values()]
    assert names == [
        (p.name, p.kind, p.default) for p in inspect.signature(written).parameters.values()
    ]
    assert get_type_hints(made) == get_type_hints(written)
    for args, options in CALLS:
        assert made(*args, **options) == written(*args, **options)


@pytest.mark.parametrize(("args", "options"), NO_CALLS, ids=str)
def test_it_refuses_the_rest_as_python_does(args, options):
    with pytest.raises(TypeError) as want:
        written(*args, **options)
    with pytest.raises(TypeError) as got:
        made(*args, **options)
    if "multiple" in str(want.value) or len(args) < 2:
        assert str(got.value) == str(want.value)
    else:
        assert str(got.value).startswith("made() takes 1 positional argument but ")


def test_its_docstring_lists_what_is_declared():
    summary, arguments, raises = made.__doc__.split("\n\n")
    assert arguments == "Args:\n    mode: how.\n    width: of a row; from 1 upwards."
    assert (summary, raises) == ("Make it.", "Raises:\n    TypeError: without a size.")


def test_declarations_are_read_back():
    assert declared(_Options) == {
        "width": Option(2, "of a row", "from 1 upwards", ()),
        "mode": Option("fast", "how", "", ("fast", "slow")),
    }
    assert chosen(_Given, _Options(1, size=2)) == {"x": 1}


def test_public_options_have_one_default_and_a_meaning():
    for function in (rt.build, rt.output_size, rt.fit):
        parameters = inspect.signature(function).parameters
        for name, said in declared(Architecture).items():
            assert parameters[name].default == said.default
            assert f"    {name}: {said.meaning}" in function.__doc__
    options = set(inspect.signature(rt.fit).parameters) - {"x", "target"}
    assert options == set(declared(FitOptions))


def test_functions_of_options_are_pickled_by_name():
    assert pickle.loads(pickle.dumps(rt.fit)) is rt.fit


def test_without_docstrings():
    code = "import reftranscoder as rt; print(rt.fit.__doc__, rt.build.__name__)"
    run = [sys.executable, "-OO", "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "None build\n"
