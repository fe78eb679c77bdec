"""derivation, reference and kernel of an operation, in a row

NAME is an operation such as topk, or one of its functions such as topk_forward.  Without NAME,
lists them all, with how far apart reference and kernel may be.
"""

from __future__ import annotations

import argparse
import ast
from importlib import resources
from typing import Any

from ..errors import OptionError
from ..twins import TWINS, Twin
from .arguments import add_json
from .report import print_report

_PACKAGE = resources.files(__package__.partition(".")[0])


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
        report = _sources(stem, twins)
        text = _text(stem, report)
    print_report(options, report, text)


def _operations() -> dict[str, list[Twin]]:
    """The rows of `TWINS` by the file, in either room, where they stand."""
    home = {
        node.name: file.name.removesuffix(".py")
        for file in sorted((_PACKAGE / "reference").iterdir(), key=lambda file: file.name)
        if file.name.endswith(".py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
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


def _sources(stem: str, twins: list[Twin]) -> dict[str, Any]:
    reference = _read("reference", stem)
    names = [twin.name for twin in twins]
    report = {
        "operation": stem,
        "derivation": ast.get_docstring(ast.parse(reference)),
        "reference": "\n\n\n".join(_function(reference, name) for name in names),
        "kernel": None,
        "functions": _facts(twins),
        "bound": None,
    }
    with_kernel = [twin for twin in twins if twin.kernel]
    if with_kernel:
        report["kernel"] = _body(_read("kernels", stem))
        bounds = _read("", "twin_bounds")
        names = list(dict.fromkeys(_last(t.bound) for t in with_kernel if t.bound))
        report["bound"] = "\n\n\n".join(_function(bounds, name) for name in names)
    return report


def _read(room: str, stem: str) -> str:
    return (_PACKAGE / room / f"{stem}.py").read_text(encoding="utf-8")


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def _function(source: str, name: str) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _lines(source, node)
    raise LookupError(name)


def _body(source: str) -> str:
    """What is in a file after its docstring and its imports."""
    tree = ast.parse(source)
    kept = [
        node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom | ast.If)
    ]
    first = _first_line(kept[0])
    return "\n".join(source.splitlines()[first - 1 :])


def _lines(source: str, node: ast.stmt) -> str:
    return "\n".join(source.splitlines()[_first_line(node) - 1 : node.end_lineno])


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    first: int = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return first


def _listing(stem: str, twins: list[Twin]) -> str:
    lines = [stem]
    for twin in twins:
        alone = "" if twin.kernel else "no kernel. "
        lines.append(f"  {twin.name}: {alone}{twin.why}")
    return "\n".join(lines)


def _text(stem: str, report: dict[str, Any]) -> str:
    parts = [
        (f"{stem}: the derivation", report["derivation"]),
        (f"the reference, reference/{stem}.py", report["reference"]),
    ]
    if report["kernel"]:
        parts.append((f"the kernel, kernels/{stem}.py", report["kernel"]))
    apart = [
        f"{name}: {'' if facts['has_kernel'] else 'no kernel. '}{facts['why']}"
        for name, facts in report["functions"].items()
    ]
    parts.append(("how far apart they may be", "\n".join(apart)))
    if report["bound"]:
        parts.append(("the bound, twin_bounds.py", report["bound"]))
    return "\n\n".join(f"{title}\n{'=' * len(title)}\n\n{text}" for title, text in parts)
