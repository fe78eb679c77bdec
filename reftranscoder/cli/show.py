"""derivation, reference and kernel of an operation, in a row

NAME is an operation such as topk, or one of its functions such as topk_forward.  Each is shown with
what it calls and the constants that these read, file and line above every piece; what only compiles
kernels and keeps threads apart is named at the end.  Without NAME, lists all operations, with how
far apart reference and kernel may be.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable
from typing import Any

from ..errors import OptionError
from ..twins import TWINS, Twin
from .arguments import add_json
from .call_graph import PACKAGE, CallGraph, Piece, call_graph, piece, read
from .printing import print_report

#: What returns the bits of an operation's kernel by another way.
_FASTER = {"encode": ("kernels/screened_encoder.py", "Encoder")}

_BOUNDS = "twin_bounds/__init__.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[NAME]."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="an operation, or its function")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Print the operation, or the list of all."""
    operations = _operations()
    if options.name is None:
        report = {"operations": {stem: _facts(twins) for stem, twins in operations.items()}}
        text = "\n\n".join(_listing(stem, twins) for stem, twins in operations.items())
    else:
        stem, twins = _find(options.name, operations)
        derivation = ast.get_docstring(read(f"reference/{stem}.py").tree) or ""
        parts = _parts(stem, twins, whole=options.name == stem)
        report = _report(stem, twins, derivation, parts)
        text = _text(stem, twins, derivation, parts)
    print_report(options, report, text)


def _operations() -> dict[str, list[Twin]]:
    """The rows of `TWINS` by the file, in either room, where they stand."""
    files = sorted(file.name for file in (PACKAGE / "reference").iterdir())
    home = {
        name: file.removesuffix(".py")
        for file in files
        if file.endswith(".py")
        for name, node in read(f"reference/{file}").defined.items()
        if isinstance(node, ast.FunctionDef)
    }
    operations: dict[str, list[Twin]] = {}
    for twin in TWINS:
        operations.setdefault(home[twin.name], []).append(twin)
    return operations


def _find(name: str, operations: dict[str, list[Twin]]) -> tuple[str, list[Twin]]:
    if name in operations:
        return name, operations[name]
    for stem, twins in operations.items():
        for twin in twins:
            if twin.name == name:
                return stem, [twin]
    raise OptionError("NAME", f"one of {', '.join(operations)}, or one of their functions", name)


def _facts(twins: list[Twin]) -> dict[str, dict[str, Any]]:
    return {twin.name: {"has_kernel": twin.kernel is not None, "why": twin.why} for twin in twins}


def _parts(stem: str, twins: list[Twin], whole: bool) -> dict[str, CallGraph]:
    """What is shown of the source, by its name in the report; ``whole`` if all of an operation."""
    file = f"{stem}.py"
    with_kernel = [twin for twin in twins if twin.kernel]
    parts = {"reference": call_graph("reference/", f"reference/{file}", [t.name for t in twins])}
    if with_kernel:
        kernel = call_graph("kernels/", f"kernels/{file}", [twin.name for twin in with_kernel])
        parts["kernel"] = kernel
        if whole and stem in _FASTER:
            faster, name = _FASTER[stem]
            screen = call_graph("kernels/", faster, [name], shown=kernel.pieces)
            parts["screen"] = _under_its_docstring(faster, screen)
        parts["bound"] = _bounds(t.bound.rpartition(".")[2] for t in with_kernel if t.bound)
    return parts


def _bounds(names: Iterable[str]) -> CallGraph:
    """What the bounds with these names lead to, under the letters that all of them use."""
    pieces: dict[Piece, None] = {}
    also: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        file, there = read(_BOUNDS).imported[name]
        graph = call_graph("twin_bounds/", file, [there])
        pieces |= dict.fromkeys(graph.pieces)
        also |= graph.also
    return _under_its_docstring(_BOUNDS, CallGraph(list(pieces), also))


def _under_its_docstring(file: str, graph: CallGraph) -> CallGraph:
    return graph._replace(pieces=[piece(file, read(file).tree.body[0]), *graph.pieces])


def _report(
    stem: str, twins: list[Twin], derivation: str, parts: dict[str, CallGraph]
) -> dict[str, Any]:
    found = {name: _joined(graph) for name, graph in parts.items()}
    return {
        "operation": stem,
        "derivation": derivation,
        **{name: found.get(name) for name in ("reference", "kernel", "screen", "bound")},
        "functions": _facts(twins),
        "pieces": {name: [p._asdict() for p in graph.pieces] for name, graph in parts.items()},
        "also_calls": {name: graph.also for name, graph in parts.items()},
    }


def _joined(graph: CallGraph) -> str:
    """The pieces one below the other, under file and line; what stands together stays so."""
    text, end = "", ("", 0)
    for p in graph.pieces:
        text += "\n" if (p.file, p.line) == end else f"\n\n\n# {p.file}:{p.line}\n"
        text += p.source
        end = p.file, p.line + len(p.source.splitlines())
    return text.strip()


def _also(graph: CallGraph) -> str:
    if not graph.also:
        return ""
    named = (f"{file}: {', '.join(names)}" for file, names in graph.also.items())
    return f"\n\n\n# also calls: {'; '.join(named)}"


def _listing(stem: str, twins: list[Twin]) -> str:
    lines = [stem]
    for twin in twins:
        alone = "" if twin.kernel else "no kernel. "
        lines.append(f"  {twin.name}: {alone}{twin.why}")
    return "\n".join(lines)


def _text(stem: str, twins: list[Twin], derivation: str, parts: dict[str, CallGraph]) -> str:
    titles = {
        "reference": f"the reference, reference/{stem}.py",
        "kernel": f"the kernel, kernels/{stem}.py",
        "screen": "the same bits, faster: kernels/screened_encoder.py, kernels/screen/",
        "bound": "the bound, twin_bounds/",
    }
    _, *apart = _listing(stem, twins).splitlines()
    shown = {titles[name]: _joined(graph) + _also(graph) for name, graph in parts.items()}
    bound = shown.pop(titles["bound"], None)
    shown["how far apart they may be"] = "\n".join(line.strip() for line in apart)
    if bound:
        shown[titles["bound"]] = bound
    sections = {f"{stem}: the derivation": derivation, **shown}
    return "\n\n\n".join(f"{t}\n{'=' * len(t)}\n\n{text}" for t, text in sections.items())
