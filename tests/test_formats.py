"""Transcoders in files: bit for bit what was saved, and one clear line for any other file."""

import dataclasses
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import FileError
from reftranscoder.formats import FORMATS, load, save

SUFFIXES = [row.suffix for row in FORMATS]
D, I, O = 7, 3, 5


def build(rng, *, dtype="float32", skip=True, **options):
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,), "W_skip": (O, I)}
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    if not skip:
        del arrays["W_skip"]
    return rt.Transcoder.from_arrays(**arrays, **{"top_k": 4} | options)


@pytest.fixture
def tc(rng):
    return build(rng)


@pytest.fixture
def meta(tc):
    """The text in a file of ``tc``, as a dict to spoil."""
    config = dataclasses.asdict(tc.config)
    return {"format": "reftranscoder", "version": 1, "config": config}


def same(a, b):
    """Equal options, and arrays equal to the bit (minus zero is not zero) and of one dtype."""
    ours, theirs = a.params.arrays(), b.params.arrays()
    return (
        a.config == b.config
        and ours.keys() == theirs.keys()
        and all(
            array.dtype == theirs[name].dtype
            and array.shape == theirs[name].shape
            and array.tobytes() == theirs[name].tobytes()
            for name, array in ours.items()
        )
    )


def refused(path):
    """The one line that `load` refuses ``path`` with."""
    with pytest.raises(FileError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.endswith((".", '"', "reftranscoder", "pull", "gunzip"))
    assert "\n" not in line and ".." not in line.removeprefix(str(path)).replace("...", "")
    assert caught.value.path == str(path)
    return line


# What is saved comes back.


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".NPZ"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"ties": "keep_all"}])
def test_round_trip(rng, tmp_path, suffix, dtype, skip, options):
    tc = build(rng, dtype=dtype, skip=skip, **options)
    tc.save(tmp_path / f"model{suffix}")
    back = rt.load(str(tmp_path / f"model{suffix}"))
    assert same(back, tc)
    assert not back.params.W_enc.flags.writeable


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_special_numbers_keep_their_bits(tmp_path, suffix):
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    W = np.array([[-0.0, 0.0, tiny], [-tiny, huge, -huge]], np.float32)
    tc = rt.Transcoder.from_arrays(W_enc=W, b_enc=W[:, 0], W_dec=W, b_dec=W[0], top_k=2)
    save(tc, tmp_path / f"model{suffix}")
    assert same(load(tmp_path / f"model{suffix}"), tc)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_transcoders_give_equal_bytes(tc, tmp_path, suffix):
    again = rt.Transcoder.from_arrays(**tc.params.arrays(), top_k=4)
    save(tc, tmp_path / f"a{suffix}")
    save(again, tmp_path / f"b{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_longdouble_goes_into_npz_alone(tmp_path):
    wide = build(np.random.default_rng(0), dtype="longdouble")
    save(wide, tmp_path / "model.npz")
    assert load(tmp_path / "model.npz").params.dtype == np.longdouble
    if wide.params.dtype != np.float64:
        with pytest.raises(FileError, match="has no float.*Save it as .npz."):
            save(wide, tmp_path / "model.safetensors")
        assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_an_npz_is_plain_numpy_without_pickles(tc, tmp_path):
    save(tc, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["W_enc"], tc.params.W_enc)
        assert json.loads(str(archive["meta"]))["config"]["top_k"] == 4


def test_a_safetensors_file_is_one_to_others(tc, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    save(tc, tmp_path / "model.safetensors")
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert np.array_equal(file.get_tensor("W_dec"), tc.params.W_dec)
        assert json.loads(file.metadata()["meta"])["config"]["top_k"] == 4


# Half precision is widened, exactly: every finite number of 16 bits is tried.


def all_of(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return every[np.isfinite(every)]


def half_precision(tmp_path, dtype, suffix):
    values = all_of(dtype)
    W = values[: len(values) // 256 * 256].reshape(-1, 256)  # (D, I); 256 divides both counts
    assert W.size == values.size
    meta = {
        "format": "reftranscoder",
        "version": 1,
        "config": dataclasses.asdict(
            rt.TranscoderConfig(input_size=256, output_size=1, dict_size=len(W))
        ),
    }
    D = len(W)
    arrays = {
        "W_enc": W,
        "b_enc": np.zeros(D, dtype),
        "W_dec": np.zeros((D, 1), dtype),
        "b_dec": np.zeros(1, dtype),
    }
    path = tmp_path / f"half{suffix}"
    if suffix == ".npz":
        np.savez(path, meta=json.dumps(meta), **arrays)
    else:
        numpy = pytest.importorskip("safetensors.numpy")
        numpy.save_file(arrays, path, metadata={"meta": json.dumps(meta)})
    return values, load(path).params.W_enc.ravel()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_float16_is_widened(tmp_path, suffix):
    values, got = half_precision(tmp_path, np.float16, suffix)
    assert got.dtype == np.float32
    # By the standard library's own conversion, which is not NumPy's.
    want = struct.unpack(f"<{len(values)}e", values.astype("<f2").tobytes())
    assert got.tobytes() == np.array(want, np.float32).tobytes()


def test_bfloat16_is_widened(tmp_path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    values, got = half_precision(tmp_path, bfloat16, ".safetensors")
    assert got.dtype == np.float32
    # A bfloat16 is the upper half of a float32, by its definition.
    want = values.view(np.uint16).astype(np.uint32) << 16
    assert got.tobytes() == want.tobytes()


def test_numbers_of_the_other_byte_order(tc, meta, tmp_path):
    swapped = {name: a.astype(">f4") for name, a in tc.params.arrays().items()}
    np.savez(tmp_path / "model.npz", meta=json.dumps(meta), **swapped)
    assert same(load(tmp_path / "model.npz"), tc)


# Files that are not ours.


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_npy", ".npy"), content)
    return buffer.getvalue()


FOREIGN = {
    "text": (b"hello\n", "this is a file of unknown format"),
    "npy": (npy(np.zeros((2, 3))), "this is a NumPy .npy file"),
    "zip": (zipped(readme=b"hello"), "this is a zip archive"),
    "html": (b"<!DOCTYPE html>", "this is a web page.*Download the file itself"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer.*git lfs pull"),
    "pickle": (pickle.dumps([1.0]), "this is a Python pickle, which can run any code"),
    "torch": (
        zipped(archive__data=b"", **{"archive/data.pkl": b"", "archive/data/0": b""}),
        "cannot be read as PyTorch's: .*pickle",
    ),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_called_by_name(tmp_path, kind, suffix):
    path = tmp_path / f"model{suffix}"
    content, words = FOREIGN[kind]
    path.write_bytes(content)
    line = refused(path)
    assert re.search(words, line), line


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model", "model.npz"])
def test_a_torch_file_by_any_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FOREIGN["torch"][0])
    assert "cannot be read as PyTorch's" in refused(path)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pt", ""])
def test_missing_empty_and_folder(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    assert "there is no such file" in refused(path)
    path.touch()
    assert "is empty" in refused(path)
    path.unlink()
    path.mkdir()
    assert "is a folder" in refused(path)


@pytest.mark.parametrize("name", ["model.h5", "model", "model.npz.txt"])
def test_an_unknown_suffix(tc, tmp_path, name):
    path = tmp_path / name
    with pytest.raises(FileError, match="no format is known by the suffix.*.npz, .safetensors"):
        tc.save(path)
    assert not path.exists()
    path.write_bytes(b"hello")
    assert "no format is known by the suffix" in refused(path)


def test_each_of_our_formats_under_the_suffix_of_the_other(tc, tmp_path):
    pytest.importorskip("safetensors")
    save(tc, tmp_path / "a.npz")
    save(tc, tmp_path / "a.safetensors")
    (tmp_path / "a.npz").rename(tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / "b.npz")
    assert "Name it .npz." in refused(tmp_path / "b.safetensors")
    assert "Name it .safetensors." in refused(tmp_path / "b.npz")


def test_a_foreign_npz_names_what_is_missing(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(npz(weights=np.zeros(3), W_enc=np.zeros((2, 2))))
    line = refused(path)
    assert "it lacks meta, b_enc, W_dec, b_dec and holds W_enc, weights" in line
    path.write_bytes(npz())
    assert "this is a zip archive" in refused(path)


def test_arrays_without_meta_point_to_from_arrays(tc, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(npz(**tc.params.arrays()))
    assert "it lacks meta" in refused(path)
    assert "Transcoder.from_arrays" in refused(path)
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(dict(tc.params.arrays()), tmp_path / "model.safetensors")
    assert "it lacks meta" in refused(tmp_path / "model.safetensors")


class Bomb:
    """What runs when it is unpickled, and shows it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_nothing_that_a_file_holds_is_executed(tc, meta, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.npz"
    bomb = np.array([Bomb(marker)], object)
    contents = [
        npz(**tc.params.arrays() | {"W_enc": bomb}, meta=json.dumps(meta)),
        npz(**tc.params.arrays(), meta=bomb),
        zipped(W_enc_npy=pickle.dumps(Bomb(marker))),
        pickle.dumps(Bomb(marker)),
    ]
    for content in contents:
        path.write_bytes(content)
        refused(path)
        assert not marker.exists()
    pickle.loads(contents[-1])  # the bomb is live
    assert marker.exists()


def test_pickled_objects_in_an_npz(tc, meta, tmp_path):
    path = tmp_path / "model.npz"
    spoiled = tc.params.arrays() | {"W_dec": np.array([[0.5, None]])}
    path.write_bytes(npz(**spoiled, meta=json.dumps(meta)))
    assert "holds pickled objects, which could run any code" in refused(path)
    assert "allow_pickle=True" in refused(path)


# Files that say they are ours.


def rewrite(path, meta, arrays):
    """Write a file of ``path``'s format by other means than ours."""
    text = meta if isinstance(meta, str) else json.dumps(meta)
    if path.suffix == ".npz":
        np.savez(path, meta=text, **arrays)
    else:
        numpy = pytest.importorskip("safetensors.numpy")
        arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
        numpy.save_file(arrays, path, metadata={"meta": text})


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


def test_rewriting_itself_spoils_nothing(tc, meta, path):
    rewrite(path, meta, tc.params.arrays())
    assert same(load(path), tc)


def transposed(name):
    return lambda arrays: arrays | {name: arrays[name].T}


def with_entry(name, index, value):
    def spoil(arrays):
        array = arrays[name].copy()
        array[index] = value
        return arrays | {name: array}

    return spoil


def whole(name):
    return lambda arrays: arrays | {name: np.ones(arrays[name].shape, np.int64)}


def shortened(name):
    return lambda arrays: arrays | {name: arrays[name][:-1]}


SPOILED_ARRAYS = {
    "W_enc transposed": (transposed("W_enc"), r"W_enc must have shape .*transposed: pass W_enc.T"),
    "W_dec transposed": (transposed("W_dec"), r"W_dec must have shape .*\(7, 5\); got \(5, 7\)"),
    "W_skip transposed": (transposed("W_skip"), r"W_skip must .*transposed"),
    "b_enc short": (shortened("b_enc"), r"must have shape"),
    "b_dec short": (shortened("b_dec"), r"must have shape"),
    "W_dec short": (shortened("W_dec"), r"W_dec must have shape"),
    "nan": (
        with_entry("W_enc", (3, 1), np.nan),
        "W_enc must be finite; got nan at row 3, column 1",
    ),
    "inf": (with_entry("b_dec", 2, -np.inf), "b_dec must be finite; got -inf at index 2"),
    "whole numbers": (whole("W_enc"), "W_enc must hold .*it holds "),
    "a scalar": (lambda a: a | {"b_enc": np.array(1.0, np.float32)}, "b_enc must have shape"),
    "empty": (lambda a: a | {"b_dec": np.zeros(0, np.float32)}, "b_dec must have shape"),
    "float64": (lambda a: {k: v.astype(np.float64) for k, v in a.items()}, "dtype must be"),
    "no W_skip": (lambda a: {k: v for k, v in a.items() if k != "W_skip"}, "skip must be False"),
    "more": (lambda a: a | {"threshold": a["b_enc"]}, "no transcoder has: threshold"),
    "complex": (lambda a: a | {"b_enc": a["b_enc"].astype(np.complex64)}, "b_enc must hold"),
}


@pytest.mark.parametrize("spoil", SPOILED_ARRAYS)
def test_arrays_that_do_not_fit(tc, meta, path, spoil):
    change, words = SPOILED_ARRAYS[spoil]
    rewrite(path, meta, change(tc.params.arrays()))
    assert re.search(words, refused(path)), refused(path)


def changed(**options):
    return lambda meta: meta | {"config": meta["config"] | options}


def without_top_k(meta):
    return meta | {"config": {k: v for k, v in meta["config"].items() if k != "top_k"}}


SPOILED_META = {
    "not JSON": (lambda meta: "hello", "not what reftranscoder writes: 'hello'"),
    "a list": (lambda meta: "[1]", "not what reftranscoder writes"),
    "deep": (lambda meta: "[" * 100_000, "not what reftranscoder writes"),
    "empty": (lambda meta: "{}", "not what reftranscoder writes"),
    "another's": (lambda meta: meta | {"format": "pt"}, "not what reftranscoder writes"),
    "a later version": (
        lambda meta: meta | {"version": 2},
        "version 2, .* reads version 1.*Upgrade",
    ),
    "no version": (lambda meta: meta | {"version": None}, "version None"),
    "config a list": (lambda meta: meta | {"config": [1]}, "its config must hold"),
    "no top_k": (without_top_k, "its config must hold .*top_k"),
    "a later option": (changed(k_aux=5), "its config must hold .*k_aux"),
    "another input_size": (changed(input_size=4), "input_size must be 3"),
    "another output_size": (changed(output_size=4), "output_size must be 5"),
    "another dict_size": (changed(dict_size=8), "dict_size must be 7"),
    "another dtype": (changed(dtype="float64"), "dtype must be float32"),
    "no skip": (changed(skip=False), "skip must be True"),
    "skip a number": (changed(skip=1), "skip must be True or False"),
    "top_k 0": (changed(top_k=0), "top_k must be a positive integer; got 0"),
    "top_k too large": (changed(top_k=8), "top_k must be from 1 to dict_size = 7"),
    "top_k a float": (changed(top_k=4.0), "top_k must be a positive integer"),
    "top_k NaN": (changed(top_k=float("nan")), "top_k must be a positive integer"),
    "activation": (changed(activation="gelu"), "activation must be one of topk, relu"),
    "activation a list": (changed(activation=["topk"]), "activation must be one of"),
    "activation a dict": (changed(activation={"topk": 1}), "activation must be one of"),
    "ties": (changed(ties="random"), "ties must be one of"),
    "dtype a list": (changed(dtype=["f4"]), "dtype must be one of"),
    "dtype null": (changed(dtype=None), "dtype must be"),
}


@pytest.mark.parametrize("spoil", SPOILED_META)
def test_meta_that_is_not_ours(tc, meta, path, spoil):
    change, words = SPOILED_META[spoil]
    rewrite(path, change(meta), tc.params.arrays())
    assert re.search(words, refused(path)), refused(path)


def test_meta_that_is_no_text(tc, tmp_path):
    path = tmp_path / "model.npz"
    for meta in (np.zeros(3), np.array(["a", "b"]), np.array(b"{}")):
        path.write_bytes(npz(**tc.params.arrays(), meta=meta))
        assert "its meta must be a text" in refused(path)


def test_safetensors_of_numbers_that_we_do_not_read(tc, meta, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    float8 = pytest.importorskip("ml_dtypes").float8_e4m3fn
    path = tmp_path / "model.safetensors"
    arrays = tc.params.arrays() | {"W_enc": np.zeros((D, I), float8)}
    numpy.save_file(arrays, path, metadata={"meta": json.dumps(meta)})
    assert "W_enc must hold one of F64, F32, F16, BF16; it holds F8_E4M3" in refused(path)


# Damage: whatever the bytes, a transcoder or one line.


def attempt(path, content):
    """The transcoder in ``content``, or None where it was refused in one line."""
    path.write_bytes(content)
    with warnings.catch_warnings():
        # NumPy warns of headers as Python 2 wrote them.
        warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file", UserWarning)
        try:
            return load(path)
        except FileError as error:
            assert "\n" not in str(error)
            return None


def test_truncated_anywhere(tc, path):
    save(tc, path)
    content = path.read_bytes()
    for length in range(0, len(content), 5):
        assert attempt(path, content[:length]) is None, length
    assert same(attempt(path, content), tc)


def test_damaged_anywhere(tc, path, rng):
    save(tc, path)
    content = path.read_bytes()
    outcomes = set()
    for place in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        got = attempt(path, bytes(damaged))
        outcomes.add("refused" if got is None else "same" if same(got, tc) else "other")
    assert "refused" in outcomes
    # An archive holds a checksum of each array: what can be read is what was written.  (Its options
    # are in such an array too.)  A safetensors file of ours has its own.
    assert "other" not in outcomes


def test_random_bytes_behind_a_true_beginning(path, tc, rng):
    save(tc, path)
    beginning = path.read_bytes()[:40]
    for length in (0, 1, 10, 100, 1000):
        assert attempt(path, beginning + rng.bytes(length)) is None


# Writing.

FULL = """
import resource, sys
import reftranscoder as rt
tc = rt.build(input_size=20, output_size=20, dict_size=50, top_k=4)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    tc.save(sys.argv[1])
except rt.errors.Error as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def test_a_full_disk_leaves_the_earlier_model(tc, path):
    pytest.importorskip("resource")
    save(tc, path)
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{path}: cannot be written: File too large.\n"
    assert same(load(path), tc)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_existing_file_is_replaced_unless_told_otherwise(rng, path):
    first, second = build(rng), build(rng)
    first.save(path)
    with pytest.raises(FileError, match="exists already"):
        save(second, path, force=False)
    assert same(load(path), first)
    second.save(path)
    assert same(load(path), second)


def test_a_folder_that_is_not_there(tc, path):
    with pytest.raises(FileError, match="its folder does not exist"):
        tc.save(path.parent / "missing" / path.name)


def test_safetensors_not_installed(tc, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    line = r'needs the package safetensors, .*pip install "reftranscoder\[formats\]"'
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for use in (lambda: load(path), lambda: save(tc, path)):
        with pytest.raises(FileError, match=line) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_bfloat16_without_ml_dtypes(tc, meta, tmp_path, monkeypatch):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    path = tmp_path / "model.safetensors"
    rewrite(path, meta, {name: a.astype(bfloat16) for name, a in tc.params.arrays().items()})
    assert load(path).params.dtype == np.float32
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(FileError, match=r"needs the package ml_dtypes, .*reftranscoder\[formats\]"):
        load(path)


def test_every_row_of_the_table_has_its_module():
    for row in FORMATS:
        module = __import__(f"reftranscoder.formats.{row.module}", fromlist=["load", "save"])
        assert callable(module.load) and callable(module.save)
    assert len({row.suffix for row in FORMATS}) == len(FORMATS)
