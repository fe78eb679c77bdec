"""`reftranscoder show NAME`: what it prints of a kernel is what runs, and no more than that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import reftranscoder
from reftranscoder import cli
from reftranscoder.cli.call_graph import PLUMBING, call_graph
from reftranscoder.twins import TWINS

PACKAGE = Path(reftranscoder.__file__).parent
WITH_KERNEL = [twin.name for twin in TWINS if twin.kernel]

# Run as plain Python: every function of kernels/ that is entered, by file and line, for each
# operation, and for the screened encoder beside encode_forward.
RUNS = """
import importlib, json, pathlib, sys
import numpy as np
import reftranscoder
package = pathlib.Path(reftranscoder.__file__).parent

def lines_of(run):
    entered = set()
    sys.setprofile(lambda frame, event, argument: entered.add(frame.f_code))
    try:
        run()
    finally:
        sys.setprofile(None)
    places = [(pathlib.Path(code.co_filename), code.co_firstlineno) for code in entered]
    return sorted(
        (file.relative_to(package).as_posix(), line)
        for file, line in places
        if file.is_relative_to(package / "kernels")
    )

# What a table of losses is made of runs once, when it is made.
found = {"made": lines_of(lambda: importlib.import_module("reftranscoder.kernels.losses"))}
from reftranscoder import testing
from reftranscoder.kernels.screened_encoder import Encoder
from reftranscoder.params import ACTIVATIONS
from reftranscoder.twins import TWINS
from reftranscoder.kernels.losses import RECONSTRUCTION_LOSSES, SPARSITY_LOSSES, Losses

several = [Losses(name, target_l0=2.0) for name in RECONSTRUCTION_LOSSES]
several += [Losses("mse", name, target_l0=2.0) for name in SPARSITY_LOSSES]
for twin in TWINS:
    if twin.kernel:
        twin.function("kernel")
        found[twin.name] = []
        for activation in ACTIVATIONS:
            small = testing.Probe(B=3, I=9, D=8, O=9, K=2, activation=activation)
            arguments = small.arguments(twin)
            for losses in several if "losses" in arguments else [None]:
                if losses is not None:
                    arguments["losses"] = losses
                found[twin.name] += lines_of(lambda: twin.run_kernel(arguments))

def screened():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((96, 9)).astype(np.float32)
    x = rng.standard_normal((17, 9)).astype(np.float32)
    x[1] = 0
    for panels in (np.uint8, np.float32):
        Encoder(W, np.zeros(96, np.float32), panels).encode(x, top_k=2)

found["encode"] = lines_of(screened)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def entered():
    """Operation -> (file, line) of each function in kernels/ that ran, without the plumbing."""
    run = subprocess.run(
        [sys.executable, "-c", RUNS],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        name: [(file, line) for file, line in places if file not in PLUMBING]
        for name, places in json.loads(run.stdout).items()
    }


@pytest.fixture
def shown(capsys):
    """``show NAME --json``, read."""

    def shown(name):
        assert cli.main(["show", name, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return shown


def lines(pieces):
    """Every (file, line) of ``pieces``."""
    return {
        (piece["file"], piece["line"] + n)
        for piece in pieces
        for n in range(len(piece["source"].splitlines()))
    }


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_every_function_that_runs_is_shown(name, shown, entered):
    assert entered[name] and set(entered[name]) <= lines(shown(name)["pieces"]["kernel"])


def test_the_screen_is_shown_with_its_operation(shown, entered):
    pieces = shown("encode")["pieces"]
    assert set(entered["encode"]) <= lines(pieces["kernel"] + pieces["screen"])
    assert not lines(pieces["kernel"]) & lines(pieces["screen"])
    assert "screen" not in shown("encode_forward")["pieces"]


#: Of these one runs, whichever suits the processor.
EITHER = ("@routine\ndef two_rows(", "@routine\ndef four_rows(")


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_no_function_is_shown_that_does_not_run(name, shown, entered):
    pieces = shown(name)["pieces"]["kernel"]
    functions = [piece for piece in pieces if "\ndef " in "\n" + piece["source"]]
    runs = set(entered[name] + entered["made"])
    if name in ("transcoder_loss", "transcoder_backward"):
        # A loss and its gradient stand side by side in a table, of which either reads one half.
        runs |= set(entered["transcoder_loss"] + entered["transcoder_backward"])
    idle = [piece for piece in functions if not lines([piece]) & runs]
    either = [piece for piece in functions if piece["source"].startswith(EITHER)]
    if any(piece not in idle for piece in either):
        idle = [piece for piece in idle if piece not in either]
    assert functions and not idle


def test_another_function_of_the_same_file_is_not_shown(capsys):
    assert cli.main(["show", "affine_backward"]) == 0
    out = capsys.readouterr().out
    assert "def affine_relu_forward" not in out
    assert "# kernels/engine/sparse_loops.py:" in out and "def _combine(" in out
    jit = "kernels/engine/jit.py: kernel, serial_kernel"
    assert f"\n# also calls: {jit}; " in out


@pytest.mark.parametrize("name", ["topk", "encode", "transcoder_backward"])
def test_every_piece_stands_where_its_header_says(name, shown, capsys):
    parts = shown(name)["pieces"]
    cli.main(["show", name])
    out = capsys.readouterr().out
    for pieces in parts.values():
        for piece in pieces:
            source = (PACKAGE / piece["file"]).read_text(encoding="utf-8").splitlines()
            text = piece["source"].splitlines()
            assert source[piece["line"] - 1 :][: len(text)] == text
            assert piece["source"] in out
        first = pieces[0]
        assert f"\n# {first['file']}:{first['line']}\n{first['source']}" in out


def test_an_operation_has_each_piece_once(shown):
    for pieces in shown("affine")["pieces"].values():
        places = [(piece["file"], piece["line"]) for piece in pieces]
        assert len(places) == len(set(places))
    kernel = shown("affine")["pieces"]["kernel"]
    assert [piece["source"].split("(")[0] for piece in kernel[:3]] == [
        "def affine_forward",
        "def affine_relu_forward",
        "def affine_backward",
    ]
    assert "def four_dots" not in shown("affine")["kernel"]


def test_the_screen_comes_in_the_order_of_its_map(shown):
    listed = (PACKAGE / "kernels" / "screen" / "__init__.py").read_text(encoding="utf-8")
    files = list(dict.fromkeys(piece["file"] for piece in shown("encode")["pieces"]["screen"]))
    screen = [file.rpartition("/")[2] for file in files if file.startswith("kernels/screen/")]
    assert screen == [word for word in listed.split() if word.endswith(".py")]
    assert files[0] == "kernels/screened_encoder.py" and files[1].startswith("kernels/screen/")


PLANTED = {
    "planted/asked.py": """
        "What is asked for."
        from ..outside import far
        from .called import table, unused

        #: How many.
        LIMIT, MOST = 2, 3

        def asked(x, unused):
            table = inner(x)
            return [LIMIT for _ in far(unused, table)]

        @decorated
        def inner(x):
            return lambda MOST: table[MOST] + x

        def decorated(f):
            return f
        """,
    "planted/called.py": """
        "What is called."
        def row(): pass
        table = {"row": row, "column": lambda unused: unused}
        def unused(): pass
        """,
    "__init__.py": "",
    "planted/__init__.py": "",
}


def test_names_are_those_of_the_module_and_not_of_a_function(tmp_path, monkeypatch):
    (tmp_path / "planted").mkdir()
    for file, text in PLANTED.items():
        (tmp_path / file).write_text(dedent(text).lstrip())
    monkeypatch.setattr("reftranscoder.cli.call_graph.PACKAGE", tmp_path)
    graph = call_graph("planted/", "planted/asked.py", ["asked"])
    assert [(piece.file, piece.line) for piece in graph.pieces] == [
        ("planted/asked.py", 8),
        ("planted/asked.py", 5),  # with the comment above it
        ("planted/asked.py", 12),
        ("planted/asked.py", 16),
        ("planted/called.py", 1),
        ("planted/called.py", 2),
        ("planted/called.py", 3),
    ]
    assert graph.also == {"outside.py": ["far"]}


def test_nothing_heavy_is_loaded():
    code = "import sys; from reftranscoder import cli; cli.main(['show', 'encode']); "
    code += "sys.exit(bool({'numba', 'scipy', 'reftranscoder.kernels'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
