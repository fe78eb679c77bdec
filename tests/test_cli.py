"""The command line: what each command does, and what each does with input it cannot use."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import reftranscoder as rt
from reftranscoder import cli, metrics
from reftranscoder.auditor.explaining.conventions import NAMES
from reftranscoder.auditor.probes.probe_set import probes
from reftranscoder.auditor.task.arithmetic import ARITHMETICS, MIXED
from reftranscoder.auditor.task.definition import Definition
from reftranscoder.cli import arguments, audit, fit, printing, progress, status
from reftranscoder.conventions import L1, MSE
from reftranscoder.twins import TWINS

ROWS, I, D, O, K = 60, 6, 16, 5, 3
SMALL = ["--dict-size", str(D), "--top-k", str(K), "--steps", "4", "--batch-size", "16"]


COMPILING = "reftranscoder: compiling for this processor"


@pytest.fixture
def run(capsys):
    """Run a command line in this process; returns its status, standard output and error."""

    def run(*argv):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in argv])
        out, err = capsys.readouterr()
        # Which test is the first to compile something depends on their order.
        lines = err.splitlines(keepends=True)
        return code, out, "".join(n for n in lines if not n.startswith(COMPILING))

    return run


@pytest.fixture
def refused(run):
    """Run a command line that must be refused; returns its one line."""

    def refused(*argv):
        code, out, err = run(*argv)
        assert code == status.UNUSABLE
        assert out == ""
        assert err.count("\n") == 1 and err.endswith("\n")
        assert "Traceback" not in err
        return err

    return refused


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with x.npy, y.npy and model.npz."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, I)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", np.tanh(x @ rng.normal(size=(I, O))).astype(np.float16))
    tc = rt.build(input_size=I, output_size=O, dict_size=D, top_k=K, seed=1)
    tc.save(folder / "model.npz")
    tc(x)  # what the first kernel says about being compiled is not what a test wants to read
    return folder


@pytest.fixture
def tc(files):
    return rt.load(files / "model.npz")


@pytest.fixture
def x(files):
    return np.load(files / "x.npy")


@pytest.fixture
def y(files):
    return np.load(files / "y.npy")


def same_arrays(a, b):
    a, b = a.params.arrays(), b.params.arrays()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def process(*argv, **options):
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "reftranscoder", *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Buffered, as it is unless asked otherwise: a flush then finds out what cannot be written.
    environment = {"env": os.environ | {"PYTHONUNBUFFERED": ""}}
    return subprocess.Popen(command, **pipes | environment | options)


def heeding(number):
    """What `process` needs so that a signal ends it, even if that is ignored here (``nohup``)."""
    return {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}


# What holds for all commands.


def test_help_lists_every_command(run):
    code, out, err = run("--help")
    assert code == 0 and err == ""
    for name in cli.COMMANDS:
        assert f"\n    {name} " in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: reftranscoder {name}")


def test_version(run):
    assert run("--version") == (0, f"reftranscoder {rt.__version__}\n", "")


def test_help_and_mistakes_load_nothing_heavy():
    script = (
        "import sys\n"
        "from reftranscoder.cli import main\n"
        "main(['--help']), main(['info', 'no such file'])\n"
        "print({'numba', 'scipy', 'matplotlib', 'tqdm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("\nset()\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["fit", "x.npy"], "required: -o/--output"),
        (["fit", "x.npy", "y.npy", "-o", "m.npz", "--top-k", "many"], "invalid int value: 'many'"),
        (["encode", "m.npz", "x.npy", "-o", "h.npz", "--backend", "gpu"], "invalid choice: 'gpu'"),
    ],
)
def test_a_command_line_that_makes_no_sense(refused, argv, words):
    assert words in refused(*argv)


def test_ctrl_c_outside_training(run, monkeypatch, files):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("reftranscoder.cli.info.load", interrupted)
    code, out, err = run("info", files / "model.npz")
    assert (code, out, err) == (130, "", "reftranscoder info: interrupted\n")


def test_out_of_memory(refused, monkeypatch, files):
    def too_much(path):
        raise MemoryError

    monkeypatch.setattr("reftranscoder.cli.info.load", too_much)
    assert refused("info", files / "model.npz") == "reftranscoder info: out of memory\n"


def test_a_system_error_without_a_word_of_ours(refused, monkeypatch, files):
    def denied(path):
        raise PermissionError(13, "Permission denied", "model.npz")

    monkeypatch.setattr("reftranscoder.cli.info.load", denied)
    err = refused("info", files / "model.npz")
    assert err == "reftranscoder info: model.npz: Permission denied\n"


def test_a_fault_of_ours_is_not_hidden(monkeypatch, files):
    monkeypatch.setattr("reftranscoder.cli.info.load", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info", str(files / "model.npz")])


def test_a_reader_that_goes_away():
    with process("show") as running:
        running.stdout.close()
        err = running.stderr.read()
    assert (running.returncode, err) == (status.READER_GONE, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("option", "name"), [("show", "reftranscoder show"), ("--help", "reftranscoder")]
)
def test_standard_output_on_a_full_disk(option, name):
    with open("/dev/full", "w") as full, process(option, stdout=full) as running:
        err = running.stderr.read()
    assert running.returncode == status.UNUSABLE
    assert err == f"{name}: No space left on device\n"


def test_characters_that_the_terminal_lacks(files, tmp_path):
    model = tmp_path / "modèle.npz"
    model.write_bytes((files / "model.npz").read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    with process("info", model, env=environment) as running:
        out, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    assert "mod?le.npz" in out


# encode and predict.


def test_encode_writes_what_the_library_computes(run, files, tmp_path, tc, x):
    out = tmp_path / "hidden.npz"
    code, text, err = run("encode", files / "model.npz", files / "x.npy", "-o", out)
    assert (code, err) == (0, "")
    assert text == f"{out}: 60 rows of 16 features, {tc.encode(x).nnz / ROWS:.1f} active in a row\n"
    hidden, want = sparse.load_npz(out), tc.encode(x)
    assert isinstance(hidden, sparse.csr_array)
    assert hidden.shape == want.shape and hidden.dtype == want.dtype
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(hidden, name), getattr(want, name))


def test_predict_writes_what_the_library_computes(run, files, tmp_path, tc, x):
    out = tmp_path / "predicted.npy"
    code, text, err = run("predict", files / "model.npz", files / "x.npy", "-o", out)
    assert (code, text, err) == (0, f"{out}: 60 rows of 5 numbers, float32\n", "")
    got = np.load(out)
    assert got.dtype == np.float32 and np.array_equal(got, tc(x))


@pytest.mark.parametrize(
    ("rows", "part"), [("7:31", slice(7, 31)), ("-9:", slice(-9, None)), (":1", slice(1))]
)
def test_blocks_and_ranges_of_rows(run, files, tmp_path, tc, x, monkeypatch, rows, part):
    monkeypatch.setattr("reftranscoder.cli.rows.BLOCK_ROWS", 7)
    hidden, predicted = tmp_path / "hidden.npz", tmp_path / "predicted.npy"
    data = files / "model.npz", files / "x.npy", f"--rows={rows}"
    code, out, _ = run("encode", *data, "-o", hidden, "--json")
    assert code == 0
    want = tc.encode(x[part])
    assert json.loads(out) == {
        "output": str(hidden),
        "rows": want.shape[0],
        "features": D,
        "active": want.nnz,
        "l0": want.nnz / want.shape[0],
    }
    assert (sparse.load_npz(hidden) != want).nnz == 0
    code, out, _ = run("predict", *data, "-o", predicted, "--json")
    assert code == 0
    assert json.loads(out)["shape"] == [want.shape[0], O]
    assert np.array_equal(np.load(predicted), tc(x[part]))


def test_the_reference_backend(run, files, tmp_path, tc, x):
    out = tmp_path / "predicted.npy"
    data = files / "model.npz", files / "x.npy", "-o", out
    assert run("predict", *data, "--backend", "reference")[0] == 0
    assert np.array_equal(np.load(out), tc(x, backend="reference"))


def test_longdouble_needs_the_reference(run, refused, files, tmp_path, tc):
    model, out = tmp_path / "wide.npz", tmp_path / "predicted.npy"
    tc.astype(np.longdouble).save(model)
    assert "'reference'" in refused("predict", model, files / "x.npy", "-o", out)
    assert not out.exists()
    assert run("predict", model, files / "x.npy", "-o", out, "--backend", "reference")[0] == 0
    assert np.load(out).dtype == np.longdouble


@pytest.mark.parametrize(("command", "name"), [("encode", "old.npz"), ("predict", "old.npy")])
def test_a_file_is_replaced_only_by_force(run, refused, files, tmp_path, command, name):
    old = tmp_path / name
    old.write_text("precious")
    argv = command, files / "model.npz", files / "x.npy", "-o", old
    assert "--force" in refused(*argv)
    assert old.read_text() == "precious"
    assert run(*argv, "--force")[0] == 0
    assert old.read_bytes()[:8] != b"precious"


@pytest.mark.parametrize(
    ("command", "name", "suffix"), [("encode", "h.npy", ".npz"), ("predict", "p.txt", ".npy")]
)
def test_the_suffix_of_an_output(refused, files, tmp_path, command, name, suffix):
    out = tmp_path / name
    err = refused(command, files / "model.npz", files / "x.npy", "-o", out)
    assert f"must end in {suffix}" in err


# fit.


def test_fit_is_the_librarys(run, files, tmp_path):
    out = tmp_path / "model.npz"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL
    code, text, err = run(*argv, "--seed", 3)
    assert (code, err) == (0, "")
    assert text.startswith(f"{out}: Transcoder(6 -> 16 -> 5, top_k=3")
    assert "4 steps of 16 rows" in text
    want = rt.fit(
        files / "x.npy",
        files / "y.npy",
        dict_size=D,
        top_k=K,
        steps=4,
        batch_size=16,
        seed=3,
    )
    assert same_arrays(rt.load(out), want.transcoder)


def test_every_option_of_fit_reaches_it(run, files, tmp_path, monkeypatch):
    given = {}

    def recorded(**options):
        given.update(options)
        return original(**options)

    original = fit.fit
    monkeypatch.setattr(fit, "fit", recorded)
    options = {
        "dict_size": 8,
        "top_k": 2,
        "activation": "abstopk",
        "ties": "keep_all",
        "dtype": "float64",
        "steps": 2,
        "batch_size": 5,
        "lr": 0.5e-3,
        "warmup": 0.25,
        "decay": 0.5,
        "top_k_start": 4,
        "top_k_fall": 1.0,
        "l1_coeff": 0.25,
        "reconstruction_loss": "mse_sum",
        "sparsity_loss": "l0_tanh",
        "tanh_scale": 2.0,
        "target_l0": 3.0,
        "aux_k": 1,
        "aux_coeff": 0.5,
        "dead_after": 3,
        "clip_norm": 2.0,
        "average": 0.5,
        "second_moment": "entry",
        "accumulate": 2,
        "patience": 7,
        "validation": 0.5,
        "seed": 9,
        "backend": "reference",
        "log_every": 1,
        "checkpoint": str(tmp_path / "run.ckpt"),
        "checkpoint_every": 1,
        "checkpoint_last": 2,
        "log": str(tmp_path / "run.jsonl"),
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    argv = "fit", files / "x.npy", files / "y.npy", "-o", tmp_path / "m.npz"
    switches = ("skip", "unit_norm_decoder", "checkpoint_best")
    assert run(*argv, *flags, *(f"--{name.replace('_', '-')}" for name in switches))[0] == 0
    expected = options | dict.fromkeys(switches, True)
    assert {name: given[name] for name in expected} == expected
    reached = set(expected)
    small = {"dict_size": 8, "steps": 2, "batch_size": 5}
    for own in (
        {"activation": "jumprelu", "bandwidth": 0.5, "through": "theta", "theta_start": 0.125},
        {"activation": "gated", "gate_l1_coeff": 0.5, "auxiliary_coeff": 0.25},
    ):
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in (small | own).items()]
        assert run(*argv, *flags, "--force")[0] == 0
        assert {name: given[name] for name in own} == own
        reached |= set(own)
    unreachable = set(fit.PARAMETERS) - reached - {"x", "target", "progress"}
    assert unreachable == {"beta1", "beta2", "eps", "conventions"}


def test_fit_holds_rows_out_and_drops_positions(run, files, tmp_path):
    out = tmp_path / "model.safetensors"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL, "--json"
    data = "--rows", "0:40", "--validation", "40:60", "--sequence-length", 10, "--drop-position", 0
    code, text, err = run(*argv, *data)
    assert (code, err) == (0, "")
    got = json.loads(text)
    keep = np.arange(ROWS) % 10 > 0
    pairs = [
        [np.load(files / name)[part & keep] for name in ("x.npy", "y.npy")]
        for part in (np.arange(ROWS) < 40, np.arange(ROWS) >= 40)
    ]
    want = rt.fit(*pairs[0], dict_size=D, top_k=K, steps=4, batch_size=16, validation=pairs[1])
    assert same_arrays(rt.load(out), want.transcoder)
    assert got["validation"]["rows"] == 18
    assert got["validation"]["fvu"] == want.metrics.fvu
    assert got["validation"]["dead"] == len(want.metrics.dead_features)
    assert got["steps"] == 4 and not got["interrupted"]
    assert got["config"]["dict_size"] == D
    assert got["history"]["entries"][-1]["fvu"] == want.history.entries[-1].fvu


def test_fit_holds_a_fraction_out(run, files, tmp_path):
    argv = "fit", files / "x.npy", files / "y.npy", "-o", tmp_path / "m.npz", *SMALL
    code, text, _ = run(*argv, "--validation", 0.25)
    assert code == 0
    assert "on 15 rows held out: FVU " in text


def test_ctrl_c_leaves_a_usable_model(run, files, tmp_path, monkeypatch):
    def impatient(bar):
        def tell(told):
            if told.step == 2:
                raise KeyboardInterrupt

        return tell

    monkeypatch.setattr(fit, "teller", impatient)
    out = tmp_path / "model.npz"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL, "--log-every", 1
    code, text, err = run(*argv)
    assert code == 130
    assert err == "reftranscoder fit: interrupted after step 2\n"
    assert "2 steps" in text
    assert rt.load(out)(np.load(files / "x.npy")).shape == (ROWS, O)


def test_ctrl_c_from_a_terminal(files, tmp_path):
    out, checkpoint = tmp_path / "model.npz", tmp_path / "run.ckpt"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL, "--backend", "reference"
    with process(
        *argv, "--steps", 10**6, "--checkpoint", checkpoint, "--checkpoint-every", 1,
        **heeding(signal.SIGINT),
    ) as running:  # fmt: skip
        give_up = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < give_up and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    *said, err = err.splitlines()
    assert err.startswith("reftranscoder fit: interrupted after step ")
    assert all(line.startswith("reftranscoder: compiling for this processor") for line in said)
    assert rt.load(out).config.dict_size == D


def test_a_format_that_cannot_be_written_is_found_out_before_training(
    refused, files, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setattr(fit, "fit", None)
    out = tmp_path / "model.safetensors"
    assert "safetensors" in refused("fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--top-k", 0], "top_k must be a positive integer; got 0"),
        (["--top-k", D + 1], "top_k must be"),
        (["--dict-size", -1], "dict_size must be a positive integer; got -1"),
        (["--batch-size", 0], "batch_size must be"),
        (["--steps", 0], "steps must be"),
        (["--lr", "nan"], "lr must be"),
        (["--l1-coeff", -1], "l1_coeff must be"),
        (["--rows", "0:61"], "rows must be 'A:B', a range within the 60 rows"),
        (["--rows", "ten"], "rows must be 'A:B'"),
        (["--rows", "0:40", "--validation", "39:60"], "apart from the training rows 0:40"),
        (["--validation", "40:60"], "apart from the training rows 0:60; got '40:60'"),
        (["--validation", "some"], "validation must be A:B or a fraction; got 'some'"),
        (["--validation", 2], "validation must be a pair (x, target), or a fraction"),
        (["--sequence-length", 10], "drop_position must be"),
        (["--sequence-length", 10, "--drop-position", 10], "drop_position must be"),
        (["--checkpoint", "no/such/folder/c"], "its folder does not exist"),
    ],
)
def test_options_of_fit_that_make_no_sense(refused, files, tmp_path, options, words):
    out = tmp_path / "model.npz"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL
    assert words in refused(*argv, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model", "model.pt", "folder/model.npz"])
def test_a_model_that_could_not_be_written(refused, files, tmp_path, name):
    refused("fit", files / "x.npy", files / "y.npy", "-o", tmp_path / name, *SMALL)


# Files that cannot be used.


def with_nan(array):
    array = array.copy()
    array[41, 2] = np.nan
    return array


def with_infinity(array):
    array = array.copy()
    array[3, 4] = -np.inf
    return array


def pickled(path, array):
    np.save(path, array.astype(object), allow_pickle=True)


def truncated(path, array):
    np.save(path, array)
    path.write_bytes(path.read_bytes()[:-5])


BAD_DATA = {
    "missing": (None, "there is no such file"),
    "folder": (lambda path, a: path.mkdir(), "is a folder"),
    "empty": (lambda path, a: path.write_bytes(b""), "is empty"),
    "foreign": (lambda path, a: path.write_bytes(b"GIF89a" * 9), "a file of unknown format"),
    "truncated": (truncated, "is truncated"),
    "archive": (lambda path, a: np.savez(open(path, "wb"), a=a), "NumPy .npz archive"),
    "pickled": (pickled, "pickled objects, which could run any code"),
    "a pickle": (lambda path, a: path.write_bytes(pickle.dumps(a)), "this is a Python pickle"),
    "complex": (lambda path, a: np.save(path, a + 1j), "got dtype complex64"),
    "text": (lambda path, a: np.save(path, a.astype(str)), "got dtype <U"),
    "NaN": (lambda path, a: np.save(path, with_nan(a)), "got nan at row 41, column 2"),
    "infinity": (lambda path, a: np.save(path, with_infinity(a)), "got -inf at row 3, column 4"),
    "one axis": (lambda path, a: np.save(path, a[0]), "x[None, :]"),
    "three axes": (lambda path, a: np.save(path, a[None]), "x.reshape(-1, x.shape[-1])"),
    "no rows": (lambda path, a: np.save(path, a[:0]), "(0, "),
    "transposed": (lambda path, a: np.save(path, a.T.copy()), "looks transposed"),
    "too few rows": (lambda path, a: np.save(path, a[:-1]), None),
    "too narrow": (lambda path, a: np.save(path, a[:, :-1].copy()), None),
}


# A transcoder takes any number of rows, and training data of any width.
NOT_BAD = {("fit", "too narrow")} | {(c, "too few rows") for c in ("encode", "predict", "info")}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (command, kind)
        for command in ("encode", "predict", "info", "fit")
        for kind in BAD_DATA
        if (command, kind) not in NOT_BAD
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_data_that_cannot_be_used(refused, files, tmp_path, x, command, kind):
    make, words = BAD_DATA[kind]
    bad = tmp_path / "bad.npy"
    if make:
        make(bad, x)
    if command == "fit":
        words = words or "Its rows must pair up with"
        argv = [bad, files / "y.npy", "-o", tmp_path / "m.npz", *SMALL]
    else:
        words = words or "(B, I) = (any, 6); got (60, 5)"
        argv = [files / "model.npz", bad]
        if command != "info":
            argv += ["-o", tmp_path / {"encode": "h.npz", "predict": "p.npy"}[command]]
    err = refused(command, *argv)
    assert words in err and "bad.npy" in err
    assert [path for path in tmp_path.iterdir() if path != bad] == []


@pytest.mark.parametrize("kind", ["missing", "NaN", "transposed", "too few rows", "complex"])
@pytest.mark.parametrize("command", ["fit", "info"])
def test_a_target_that_cannot_be_used(refused, files, tmp_path, y, command, kind):
    make, words = BAD_DATA[kind]
    bad = tmp_path / "bad.npy"
    if make:
        make(bad, y.astype(np.float32))
    if command == "fit":
        err = refused("fit", files / "x.npy", bad, "-o", tmp_path / "m.npz", *SMALL)
    else:
        err = refused("info", files / "model.npz", files / "x.npy", bad)
    assert (words or "must pair up") in err and "bad.npy" in err


BAD_MODELS = {
    "missing.npz": (None, "there is no such file"),
    "empty.npz": (lambda path, good: path.write_bytes(b""), "is empty"),
    "half.npz": (lambda path, good: path.write_bytes(good[: len(good) // 2]), "truncated"),
    "foreign.npz": (lambda path, good: np.savez(path, a=np.zeros(3)), "foreign.npz"),
    "array.npz": (lambda path, good: np.save(open(path, "wb"), np.zeros(3)), ".npy file"),
    "model.pt": (lambda path, good: path.write_bytes(pickle.dumps({})), "can run any code"),
    "model.bin": (lambda path, good: path.write_bytes(good), "'.bin'"),
    "half.safetensors": (
        lambda path, good: path.write_bytes(b"\x40\0\0\0\0\0\0\0{"),
        "half.safetensors",
    ),
    "other.safetensors": (lambda path, good: path.write_bytes(good), "Name it .npz"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("command", ["encode", "predict", "info"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_model_that_cannot_be_used(refused, files, tmp_path, command, name):
    make, words = BAD_MODELS[name]
    bad = tmp_path / name
    if make:
        make(bad, (files / "model.npz").read_bytes())
    outputs = {"encode": ["-o", tmp_path / "h.npz"], "predict": ["-o", tmp_path / "p.npy"]}
    err = refused(command, bad, files / "x.npy", *outputs.get(command, []))
    assert words in err and name in err


@pytest.mark.parametrize("name", ["missing.npy", "nan.npy"])
def test_bad_input_in_a_process_of_its_own(files, tmp_path, x, name):
    bad = tmp_path / name
    if name == "nan.npy":
        np.save(bad, with_nan(x))
    with process("encode", files / "model.npz", bad, "-o", tmp_path / "h.npz") as running:
        out, err = running.communicate()
    assert (running.returncode, out) == (2, "")
    lines = [line for line in err.splitlines() if "compiling" not in line]
    assert len(lines) == 1 and name in lines[0]


@pytest.mark.parametrize("command", ["encode", "predict", "fit"])
def test_a_full_disk_leaves_the_old_file(refused, files, tmp_path, command):
    large = tmp_path / "large.npy"
    np.save(large, np.ones((2000, I), np.float32))
    target = tmp_path / "target.npy"
    np.save(target, np.ones((2000, O), np.float32))
    old = tmp_path / {"encode": "h.npz", "predict": "p.npy", "fit": "m.npz"}[command]
    old.write_text("precious")
    options = ["-o", old, "--force", "--backend", "reference"]
    if command == "fit":
        argv = [large, target, *SMALL, "--dict-size", 1000, *options]
    else:
        argv = [files / "model.npz", large, *options]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        err = refused(command, *argv)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(old) in err and "cannot be written" in err
    assert old.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == sorted([large, target, old])


# info and show.


def test_info_describes_the_transcoder(run, files, tc):
    code, out, err = run("info", files / "model.npz")
    assert (code, err) == (0, "")
    assert repr(tc) in out
    assert f"{D * I + D + D * O + O:,} parameters" in out
    for name, shape in (("W_enc", "16 x 6"), ("b_enc", "16"), ("W_dec", "16 x 5"), ("b_dec", "5")):
        assert any(line.split()[:1] == [name] and shape in line for line in out.splitlines())
    assert f"{np.linalg.norm(tc.params.W_enc):.4g}" in out


def test_info_on_data_measures(run, files, tc, x, y):
    code, out, _ = run("info", files / "model.npz", files / "x.npy", files / "y.npy", "--json")
    assert code == 0
    got = json.loads(out)
    hidden = tc.encode(x)
    assert got["config"]["top_k"] == K
    assert got["arrays"]["W_dec"]["shape"] == [D, O]
    assert got["on"]["rows"] == ROWS
    assert got["on"]["fvu"] == metrics.fvu(y, tc(x))
    assert got["on"]["l0"] == metrics.l0(hidden)
    assert got["on"]["dead_features"] == metrics.dead_features(hidden).tolist()
    text = run("info", files / "model.npz", files / "x.npy", files / "y.npy")[1]
    assert f"FVU {got['on']['fvu']:.4f}" in text
    without = run("info", files / "model.npz", files / "x.npy")[1]
    assert "FVU" not in without and f"{got['on']['l0']:.1f} features active" in without


def test_info_in_blocks(run, files, monkeypatch):
    argv = "info", files / "model.npz", files / "x.npy", files / "y.npy", "--json"
    whole = json.loads(run(*argv)[1])["on"]
    monkeypatch.setattr("reftranscoder.cli.info.BLOCK_ROWS", 7)
    blocks = json.loads(run(*argv)[1])["on"]
    # Sums in another order: a few float64 roundings apart.
    assert blocks.pop("fvu") == pytest.approx(whole.pop("fvu"), rel=1e-14)
    assert blocks.pop("mse") == pytest.approx(whole.pop("mse"), rel=1e-14)
    assert blocks == whole


def test_info_names_features_that_look_dead(run, tmp_path, rng):
    W_enc, W_dec = rng.normal(size=(D, I)), rng.normal(size=(D, O))
    b_enc = np.zeros(D)
    W_enc[[2, 5, 7]] = 0
    b_enc[5] = 1  # active on everything
    W_dec[[1, 11]] *= 1e-4
    tc = rt.Transcoder.from_arrays(
        W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=np.zeros(O), top_k=K
    )
    tc.save(tmp_path / "m.npz")
    got = json.loads(run("info", tmp_path / "m.npz", "--json")[1])["features"]
    assert got["never_active"] == [2, 7]
    assert got["faint"] == [1, 11]
    assert "2 features (1, 11)" in run("info", tmp_path / "m.npz")[1]


def test_show_lists_every_pair(run):
    code, out, _ = run("show")
    assert code == 0
    for twin in TWINS:
        assert f"  {twin.name}: " in out


@pytest.mark.parametrize("twin", TWINS, ids=[twin.name for twin in TWINS])
def test_show_prints_derivation_reference_and_kernel_in_a_row(run, twin):
    code, out, _ = run("show", twin.name)
    assert code == 0
    headings = ["the derivation\n", "the reference, reference/", "the kernel, kernels/"]
    places = [out.find(heading) for heading in headings]
    definition = f"\ndef {twin.name}("
    assert 0 < places[0] < places[1] < out.index(definition)
    if twin.kernel is None:
        assert places[2] == -1 and "no kernel" in out
    else:
        assert places[1] < places[2] < out.rindex(definition)
        assert "the bound" in out
    assert twin.why in out


def test_show_takes_an_operation(run):
    code, out, _ = run("show", "topk", "--json")
    got = json.loads(out)
    assert set(got["functions"]) == {"topk_forward", "topk_backward"}
    assert "def topk_backward" in got["reference"]
    assert "(T1)" in got["derivation"]
    assert "import" not in got["kernel"]


def test_show_refuses_what_there_is_not(refused):
    assert "topk" in refused("show", "topkek")


# cases and audit.


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """A folder of four cases, with our own results in the first three of them."""
    names = ("topk-ordinary", "topk-skip-integers", "relu-non-finite", "topk-smallest")
    every = {case.name: case for case in probes()}
    chosen = [every[name] for name in names]
    monkeypatch.setattr("reftranscoder.auditor.probes.case_folder.probes", lambda: chosen)
    assert cli.main(["cases", str(tmp_path / "cases")]) == 0
    for case in chosen[:3]:
        found = case.transcoder.stages(case.x, case.target, case.l1_coeff, check_finite=False)
        dense = {n: a.toarray() if sparse.issparse(a) else a for n, a in found.items()}
        np.savez(tmp_path / "cases" / case.name / "results.npz", **dense)
    return tmp_path / "cases"


def change(path, **changes):
    with np.load(path) as archive:
        held = dict(archive)
    np.savez(path, **held | {name: f(held[name]) for name, f in changes.items()})


def keep_only(path, *names):
    with np.load(path) as archive:
        held = dict(archive)
    np.savez(path, **{name: held[name] for name in names})


def test_cases_says_what_it_wrote(run, refused, tmp_path):
    code, out, err = run("cases", tmp_path / "new")
    assert (code, err) == (0, "") and "82 cases" in out and "README.txt" in out
    code, out, _ = run("cases", tmp_path / "new", "--json")
    assert code == 0 and len(json.loads(out)["cases"]) == 82
    assert "not empty" in refused("cases", tmp_path)


def test_audit_of_a_folder_is_a_line_a_case(run, cases):
    code, out, err = run("audit", cases)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["topk-ordinary", "passed"],
        ["topk-skip-integers", "passed"],
        ["relu-non-finite", "passed"],
        ["topk-smallest", "-"],
    ]
    assert "4 cases: 3 passed, 0 failed, 1 not judged." in lines
    # The smallest case has no results, which is something left open.
    assert run("audit", cases, "--strict")[0] == 1
    (cases / "topk-smallest" / "results.npz").write_bytes(b"")
    index = json.loads((cases / "cases.json").read_text())
    index["cases"].remove("topk-smallest")
    (cases / "cases.json").write_text(json.dumps(index))
    # So are features that none of these cases exercises.
    code, out, _ = run("audit", cases, "--strict")
    assert code == 1 and "features (" in out and "were not exercised at" in out
    index["cases"] = ["topk-ordinary", "relu-non-finite"]
    (cases / "cases.json").write_text(json.dumps(index))
    for name in index["cases"]:
        keep_only(cases / name / "results.npz", "pre")
    assert run("audit", cases, "--strict")[0] == 0


def test_audit_fails_with_the_stage_and_its_sentence(run, cases):
    change(cases / "topk-ordinary" / "results.npz", dW_enc=lambda a: -a)
    code, out, err = run("audit", cases)
    assert (code, err) == (1, "")
    line = next(line for line in out.splitlines() if line.startswith("topk-ordinary"))
    assert "FAILED" in line and "Fault at dW_enc: dW_enc has the wrong sign" in line
    assert "in the case topk-ordinary; 1 of 3 cases failed." in out
    code, out, _ = run("audit", cases, "--json")
    got = json.loads(out)
    assert code == 1 and got["blame"] == "dW_enc" and got["passed"] is False
    assert got["cases"]["topk-ordinary"]["blame"] == "dW_enc"
    assert got["skipped"] == {"topk-smallest": "no results"}


def test_audit_of_one_case_is_a_line_a_stage(run, cases):
    code, out, err = run("audit", cases / "topk-ordinary")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["pre", "pre_acts", "hidden"]
    assert "rounding in float32" in lines[-1]
    code, out, _ = run("audit", cases / "topk-ordinary", "--json")
    assert code == 0 and json.loads(out)["stages"]["pre"]["verdict"] == "rounding"


def test_audit_of_one_file(run, cases, tmp_path):
    with np.load(cases / "topk-ordinary" / "input.npz") as archive:
        held = dict(archive) | {"top_k": np.array(7), "l1_coeff": np.array(4.0)}
    with np.load(cases / "topk-ordinary" / "results.npz") as archive:
        results = {f"result.{name}": a for name, a in archive.items()}
    np.savez(tmp_path / "all.npz", **held | results)
    assert run("audit", tmp_path / "all.npz")[0] == 0
    np.savez(tmp_path / "all.npz", **held | results | {"top_k": np.array(6)})
    code, out, _ = run("audit", tmp_path / "all.npz")
    assert code == 1 and "Fault at hidden: 7 features are kept, not 6" in out


def test_audit_without_results_does_not_pass(run, cases, tmp_path):
    assert cli.main(["cases", str(tmp_path / "empty")]) == 0
    code, out, _ = run("audit", tmp_path / "empty")
    assert code == 1 and "Nothing was judged: no case has results." in out
    code, out, _ = run("audit", cases / "topk-smallest")
    assert code == 1 and "Nothing was judged: no stage was given." in out


def test_audit_takes_an_arithmetic_and_conventions(run, refused, cases):
    name = "topk-ordinary"
    # In float64 these float32 results are not right; as if in bfloat16, they are.
    assert run("audit", cases / name, "--arithmetic", "float64")[0] == 1
    assert run("audit", cases / name, "--arithmetic", "bfloat16")[0] == 0
    assert "float31" in refused("audit", cases, "--arithmetic", "float31")
    assert "mse_sun" in refused("audit", cases, "--convention", "mse_sun")
    with np.load(cases / name / "results.npz") as archive:
        kept = {n: archive[n] for n in ("pre", "hidden", "reconstruction")}
    with np.load(cases / name / "input.npz") as archive:
        error = kept["reconstruction"] - archive["target"]
    summed = kept | {"d_reconstruction": error * np.float32(2 / len(error))}
    np.savez(cases / name / "results.npz", **summed)
    code, out, _ = run("audit", cases / name)
    assert code == 1 and "under the convention mse_sum" in out
    for path in cases / name, cases:
        assert "--convention 'mse_sum'" in run("audit", path)[1]
        code, out, _ = run("audit", path, "--convention", "mse_sum")
        assert code == 0 and "--convention" not in out


def test_audit_refuses_an_empty_name(refused):
    assert "CASE|DIR must be" in refused("audit", "")


@pytest.mark.parametrize("command", ["audit", "faults", "report"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(refused, tmp_path, command):
    """What the work is on is not there, and nobody has looked."""
    for page, words in (
        ("", "--html must be the name of a file"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "page.html", "its folder does not exist"),
    ):
        assert words in refused(command, "nothing", "--html", page)


def test_audit_strict_fails_where_the_data_do_not_decide(run, cases):
    path = cases / "topk-ordinary" / "results.npz"
    change(path, pre=lambda a: a.astype(np.float16).astype(np.float32))
    keep_only(path, "pre", "loss")
    code, out, _ = run("audit", path.parent, "--arithmetic", "float16")
    strict = run("audit", path.parent, "--arithmetic", "float16", "--strict")[0]
    left_open = "cannot tell" in out or "not exercised" in out
    assert code == 0 and strict == (1 if left_open else 0)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"GIF89a" * 9, "unknown format")]
)
def test_audit_of_what_is_no_case(refused, cases, tmp_path, content, words):
    (tmp_path / "bad.npz").write_bytes(content)
    assert words in refused("audit", tmp_path / "bad.npz")
    (cases / "topk-ordinary" / "results.npz").write_bytes(content)
    err = refused("audit", cases)
    assert words in err and "topk-ordinary" in err
    assert "no such file" in refused("audit", tmp_path / "none.npz")
    assert "neither" in refused("audit", tmp_path)


def test_audit_refuses_malformed_results_in_one_line(refused, cases):
    change(cases / "topk-ordinary" / "results.npz", hidden=lambda a: a[:, 1:])
    assert "topk-ordinary: hidden must have shape (24, 72)" in refused("audit", cases)


def test_audit_writes_a_page_with_every_case(run, cases, tmp_path):
    page = tmp_path / "page.html"
    assert run("audit", cases, "--html", page)[0] == 0
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    for name in ("topk-ordinary", "topk-skip-integers", "relu-non-finite"):
        assert name in text
    assert run("audit", cases / "topk-ordinary", "--html", page)[0] == 0
    assert "topk-skip-integers" not in page.read_text()


def test_audit_shows_progress_on_a_terminal(on_a_terminal, cases):
    terminal = on_a_terminal()
    assert cli.main(["audit", str(cases)]) == 0
    assert "4/4" in terminal.text


def test_the_arithmetics_and_conventions_in_the_help_are_those_there_are(run):
    assert tuple(audit.CONVENTIONS) == NAMES
    default = Definition(top_k=1)
    meanings = {text for kind, text in MSE.items() if kind != default.mse}
    meanings |= {text for kind, text in L1.items() if kind != default.l1}
    said = {meaning.partition(" is ")[2] for meaning in audit.CONVENTIONS.values()}
    assert meanings <= said
    assert audit.ARITHMETICS.split(", ") == sorted(
        [*ARITHMETICS, *MIXED], key=audit.ARITHMETICS.split(", ").index
    )
    shown = run("audit", "--help")[1].splitlines()
    for name, meaning in audit.CONVENTIONS.items():
        assert f"  {name:30}{meaning}" in shown


# Reports and progress.


def test_json_has_no_nan(capsys):
    printing.print_json({"a": np.float32("nan"), "b": [np.inf, np.int32(3)], "c": np.array([1.5])})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 3], "c": [1.5]}


def test_table():
    assert printing.table([("", "one", "2"), ("rows", "1", "22")]) == "      one   2\nrows    1  22"


class Terminal:
    """A standard error that is a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Put a terminal in place of standard error; pytest puts its own back before each test."""

    def on_a_terminal():
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr(progress, "REFRESH", 0)
        return sys.stderr

    return on_a_terminal


def test_progress_on_a_terminal(on_a_terminal):
    terminal = on_a_terminal()
    with progress.Progress(4, "steps") as bar:
        bar.advance_to(3, "loss 0.5")
    assert "3/4" in terminal.text and "loss 0.5" in terminal.text


def test_progress_without_tqdm(on_a_terminal, monkeypatch):
    terminal = on_a_terminal()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress.Progress(4, "steps") as bar:
        bar.advance(1, "loss 0.5")
        bar.advance_to(3, "loss 0.4")
    for done, note in ((1, "loss 0.5"), (3, "loss 0.4")):
        assert f"{done}/4 steps, 0:00:00 left  {note}" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")


def test_no_progress_in_a_pipe(capsys):
    with progress.Progress(4, "steps") as bar:
        bar.advance(1, "loss 0.5")
    assert capsys.readouterr().err == ""


def test_progress_of_fit_shows_loss_fvu_and_speed(on_a_terminal, files, tmp_path):
    terminal = on_a_terminal()
    argv = ["fit", files / "x.npy", files / "y.npy", "-o", tmp_path / "m.npz", *SMALL]
    assert cli.main([str(a) for a in [*argv, "--validation", 0.2, "--log-every", 1]]) == 0
    for words in ("loss 0.", "FVU ", "L0 3.0", "dead ", " rows/s"):
        assert words in terminal.text


def test_progress_says_the_time_left(on_a_terminal, monkeypatch):
    """At the pace of this process: what a checkpoint held was not made in its time."""
    clock = iter((100.0, *[101.0] * 3, *[110.0] * 9))
    terminal = on_a_terminal()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Progress(4000, "steps") as bar:
        bar.advance_to(1001, "loss 0.5")  # one step in a second
        bar.advance_to(1005, "loss 0.4")  # five in ten
    assert "1001/4000 steps, 0:49:59 left  loss 0.5" in terminal.text
    assert "1005/4000 steps, 1:39:50 left  loss 0.4" in terminal.text


def test_the_bar_of_a_run_that_goes_on_knows_its_pace(on_a_terminal):
    terminal = on_a_terminal()
    with progress.Progress(4000, "steps") as bar:
        bar.advance_to(1001)
        bar.advance_to(1002)
    assert "1002/4000" in terminal.text and "1001.0" not in terminal.text


def test_the_log_is_not_the_model(refused, files, tmp_path):
    out = tmp_path / "m.npz"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL, "--log", out
    assert "another file than --output" in refused(*argv) and not out.exists()


def test_widths_are_named(tmp_path):
    np.save(tmp_path / "t.npy", np.zeros((I, ROWS)))
    rows = rt.Activations(tmp_path / "t.npy")
    with pytest.raises(rt.errors.ShapeError, match="transposed") as caught:
        arguments.check_width(rows, "I", I)
    remedy = str(caught.value).split("It looks transposed: ")[1].rstrip(".")
    exec(remedy.replace("path", "fixed"), {"np": np, "fixed": Path(tmp_path / "fixed.npy")})
    assert rt.Activations(tmp_path / "fixed.npy").shape == (ROWS, I)


# Streams and signals.


def test_json_answers_on_failure_too(run, tmp_path):
    for argv in (["info", tmp_path / "no.npz", "--json"], ["encode", "--json"], ["fly", "--json"]):
        code, out, err = run(*argv)
        assert code == status.UNUSABLE
        message = json.loads(out)["error"]
        assert err.endswith(f": {message}\n") and err.count("\n") == 1


def test_a_message_is_short_and_prints(refused, tmp_path):
    name = "a\nb\x1b[31m" + 300 * "x"
    err = refused("info", tmp_path / "folder" / name)
    assert err.isprintable() or err.rstrip("\n").isprintable()
    assert len(err) <= len("reftranscoder info: ") + 300 + 1
    assert r"a\nb\x1b[31m" in err and err.endswith("there is no such file.\n")


def test_a_name_that_does_not_print_is_escaped(run, files, tmp_path):
    model = tmp_path / "m\x1b[31m.npz"
    model.write_bytes((files / "model.npz").read_bytes())
    code, out, _ = run("info", model)
    assert code == 0 and r"m\x1b[31m.npz" in out and "\x1b" not in out
    code, out, _ = run("info", model, "--json")
    assert "\x1b" not in out and json.loads(out)["model"] == str(model)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_fit_without_standard_streams(files, tmp_path, closed):
    """As a shell starts it: what is closed is no place for the next file that is opened."""
    out = tmp_path / "model.npz"
    command = [sys.executable, "-m", "reftranscoder", "fit", files / "x.npy", files / "y.npy"]
    command += ["-o", out, *SMALL, "--backend", "reference"]
    line = " ".join(map(str, command)) + " " + closed
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert rt.load(out).config.dict_size == D


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_full_standard_output_says_that_the_model_is_there(files, tmp_path, json_too):
    out = tmp_path / "model.npz"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL, "--backend", "reference"
    with open("/dev/full", "w") as full, process(*argv, *json_too, stdout=full) as running:
        err = running.stderr.read()
    assert running.returncode == status.UNUSABLE
    want = f"standard output: No space left on device; {out} is written"
    assert err == f"reftranscoder fit: {want}\n"
    assert rt.load(out).config.dict_size == D


def test_warnings_of_numpy_add_no_line(run, files, monkeypatch):
    def warns(path):
        np.float32(1e30) * np.float32(1e30)
        return rt.load(path)

    monkeypatch.setattr("reftranscoder.cli.info.load", warns)
    code, _, err = run("info", files / "model.npz")
    assert (code, err) == (0, "")


def test_a_warning_of_ours_is_one_line(run, files, monkeypatch):
    def warns(path):
        warnings.warn("the last bits\nmay differ", rt.errors.VersionWarning, stacklevel=1)
        return rt.load(path)

    monkeypatch.setattr("reftranscoder.cli.info.load", warns)
    code, _, err = run("info", files / "model.npz")
    assert (code, err) == (0, "reftranscoder info: the last bits may differ\n")


@pytest.mark.parametrize(("name", "want"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_what_a_cluster_sends_ends_as_ctrl_c_does(files, tmp_path, name, want):
    out, checkpoint = tmp_path / "model.npz", tmp_path / "run.ckpt"
    argv = "fit", files / "x.npy", files / "y.npy", "-o", out, *SMALL, "--backend", "reference"
    more = "--steps", 10**6, "--checkpoint", checkpoint, "--checkpoint-every", 1
    with process(*argv, *more, **heeding(getattr(signal, name))) as running:
        give_up = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < give_up and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(getattr(signal, name))
        try:
            _, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == want
    assert err.startswith("reftranscoder fit: interrupted after step ")
    assert rt.load(out).config.dict_size == D
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["model.npz", "run.ckpt"]


def test_a_signal_outside_training(run, monkeypatch, files):
    def terminated(path):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("reftranscoder.cli.info.load", terminated)
    code, out, err = run("info", files / "model.npz")
    assert (code, out, err) == (143, "", "reftranscoder info: terminated\n")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("option", ["--batch-size", "--dict-size", "--steps", "--seed"])
@pytest.mark.parametrize("value", [10**400, -1])
def test_a_number_beyond_all_bounds(refused, files, tmp_path, option, value):
    argv = "fit", files / "x.npy", files / "y.npy", "-o", tmp_path / "model.npz"
    refused(*argv, option, value)


def test_a_batch_beyond_all_bounds(refused, files, tmp_path):
    argv = "fit", files / "x.npy", files / "y.npy", "-o", tmp_path / "model.npz", *SMALL
    assert "batch_size must be" in refused(*argv, "--batch-size", 10**12)
