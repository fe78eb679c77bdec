"""A run that was stopped or killed goes on to the same bits."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import kills
import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import FileError, OptionError, VersionWarning
from reftranscoder.training import checkpoint

OPTIONS = {
    "dict_size": 24,
    "top_k": 3,
    "steps": 20,
    "batch_size": 16,
    "lr": 1e-2,
    "log_every": 6,
    "validation": 0.25,
    "backend": "reference",
}


def make_data(rng):
    x = rng.standard_normal((80, 6)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((6, 4)), 0)


@pytest.fixture
def data(rng):
    return make_data(rng)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def stop_at(step):
    def stop(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def assert_same_run(got, want):
    for name, array in want.transcoder.params.arrays().items():
        np.testing.assert_array_equal(got.transcoder.params.arrays()[name], array, strict=True)
    assert got.history == want.history
    assert got.metrics.fvu == want.metrics.fvu
    assert got.best_step == want.best_step


#: Options with something to remember, or that change with the step.
EXTRAS = (
    {},
    {"skip": True, "unit_norm_decoder": True},
    {"top_k": 1, "aux_k": 4, "dead_after": 2},
    {"clip_norm": 0.05},
    {"second_moment": "entry"},
    {"average": 0.8},
    {"top_k_start": 12},
    {"patience": 4, "lr": 0.1},
)


@pytest.mark.parametrize("step", [1, 6, 10, 19])  # within and at the end of a line of the log
@pytest.mark.parametrize("extra", EXTRAS, ids=str)
def test_a_stopped_run_goes_on_to_the_same_bits(data, path, step, extra):
    options = OPTIONS | extra
    stopped = rt.fit(*data, **options, checkpoint=path, progress=stop_at(step))
    assert (stopped.interrupted, stopped.steps) == (True, step)
    resumed = rt.fit(*data, **options, checkpoint=path)
    assert (resumed.interrupted, resumed.steps) == (False, 20)
    assert_same_run(resumed, rt.fit(*data, **options))


@pytest.mark.parametrize("together", [False, True], ids=["plain", "all of these together"])
def test_with_kernels_too(data, path, together):
    options = OPTIONS | {"backend": "kernels", "steps": 6}
    if together:
        every = [o for o in EXTRAS if "skip" not in o] + [{"log_every": 2, "patience": 2}]
        for extra in every:
            options |= extra
    rt.fit(*data, **options, checkpoint=path, progress=stop_at(3))
    resumed = rt.fit(*data, **options, accumulate=2, checkpoint=path)  # which changes no bit
    assert_same_run(resumed, rt.fit(*data, **options))


def test_a_run_that_stopped_early_stays_stopped(data, path):
    options = OPTIONS | {"steps": 60, "lr": 0.3, "decay": 0, "log_every": 2, "patience": 3}
    whole = rt.fit(*data, **options)
    assert whole.steps == whole.best_step + 3 * 2 < 60 and not whole.interrupted
    rt.fit(*data, **options, checkpoint=path, progress=stop_at(whole.steps - 3))
    for _ in range(2):  # the second finds it done
        resumed = rt.fit(*data, **options, checkpoint=path)
        assert_same_run(resumed, whole)
        assert resumed.steps == whole.steps and not resumed.interrupted


def test_a_killed_process_goes_on_to_the_same_bits(path, tmp_path):
    data = make_data(np.random.default_rng(20240617))
    np.savez(tmp_path / "data.npz", x=data[0], target=data[1])
    program = f"""
        import os, signal
        import numpy as np
        import reftranscoder as rt

        def die(progress):
            if progress.step == 13:
                os.kill(os.getpid(), signal.SIGKILL)

        data = np.load({str(tmp_path / "data.npz")!r})
        options = {OPTIONS!r}
        rt.fit(data["x"], data["target"], **options, checkpoint={str(path)!r},
               checkpoint_every=5, progress=die)
    """
    package = str(Path(rt.__file__).parent.parent)
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": package},
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL
    assert meta_of(path)["t"] == 10  # the last step that was kept: 11 to 13 are made again
    resumed = rt.fit(*data, **OPTIONS, checkpoint=path, checkpoint_every=5)
    assert_same_run(resumed, rt.fit(*data, **OPTIONS))


def test_a_process_killed_while_it_writes_goes_on_to_the_same_bits(path, tmp_path):
    """The earlier checkpoint is there, what was written of the next is removed by the next run."""
    killed = kills.run_once(path, "at the 5th fsync", steps=15)
    assert killed == -signal.SIGKILL
    assert len(list(tmp_path.glob(".run.npz.*.tmp"))) == 1
    assert meta_of(path)["t"] > 0
    assert kills.run_once(path, steps=15) == 0
    assert not list(tmp_path.glob(".*.tmp"))
    assert kills.result(path) == kills.unbroken(steps=15)


def test_a_finished_run_is_not_trained_further(data, path):
    first = rt.fit(*data, **OPTIONS, checkpoint=path)
    steps = []
    again = rt.fit(*data, **OPTIONS, checkpoint=path, progress=steps.append)
    assert_same_run(again, first)
    assert not steps


@pytest.mark.parametrize(
    "seed", [7, np.random.SeedSequence([1, 2], spawn_key=(3,)), np.int64(2**40)], ids=str
)
def test_the_seed_is_compared_by_value(data, path, seed):
    rt.fit(*data, **OPTIONS, seed=seed, checkpoint=path, progress=stop_at(2))
    assert rt.fit(*data, **OPTIONS, seed=seed, checkpoint=path).steps == 20
    with pytest.raises(OptionError, match="^seed must be"):
        rt.fit(*data, **OPTIONS, seed=8, checkpoint=path)


@pytest.mark.parametrize(
    "change",
    [
        {"dict_size": 25},
        {"top_k": 4},
        {"activation": "relu"},
        {"ties": "keep_all"},
        {"dtype": "float64"},
        {"skip": True},
        {"steps": 21},
        {"lr": 2e-2},
        {"warmup": 0.5},
        {"decay": 0.5},
        {"l1_coeff": 0},
        {"unit_norm_decoder": True},
        {"aux_k": 1},
        {"aux_coeff": 0.5},
        {"dead_after": 9},
        {"clip_norm": 1},
        {"second_moment": "entry"},
        {"average": 0.5},
        {"top_k_start": 5},
        {"top_k_fall": 0.1},
        {"patience": 2},
        {"beta1": 0.8},
        {"beta2": 0.99},
        {"eps": 1e-6},
        {"batch_size": 17},
        {"log_every": 5},
        {"backend": "kernels"},
    ],
    ids=str,
)
def test_another_option_is_refused_by_name(data, path, change):
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(1))
    (name,) = change
    if name == "activation":  # which also decides top_k
        name = "top_k|activation"
    with pytest.raises(OptionError, match=f"^({name}) must be .* as in the checkpoint"):
        rt.fit(*data, **(OPTIONS | change), checkpoint=path)


def test_other_data_are_refused(data, path):
    x, target = data
    rt.fit(x, target, **OPTIONS, checkpoint=path, progress=stop_at(1))
    other = x.copy()
    other[5, 2] += 1e-3
    with pytest.raises(FileError, match="a run on other data"):
        rt.fit(other, target, **OPTIONS, checkpoint=path)


def test_what_is_no_checkpoint_is_refused(data, path, tmp_path):
    model = tmp_path / "model.npz"
    rt.build(input_size=6, output_size=4, dict_size=24, top_k=3).save(model)
    with pytest.raises(FileError, match="is not a checkpoint"):
        rt.fit(*data, **OPTIONS, checkpoint=model)
    text = tmp_path / "notes.npz"
    text.write_text("not an archive")
    with pytest.raises(FileError, match="not a NumPy .npz archive"):
        rt.fit(*data, **OPTIONS, checkpoint=text)
    np.savez(tmp_path / "pickled.npz", meta=np.array([{}], dtype=object))
    with pytest.raises(FileError, match="damaged"):
        rt.fit(*data, **OPTIONS, checkpoint=tmp_path / "pickled.npz")
    with pytest.raises(FileError, match="its folder does not exist"):
        rt.fit(*data, **OPTIONS, checkpoint=tmp_path / "nowhere" / "run.npz")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: f.pop("v.b_dec"), "its v.b_dec does not fit"),
        (lambda f: f.update({"m.W_enc": f["m.W_enc"][:-1]}), "its m.W_enc does not fit"),
        (lambda f: f.update({"v.W_skip": np.zeros((4, 6))}), "also holds v.W_skip"),
        (lambda f: edit_meta(f, version=4), "checkpoint version 4"),
        (lambda f: edit_meta(f, version=1), "version 1, which does not know its data"),
        (lambda f: edit_meta(f, t="ten"), "is not a checkpoint"),
        (lambda f: edit_meta(f, entries=[{"step": 1}]), "is damaged: its log"),
        (lambda f: f.update(meta=np.array("{")), "is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_refused(data, path, damage, message):
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(1))
    with np.load(path) as archive:
        fields = dict(archive)
    damage(fields)
    np.savez(path, **fields)
    with pytest.raises(FileError, match=message) as caught:
        rt.fit(*data, **OPTIONS, checkpoint=path)
    assert "\n" not in str(caught.value)


def test_an_older_checkpoint_survives_a_write_that_fails(data, path, monkeypatch):
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(10))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(FileError, match="No space left on device"):
            rt.fit(*data, **OPTIONS, checkpoint=path, checkpoint_every=5)
    assert meta_of(path)["t"] == 10
    assert_same_run(rt.fit(*data, **OPTIONS, checkpoint=path), rt.fit(*data, **OPTIONS))


def test_a_truncated_checkpoint_is_refused(data, path):
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(1))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileError, match="truncated or damaged"):
        rt.fit(*data, **OPTIONS, checkpoint=path)


def meta_of(path):
    with np.load(path) as archive:
        return json.loads(str(archive["meta"]))


def edit_meta(fields, **changes):
    fields["meta"] = np.array(json.dumps(json.loads(str(fields["meta"])) | changes))


def test_the_largest_seed_is_written_down(data, path):
    for seed in (2**256 - 1, np.random.SeedSequence(2**256 - 1)):
        rt.fit(*data, **OPTIONS, seed=seed, checkpoint=path, progress=stop_at(2))
        assert rt.fit(*data, **OPTIONS, seed=seed, checkpoint=path).steps == 20
    for seed in (2**256, np.random.SeedSequence(2**256)):
        with pytest.raises(OptionError, match="^seed must be a whole number from 0 to"):
            rt.fit(*data, **OPTIONS, seed=seed)


# Other data, whatever is left as it was.


def swapped(array, i, j):
    array = array.copy()
    array[[i, j]] = array[[j, i]]
    return array


OTHER_DATA = {
    "rows in another order": (lambda x, y, v: (x[::-1].copy(), y, v), "x differs"),
    "rows and targets in another order": (lambda x, y, v: (x[::-1], y[::-1], v), "x and target"),
    "two rows exchanged": (lambda x, y, v: (swapped(x, 3, 40), y, v), "x differs"),
    "two targets exchanged": (lambda x, y, v: (x, swapped(y, 0, 1), v), "target differs"),
    "a bit": (lambda x, y, v: (np.nextafter(x, 9), y, v), "x differs"),
    "another dtype": (lambda x, y, v: (x.astype(np.float32), y, v), "x differs"),
    "a row less": (lambda x, y, v: (x[:-1], y[:-1], v), "x and target"),
    "validation times 100": (
        lambda x, y, v: (x, y, (100 * v[0], 100 * v[1])),
        "validation x and validation target differ",
    ),
    "validation in another order": (
        lambda x, y, v: (x, y, (v[0], v[1][::-1])),
        "validation target differs",
    ),
}


@pytest.mark.parametrize("change", OTHER_DATA)
def test_other_data_are_refused_whatever_they_have_in_common(rng, data, path, change):
    alter, words = OTHER_DATA[change]
    options = {name: value for name, value in OPTIONS.items() if name != "validation"}
    held_out = make_data(rng)
    rt.fit(*data, **options, validation=held_out, checkpoint=path, progress=stop_at(3))
    x, target, validation = alter(*data, held_out)
    with pytest.raises(FileError, match="of a run on other data") as caught:
        rt.fit(x, target, **options, validation=validation, checkpoint=path)
    assert words in str(caught.value)
    resumed = rt.fit(*data, **options, validation=held_out, checkpoint=path)
    assert_same_run(resumed, rt.fit(*data, **options, validation=held_out))


def test_the_same_rows_from_a_file_are_the_same_data(data, path, tmp_path):
    """Identity is of what is read: not of names, nor of where in a file it stands."""
    x, target = (array.astype(np.float32) for array in data)
    rt.fit(x, target, **OPTIONS, checkpoint=path, progress=stop_at(3))
    np.save(tmp_path / "x.npy", np.concatenate([x[:2], x]))
    np.save(tmp_path / "y.npy", np.concatenate([target[:2], target]))
    paths = [rt.Activations(tmp_path / name, rows="2:") for name in ("x.npy", "y.npy")]
    assert rt.fit(*paths, **OPTIONS, checkpoint=path).steps == 20


def test_every_edit_of_the_text_is_found(data, path):
    """Whatever becomes another number, a word or nothing: the run does not go on."""
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(8))
    with np.load(path) as archive:
        fields = dict(archive)
    meta = json.loads(str(fields["meta"]))
    edits = [{name: None} for name in meta]
    edits += [{"t": t} for t in (0, 6, 7, 9, -1, 10**30, 8.0)]
    edits += [{"losses": x} for x in ([], ["a", "b"], meta["losses"][::-1], [1e400, 0.5])]
    entry = meta["entries"][0]
    edits += [{"entries": [entry | {name: 1}]} for name in entry if entry[name] != 1]
    edits += [{"entries": []}, {"entries": [entry, entry]}, {"digest": "0"}]
    for edit in edits:
        if edit == {"losses": meta["losses"]}:
            continue
        changed = dict(fields)
        edit_meta(changed, **edit)
        np.savez(path, **changed)
        with pytest.raises(FileError) as caught:
            rt.fit(*data, **OPTIONS, checkpoint=path)
        assert "\n" not in str(caught.value)
    for name in meta:
        changed = dict(fields)
        changed["meta"] = np.array(json.dumps({n: v for n, v in meta.items() if n != name}))
        np.savez(path, **changed)
        with pytest.raises(FileError, match=f"lacks {name}|is not a checkpoint"):
            rt.fit(*data, **OPTIONS, checkpoint=path)


@pytest.mark.parametrize("name", ["arrays.W_enc", "m.b_dec", "v.W_dec"])
def test_another_number_in_an_array_is_found(data, path, name):
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(8))
    with np.load(path) as archive:
        fields = dict(archive)
    fields[name] = fields[name].copy()
    fields[name].flat[0] = np.nextafter(fields[name].flat[0], np.float32(9))
    np.savez(path, **fields)
    with pytest.raises(FileError, match="not what was written, by the digest in it"):
        rt.fit(*data, **OPTIONS, checkpoint=path)


def test_another_version_is_worth_a_warning(data, path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("reftranscoder.training.checkpoint.versions", lambda: {"NumPy": "1.0"})
        rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(8))
    with pytest.warns(VersionWarning, match=r"NumPy 1\.0, now .*the last bits may differ"):
        resumed = rt.fit(*data, **OPTIONS, checkpoint=path)
    assert_same_run(resumed, rt.fit(*data, **OPTIONS))


def test_a_killed_writer_leaves_nothing_that_stays(data, path):
    """What a run that was killed while it wrote has left goes with the next of that name."""
    leftover = path.with_name(f".{path.name}.0123abcd.tmp")
    leftover.write_bytes(b"half a checkpoint")
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(1))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_run_after_its_step(data, path, name):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"this system has no {name}")
    before = signal.getsignal(number)

    def raise_it(progress):
        if progress.step == 7:
            signal.raise_signal(number)

    default = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    signal.signal(number, default)
    try:
        stopped = rt.fit(*data, **OPTIONS, checkpoint=path, progress=raise_it)
        assert signal.getsignal(number) is default
    finally:
        signal.signal(number, before)
    assert (stopped.interrupted, stopped.signal, stopped.steps) == (True, number, 7)
    assert meta_of(path)["t"] == 7
    assert_same_run(rt.fit(*data, **OPTIONS, checkpoint=path), rt.fit(*data, **OPTIONS))


def test_a_signal_that_the_host_ignores_is_ignored(data):
    def raise_it(progress):
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert not rt.fit(*data, **OPTIONS, progress=raise_it).interrupted
    finally:
        signal.signal(signal.SIGTERM, before)


# Content that no run comes to, under a digest that is right.


IMPOSSIBLE = {
    "steps beyond the last": (
        lambda meta, a: meta.update(t=26, losses=meta["losses"] + [0.5] * 18),
        "step 26 of 20",
    ),
    "a log without its first line": (
        lambda meta, a: meta.update(entries=[], losses=[0.5] * meta["t"]),
        "does not have a line for every 6",
    ),
    "a line too many": (
        lambda meta, a: meta.update(
            entries=meta["entries"] + [meta["entries"][0] | {"step": 7}], losses=[0.5]
        ),
        "does not have a line for every 6",
    ),
    "NaN": (lambda meta, a: a["arrays.W_enc"].__setitem__((0, 0), np.nan), "W_enc is not finite"),
    "infinity": (lambda meta, a: a["m.b_dec"].__setitem__(0, np.inf), "m.b_dec is not finite"),
    "silence before the start": (
        lambda meta, a: a["silent"].__setitem__(0, 9),
        "silent for other than 0 to 8 steps",
    ),
    "negative squares": (lambda meta, a: a["v.W_dec"].__setitem__((0, 0), -1), "is negative"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_what_no_run_comes_to_is_refused_whatever_its_digest(data, path, kind):
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(8))
    with np.load(path) as archive:
        fields = {name: array.copy() for name, array in archive.items()}
    meta = json.loads(str(fields.pop("meta")))
    meta.pop("digest")
    damage, words = IMPOSSIBLE[kind]
    damage(meta, fields)
    meta["digest"] = checkpoint.digest_of(meta, fields)
    np.savez(path, **fields, meta=np.array(json.dumps(meta)))
    with pytest.raises(FileError, match=f"holds what no run comes to: .*{words}") as caught:
        rt.fit(*data, **OPTIONS, checkpoint=path)
    assert "\n" not in str(caught.value)


def test_rows_read_in_another_dtype_are_other_data(data, path):
    """Their means differ, and with them the units of training."""
    wide = [rt.Activations(part, dtype="float64") for part in data]
    rt.fit(*data, **OPTIONS, checkpoint=path, progress=stop_at(3))
    with pytest.raises(FileError, match="a run on other data"):
        rt.fit(*wide, **OPTIONS, checkpoint=path)


# The last few, and the best.


def test_the_last_and_the_best_are_kept(data, path):
    options = OPTIONS | {"checkpoint_every": 4, "checkpoint_last": 3, "checkpoint_best": True}
    fit = rt.fit(*data, **options, checkpoint=path)
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["run.best.npz", "run.npz", "run.step12.npz", "run.step16.npz"]
    steps = {name: meta_of(path.with_name(name))["t"] for name in names}
    fvus = {entry.step: entry.fvu for entry in fit.history}
    best = min(fvus, key=fvus.get)
    want = {"run.best.npz": best, "run.npz": 20, "run.step12.npz": 12, "run.step16.npz": 16}
    assert steps == want
    # Any of them goes on, under another name, to the same bits.
    for name in names:
        copy = path.with_name("copy.npz")
        copy.write_bytes(path.with_name(name).read_bytes())
        assert_same_run(rt.fit(*data, **OPTIONS, checkpoint=copy), fit)


def test_the_last_are_kept_where_a_file_has_one_name_only(data, path, monkeypatch):
    def none(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("reftranscoder.training.keeping.os.link", none)
    options = OPTIONS | {"checkpoint_every": 4, "checkpoint_last": 2}
    rt.fit(*data, **options, checkpoint=path, progress=stop_at(9))
    assert meta_of(path)["t"] == 9
    assert meta_of(path.with_name("run.step8.npz"))["t"] == 8
    rt.fit(*data, **options, checkpoint=path, progress=stop_at(12))  # goes on, and counts on
    assert sorted(p.name for p in path.parent.iterdir()) == ["run.npz", "run.step9.npz"]
    for bad in ({"checkpoint_last": 0}, {"checkpoint_best": 1}):
        with pytest.raises(OptionError, match=f"^{next(iter(bad))} must be"):
            rt.fit(*data, **OPTIONS | bad, checkpoint=path)
