"""The rules of the house.  Each is a function over a source tree that returns the breaches it
finds, so that it can be seen to find one: every rule is also run on a tree with a planted breach.
"""

from __future__ import annotations

import ast
import builtins
import fnmatch
import functools
import inspect
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

import public_types
import pytest

import reftranscoder as rt

PACKAGE = Path(rt.__file__).parent
TESTS = Path(__file__).parent
ROOT = TESTS.parent

# From the ground up.  A module imports from lower layers and from its own unit, never from its
# neighbours: neither room, reference or kernels, can borrow from the other.
LAYERS = (
    {"errors", "interruption", "conventions"},
    {"sparse", "bounds", "files", "options", "declaring"},
    {"sample", "arrays", "ownership"},
    {"params"},
    {"kernels.engine", "formats"},
    {"kernels.screen"},
    {"reference", "kernels"},
    {"twins", "twin_bounds", "backends"},
    {"transcoder", "metrics", "activations"},
    {"loading", "edifice", "evaluating", "gradcheck", "testing"},
    {"auditor.task"},
    {"auditor.intervals", "auditor.probes"},
    {"auditor.judging"},
    {"auditor.cross_checks", "auditor.explaining", "auditor.reporting"},
    {"training", "auditor"},
    {"auditor.faults", "distributed", "estimator"},
    {"cli"},
    {"", "__main__"},  # "" is the package's own __init__
)

# What a unit may import from elsewhere.  At the top of a module, only NumPy, unless stated here:
# the rest is loaded when it is used.
AT_THE_TOP = {
    "reference": {"numpy"},
    "kernels": {"numpy", "numba"},
    "kernels.engine": {"numpy", "numba", "llvmlite"},
    "kernels.screen": {"numpy", "numba", "llvmlite"},
    "auditor.intervals": {"numpy", "scipy"},
    "estimator": {"numpy", "sklearn"},  # whose bases it inherits; nothing else imports it
}
INSIDE = {"reference": {"numpy"}, "kernels": {"numpy", "numba"}}

#: What a reader would not look up: `names_that_hide_the_term` says what stands in their place.
RETIRED = {"casefile", "door", "doors", "floors", "guest", "guests", "hear", "hearing", "probing"}
RETIRED |= {"ranking", "rung", "rungs"}

#: In lines: of a file, of half of the files, and of what is written only once.
LONGEST_FILE, MEDIAN_FILE, EQUAL = 350, 120, 10
#: Of a function outside the kernels, which are written out so that they compile to what they say.
LONGEST_FUNCTION, MOST_PARAMETERS = 60, 12

FORBIDDEN = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}

TOP_LEVEL = {
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.rst",
    "LICENSE",
    "MANIFEST.in",
    "README.rst",
    "bench",
    "pyproject.toml",
    "reftranscoder",
    "setup.cfg",
    "tests",
}

HEAVY = ["llvmlite", "matplotlib", "ml_dtypes", "numba", "safetensors", "scipy", "sklearn"]
HEAVY += ["dask", "distributed", "torch", "tqdm"]

# The documented interface of named tuples, which has underscores so as not to clash with fields.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
# What every command and script has; cli/__init__.py says what these do.
EXPLAINED = {"add_arguments", "main", "run"}
# Numba has no public way to say where a kernel's compiled code is kept, nor what none is made of.
NUMBA = {
    "kernels.engine.jit": {"_cache"},
    "kernels.engine.linked": {"_finalize_dynamic_globals", "_library_class", "_unserialize"},
}


class Module(NamedTuple):
    """One source file: its dotted name below the package, and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module


class Import(NamedTuple):
    """One imported module, by its full name, and where."""

    name: str
    line: int
    at_the_top: bool


def modules(package: Path) -> Iterator[Module]:
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        yield Module(".".join(parts), path, parsed(path.read_text(encoding="utf-8")))


@functools.cache
def parsed(text: str) -> ast.Module:
    """The syntax tree, which no rule changes: every rule looks at every file."""
    return ast.parse(text)


@functools.cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All that `ast.walk` comes by."""
    return tuple(ast.walk(tree))


def unit(name: str) -> str | None:
    """The unit that the module ``name`` belongs to, as `LAYERS` has it."""
    parts = name.split(".")
    prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((p for p in prefixes if any(p in layer for layer in LAYERS)), None)


def imports(module: Module, package: Path) -> Iterator[Import]:
    """What ``module`` imports; modules of this package appear as ``reftranscoder.…``."""
    inside = {
        id(node)
        for function in nodes(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    inside |= {
        id(node)
        for test in nodes(module.tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    parts = module.name.split(".") if module.name else []
    folder = parts if module.path.name == "__init__.py" else parts[:-1]
    for node in nodes(module.tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = ["reftranscoder", *folder[: len(folder) + 1 - node.level], *base]
            below = package.joinpath(*base[1:]) if base[0] == "reftranscoder" else None
            for alias in node.names:
                if [*base, alias.name] == ["reftranscoder", "__version__"]:
                    continue  # a constant, on every layer
                is_module = below and (
                    (below / alias.name).is_dir() or (below / f"{alias.name}.py").is_file()
                )
                names.append(".".join([*base, alias.name] if is_module else base))
        for name in names:
            yield Import(name, node.lineno, id(node) not in inside)


def imports_that_do_not_point_down(package: Path) -> list[str]:
    layer_of = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    breaches = []
    for module in modules(package):
        here = unit(module.name) if module.name else ""
        if here is None:
            breaches.append(f"{module.name} stands on no layer")
            continue
        for imported in imports(module, package):
            if imported.name.split(".")[0] != "reftranscoder":
                continue
            name = imported.name.removeprefix("reftranscoder").removeprefix(".")
            there = unit(name) if name else ""
            if there is None:
                breaches.append(f"{module.name}:{imported.line} imports {name}, on no layer")
            elif here != there and layer_of[there] >= layer_of[here]:
                breaches.append(f"{module.name}:{imported.line} imports {name}")
    return breaches


def foreign_imports(package: Path) -> list[str]:
    breaches = []
    for module in modules(package):
        here = unit(module.name) if module.name else ""
        for imported in imports(module, package):
            name = imported.name.split(".")[0]
            if name in sys.stdlib_module_names or name == "reftranscoder":
                continue
            allowed = AT_THE_TOP.get(here, {"numpy"}) if imported.at_the_top else INSIDE.get(here)
            if allowed is not None and name not in allowed:
                breaches.append(f"{module.name}:{imported.line} imports {name}")
    return breaches


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name.strip("_") != ""


def private_names_from_elsewhere(folder: Path) -> list[str]:
    breaches = []
    for module in modules(folder):
        bound = NAMED_TUPLE | NUMBA.get(module.name, set())
        used = []
        for node in nodes(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
            elif isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in ("self", "cls"):
                    bound.add(node.attr)
                else:
                    used.append((node.lineno, node.attr))
            elif isinstance(node, ast.ImportFrom):
                used += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.Import):
                used += [(node.lineno, n) for a in node.names for n in a.name.split(".")]
        breaches += [
            f"{module.name}:{line} uses {name}"
            for line, name in used
            if private(name) and name not in bound
        ]
    return breaches


def names_that_say_nothing(folder: Path) -> list[str]:
    return [
        module.name
        for module in modules(folder)
        if FORBIDDEN & set(module.name.removeprefix("test_").split("."))
    ]


def names_that_hide_the_term(folder: Path) -> list[str]:
    """Names made of a word that was retired for the field's own: README.rst and the maps use these.

    ``door`` and ``guest`` of `Transcoder` and of threads and forks, ``ranking`` of quickselect,
    ``rung`` of a check, ``hearing`` and ``probing`` of an audit's batch and its cases, ``casefile``
    of a case file; and ``floor`` of a layer: it is the smallest fault that would show.
    """
    breaches = []
    for module in modules(folder):
        names = {module.name.split(".")[-1]}
        for node in nodes(module.tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
        for name in sorted(names):
            parts = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()  # JudgedBatch: judged_batch
            if RETIRED & set(re.findall(r"[a-z]+", parts)):
                breaches.append(f"{module.name}: {name}")
    return breaches


def documented(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The functions and classes in ``body`` without an underscore, and what `reftranscoder` itself
    lists: the methods of its classes."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        if node.name not in EXPLAINED and not {"property", "overload"} & set(decorators):
            yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef) and node.name in rt.__all__:
            yield from documented(node.body, f"{node.name}.")


def section(docstring: str, title: str) -> list[str]:
    """The names listed under ``title:``, one an indented line, up to a colon."""
    lines = iter(docstring.splitlines())
    for line in lines:
        if line.strip().startswith(title) and line.strip().endswith(":"):
            break
    names: list[str] = []
    for line in lines:
        if not line.startswith("    "):
            break
        if not line.startswith("     ") and ":" in line:
            names += [name.strip(" `*") for name in line.split(":")[0].split(",")]
    return names


def docstrings_that_do_not_fit(package: Path) -> list[str]:
    errors = ast.parse((package / "errors.py").read_text(encoding="utf-8"))
    raisable = {node.name for node in errors.body if isinstance(node, ast.ClassDef)}
    raisable |= {n for n, v in vars(builtins).items() if isinstance(v, type)}
    breaches = []
    for module in modules(package):
        if not ast.get_docstring(module.tree) and module.path.read_text(encoding="utf-8").strip():
            breaches.append(f"{module.name}: the module has no docstring")
        for name, node in documented(module.tree.body):
            docstring = ast.get_docstring(node)
            where = f"{module.name}.{name}"
            if not docstring:
                breaches.append(f"{where} has no docstring")
                continue
            breaches += [
                f"{where} raises the unknown {error}"
                for error in section(docstring, "Raises")
                if error not in raisable
            ]
            if isinstance(node, ast.ClassDef):  # what is documented there is its __init__
                inits = (n for n in node.body if getattr(n, "name", "") == "__init__")
                node = next(inits, node)
            if isinstance(node, ast.FunctionDef):
                a = node.args
                named = [p.arg for p in [*a.posonlyargs, *a.args, *a.kwonlyargs]]
                listed = section(docstring, "Args")
                if listed and listed != [p for p in named if p not in ("self", "cls")]:
                    breaches.append(f"{where}{tuple(named)} lists {listed}")
    return breaches


def lists_of_names_out_of_order(package: Path) -> list[str]:
    breaches = []
    for module in modules(package):
        for node in module.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "sorted":
                    continue
                names = ast.literal_eval(node.value)
                if names != sorted(set(names)) or any(private(name) for name in names):
                    breaches.append(f"{module.name}: __all__ = {names}")
    return breaches


def numbers_that_decay(package: Path) -> list[str]:
    """In the reference, float literals and arrays without a dtype: a Fraction decays on them."""
    makers = {"zeros", "ones", "empty", "full", "eye", "arange"}
    breaches = []
    for module in modules(package):
        if unit(module.name) != "reference":
            continue
        for node in nodes(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
                breaches.append(f"{module.name}:{node.lineno} has the literal {node.value}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {keyword.arg for keyword in node.keywords}
                if node.func.attr in makers and "dtype" not in given:
                    breaches.append(f"{module.name}:{node.lineno} calls {node.func.attr}")
    return breaches


def type_errors_hidden_without_a_reason(package: Path) -> list[str]:
    """``# type: ignore`` without the code of the error, or without a comment that says why."""
    hidden, reasoned = re.compile(r"# type: *ignore"), re.compile(r"# type: ignore\[[\w-]+\]  # \w")
    return [
        f"{module.name}:{number} {line.strip()}"
        for module in modules(package)
        for number, line in enumerate(module.path.read_text(encoding="utf-8").splitlines(), 1)
        if hidden.search(line) and not reasoned.search(line)
    ]


def strangers_at_the_top_level(root: Path) -> list[str]:
    ignored = [
        line.strip("/")
        for line in (root / ".gitignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return sorted(
        entry.name
        for entry in root.iterdir()
        if entry.name not in TOP_LEVEL
        and not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignored)
    )


def files_that_are_too_long(package: Path) -> list[str]:
    lines = {m.name: len(m.path.read_text(encoding="utf-8").splitlines()) for m in modules(package)}
    breaches = [f"{name} has {n} lines" for name, n in lines.items() if n > LONGEST_FILE]
    if (median := statistics.median(lines.values())) > MEDIAN_FILE:
        breaches.append(f"half of the files have {median} lines or more")
    return breaches


def functions_that_are_too_large(package: Path) -> list[str]:
    breaches = []
    for module in modules(package):
        if module.name.split(".")[0] == "kernels":
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                takes = sum(isinstance(inner, ast.arg) for inner in ast.iter_child_nodes(node.args))
                if lines > LONGEST_FUNCTION or takes > MOST_PARAMETERS:
                    where = f"{module.name}.{node.name}"
                    breaches.append(f"{where} has {lines} lines and {takes} parameters")
    return breaches


def code_lines(module: Module) -> list[tuple[int, str]]:
    """The lines that say something, by number: without blank ones, comments, and what only lists
    names, imports and ``__all__``."""
    lists = set()
    for node in ast.walk(module.tree):
        names_only = isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        )
        if names_only:
            lists |= set(range(node.lineno, node.end_lineno + 1))
    text = module.path.read_text(encoding="utf-8").splitlines()
    return [
        (number, line.strip())
        for number, line in enumerate(text, start=1)
        if line.strip() and not line.strip().startswith("#") and number not in lists
    ]


def lines_that_are_written_twice(package: Path) -> list[str]:
    """Where `EQUAL` lines of code in a row stand elsewhere too, whatever their indentation."""
    first: dict[tuple[str, ...], str] = {}
    breaches = []
    for module in modules(package):
        lines = code_lines(module)
        repeats = False
        for k in range(len(lines) - EQUAL + 1):
            block = tuple(line for _, line in lines[k : k + EQUAL])
            here = f"{module.name}:{lines[k][0]}"
            begins = not repeats  # and is not the rest of a longer run
            repeats = first.setdefault(block, here) != here
            if repeats and begins:
                breaches.append(f"{here} repeats {first[block]}")
    return breaches


HOUSE = [
    (imports_that_do_not_point_down, PACKAGE),
    (foreign_imports, PACKAGE),
    (private_names_from_elsewhere, PACKAGE),
    (private_names_from_elsewhere, TESTS),
    (private_names_from_elsewhere, ROOT / "bench"),
    (names_that_say_nothing, PACKAGE),
    (names_that_say_nothing, TESTS),
    (names_that_say_nothing, ROOT / "bench"),
    (names_that_hide_the_term, PACKAGE),
    (names_that_hide_the_term, TESTS),
    (names_that_hide_the_term, ROOT / "bench"),
    (docstrings_that_do_not_fit, PACKAGE),
    (lists_of_names_out_of_order, PACKAGE),
    (numbers_that_decay, PACKAGE),
    (files_that_are_too_long, PACKAGE),
    (functions_that_are_too_large, PACKAGE),
    (lines_that_are_written_twice, PACKAGE),
    (type_errors_hidden_without_a_reason, PACKAGE),
    (strangers_at_the_top_level, ROOT),
]


@pytest.mark.parametrize(
    ("rule", "tree"), HOUSE, ids=[f"{rule.__name__}-{tree.name}" for rule, tree in HOUSE]
)
def test_the_rule_holds(rule, tree):
    assert rule(tree) == []


SAYS = '"""Says what it is."""\n'
LISTS = 'def f(x):\n    """F.\n\n    {}:\n        {}: so.\n    """'
TEN = "if x:\n" + "\n".join(f"    f({n})" for n in range(9))
PLANTED = {
    imports_that_do_not_point_down: [
        ("params.py", "from .transcoder import Transcoder"),
        ("reference/topk.py", "from ..kernels import topk"),
        ("reference/topk.py", "from .. import kernels"),
        ("kernels/topk.py", "from ..reference.topk import f"),
        ("kernels/topk.py", "def f():\n    import reftranscoder.reference"),
        ("kernels/engine/jit.py", "from ..topk import f"),
        ("kernels/engine/jit.py", "from ..screen.tile import f"),
        ("kernels/screen/tile.py", "from ..topk import f"),
        ("formats/native.py", "def f():\n    from ..transcoder import Transcoder"),
        ("errors.py", "import reftranscoder"),
        ("errors.py", "from . import Transcoder"),
        ("metrics.py", "from .activations import f"),
        ("novelty.py", ""),
    ],
    foreign_imports: [
        ("reference/topk.py", "def f():\n    from scipy import sparse"),
        ("reference/topk.py", "import numba"),
        ("kernels/topk.py", "import torch"),
        ("transcoder.py", "import scipy.sparse"),
    ],
    private_names_from_elsewhere: [
        ("params.py", "from .errors import _rebuild"),
        ("params.py", "from . import errors\nerrors._rebuild()"),
        ("params.py", "from . import _errors"),
        ("params.py", "import reftranscoder._errors"),
        ("params.py", "def f(tc):\n    return tc._params"),
        ("params.py", "def f(tc):\n    tc._params = 1"),
    ],
    names_that_say_nothing: [("utils.py", ""), ("kernels/helpers/sort.py", "")],
    names_that_hide_the_term: [
        ("kernels/door.py", ""),
        ("params.py", "class Hearing:\n    pass"),
        ("params.py", "def exact_rung():\n    pass"),
        ("params.py", "RUNGS = ()"),
    ],
    docstrings_that_do_not_fit: [
        ("params.py", "def f(x):\n    return x"),
        ("params.py", f"class Params:\n    {SAYS}    def f(self):\n        return 1"),
        ("params.py", LISTS.format("Args", "y")),
        ("params.py", LISTS.format("Raises", "NoSuchError")),
    ],
    lists_of_names_out_of_order: [
        ("reference/__init__.py", "__all__ = ['b', 'a']"),
        ("reference/__init__.py", "__all__ = ['a', 'a']"),
        ("reference/__init__.py", "__all__ = ['_a']"),
    ],
    numbers_that_decay: [
        ("reference/adam.py", "def f(a):\n    return a * 1e-3"),
        ("reference/adam.py", "import numpy as np\na = np.zeros((2, 3))"),
    ],
    files_that_are_too_long: [("params.py", "x = 1\n" * 350)],
    functions_that_are_too_large: [
        ("params.py", "def f():" + "\n    g()" * 60),
        ("params.py", f"class C:\n    def f(self, *a, {', '.join(f'p{n}' for n in range(11))}): 0"),
    ],
    lines_that_are_written_twice: [
        ("params.py", f"{TEN}\n    import f\n{TEN}"),
        ("params.py", f"{TEN}\n    if y:\n\n        # Again:\n{indent(TEN, ' ' * 8)}"),
    ],
    type_errors_hidden_without_a_reason: [
        ("params.py", "x: int = ''  # type: ignore"),
        ("params.py", "x: int = ''  # type: ignore[assignment]"),
        ("params.py", "x: int = ''  # type: ignore  # so"),
    ],
    strangers_at_the_top_level: [("notes.txt", "")],
}


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [(rule, *breach) for rule, breaches in PLANTED.items() for breach in breaches],
)
def test_the_rule_finds_a_planted_breach(tmp_path, rule, path, text):
    for name in ("", "reference/", "kernels/", "kernels/engine/", "kernels/screen/", "formats/"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / f"{name}__init__.py").write_text(SAYS)
    for name in ("errors", "params", "transcoder", "activations", "reference/topk", "kernels/topk"):
        (tmp_path / f"{name}.py").write_text(SAYS)
    (tmp_path / ".gitignore").write_text("# made here\n*.py\nreference/\nkernels/\nformats/\n")
    assert rule(tmp_path) == []

    planted = tmp_path / path
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"{SAYS}{text}\n")
    assert len(rule(tmp_path)) == 1


def test_a_file_that_is_there_twice_is_found(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.py").write_text("\n".join(f"f({n})" for n in range(12)))
    assert lines_that_are_written_twice(tmp_path) == ["b:1 repeats a:1"]


def test_files_that_are_too_long_in_the_middle_are_found(tmp_path):
    for name, lines in (("a", 1), ("b", 121), ("c", 122)):
        (tmp_path / f"{name}.py").write_text("x = 1\n" * lines)
    assert files_that_are_too_long(tmp_path) == ["half of the files have 121 lines or more"]


def test_the_map_in_the_readme_shows_the_layers():
    layer_of = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^    (__main__|[a-z]\w+)(?:\.py|/)  ", text, re.M)
    assert {name.split(".")[0] for name in layer_of} <= {*listed, ""}
    assert set(listed) - layer_of.keys() == {"guide"}  # in which there is no module
    layers = [layer_of[name] for name in listed if name in layer_of]
    assert layers == sorted(layers, reverse=True)


def twins_that_differ(twins, reference, kernels) -> list[str]:
    breaches = []
    for room in (reference, kernels):
        functions = {name for name in room.__all__ if inspect.isfunction(getattr(room, name))}
        breaches += sorted(functions - {twin.name for twin in twins})
    for twin in twins:
        if twin.kernel and inspect.signature(twin.function("reference")) != inspect.signature(
            twin.function("kernel")
        ):
            breaches.append(twin.name)
        if (twin.kernel is None) == hasattr(kernels, twin.name):
            breaches.append(twin.name)
    return breaches


def test_twins_have_one_name_and_one_signature():
    assert twins_that_differ(rt.twins.TWINS, rt.reference, rt.kernels) == []


def test_twins_that_differ_are_found(monkeypatch):
    def other(x, W, bias):
        return x, W, bias

    with monkeypatch.context() as planted:
        planted.setattr(rt.kernels, "affine_forward", other)
        assert twins_that_differ(rt.twins.TWINS, rt.reference, rt.kernels) == ["affine_forward"]
    rest = [twin for twin in rt.twins.TWINS if twin.name != "mse_forward"]
    assert twins_that_differ(rest, rt.reference, rt.kernels) == ["mse_forward"] * 2
    with monkeypatch.context() as planted:
        planted.setattr(rt.kernels, "relu_forward", other, raising=False)
        assert twins_that_differ(rt.twins.TWINS, rt.reference, rt.kernels) == ["relu_forward"]


def test_every_rule_has_a_planted_breach():
    assert {rule for rule, _ in HOUSE} == set(PLANTED)


@pytest.mark.parametrize("name", ["", ".reference", ".twins"])
def test_an_import_loads_nothing_heavy(name, tmp_path):
    code = f"import sys, reftranscoder{name}\nprint([m for m in {HEAVY} if m in sys.modules])"
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


#: The modules that mypy is not asked about, in pyproject.toml.  This may only shrink: what is added
#: to the package is strict.
NOT_STRICT = {"reftranscoder.kernels.*", "reftranscoder.reference.*", "reftranscoder.twin_bounds.*"}


def leniences(settings: dict) -> tuple[set[str], list[str]]:
    """The modules that ``settings`` of mypy exempt, and what they allow besides."""
    exempt, allowed = set(), [] if settings.get("strict") is True else ["strict is not true"]
    harmless = {"packages", "python_version", "strict", "untyped_calls_exclude", "overrides"}
    allowed += sorted(set(settings) - harmless)
    for override in settings["overrides"]:
        names = override.pop("module")
        if override == {"ignore_errors": True}:
            exempt |= set(names)
        elif any(name.startswith("reftranscoder") for name in names):
            allowed.append(f"{override} of {names}")
    return exempt, allowed


def test_types_are_strict_but_for_a_list_that_only_shrinks():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert leniences(settings["tool"]["mypy"]) == (NOT_STRICT, [])


def test_other_leniences_are_found():
    override = {"module": ["reftranscoder.cli"], "disallow_untyped_defs": False}
    _, allowed = leniences({"strict": True, "disable_error_code": "misc", "overrides": [override]})
    assert len(allowed) == 2
    assert leniences({"overrides": []})[1] == ["strict is not true"]


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("def (x: Any, *, k: dict[str, int] =, j: int) -> int", lambda x, *, j, k=0: 0),
        ("def (a: def (int) -> int, /, b: Any =, *c: Any, **d: Any)", lambda a, /, b=0, *c, **d: 0),
        ("def () -> None", lambda: None),
        ("Overload(def (a: int) -> int, def (a: str) -> str)", lambda a: 0),
    ],
)
def test_types_that_mypy_reveals_are_read(text, function):
    assert public_types.as_revealed(text) == public_types.at_run_time(function)
    assert public_types.as_revealed(text) != public_types.at_run_time(lambda x, k: 0)


def names_for_type_checkers(package: Path) -> set[str]:
    """What the package's own `__init__` imports for those who do not run it."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If)]
    assert [ast.unparse(block.test) for block in blocks] == ["TYPE_CHECKING"]
    return {alias.name for node in blocks[0].body for alias in node.names}


def test_type_checkers_see_every_public_name():
    assert names_for_type_checkers(PACKAGE) == set(rt.__all__) - {"__version__"}


def test_everything_public_is_listed_and_found():
    assert dir(rt) == sorted(rt.__all__)
    for name in rt.__all__:
        assert getattr(rt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rt.nothing  # noqa: B018
