"""What a function calls, read from the source: nothing is imported, and nothing runs.

A piece is a statement at the top of a module: a function, a class, an assignment.  It leads to
every piece that its text names, in its own module or in another one of its room, a folder such as
``kernels/``.  The graph ends at the border of the room, and at the part of the engine on which no
result depends, `PLUMBING`: how kernels are compiled, and which threads may run them.  What lies
behind either is named, not shown.

Pieces come in reading order: first those asked for, then file by file, in the order in which calls
come to the files, or that a folder's ``__init__`` lists after "In reading order"; within a file as
they stand there, after its docstring, which the first file goes without.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import NamedTuple

PACKAGE = resources.files(__package__.partition(".")[0])

#: Files where the graph ends.
PLUMBING = ("kernels/engine/jit.py", "kernels/engine/threads_and_forks.py")


class Piece(NamedTuple):
    """Some lines of the package, with the comment right above them."""

    file: str  # below the package
    line: int  # the first, from 1
    source: str


class CallGraph(NamedTuple):
    """What is reached from some names, in reading order, and what is not followed."""

    pieces: list[Piece]
    also: dict[str, list[str]]  # file -> names


class Module(NamedTuple):
    """One file, by the names at its top."""

    tree: ast.Module
    defined: dict[str, ast.stmt]
    imported: dict[str, tuple[str, str]]  # from this package: the file, and the name there


def call_graph(
    room: str, file: str, names: Iterable[str], shown: Iterable[Piece] = ()
) -> CallGraph:
    """What ``names`` in ``file`` lead to in ``room``, but what was ``shown`` before."""
    asked = [piece(file, read(file).defined[name]) for name in names]
    found: set[Piece] = set()
    also: dict[str, set[str]] = {}
    files = [file]
    waiting = deque((file, name) for name in names)
    while waiting:
        here, name = waiting.popleft()
        if not here.startswith(room) or here in PLUMBING:
            also.setdefault(here, set()).add(name)
            continue
        module = read(here)
        reached = piece(here, module.defined[name])
        if reached not in found:
            found.add(reached)
            files += [here] if here not in files and reached not in shown else []
            waiting += [
                module.imported.get(other, (here, other))
                for other in _mentioned(module.defined[name])
                if other in module.imported or other in module.defined
            ]
    files = _in_reading_order(files)
    found |= {piece(other, read(other).tree.body[0]) for other in files if other != file}
    rest = found.difference(asked, shown)
    by_place = sorted(rest, key=lambda reached: (files.index(reached.file), reached.line))
    return CallGraph(asked + by_place, {there: sorted(also[there]) for there in sorted(also)})


@functools.cache
def read(file: str) -> Module:
    """The `Module` that is ``file``."""
    tree = ast.parse(_text(file))
    module = Module(tree, {}, {})
    folder = file.split("/")[:-1]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            module.defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                module.defined.update(dict.fromkeys(_bound(target), node))
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) + 1 - node.level] + (node.module or "").split(".")
            for alias in node.names:
                there = "/".join(base) + ".py"
                module.imported[alias.asname or alias.name] = there, alias.name
    return module


def piece(file: str, node: ast.stmt) -> Piece:
    """The lines of ``node``, a statement at the top of ``file``."""
    lines = _text(file).splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    while lines[first - 2].startswith("#"):
        first -= 1
    return Piece(file, first, "\n".join(lines[first - 1 : node.end_lineno]))


def _mentioned(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names in ``node``, as they come, but those that belong to a function in it."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        local |= _bound(node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and child.id not in local:
            yield child.id
        yield from _mentioned(child, local)


def _bound(node: ast.AST) -> set[str]:
    """The parameters in ``node``, and the names that are assigned to."""
    parameters = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return parameters | {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _in_reading_order(files: list[str]) -> list[str]:
    """``files``, of which those that their folder lists stand together."""
    ordered: list[str] = []
    for file in files:
        folder = file.rpartition("/")[0]
        _, _, text = _text(f"{folder}/__init__.py".lstrip("/")).partition("In reading order::")
        listed = [f"{folder}/{name}" for name in re.findall(r"^ +(\w+\.py)  ", text, re.M)]
        ordered += [f for f in [*listed, file] if f in files and f not in ordered]
    return ordered


@functools.cache
def _text(file: str) -> str:
    return (PACKAGE / file).read_text(encoding="utf-8")
