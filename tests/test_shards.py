"""Rows of a folder of shards are those of one array, and a folder that is being filled holds every
batch that was complete when its writer was killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.activations.row_store import Mapped
from reftranscoder.errors import (
    DTypeError,
    Error,
    FileError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from reftranscoder.training.batches import Batches
from reftranscoder.training.scaling import Scaling

N, I, O = 30, 4, 3
CUTS = (0, 7, 8, 19, 30)


@pytest.fixture
def array(rng):
    return rng.standard_normal((N, I)).astype(np.float16)


def fill(folder, array, name="part-{}.npy", cuts=CUTS):
    folder.mkdir(exist_ok=True)
    for number, (first, last) in enumerate(zip(cuts, cuts[1:])):
        np.save(folder / name.format(number), array[first:last])
    return folder


def fill_tensors(folder, cuts=CUTS, **arrays):
    numpy = pytest.importorskip("safetensors.numpy")
    folder.mkdir(exist_ok=True)
    for number, (first, last) in enumerate(zip(cuts, cuts[1:])):
        tensors = {name: array[first:last].copy() for name, array in arrays.items()}
        numpy.save_file(tensors, folder / f"{number}.safetensors")
    return folder


def assert_same_rows(got, want):
    """Whatever is read of ``got``, as of the array ``want``."""
    assert got.shape == want.shape
    want = want.astype(np.float32)
    assert got.read().tobytes() == want.tobytes()
    order = np.random.default_rng(0).permutation(len(want))
    got.announce(np.sort(order[:11]))
    for indices in (order, order[:11], np.sort(order[:11]), [0], [-1], []):
        assert got.rows(indices).tobytes() == want[np.asarray(indices, np.intp)].tobytes()
    assert got.part(6, 20).read().tobytes() == want[6:20].tobytes()


# Shards.


@pytest.mark.parametrize("cuts", [CUTS, (0, 30), (0, *range(1, 31))], ids=str)
def test_shards_are_the_rows_of_one_array(tmp_path, array, cuts):
    # Eleven shards and more: 10 comes after 9, not after 1.
    assert_same_rows(rt.Activations(fill(tmp_path, array, cuts=cuts)), array)


def test_shards_take_the_options_of_a_file(tmp_path, array):
    options = {"rows": "3:25", "sequence_length": 10, "drop_position": 0}
    got = rt.Activations(fill(tmp_path, array), **options)
    assert_same_rows(got, rt.Activations(array, **options).read())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_tensors_are_rows_too(tmp_path, array, dtype):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    stored = array.astype(kind)
    folder = fill_tensors(tmp_path / "shards", mlp_in=stored)
    assert_same_rows(rt.Activations(folder), stored)
    assert rt.Activations(folder / "2.safetensors").read().tobytes() == (
        stored[8:19].astype(np.float32).tobytes()
    )


def test_a_tensor_is_chosen_by_its_name(tmp_path, array):
    folder = fill_tensors(tmp_path / "shards", a=array, b=array * 2)
    assert_same_rows(rt.Activations(folder, tensor="b"), array * 2)
    with pytest.raises(FileError, match=r"0.safetensors: holds 2 tensors \(a, b\).*tensor=name"):
        rt.Activations(folder)
    with pytest.raises(FileError, match="holds no tensor c; its tensors: a, b"):
        rt.Activations(folder, tensor="c")


def test_hidden_and_other_files_are_no_shards(tmp_path, array):
    folder = fill(tmp_path, array)
    (folder / ".part-9.npy.0123abcd.tmp").write_bytes(b"half")
    (folder / ".part-9.npy").write_bytes(b"half")
    (folder / "README").write_text("what this is")
    assert_same_rows(rt.Activations(folder), array)


def shortened(path):
    path.write_bytes(path.read_bytes()[:-1])


BAD_SHARDS = {
    "short": (shortened, FileError, "is truncated"),
    "empty": (lambda path: path.write_bytes(b""), FileError, "is empty"),
    "text": (lambda path: path.write_text("rows"), FileError, "a file of unknown format"),
    "narrow": (lambda path: np.save(path, np.ones((2, 3), "f2")), ShapeError, r"got \(2, 3\)"),
    "another dtype": (lambda path: np.save(path, np.ones((2, 4), "f4")), DTypeError, "float32"),
    "no rows": (lambda path: np.save(path, np.ones((0, 4), "f2")), ShapeError, "empty axis"),
}


@pytest.mark.parametrize("kind", BAD_SHARDS)
def test_a_bad_shard_is_named_before_a_row_is_read(tmp_path, array, kind):
    folder = fill(tmp_path, array)
    damage, error, words = BAD_SHARDS[kind]
    damage(folder / "part-2.npy")
    with pytest.raises(error, match=words) as caught:
        rt.Activations(folder)
    assert str(caught.value).startswith(str(folder / "part-2.npy"))
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_tensor_file_is_found(tmp_path, array):
    path = fill_tensors(tmp_path / "shards", x=array) / "0.safetensors"
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError) as caught:
            rt.Activations(path)
        assert "\n" not in str(caught.value)


def test_what_is_not_finite_is_named_by_its_shard(tmp_path, array):
    array[9, 2] = np.nan
    folder = fill(tmp_path, array)
    with pytest.raises(NonFiniteError, match=r"part-2.npy must be finite.*row 1, column 2"):
        rt.Activations(folder).check()


def test_shards_that_do_not_pair_up_are_named(tmp_path, array):
    x = fill(tmp_path / "x", array)
    y = fill(tmp_path / "y", array[:-1], cuts=(0, 7, 8, 18, 29))
    line = r"y/part-2.npy has 10 rows, and .*x/part-2.npy has 11"
    with pytest.raises(ShapeError, match=line):
        rt.paired(x, y)


def test_the_disk_is_asked_for_stretches(tmp_path, monkeypatch):
    """Rows near each other are one request, and rows of all shards are asked for."""
    asked = []
    monkeypatch.setattr(
        "reftranscoder.activations.row_store.os.posix_fadvise",
        lambda fd, start, length, advice: asked.append((start, length)),
        raising=False,
    )
    monkeypatch.setattr("reftranscoder.activations.row_store._ADVISES", True)
    monkeypatch.setattr("reftranscoder.activations.row_store._TELLS", False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    rows = np.zeros((2000, 64), np.float16)  # 128 bytes each: 512 of them are a gap
    array = Mapped(tmp_path / "x", rows, 128)
    (tmp_path / "x").touch()
    array.announce(np.array([3, 4, 10, 522, 523, 1036]))
    assert asked == [(128 + 3 * 128, (524 - 3) * 128), (128 + 1036 * 128, 128)]
    asked.clear()
    array.announce(np.array([0, 513, 514]))
    assert asked == [(128, 128), (128 + 513 * 128, 2 * 128)]
    asked.clear()
    folder = fill(tmp_path / "shards", np.zeros((30, 4), np.float32))
    rt.Activations(folder).announce(np.array([0, 29]))  # the first row, and the last of 11
    assert asked == [(128, 16), (128 + 10 * 16, 16)]


@pytest.mark.parametrize("told", ["there", "not there", "not told", "ended"])
def test_the_disk_is_not_asked_for_what_is_in_memory(tmp_path, monkeypatch, told):
    asked, looked = [], []

    def preadv(descriptor, buffers, place, flags):
        looked.append(place)
        if told in ("not there", "not told") and len(looked) == 3:
            raise BlockingIOError if told == "not there" else OSError("not supported")
        return int(told != "ended")

    store = "reftranscoder.activations.row_store"
    monkeypatch.setattr(f"{store}.os.posix_fadvise", lambda *a: asked.append(a), raising=False)
    monkeypatch.setattr(f"{store}.os.preadv", preadv, raising=False)
    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    for name in ("_ADVISES", "_TELLS"):
        monkeypatch.setattr(f"{store}.{name}", True)
    (tmp_path / "x").touch()
    array = Mapped(tmp_path / "x", np.zeros((20_000, 64), np.float16), 128)
    places = np.arange(0, 20_000, 1000)
    array.announce(places)
    assert len(asked) == (0 if told == "there" else len(places))
    if told == "there":
        assert looked == [128 + row * 128 for row in range(0, 20_000, 3000)]


def test_rows_of_shards_in_any_order(tmp_path, array):
    stored = rt.Activations(fill(tmp_path, array))
    indices = np.random.default_rng(0).integers(0, len(array), 50)
    for some in (indices, np.sort(indices), indices[:1], np.full(4, 11), indices[:0]):
        np.testing.assert_array_equal(stored.rows(some), array[some].astype(np.float32))


# Training from shards.


def test_training_does_not_depend_on_where_the_rows_lie(tmp_path, rng):
    x = rng.standard_normal((80, 6)).astype(np.float32)
    y = np.maximum(x @ rng.standard_normal((6, 4)), 0).astype(np.float32)
    cuts = (0, 11, 40, 79, 80)
    options = {"dict_size": 16, "top_k": 3, "steps": 12, "batch_size": 16, "backend": "reference"}
    want = rt.fit(x, y, **options).transcoder.params
    folders = fill(tmp_path / "x", x, cuts=cuts), fill(tmp_path / "target", y, cuts=cuts)
    checkpoint = tmp_path / "run.npz"
    for pair in (folders, (tmp_path,)):
        got = rt.fit(*pair, **options, checkpoint=checkpoint).transcoder.params
        assert all(
            np.array_equal(a, b) for a, b in zip(got.arrays().values(), want.arrays().values())
        )


def batches_of(rows, batch_size, seed=0):
    data = rt.Activations(np.arange(rows, dtype=np.float32)[:, None])
    return Batches(data, data, Scaling(1, 1), batch_size, np.random.SeedSequence(seed), np.float32)


def test_an_epoch_has_every_row_once_and_is_the_permutation_of_numpy():
    rows, size = 103, 10
    batches = batches_of(rows, size)
    # Whatever was asked for before: a run that is taken up begins in the middle.
    seen = [np.sort(batches_of(rows, size).rows(t)).tolist() for t in (7, 25)]
    assert seen == [batches.rows(t).tolist() for t in (7, 25)]
    key = (0x66697401, 1)  # the second epoch: rows 103 to 205 of all
    order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=key)).permutation(rows)
    assert batches.rows(12).tolist() == sorted(order[7:17])
    flat = np.concatenate([batches_of(rows, size).rows(t) for t in range(1, 10)])
    assert len(set(flat.tolist())) == 90


# Dask.


class FakeDask:
    """What a Dask array can do, as far as it is used, so that it is tried without Dask too."""

    def __init__(self, array, sizes, computed=None):
        self.array, self.computed = array, [] if computed is None else computed
        self.shape, self.dtype = array.shape, array.dtype
        self.chunks = (tuple(sizes), (array.shape[1],))
        starts = np.cumsum([0, *sizes])
        self.blocks = [
            _Chunk(self, array[a:b], i) for i, (a, b) in enumerate(zip(starts, starts[1:]))
        ]

    def __dask_graph__(self):
        return {}

    def astype(self, dtype):
        return FakeDask(self.array.astype(dtype), self.chunks[0], self.computed)


class _Chunk:
    def __init__(self, owner, rows, number):
        self.owner, self.rows, self.number = owner, rows, number

    def compute(self):
        self.owner.computed.append(self.number)
        return self.rows


def test_a_dask_array_is_computed_chunk_by_chunk(array):
    lazy = FakeDask(array, [7, 1, 11, 11])
    got = rt.Activations(lazy)
    assert lazy.computed == []
    assert_same_rows(got, array)
    lazy.computed.clear()
    got.announce(np.array([0, 6, 29]))
    assert lazy.computed == [0, 3]
    assert np.array_equal(got.rows([29, 0]), array[[29, 0]].astype(np.float32))
    assert lazy.computed == [0, 3]  # what was announced is kept
    got.rows([7])
    assert lazy.computed == [0, 3, 1]


def test_a_real_dask_array_too(array):
    dask = pytest.importorskip("dask.array", reason="Dask is an extra: reftranscoder[dask]")
    for chunks in ((7, 4), (10, 3), (30, 4)):
        assert_same_rows(rt.Activations(dask.from_array(array, chunks=chunks)), array)
    unknown = dask.from_array(array.astype(np.float32), chunks=(10, 4))
    unknown = unknown[unknown[:, 0] > 0]
    with pytest.raises(ShapeError, match="compute_chunk_sizes"):
        rt.Activations(unknown)


def test_a_chunk_that_fails_is_named(array):
    lazy = FakeDask(array, [15, 15])

    def fails():
        raise ValueError("no such store\nat all")

    lazy.blocks[1].compute = fails
    with pytest.raises(FileError, match="activations: chunk 1 fails: no such store at all"):
        rt.Activations(lazy).read()
    lazy.blocks[1].compute = lambda: array[:3]
    with pytest.raises(ShapeError, match="chunk 1 must have shape"):
        rt.Activations(lazy).read()


# The writer.


def write(folder, x, y, size=4, **options):
    with rt.ActivationWriter(folder, **options) as writer:
        for start in range(0, len(x), size):
            writer.add(x[start : start + size], y[start : start + size])
    return folder


@pytest.fixture
def pair(array, rng):
    return array, rng.standard_normal((N, O)).astype(np.float16)


@pytest.mark.parametrize("shard_rows", [1, 5, 8, 1000])
def test_what_is_written_is_read(tmp_path, pair, shard_rows):
    folder = write(tmp_path / "acts", *pair, shard_rows=shard_rows)
    x, target = rt.paired(folder)
    assert_same_rows(x, pair[0])
    assert_same_rows(target, pair[1])
    x.check()
    # Its parts are ordinary folders of ordinary files.
    assert_same_rows(rt.Activations(folder / "x"), pair[0])
    shards = [np.load(path) for path in sorted((folder / "target").iterdir())]
    assert np.array_equal(np.concatenate(shards), pair[1])
    assert shards[0].dtype == np.float16
    assert all(len(shard) == max(4, -(-shard_rows // 4) * 4) for shard in shards[:-1])


def test_a_writer_goes_on_behind_what_is_there(tmp_path, pair):
    for start in (0, 20):
        with rt.ActivationWriter(tmp_path / "acts", shard_rows=8) as writer:
            assert len(writer) == start
            for row in range(start, min(start + 20, 30), 5):
                writer.add(*(part[row : row + 5] for part in pair))
    for got, want in zip(rt.paired(tmp_path / "acts"), pair):
        assert_same_rows(got, want)
        got.verify()


def test_bfloat16_is_rounded_to_even_as_ml_dtypes_does_it(tmp_path, rng):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits = rng.integers(0, 2**32, (500, 6), dtype=np.uint32)
    bits[:100] = bits[:100] & 0xFFFF0000 | 0x8000  # halfway cases
    x = bits.view(np.float32)
    x = x[(np.abs(x) < 3e38).all(axis=1)]
    folder = write(tmp_path / "acts", x, x, dtype="bfloat16", size=500)
    got = rt.paired(folder)[0].read()
    assert got.tobytes() == x.astype(bfloat16).astype(np.float32).tobytes()
    assert rt.Activations(x.astype(bfloat16)).read().tobytes() == got.tobytes()
    x = x.astype(bfloat16)
    again = write(tmp_path / "again", x, x, size=500)  # kept as it is
    assert json.loads((again / "index.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("x", "target", "error", "words"),
    [
        (np.ones((2, 5)), np.ones((2, 3)), ShapeError, "x must have shape"),
        (np.ones((2, 4)), np.ones((2, 2)), ShapeError, "target must have shape"),
        (np.ones((2, 4)), np.ones((3, 3)), ShapeError, "Rows must pair up"),
        (np.ones(4), np.ones(3), ShapeError, r"x\[None, :\]"),
        (np.full((1, 4), 7e4), np.ones((1, 3)), NonFiniteError, "too large for float16"),
        (np.ones((1, 4)), np.full((1, 3), np.nan), NonFiniteError, "target must be finite"),
        (np.ones((1, 4), complex), np.ones((1, 3)), DTypeError, "real"),
    ],
)
def test_a_batch_that_will_not_do_changes_nothing(tmp_path, pair, x, target, error, words):
    folder = tmp_path / "acts"
    with rt.ActivationWriter(folder) as writer:
        writer.add(*(part[:10] for part in pair))
        with pytest.raises(error, match=words) as caught:
            writer.add(x, target)
        assert "\n" not in str(caught.value)
        writer.add(np.ones((0, 4)), np.ones((0, 3)))
        writer.add(*(part[10:] for part in pair))
    for got, want in zip(rt.paired(folder), pair):
        assert_same_rows(got, want)


def test_a_full_disk_leaves_what_was_complete(tmp_path, pair, monkeypatch):
    folder = tmp_path / "acts"
    with rt.ActivationWriter(folder) as writer:
        writer.add(*(part[:10] for part in pair))
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", lambda descriptor: os.write(-1, b""))
            with pytest.raises(FileError, match="cannot be written"):
                writer.add(*(part[10:] for part in pair))
        assert len(writer) == 10
        assert len(rt.paired(folder)[0]) == 10
        writer.add(*(part[10:] for part in pair))
    assert_same_rows(rt.paired(folder)[0], pair[0])


def test_two_writers_of_one_folder_and_other_folders(tmp_path, array):
    pytest.importorskip("fcntl", reason="this system has no such lock")
    with rt.ActivationWriter(tmp_path / "acts") as writer:
        with pytest.raises(FileError, match="being written by another"):
            rt.ActivationWriter(tmp_path / "acts")
    with pytest.raises(OptionError, match="closed"):
        writer.add(np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(FileError, match="no complete batch"):
        with rt.ActivationWriter(tmp_path / "other") as writer:
            (tmp_path / "other" / "index.json").write_text(
                '{"format": "reftranscoder activations", "version": 1, "dtype": "float32", '
                '"widths": [1, 1], "shards": []}'
            )
            rt.paired(tmp_path / "other")
    (tmp_path / "mine" / "x").mkdir(parents=True)
    np.save(tmp_path / "mine" / "x" / "rows.npy", array)
    with pytest.raises(FileError, match="that no ActivationWriter wrote"):
        rt.ActivationWriter(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        rt.ActivationWriter(tmp_path / "file")
    for options in ({"dtype": "float64"}, {"shard_rows": 0}):
        with pytest.raises(OptionError):
            rt.ActivationWriter(tmp_path / "new", **options)


def altered(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_shard_that_is_not_what_was_written_is_named_before_training(tmp_path, pair):
    folder = write(tmp_path / "acts", *pair, shard_rows=10)
    altered(folder / "target" / "00001.npy")
    with pytest.raises(FileError, match=r"target/00001.npy: is damaged.*checksum"):
        rt.fit(folder, dict_size=8, top_k=2, steps=1)
    altered(folder / "target" / "00001.npy")
    shortened(folder / "x" / "00002.npy")
    with pytest.raises(FileError, match=r"x/00002.npy: is truncated"):
        rt.paired(folder)
    (folder / "x" / "00000.npy").unlink()
    with pytest.raises(FileError, match=r"x/00000.npy: there is no such file"):
        rt.paired(folder)


def test_an_index_that_makes_no_sense_gets_one_line(tmp_path, pair, rng):
    folder = write(tmp_path / "acts", *pair, shard_rows=10)
    index = folder / "index.json"
    whole = index.read_bytes()
    refusals = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), int(rng.integers(1, 4))):
            damaged[place] = int(rng.integers(32, 127))
        index.write_bytes(damaged[: int(rng.integers(1, len(whole) + 1))])
        try:
            for part in rt.paired(folder):
                part.check()
        except Error as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals > 250


KILLED = """
    import sys
    import numpy as np
    import reftranscoder as rt

    with rt.ActivationWriter(sys.argv[1], shard_rows=30) as writer:
        for n in range(len(writer) // 7, 10**6):
            writer.add(np.full((7, 3), n, "f4"), np.full((7, 2), -n, "f4"))
            print(n, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_every_complete_batch_survives_a_kill(tmp_path):
    folder, package = tmp_path / "acts", str(Path(rt.__file__).parent.parent)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(folder)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": package},
            text=True,
        )
        told = [int(process.stdout.readline()) for _ in range(9)]
        process.kill()
        told += [int(line) for line in process.communicate()[0].splitlines() if line.strip()]
        x, target = (part.read() for part in rt.paired(folder))
        batches = len(x) // 7
        # The last one may have become complete without being told.
        assert batches in (told[-1] + 1, told[-1] + 2)
        want = np.repeat(np.arange(batches), 7)
        assert (x == want[:, None]).all() and (target == -want[:, None]).all()
        assert len(x) == len(target) == 7 * batches


# One path of both.


def test_a_pair_in_one_place(tmp_path, pair):
    named = dict(zip(("x", "target"), pair))
    folder = fill_tensors(tmp_path / "tensors", **named)
    options = {"rows": "3:25", "sequence_length": 10, "drop_position": 0}
    for place in (folder, write(tmp_path / "acts", *pair)):
        for got, want in zip(rt.paired(place), pair):
            assert_same_rows(got, want)
        for got, want in zip(rt.paired(place, **options), pair):
            assert_same_rows(got, rt.Activations(want, **options).read())
    for got, want in zip(rt.paired(folder / "0.safetensors"), pair):
        assert np.array_equal(got.read(), want[:7].astype(np.float32))


def test_a_path_of_no_pair(tmp_path, array):
    folder = fill(tmp_path / "x only", array)
    for place in (folder, folder / "part-0.npy"):
        with pytest.raises(OptionError, match="^target must be given too, as .* holds no pair"):
            rt.paired(place)
    with pytest.raises(FileError, match="there is no such file"):
        rt.paired(tmp_path / "nowhere")
    with pytest.raises(DTypeError, match="target"):
        rt.paired(array)
