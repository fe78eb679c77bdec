"""The benchmark verifies before it times, and says so when it does not.  No time is judged here."""

import importlib
import json
from pathlib import Path

import pytest

import reftranscoder.kernels
from reftranscoder.twins import TWINS

SMALL = "-B 3 -I 5 -D 8 -O 4 -K 2 --rounds 1".split()


@pytest.fixture
def bench(monkeypatch):
    """`python -m bench`, without the pauses."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    monkeypatch.setattr(importlib.import_module("bench.contest"), "BLAS_REST", 0)
    return importlib.import_module("bench.__main__").main


def test_every_pair_is_timed_after_the_facts(bench, capsys):
    assert bench(SMALL) == 0
    facts, _, timed = capsys.readouterr().out.partition("\n\n")
    names = {line.split()[0] for line in facts.splitlines()}
    assert {"processor", "threads", "numpy", "numba", "BLAS", "dtype", "B", "K"} <= names
    header, *lines = timed.splitlines()
    assert header.split() == "contest contestant median ms fastest .. slowest ratio".split()
    pairs = [twin.name for twin in TWINS if twin.kernel]
    assert [line.split()[:2] for line in lines[::2]] == [[name, "reference"] for name in pairs]
    assert all(line.split()[0] == "kernel" and len(line.split()) == 6 for line in lines[1::2])


def test_json(bench, capsys):
    assert bench([*SMALL, "--json", "--dtype", "float64", "--only", "mse_forward"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["dtype"] == "float64" and found["not_timed"] == []
    (contest,) = found["contests"]
    assert contest["contest"] == "mse_forward" and contest["ratios"]["reference"] == 1
    assert set(contest["times"]["kernel"]) == {"median", "fastest", "slowest"}


def test_a_pair_that_disagrees_is_not_timed(bench, capsys, monkeypatch):
    monkeypatch.setattr(reftranscoder.kernels, "mse_forward", lambda target, reconstruction: 0.0)
    assert bench([*SMALL, "--only", "mse_forward", "l1_forward"]) == 1
    out = capsys.readouterr().out
    assert "not timed: mse_forward: mse[] is 0.0 instead of" in out
    assert "\nmse_forward " not in out and "\nl1_forward " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["-K", "9", "-D", "8"], "K at most D"), (["--only", "nothing"], "one of affine_forward")],
)
def test_unusable_options(bench, capsys, arguments, message):
    assert bench(arguments) == 2
    assert message in capsys.readouterr().err


def test_contestants_take_turns_and_blas_may_rest(bench):
    contest = importlib.import_module("bench.contest")
    calls, rests = [], []
    clock = iter(range(100)).__next__
    contestants = [
        contest.Contestant("a", lambda: calls.append("a"), calls_blas=True),
        contest.Contestant("b", lambda: (calls.append("b"), clock())),
    ]
    result = contest.hold("turns", contestants, 3, clock=clock, rest=rests.append)
    assert "".join(calls) == "abababab", "once to warm up, then three rounds"
    assert len(rests) == 4
    assert result.times == {"a": (1, 1, 1), "b": (2, 2, 2)}
    assert result.ratio("b") == 2
