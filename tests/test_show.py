"""`reftranscoder show`: what it prints of a kernel is what runs, and no more than that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
import json, pathlib, sys
import numpy as np
import reftranscoder
from reftranscoder import testing
from reftranscoder.kernels.screened_encoder import Encoder
from reftranscoder.twins import TWINS

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

found = {}
for twin in TWINS:
    if twin.kernel:
        twin.function("kernel")
        small = testing.Probe(B=3, I=9, D=8, O=4, K=2)
        arguments = small.arguments(twin)
        found[twin.name] = lines_of(lambda: twin.run_kernel(arguments))

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


# Not entered by these few arguments.
BRANCHES = {
    "kth_largest", "load_tail",
}


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_no_function_is_shown_that_does_not_run(name, shown, entered):
    for piece in shown(name)["pieces"]["kernel"]:
        if "\ndef " in f"\n{piece['source']}" :
            if not lines([piece]) & set(entered[name]):
                print("NOT", name, piece["file"], piece["source"].partition("(")[0])
