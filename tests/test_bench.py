"""The benchmark verifies before it times, and says so when it does not.  No time is judged here."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import reftranscoder as rt
import reftranscoder.kernels
from reftranscoder.twins import TWINS

SMALL = "-B 3 -I 5 -D 8 -O 4 -K 2 --rounds 1".split()
PAIRS = [twin.name for twin in TWINS if twin.kernel]
RACES = ["encode", "predict", "row", "cold row", "step"]


@pytest.fixture
def bench(monkeypatch):
    """`python -m bench`, without the pauses."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    monkeypatch.setattr(importlib.import_module("bench.contest"), "BLAS_REST", 0)
    # Without those that may or may not be installed, and take their time to compile.
    always = ("ours", "limits", "plain_numpy")
    monkeypatch.setattr(importlib.import_module("bench.races"), "PEERS", always)
    return importlib.import_module("bench.__main__").main


def test_every_pair_is_timed_after_the_facts(bench, capsys):
    assert bench([*SMALL, "--only", *PAIRS]) == 0
    facts, _, timed = capsys.readouterr().out.partition("\n\n")
    names = {line.split()[0] for line in facts.splitlines()}
    assert {"processor", "threads", "numpy", "numba", "BLAS", "rounds", "B", "K"} <= names
    header, *lines = timed.splitlines()
    assert header.split() == "contest contestant median ms fastest .. slowest ratio".split()
    assert [line.split()[:2] for line in lines[::2]] == [[name, "kernel"] for name in PAIRS]
    assert all(line.split()[0] == "reference" and len(line.split()) == 6 for line in lines[1::2])


def test_json(bench, capsys):
    assert bench([*SMALL, "--json", "--dtype", "float64", "--only", "mse_forward"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["dtype of pairs"] == "float64" and found["not_timed"] == []
    (contest,) = found["contests"]
    assert contest["contest"] == "mse_forward" and contest["ratios"]["kernel"] == 1
    assert set(contest["times"]["kernel"]) == {"median", "fastest", "slowest"}


def test_a_pair_that_disagrees_is_not_timed(bench, capsys, monkeypatch):
    monkeypatch.setattr(reftranscoder.kernels, "mse_forward", lambda target, reconstruction: 0.0)
    assert bench([*SMALL, "--only", "mse_forward", "l1_forward"]) == 1
    out = capsys.readouterr().out
    assert "not timed: mse_forward: mse[] is 0.0 instead of" in out
    assert "\nmse_forward " not in out and "\nl1_forward " in out


def test_pairs_are_timed_at_sizes_that_a_reference_can_do(bench):
    smaller = importlib.import_module("bench.pairs").smaller
    large = {"B": 2048, "I": 768, "D": 16384, "O": 768, "K": 5000}
    assert smaller(large) == {"B": 512, "I": 768, "D": 4096, "O": 768, "K": 4096}
    assert smaller({"B": 3, "D": 8, "K": 2}) == {"B": 3, "D": 8, "K": 2}


def races(out):
    """Who took part in each race: name -> names."""
    found = {}
    for line in out.partition("\n\n")[2].splitlines()[1:]:
        if not line.startswith(" "):
            race = line[:21].strip()
        found.setdefault(race, []).append(line[21:47].strip())
    return found


def test_races(bench, capsys):
    assert bench([*SMALL, "--only", *RACES]) == 0
    everyone = ["reftranscoder", "sgemm, NumPy", "NumPy"]
    both = ["reftranscoder", "NumPy"]
    expected = {"encode": everyone, "predict": both, "row": everyone, "cold row": everyone}
    expected["step"] = both
    assert races(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    "stage", ["values", "indices", "reconstruction", "loss", "dW_enc", "db_dec"]
)
def test_a_peer_that_is_wrong_is_not_timed(bench, capsys, monkeypatch, stage):
    peer = importlib.import_module("bench.peers.plain_numpy").PlainNumPy
    right = peer.results

    def wrong(self, x, target):
        results = right(self, x, target)
        change = (lambda a: (a + 1) % 8) if stage == "indices" else (lambda a: a * 1.01)
        return results | {stage: change(results[stage])}

    monkeypatch.setattr(peer, "results", wrong)
    assert bench([*SMALL, "--only", "encode"]) == 1
    out = capsys.readouterr().out
    at = "hidden" if stage in ("values", "indices") else stage
    assert f"\nnot timed: NumPy: Fault at {at}" in out
    assert races(out.partition("not timed")[0]) == {"encode": ["reftranscoder", "sgemm, NumPy"]}


def test_who_is_not_installed_is_named(bench, capsys, monkeypatch):
    monkeypatch.setattr(importlib.import_module("bench.races"), "PEERS", ("ours", "pytorch"))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "bench.peers.pytorch", raising=False)
    assert bench([*SMALL, "--only", "row"]) == 0
    assert "\nabsent: pytorch: ModuleNotFoundError: import of torch halted" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("method", ["__init__", "results", "row"])
def test_a_peer_that_raises_is_absent(bench, capsys, monkeypatch, method):
    peer = importlib.import_module("bench.peers.plain_numpy").PlainNumPy

    def broken(self, *arguments):
        raise RuntimeError("0 active drivers\n([]). There should only be one.")

    monkeypatch.setattr(peer, method, broken)
    assert bench([*SMALL, "--only", "encode", "row"]) == 0
    out = capsys.readouterr().out
    race = ", row" if method == "row" else ""
    assert f"\nabsent: NumPy{race}: RuntimeError: 0 active drivers" in out
    held = races(out.partition("absent")[0])
    assert held["row"] == ["reftranscoder", "sgemm, NumPy"]


def test_ours_may_not_raise(bench, monkeypatch):
    contest = importlib.import_module("bench.contest")
    with pytest.raises(ZeroDivisionError):
        contest.hold("ours", [contest.Contestant("ours", lambda: 1 / 0)], 1, [])


def test_races_with_a_transcoder_and_data_from_files(bench, capsys, tmp_path):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((9, 6)), rng.standard_normal((9, 4))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "target.npy", target)
    rt.build(input_size=6, output_size=4, dict_size=8, top_k=2, seed=0).save(tmp_path / "tc.npz")
    files = [
        f"--{n}={tmp_path / f}"
        for n, f in {"model": "tc.npz", "x": "x.npy", "target": "target.npy"}.items()
    ]
    assert bench([*SMALL, *files, "--only", "encode"]) == 0
    facts = dict(
        line.split()
        for line in capsys.readouterr().out.splitlines()[-10:]
        if line[:1] in "BIDOK" and len(line.split()) == 2
    )
    assert facts == {"B": "3", "I": "6", "D": "8", "O": "4", "K": "2"}
    assert bench([*SMALL, "-B", "10", *files]) == 2
    assert "at least 10 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-K", "9", "-D", "8"], "K at most D"),
        (["--only", "nothing"], "one of affine_forward"),
        (["--model", "tc.npz"], "with --x and --target"),
        (["--model", "nowhere.npz", "--x", "x.npy", "--target", "y.npy"], "nowhere.npz"),
    ],
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
        contest.Contestant("b", lambda: (calls.append("b"), clock()), awake=False),
        contest.Contestant("c", lambda: (calls.append("c"), clock()), calls=3),
    ]
    result = contest.hold("turns", contestants, 2, [], clock=clock, rest=rests.append)
    assert "".join(calls) == "abccc" + 2 * "aabcccc", "to warm up, then two rounds"
    assert len(rests) == 3
    assert result.times == {"a": (1, 1, 1), "b": (2, 2, 2), "c": (4 / 3,) * 3}
    assert result.ratio("b") == 0.5, "ours over theirs"
