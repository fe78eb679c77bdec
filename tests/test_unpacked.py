"""Weights that stay in their file: the bits of the loaded transcoder, and nothing else is done."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.errors import FileError, NonFiniteError, OptionError
from reftranscoder.files import mapped
from reftranscoder.kernels import stored_weights, streamed_encoder
from reftranscoder.params.unpacked import UnpackedParams

GOLDEN = Path(__file__).parent / "golden" / "formats"
#: The transcoders there that are of one layer.
SINGLE = sorted(
    path.parent.name
    for path in GOLDEN.glob("*/expect.npz")
    if "_clt" not in path.parent.name and path.parent.name != "torch"
)

I, D, O, K = 12, 200, 7, 5
DTYPES = {
    "float16": np.dtype("float16"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype("float32"),
    "float64": np.dtype("float64"),
}
ACTIVATIONS = ("topk", "relu", "batchtopk", "groupmax", "abstopk", "jumprelu", "gated")


@pytest.fixture(autouse=True)
def _many_stretches(monkeypatch):
    """42 features in a stretch, 29 rows of W_dec at a time, and a screen from 8 rows on."""
    monkeypatch.setattr(mapped, "_AT_ONCE", 512)
    monkeypatch.setattr(stored_weights, "_GATHERED_BYTES", 29 * O * 4)
    monkeypatch.setattr(streamed_encoder, "FEWEST_ROWS", 8)


def numbers(dtype="float16", activation="topk", **more):
    """The arrays of a transcoder and what else `from_arrays` takes: three of its features are
    equal, each in another stretch."""
    rng = np.random.default_rng(5)
    kind = DTYPES[dtype]
    wide = np.result_type(np.float32, np.float64 if dtype == "float64" else np.float32)
    W_enc, W_dec = (rng.standard_normal((D, n)).astype(kind) for n in (I, O))
    # Under relu and jumprelu few are active, as a screen needs it.
    b_enc = (rng.standard_normal(D) - (6 if activation == "relu" else 0.5)).astype(wide)
    W_enc[[17, 150]], b_enc[[17, 150]] = W_enc[3], b_enc[3]
    own = {
        "jumprelu": lambda: rt.JumpReLU((rng.standard_normal(D) + 4).astype(wide)),
        "gated": lambda: rt.Gated(*(rng.standard_normal(D).astype(wide) for _ in range(3))),
    }.get(activation, lambda: None)()
    b_dec = rng.standard_normal(O).astype(wide)
    given = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec, "own": own}
    return given | {"top_k": K, "activation": activation} | more


def in_file(path, array, turned=False):
    """``array`` as a read-only map of a file; ``turned`` is column by column."""
    np.ascontiguousarray(array.T if turned else array).tofile(path)
    shape = array.shape[::-1] if turned else array.shape
    made = np.memmap(path, array.dtype, "r", 0, shape)
    return made.T if turned else made


def both(tmp_path, given, turned=False):
    """The transcoder in memory, and the one whose weights are in files."""
    names = ("W_enc", "W_dec")
    files = {name: in_file(tmp_path / name, given[name], turned) for name in names}
    loaded = rt.Transcoder.from_arrays(**given)
    return loaded, rt.Transcoder.from_arrays(**given | files, pack=False)


def rows(B=40):
    x = np.random.default_rng(6).standard_normal((B, I))
    x[3] = 0
    return x


def assert_same_bits(one, other, x):
    hidden, theirs = one.encode(x), other.encode(x)
    assert hidden.dtype == theirs.dtype
    for name in ("indptr", "indices", "data"):
        assert getattr(hidden, name).tobytes() == getattr(theirs, name).tobytes(), name
    assert one.decode(hidden, x).tobytes() == other.decode(theirs, x).tobytes()
    assert one(x).tobytes() == other(x).tobytes()


@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_are_those_of_the_loaded_transcoder(tmp_path, dtype, activation, ties):
    loaded, unpacked = both(tmp_path, numbers(dtype, activation, ties=ties))
    assert unpacked.params.W_enc.dtype == DTYPES[dtype]
    assert unpacked.config == loaded.config
    for B in (40, 5, 0):  # by the screen, without it, and none
        assert_same_bits(loaded, unpacked, rows(B) if B else rows()[:0])


def test_columns_may_be_what_lies_together(tmp_path):
    loaded, unpacked = both(tmp_path, numbers("bfloat16"), turned=True)
    assert_same_bits(loaded, unpacked, rows())


@pytest.mark.parametrize("stretch", [1, 512, 10**6])
def test_no_bit_depends_on_how_features_are_divided(tmp_path, monkeypatch, stretch):
    monkeypatch.setattr(mapped, "_AT_ONCE", stretch)
    for activation in ("topk", "groupmax", "batchtopk"):
        loaded, unpacked = both(tmp_path, numbers("float16", activation))
        assert_same_bits(loaded, unpacked, rows())


@pytest.mark.parametrize("activation", ["topk", "relu", "batchtopk"])
def test_where_features_are_not_shuffled(tmp_path, activation):
    # The first stretches are never active, and then every feature beats those before it.
    given = numbers("float32", activation)
    given["b_enc"] = np.linspace(-60, 40, D, dtype=np.float32)
    loaded, unpacked = both(tmp_path, given)
    assert_same_bits(loaded, unpacked, rows())


def test_a_level_is_never_above_what_is_kept():
    kept = streamed_encoder.Kept(np.zeros((4, 1), np.float32), 2, "topk", "lowest_index")
    dense = [[1 + 2.0**-30, 3, 0], [5, 0, 0], [1e300, 2e300, 0], [np.nan, 4, 0]]
    kept.add(rt.Sparse.from_dense(np.array(dense)))
    assert kept.levels.tolist() == [1, 0, float(np.finfo(np.float32).max), 0]
    kept.add(rt.Sparse.from_dense(np.array([[2.0], [7.0], [1.0], [np.nan]])))
    assert kept.levels.tolist() == [2, 5, float(np.finfo(np.float32).max), 0]


def test_a_row_that_is_not_finite_is_as_ever(tmp_path):
    x = rows()
    x[5, 2], x[7, 0] = np.nan, np.inf
    for activation in ("topk", "jumprelu", "batchtopk"):
        loaded, unpacked = both(tmp_path, numbers("float16", activation))
        ours = unpacked.encode(x, check_finite=False)
        theirs = loaded.encode(x, check_finite=False)
        assert ours.indices.tobytes() == theirs.indices.tobytes()
        np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.kernels
@pytest.mark.parametrize("activation", ["topk", "relu", "batchtopk", "jumprelu", "groupmax"])
def test_with_and_without_a_screen(tmp_path, monkeypatch, activation):
    loaded, unpacked = both(tmp_path, numbers("float16", activation))
    assert_same_bits(loaded, unpacked, rows(9))
    screened = []
    of_rows = streamed_encoder.Encoder.of_rows
    monkeypatch.setattr(
        streamed_encoder.Encoder,
        "of_rows",
        lambda self, x, *a: screened.append(len(x)) or of_rows(self, x, *a),
    )
    unpacked.encode(rows(9))  # all stretches but the first
    assert screened == ([] if activation == "groupmax" else [9, 9, 9, 9])
    unpacked.encode(rows(4))
    assert screened.count(4) == 0
    assert_same_bits(loaded, unpacked, rows(4))


@pytest.mark.kernels
def test_rows_that_lie_the_other_way_are_copied(rng):
    W = rng.standard_normal((5, 7)).astype(np.float32).T
    got = stored_weights.widened(W, np.empty((7, 5), np.float32))
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, W)


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_needs_no_widening_is_read_where_it_is(tmp_path, dtype):
    given = numbers("float32")
    given |= {"b_enc": given["b_enc"].astype(dtype)}
    loaded, unpacked = both(tmp_path, given)
    assert unpacked.config.dtype == dtype
    assert_same_bits(loaded, unpacked, rows(9))


@pytest.mark.kernels
@pytest.mark.parametrize(
    "conventions",
    [
        {"rescale_acts_by_decoder_norm": True},
        {"normalize_activations": "layer_norm", "rescale_output": True},
    ],
    ids=["norms", "layer_norm"],
)
def test_under_conventions(tmp_path, conventions):
    given = numbers("bfloat16", conventions=rt.Conventions(**conventions))
    loaded, unpacked = both(tmp_path, given)
    assert_same_bits(loaded, unpacked, rows(9))


def test_the_reference_reads_them_too(tmp_path):
    loaded, unpacked = both(tmp_path, numbers())
    x = rows()
    ours, theirs = (tc(x, backend="reference") for tc in (unpacked, loaded))
    assert ours.tobytes() == theirs.tobytes()


def test_with_a_threshold_in_place_of_a_selection(tmp_path):
    loaded, unpacked = both(tmp_path, numbers("float16", "batchtopk"))
    changed = unpacked.with_threshold(0.5)
    assert isinstance(changed.params, UnpackedParams)
    assert_same_bits(loaded.with_threshold(0.5), changed, rows())


def test_it_is_evaluated(tmp_path):
    x = rows(64)
    target = np.random.default_rng(7).standard_normal((64, O))
    found = [rt.evaluate(tc, x, target, batch_rows=20) for tc in both(tmp_path, numbers())]
    assert found[0].metrics.fvu == found[1].metrics.fvu
    np.testing.assert_equal(found[0].published, found[1].published)


def test_arrays_in_memory_are_copied_in_their_own_dtype():
    given = numbers()
    unpacked = rt.Transcoder.from_arrays(**given, pack=False)
    loaded = rt.Transcoder.from_arrays(**given)
    given["W_enc"][:] = 0
    assert unpacked.params.W_enc.dtype == np.float16
    assert not unpacked.params.W_enc.flags.writeable
    assert_same_bits(loaded, unpacked, rows())


def test_a_dtype_that_holds_more_than_the_others_is_that_of_all():
    given = numbers("float32")
    given["W_dec"] = given["W_dec"].astype(np.float64)
    given |= {"W_enc": given["W_enc"].tolist()}  # a list has no dtype
    unpacked = rt.Transcoder.from_arrays(**given, pack=False)
    assert unpacked.config.dtype == "float64"
    assert_same_bits(rt.Transcoder.from_arrays(**given), unpacked, rows())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_our_own_files(tmp_path, suffix, activation):
    given = numbers("float32", activation)
    path = tmp_path / f"model{suffix}"
    rt.Transcoder.from_arrays(**given).save(path)
    unpacked, loaded = rt.load(path, pack=False), rt.load(path)
    assert mapped.read_only_map(unpacked.params.W_enc) is not None
    assert mapped.read_only_map(unpacked.params.W_dec) is not None
    assert unpacked.origin == loaded.origin
    assert_same_bits(loaded, unpacked, rows())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damage_is_found_when_it_is_loaded(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    rt.Transcoder.from_arrays(**numbers("float32")).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="is damaged: .*checksum"):
        rt.load(path, pack=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_our_own_file_in_half_precision(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    rt.Transcoder.from_arrays(**numbers("float32")).save(path)
    meta = json.loads(safe_open(path, "numpy").metadata()["meta"])
    del meta["crc32"]
    given = numbers(dtype)
    arrays = {n: a.astype(DTYPES[dtype]) for n, a in given.items() if isinstance(a, np.ndarray)}
    save_file(arrays, path, {"meta": json.dumps(meta)})
    unpacked = rt.load(path, pack=False)
    assert unpacked.params.W_dec.dtype == DTYPES[dtype]
    assert_same_bits(rt.load(path), unpacked, rows())


@pytest.mark.parametrize("name", SINGLE)
def test_files_of_other_libraries(name):
    told = {"top_k": 3} if name == "edifice" else {}
    loaded = rt.load(GOLDEN / name, **told)
    x = np.random.default_rng(8).standard_normal((20, loaded.config.input_size))
    try:
        unpacked = rt.load(GOLDEN / name, **told, pack=False)
    except FileError as refused:
        made = "is made of other arrays when it is read. Load it with pack=True."
        assert str(refused).endswith(made)
        assert name == "llama_scope-transcoder"
        return
    assert unpacked.origin == loaded.origin
    assert mapped.read_only_map(unpacked.params.W_enc) is not None
    assert_same_bits(loaded, unpacked, x)


def test_cross_layer_transcoders_are_refused(tmp_path):
    clt = rt.load(GOLDEN / "circuit_tracer_clt-relu")
    path = tmp_path / "model.npz"
    clt.save(path)
    for place in (path, GOLDEN / "circuit_tracer_clt-relu"):
        with pytest.raises(FileError, match="is a cross-layer transcoder, which pack=False does"):
            rt.load(place, pack=False)


def test_weights_of_another_type_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    rt.Transcoder.from_arrays(**numbers("float32")).save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"W_enc": arrays["W_enc"].astype(">f4")})
    wanted = "pack=False reads float16, bfloat16, float32, float64; its W_enc holds >f4"
    with pytest.raises(FileError, match=wanted):
        rt.load(path, pack=False)


@pytest.mark.parametrize("command", ["encode", "predict", "evaluate", "info"])
def test_on_the_command_line(tmp_path, capsys, monkeypatch, command):
    left_there = []
    made = UnpackedParams.__post_init__
    monkeypatch.setattr(UnpackedParams, "__post_init__", lambda self: left_there.append(made(self)))
    rt.Transcoder.from_arrays(**numbers("float32")).save(tmp_path / "model.npz")
    np.save(tmp_path / "x.npy", rows(64))
    np.save(tmp_path / "y.npy", rows(64)[:, :O])
    found = []
    for n, more in enumerate(([], ["--no-pack"])):
        argv = [command, str(tmp_path / "model.npz"), str(tmp_path / "x.npy")]
        out = tmp_path / f"{n}.{'npz' if command == 'encode' else 'npy'}"
        prints = command in ("evaluate", "info")
        argv += [str(tmp_path / "y.npy")] if prints else ["-o", str(out)]
        capsys.readouterr()
        assert cli.main([*argv, *more]) == 0
        assert len(left_there) == n
        found.append(capsys.readouterr().out if prints else out.read_bytes())
    assert found[0] == found[1]


def test_info_adds_up_the_norms_of_stretches(tmp_path, capsys):
    given = numbers("float32")
    rt.Transcoder.from_arrays(**given).save(tmp_path / "model.npz")
    assert cli.main(["info", str(tmp_path / "model.npz"), "--no-pack", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        wide, got = given[name].astype(np.float64), told["arrays"][name]
        assert (got["smallest"], got["largest"]) == (wide.min(), wide.max())
        # Either is within 1,202 units: at most 2,400 squares, added up, under a root.
        assert got["norm"] == pytest.approx(np.sqrt(np.square(wide).sum()), rel=2500 * 2.0**-53)
    for name in ("W_enc", "W_dec"):
        norms = np.linalg.norm(given[name].astype(np.float64), axis=1)
        assert told["features"][f"{name}_row_norms"] == np.quantile(norms, (0, 0.5, 1)).tolist()


def test_a_pickled_one_is_the_place_of_its_weights(tmp_path):
    loaded, unpacked = both(tmp_path, numbers("bfloat16"), turned=True)
    content = pickle.dumps(unpacked)
    assert len(content) < given_bytes(unpacked) / 2
    again = pickle.loads(content)
    assert_same_bits(loaded, again, rows())
    assert copy.deepcopy(unpacked).params is unpacked.params
    (tmp_path / "W_enc").write_bytes(b"short")
    with pytest.raises(FileError, match="is not here what it was"):
        pickle.loads(content)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_another_process_in_another_folder_reads_the_same_weights(tmp_path, monkeypatch, suffix):
    """A member of an archive, too, from a path that was relative here."""
    monkeypatch.chdir(tmp_path)
    rt.Transcoder.from_arrays(**numbers("float32")).save(f"model{suffix}")
    unpacked = rt.load(f"model{suffix}", pack=False)
    (tmp_path / "pickled").write_bytes(pickle.dumps(unpacked))
    np.save("x.npy", rows())
    (tmp_path / "other").mkdir()
    code = """
import pickle
import numpy as np

with open("../pickled", "rb") as file:
    hidden = pickle.load(file).encode(np.load("../x.npy"))
print(hidden.indices.tobytes().hex(), hidden.data.tobytes().hex())
"""
    run = [sys.executable, "-c", code]
    theirs = subprocess.run(run, cwd="other", capture_output=True, text=True, check=True).stdout
    hidden = unpacked.encode(rows())
    assert theirs.split() == [hidden.indices.tobytes().hex(), hidden.data.tobytes().hex()]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_that_is_another_by_then_is_not_read(tmp_path, suffix):
    """The copy here keeps the file that it has open, whatever has its name."""
    path = tmp_path / f"model{suffix}"
    given = numbers("float32")
    loaded = rt.Transcoder.from_arrays(**given)
    loaded.save(path)
    unpacked = rt.load(path, pack=False)
    before = pickle.dumps(unpacked)
    given["W_dec"] = np.roll(given["W_dec"], 1, axis=0)
    rt.Transcoder.from_arrays(**given).save(path)  # as long as it was
    for copied in (copy.copy(unpacked), copy.deepcopy(unpacked)):
        assert_same_bits(loaded, copied, rows())
    for content in (before, pickle.dumps(unpacked)):
        with pytest.raises(FileError, match="opened: other bytes are there. Have all") as refused:
            pickle.loads(content)
        assert "\n" not in str(refused.value)
    path.unlink()
    with pytest.raises(FileError, match="is not here what it was"):
        pickle.loads(before)


def given_bytes(tc):
    return tc.params.W_enc.nbytes + tc.params.W_dec.nbytes


def test_one_in_memory_is_pickled_whole():
    unpacked = rt.Transcoder.from_arrays(**numbers(), pack=False)
    assert_same_bits(unpacked, pickle.loads(pickle.dumps(unpacked)), rows())


@pytest.mark.parametrize(
    ("what", "do"),
    [
        ("gradients", lambda tc, x, path: tc.value_and_grad(x, x[:, :O])),
        ("gradients", lambda tc, x, path: tc.backward(x, x[:, :O])),
        ("dense results", lambda tc, x, path: tc.forward(x)),
        ("dense results", lambda tc, x, path: tc.stages(x)),
        ("folding", lambda tc, x, path: tc.folded()),
        ("saving", lambda tc, x, path: tc.save(path / "again.npz")),
        ("another dtype", lambda tc, x, path: tc.astype("float64")),
        ("an audit", lambda tc, x, path: rt.audit({}, tc, x)),
    ],
)
def test_what_needs_them_in_memory_is_refused(tmp_path, what, do):
    _, unpacked = both(tmp_path, numbers())
    wanted = f"pack must be True, for {what}; got False. Load it without pack=False."
    with pytest.raises(OptionError, match=re.escape(wanted)):
        do(unpacked, rows(), tmp_path)
    assert not (tmp_path / "again.npz").exists()
    assert unpacked.astype("float32") is unpacked


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_refused(tmp_path, dtype):
    given = numbers(dtype)
    given["W_enc"][170, 4] = np.nan
    files = {"W_enc": in_file(tmp_path / "W_enc", given["W_enc"])}
    with pytest.raises(NonFiniteError, match="W_enc must be finite; got nan at row 170, column 4"):
        rt.Transcoder.from_arrays(**given | files, pack=False)


def test_a_map_that_can_be_written_to_is_copied(tmp_path):
    given = numbers()
    path = tmp_path / "W_enc"
    given["W_enc"].tofile(path)
    writable = np.memmap(path, np.float16, "r+", 0, (D, I))
    unpacked = rt.Transcoder.from_arrays(**given | {"W_enc": writable}, pack=False)
    loaded = rt.Transcoder.from_arrays(**given)
    writable[:] = 0
    assert_same_bits(loaded, unpacked, rows())


def test_pack_is_true_or_false(tmp_path):
    with pytest.raises(OptionError, match="pack must be True or False"):
        rt.Transcoder.from_arrays(**numbers(), pack=0)
    with pytest.raises(OptionError, match="pack must be True or False"):
        rt.load(tmp_path / "model.npz", pack="no")


@pytest.mark.parametrize(("ties", "stay"), [("lowest_index", [0, 3]), ("keep_all", [0, 3, 4])])
def test_ties_between_stretches(ties, stay):
    kept = streamed_encoder.Kept(np.zeros((1, 1), np.float32), 2, "topk", ties)
    kept.add(rt.Sparse.from_dense(np.array([[5.0, 0, 1]])))
    kept.add(rt.Sparse.from_dense(np.array([[2.0, 2.0, 0]])))
    assert kept.hidden().indices.tolist() == stay
