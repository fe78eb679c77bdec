"""The benchmark verifies before it times, and says so when it does not.  No time is judged here."""

import functools
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import reftranscoder as rt
import reftranscoder.kernels
from reftranscoder.kernels import screened_encoder
from reftranscoder.kernels.screen.cpu_target import PANELS
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


@pytest.mark.parametrize("panels", [np.float32, PANELS[0]])
def test_a_profile_has_every_part_beside_its_limit(bench, capsys, monkeypatch, panels):
    # Each call is timed, the parts are timed apart, and a limit is above zero: no more is said.
    encoder = functools.partial(screened_encoder.Encoder, panels=panels)
    monkeypatch.setattr(screened_encoder, "Encoder", encoder)
    monkeypatch.setattr("bench.profile._ROWS", 16)
    small = "-B 30 -I 5 -D 96 -O 4 -K 2 --rounds 1".split()
    assert bench([*small, "--profile", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["profile"]
    calls = [part["call"] for part in found]
    assert list(dict.fromkeys(calls)) == ["encode", "row", "step"]
    for call in ("encode", "row", "step"):
        parts = {part["part"]: part for part in found if part["call"] == call}
        assert parts["in all"]["limit"] > 0
        assert ("without a screen" in parts) == (call == "row" and panels == np.float32)
        shares = sum(part["seconds"] for part in parts.values())
        assert shares == pytest.approx(2 * parts["in all"]["seconds"])
    assert bench([*small, "--profile"]) == 0
    assert "product and bounds" in capsys.readouterr().out


def test_a_profile_races_nobody(bench, capsys):
    assert bench([*SMALL, "--profile", "--only", "row"]) == 2
    assert "--profile must be without --only and --plot" in capsys.readouterr().err


def test_a_pair_that_disagrees_is_not_timed(bench, capsys, monkeypatch):
    monkeypatch.setattr(reftranscoder.kernels, "mse_forward", lambda target, reconstruction: 0.0)
    assert bench([*SMALL, "--only", "mse_forward", "l1_forward"]) == 1
    out = capsys.readouterr().out
    assert "not timed: mse_forward: mse[] is 0.0 instead of" in out
    assert "\nmse_forward " not in out and "\nl1_forward " in out


def test_variants_are_timed_where_they_are_right(bench, capsys, monkeypatch):
    module = importlib.import_module("bench.variants")
    monkeypatch.setattr(module, "PEERS", ("ours", "limits"))
    assert bench([*SMALL, "--json", "--only", "variants"]) == 0
    found = json.loads(capsys.readouterr().out)["contests"]
    names = ["relu", "jumprelu", "batchtopk", "gated", "relu, half"]
    assert [contest["contest"] for contest in found] == [f"encode, {name}" for name in names]
    assert all(set(c["times"]) == {"reftranscoder", "sgemm, NumPy"} for c in found)
    limits = importlib.import_module("bench.peers.limits")
    monkeypatch.setattr(limits.NumPyProduct, "is_limit", False)
    assert bench([*SMALL, "--only", "variants"]) == 1
    assert "not timed: sgemm, NumPy, relu: Fault at hidden" in capsys.readouterr().out


def test_variants_are_as_sparse_as_top_k(bench):
    from bench import variants, work

    task = work.Work.draw({"B": 40, "I": 6, "D": 50, "O": 4, "K": 3}, 0)
    for name, tc in variants.transcoders(task).items():
        mean = tc.encode(task.x).nnz / len(task.x)
        assert (20 if name == "relu, half" else 2.9) < mean < (30 if name == "relu, half" else 3.1)


def test_data_on_the_disk_are_compared_with_data_in_memory(bench, capsys, tmp_path):
    disk = importlib.import_module("bench.disk")
    sizes = "-B 8 -I 4 -D 12 -O 3 -K 2 --rows 40 --shards 3 --steps 4 --rounds 1".split()
    assert disk.main([*sizes, "--folder", str(tmp_path)]) == 0
    *_, encode, memory, step = capsys.readouterr().out.splitlines()
    assert encode.startswith("encode: from disk ") and "; time ratio " in encode
    assert memory.startswith("memory beside ") and step.startswith("step: from disk ")
    assert list(tmp_path.iterdir()) == []


def test_a_large_dictionary_is_encoded_from_memory_and_from_the_disk(bench, capsys, tmp_path):
    large = importlib.import_module("bench.large")
    sizes = "-B 8 -I 4 -D 50 -O 3 -K 2 --rounds 1".split()
    assert large.main([*sizes, "--folder", str(tmp_path)]) == 0
    *_, loaded, unpacked = capsys.readouterr().out.splitlines()
    assert loaded.startswith("loaded: made in ") and ", first " in loaded
    assert unpacked.startswith("unpacked: made in ") and ", from disk " in unpacked
    assert list(tmp_path.iterdir()) == []


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


# Training

TRAINING = "--only training -D 24 -K 3 -B 16 --steps 9 --held-out 20".split()


class Untrained:
    """A trainer that learns nothing."""

    name = "other"
    calls_blas = False

    def __init__(self, task):
        self.task, self.begun = task, []
        sizes = {"input_size": task.x.shape[1], "output_size": task.target.shape[1]}
        self.tc = rt.build(**sizes, dict_size=task.dict_size, top_k=task.top_k, seed=1)

    def train(self, begin):
        for t in range(1, self.task.steps + 1):
            begin(t)
            self.begun.append(t)

    def transcoder(self):
        return self.tc

    def reconstruct(self, x):
        return self.tc(x)


@pytest.fixture
def rows(tmp_path):
    """The options that name 80 rows of data, and the rows."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((80, 6)).astype(np.float32) + 1
    target = np.maximum(x @ rng.standard_normal((6, 4)).astype(np.float32), 0)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "target.npy", target)
    return [f"--x={tmp_path / 'x.npy'}", f"--target={tmp_path / 'target.npy'}"], (x, target)


@pytest.fixture
def training(bench, monkeypatch):
    """`bench.training` with ours and `Untrained`, which the tests change."""
    module = importlib.import_module("bench.training")
    monkeypatch.setattr(module, "PEERS", ("ours", "other"))
    peer = type("Other", (Untrained,), {})
    monkeypatch.setitem(sys.modules, "bench.peers.other", types.SimpleNamespace(TRAINERS=[peer]))
    module.Other = peer
    yield module
    del module.Other


def test_training_is_measured_on_rows_held_out(bench, training, rows, capsys):
    files, data = rows
    assert bench([*TRAINING, *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (result,) = found["contests"]
    curves = result["curves"]
    assert list(curves) == ["reftranscoder", "other"] and result["ratios"]["reftranscoder"] == 1
    for points in curves.values():
        assert [p["step"] for p in points] == [1, 2, 3, 4, 5, 6, 7, 9]
        assert sorted(p["seconds"] for p in points) == [p["seconds"] for p in points]
    norms = [np.sqrt(np.mean(np.square(a[:60], dtype=np.float64))) for a in data]
    scaled = [np.split((a / norm).astype(np.float32), [60]) for a, norm in zip(data, norms)]
    (x, held_x), (target, held_target) = scaled
    options = {"dict_size": 24, "top_k": 3, "batch_size": 16, "steps": 9}
    fit = rt.fit(x, target, **options, validation=(held_x, held_target))
    last = curves["reftranscoder"][-1]
    assert last["fvu"] == fit.metrics.fvu
    assert last["dead"] == len(fit.metrics.dead_features)
    assert found["measured"]["training: rows"] == 60
    untrained = {(p["fvu"], p["l0"], p["dead"]) for p in curves["other"]}
    assert len(untrained) == 1


def test_training_is_a_table_too(bench, training, rows, capsys):
    assert bench([*TRAINING, *rows[0], "--only", "training", "l1_forward"]) == 0
    header, *lines = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert header.split()[:2] == ["contest", "contestant"] and lines[0].startswith("l1_forward")
    header, *lines = lines[2:]
    assert header.split() == "contest contestant step seconds FVU L0 dead ratio".split()
    assert len(lines) == 16 and [len(line.split()) for line in lines[1:8]] == [5] * 7
    assert lines[0].split()[:3] == ["training", "reftranscoder", "1"]
    assert lines[8].split()[:2] == ["other", "1"] and len(lines[15].split()) == 6


def test_every_trainer_sees_the_same_rows(bench, training, rows, monkeypatch):
    task = training.Task.load(
        bench.__globals__["parser"]().parse_args([*TRAINING, *rows[0]]),
        {"B": 16, "D": 24, "K": 3},
    )
    ours = importlib.import_module("bench.peers.ours").Fit(task)
    ours.train(lambda t: None)
    batches = task.batches()
    for t in range(1, 10):
        np.testing.assert_array_equal(batches.rows(t), ours.place.plan.batches.rows(t))
        for got, want in zip(batches(t), (task.x, task.target)):
            np.testing.assert_array_equal(got, want[batches.rows(t)])
    assert not task.autoencodes


def test_trainers_take_turns(training):
    made = []

    def train(begin):
        made.append("start")
        for t in range(1, 6):
            begin(t)
            made.append(t)
            print("said by a trainer")

    turns = training.Turns(train, {1, 3})
    for seen in (["start"], ["start", 1, 2], ["start", 1, 2, 3, 4, 5]):
        assert turns.take() >= 0 and made == seen

    def fails(begin):
        begin(1)
        raise RuntimeError("in a thread")

    turns = training.Turns(fails, {1})
    turns.take()
    with pytest.raises(RuntimeError, match="in a thread"):
        turns.take()


@pytest.mark.parametrize("when", ["from the start", "in the end"])
def test_a_trainer_that_is_wrong_is_not_measured(bench, training, rows, capsys, when):
    def wrong(self, x):
        return self.tc(x) * (1.01 if self.begun or when == "from the start" else 1)

    training.Other.reconstruct = wrong
    assert bench([*TRAINING, *rows[0]]) == 1
    out = capsys.readouterr().out
    assert "\nnot timed: other: Fault at reconstruction" in out
    assert "reftranscoder  " in out and "\n    other" not in out


@pytest.mark.parametrize("method", ["__init__", "train", "transcoder", "reconstruct"])
def test_a_trainer_that_raises_is_absent(bench, training, rows, capsys, method):
    def broken(self, *arguments):
        raise RuntimeError("0 active drivers\nand more")

    setattr(training.Other, method, broken)
    assert bench([*TRAINING, *rows[0]]) == 0
    out = capsys.readouterr().out
    where = "" if method == "__init__" else ", training"
    assert f"\nabsent: other{where}: RuntimeError: 0 active drivers" in out
    assert out.count("reftranscoder  ") == 2  # its version, and its line


def test_ours_may_not_raise_in_training(bench, training, rows, monkeypatch):
    ours = importlib.import_module("bench.peers.ours").Fit
    monkeypatch.setattr(ours, "reconstruct", lambda self, x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench([*TRAINING, *rows[0]])
    monkeypatch.setattr(ours, "reconstruct", lambda self, x: 2 * self.transcoder()(x))
    assert bench([*TRAINING, *rows[0]]) == 1  # and nothing is left to compare with


@pytest.mark.filterwarnings("ignore")  # what a library warns of when it is imported
@pytest.mark.parametrize("target", [True, False], ids=["transcoder", "autoencoder"])
@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("pytorch", "torch"),
        ("sparsify", "sparsify"),
        ("sae_lens", "sae_lens"),
        ("dictionary_learning", "dictionary_learning"),
    ],
)
def test_trainers_of_libraries(
    bench, training, tmp_path, capsys, monkeypatch, module, library, target
):
    if importlib.util.find_spec(library) is None:  # bench sets what sparsify reads when imported
        pytest.skip(f"{library} is no dependency")
    monkeypatch.setattr(training, "PEERS", ("ours", module))
    rng = np.random.default_rng(6)
    x = rng.standard_normal((80, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "target.npy", np.tanh(x))
    files = [f"--x={tmp_path / 'x.npy'}"]
    files += [f"--target={tmp_path / 'target.npy'}"] if target else []
    steps = ["--steps", "40"]  # a twentieth of which is a warm-up
    assert bench([*TRAINING, *files, *steps, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    theirs = found["contests"][0]["curves"]
    assert theirs.pop("reftranscoder")
    if target and module in ("sae_lens", "dictionary_learning"):
        assert not theirs and "autoencoders alone" in found["absent"][0]
        return
    assert found["absent"] == [] and len(theirs) == (2 if module == "sparsify" else 1)
    for points in theirs.values():
        assert len({point["fvu"] for point in points}) == len(
            points
        )  # it learns, if not always well


def test_plot(bench, training, rows, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn by Matplotlib")
    picture = tmp_path / "made.svg"
    names = ["training", "encode", "mse_forward"]
    small = ["--rounds", "1", "-I", "5", "-O", "4"]
    assert bench([*TRAINING, *rows[0], *small, "--only", *names, "--plot", str(picture)]) == 0
    text = picture.read_text()
    for title in ("encode: seconds of reftranscoder over theirs", "mse_forward: seconds of kernel"):
        assert f"<!-- {title}" in text
    for name in ("sgemm, NumPy", "NumPy", "FVU on held-out rows", "other: "):
        assert f"<!-- {name}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--held-out", "80"], "--held-out must be from 1 to 79, of 80 rows"),
        (["--held-out", "0"], "--held-out must be from 1 to 79, of 80 rows"),
        (["--steps", "0"], "sizes, rounds and steps must be at least 1"),
        (["--target", "nowhere.npy"], "nowhere.npy"),
        (["--plot", "picture.xyz"], "a file that ends in one of"),
        (["--plot", "no folder/picture.png"], "a file in a folder that exists"),
    ],
)
def test_unusable_options_of_training(bench, training, rows, capsys, arguments, message):
    assert bench([*TRAINING, *rows[0], *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_without_matplotlib_nothing_is_drawn(bench, training, rows, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert bench([*TRAINING, *rows[0], "--plot", "picture.png"]) == 2
    assert "--plot must be left out without Matplotlib" in capsys.readouterr().err
