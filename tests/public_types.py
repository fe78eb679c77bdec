"""Whether type checkers see the public signatures as they are when the program runs.

    python tests/public_types.py

Asks mypy for the type of every public callable, and compares the names, the kinds and the presence
of a default of its parameters with those of `inspect.signature`.  Prints what differs, and exits
with 1 then.  Needs mypy; ``.ci/run`` calls it after mypy, whose cache makes it quick.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import reftranscoder as rt

ROOT = Path(__file__).parent.parent
#: What is compiled has no type before it runs.
WITHOUT_TYPES = ("kernels",)
#: To mypy, a descriptor as the field of a dataclass is a default, even if it says there is none.
WITHOUT_DEFAULT = {"rt.Arithmetic": {"inputs", "accumulator", "store"}}


class Parameter(NamedTuple):
    """What both sides say of a parameter."""

    name: str
    kind: str  # "by place", "by name", "either", "places" or "names"
    has_default: bool


KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "by place",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.VAR_POSITIONAL: "places",
    inspect.Parameter.KEYWORD_ONLY: "by name",
    inspect.Parameter.VAR_KEYWORD: "names",
}


def callables() -> Iterator[tuple[str, Any]]:
    """What users call, by what they write: ``rt.fit``, ``rt.Transcoder.encode``, ..."""
    for name in rt.__all__:
        if name in WITHOUT_TYPES:
            continue
        value = getattr(rt, name)
        if not isinstance(value, types.ModuleType):
            yield from _with_methods(f"rt.{name}", value)
        else:
            for inner in getattr(value, "__all__", vars(value)):
                found = getattr(value, inner)
                home = getattr(found, "__module__", None) or ""
                if not inner.startswith("_") and home.startswith(value.__name__):
                    yield from _with_methods(f"rt.{name}.{inner}", found)


def _with_methods(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not callable(value):
        return
    if not (isinstance(value, type) and issubclass(value, Exception)):  # these we make ourselves
        yield name, value
    if isinstance(value, type):
        for inner, method in vars(value).items():
            if not inner.startswith("_") and isinstance(
                method, types.FunctionType | classmethod | staticmethod
            ):
                yield f"{name}.{inner}", getattr(value, inner)


def at_run_time(function: Any) -> list[Parameter]:
    """The parameters of ``function``; those by name, whose order means nothing, by name."""
    return _sorted(
        Parameter(p.name, KINDS[p.kind], p.default is not p.empty)
        for p in inspect.signature(function).parameters.values()
    )


def as_revealed(text: str) -> list[Parameter] | None:
    """The same of what mypy reveals, ``def (x: Any, *, k: int =) -> int``; None for what is no
    function.  Of one that is overloaded the first way, as the parameters are the same in all."""
    text = text.removeprefix("Overload(")
    if not text.startswith("def "):
        return None
    parameters: list[Parameter] = []
    kind = "either"
    for part in _arguments(text):
        if part == "/":
            parameters = [p._replace(kind="by place") for p in parameters]
        elif part == "*":
            kind = "by name"
        else:
            name = re.match(r"\**\w+", part)[0]
            stars = name.count("*")
            this = ("places", "names")[stars - 1] if stars else kind
            parameters.append(Parameter(name.strip("*"), this, part.endswith("=")))
            kind = "by name" if stars else kind
    return _sorted(parameters)


def _arguments(text: str) -> Iterator[str]:
    """What stands between the commas of the first parentheses."""
    depth, start = 0, text.index("(") + 1
    for at, character in enumerate(text[start:], start):
        if (character == "," and depth == 0) or (character == ")" and depth == 0):
            if part := text[start:at].strip():
                yield part
            start = at + 1
            if character == ")":
                return
        depth += (character in "([{") - (character in ")]}")


def _sorted(parameters: Any) -> list[Parameter]:
    parameters = list(parameters)
    by_name = sorted(p for p in parameters if p.kind == "by name")
    return [p for p in parameters if p.kind != "by name"] + by_name


def revealed(names: list[str], folder: Path) -> dict[str, str]:
    """What mypy says of each of ``names``."""
    from mypy import api

    program = folder / "reveal.py"
    lines = [f"reveal_type({name})" for name in names]
    program.write_text("\n".join(["import reftranscoder as rt", *lines]) + "\n")
    out, err, _ = api.run([str(program), "--config-file", str(ROOT / "pyproject.toml")])
    found = re.findall(r'reveal\.py:(\d+): note: Revealed type is "(.*)"', out)
    types = {names[int(line) - 2]: text for line, text in found}
    if set(types) != set(names):
        raise SystemExit(f"mypy does not find {set(names) - set(types)}:\n{out}{err}")
    return types


def _only(these: list[Parameter], others: list[Parameter]) -> str:
    """Those of ``these`` parameters that are not among ``others``."""
    only = [p for p in these if p not in others]
    described = (f"{p.name} ({p.kind}, {'a' if p.has_default else 'no'} default)" for p in only)
    return ", ".join(described) or "nothing else"


def main() -> int:
    functions = dict(callables())
    with tempfile.TemporaryDirectory() as folder:
        types = revealed(list(functions), Path(folder))
    wrong = 0
    for name, function in functions.items():
        seen, real = as_revealed(types[name]), at_run_time(function)
        if required := WITHOUT_DEFAULT.get(name):
            seen = [p._replace(has_default=p.has_default and p.name not in required) for p in seen]
        if seen != real:
            wrong += 1
            print(
                f"{name}: mypy sees {_only(seen or [], real)}; there is {_only(real, seen or [])}"
            )
    print(f"{len(functions) - wrong} of {len(functions)} public callables are as mypy sees them.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
