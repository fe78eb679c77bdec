"""Rows of a file are the rows that NumPy reads, and a file that will not do gets one clear line."""

import io
import json
import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reftranscoder.activations import Activations, paired
from reftranscoder.errors import (
    DTypeError,
    Error,
    FileError,
    NonFiniteError,
    OptionError,
    ShapeError,
)

N, I = 30, 4


@pytest.fixture
def array(rng):
    return rng.standard_normal((N, I)).astype(np.float16)


@pytest.fixture
def path(tmp_path, array):
    path = tmp_path / "x.npy"
    np.save(path, array)
    return path


def refused(kind, *arguments, **options):
    """The one line that `Activations` refuses these arguments with."""
    with pytest.raises(kind) as caught:
        Activations(*arguments, **options)
    line = str(caught.value)
    assert isinstance(caught.value, Error)
    assert "\n" not in line
    return line


# What is read.


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "longdouble"])
def test_a_file_of_each_float_type_is_read_as_float32(tmp_path, array, dtype):
    np.save(tmp_path / "x.npy", array.astype(dtype))
    a = Activations(tmp_path / "x.npy")
    got = a.read()
    assert got.dtype == np.float32 and got.flags.c_contiguous
    assert np.array_equal(got, array.astype(np.float32))
    assert (len(a), a.shape, a.dtype) == (N, (N, I), np.float32)


def test_float16_is_widened_exactly(tmp_path):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = every[np.isfinite(every)]
    np.save(tmp_path / "x.npy", values.reshape(-1, 256))
    got = Activations(tmp_path / "x.npy").read()
    # By the standard library's own conversion, which is not NumPy's.
    want = struct.unpack(f"<{len(values)}e", values.astype("<f2").tobytes())
    assert got.tobytes() == np.array(want, np.float32).tobytes()


def test_bfloat16_is_widened_exactly(tmp_path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[bits & 0x7F80 != 0x7F80]  # an exponent of ones: infinity or NaN
    np.save(tmp_path / "x.npy", bits.view(bfloat16).reshape(-1, 256))
    got = Activations(tmp_path / "x.npy").read()
    # A bfloat16 is the upper half of a float32, by its definition.
    assert got.tobytes() == (bits.astype(np.uint32) << 16).tobytes()


def test_float64_rows_keep_every_bit_where_asked(tmp_path, rng):
    wide = rng.standard_normal((N, I))
    np.save(tmp_path / "x.npy", wide)
    assert np.array_equal(Activations(tmp_path / "x.npy", dtype="float64").read(), wide)
    assert np.array_equal(Activations(wide, dtype="float64").read(), wide)


@st.composite
def selections(draw):
    count = draw(st.integers(1, 40))
    first = draw(st.integers(0, count - 1))
    last = draw(st.integers(first + 1, count))
    length = draw(st.one_of(st.none(), st.integers(2, 45)))
    position = None if length is None else draw(st.integers(0, length - 1))
    return count, first, last, length, position


@given(selections(), st.integers(1, 50))
def test_the_rows_are_those_of_the_range_without_the_dropped_position(selection, size):
    count, first, last, length, position = selection
    # Row r holds r: what is returned says where it came from.
    array = np.arange(count, dtype=np.float32)[:, None]
    want = [r for r in range(first, last) if length is None or r % length != position]
    options = {"rows": f"{first}:{last}", "sequence_length": length, "drop_position": position}
    if not want:
        with pytest.raises(OptionError, match="rows"):
            Activations(array, **options)
        return
    a = Activations(array, **options)
    assert a.shape == (len(want), 1)
    assert a.read().ravel().tolist() == want
    assert np.concatenate(list(a.blocks(size))).ravel().tolist() == want
    assert all(len(block) == size for block in list(a.blocks(size))[:-1])
    indices = [0, len(want) - 1, -1, -len(want), len(want) // 2, 0]
    assert a.rows(indices).ravel().tolist() == [want[i] for i in indices]
    assert a.place(indices).tolist() == [want[i] for i in indices]
    start = len(want) // 3
    part = a.part(start, len(want))
    assert part.read().ravel().tolist() == want[start:]
    for outside in (len(want), -len(want) - 1):
        with pytest.raises(IndexError):
            a.rows([0, outside])


def test_a_part_does_not_reach_beyond_itself(path, array):
    part = Activations(path).part(5, 10)
    assert np.array_equal(part.part(1, 3).read(), array[6:8].astype(np.float32))
    with pytest.raises(IndexError, match="outside its 5 rows"):
        part.rows([5])
    for start, stop in ((0, 6), (-1, 2), (3, 3), (4, 2)):
        with pytest.raises(OptionError):
            part.part(start, stop)


@pytest.mark.parametrize(
    "rows, want",
    [
        ("3:7", slice(3, 7)),
        (" 3 : 7 ", slice(3, 7)),
        ("3:", slice(3, None)),
        (":7", slice(None, 7)),
        (":", slice(None)),
        ("-5:", slice(-5, None)),
        (":-5", slice(None, -5)),
        (slice(3, 7), slice(3, 7)),
        (None, slice(None)),
    ],
)
def test_rows_are_a_slice(path, array, rows, want):
    assert np.array_equal(Activations(path, rows=rows).read(), array[want].astype(np.float32))


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "3",
        "a:b",
        "3:3",
        "7:3",
        "0:31",
        "30:31",
        "-31:",
        "0:10:2",
        "1.0:2",
        (0, 3),
        slice(0, 9, 2),
    ],
)
def test_rows_that_are_no_range_of_the_file(path, rows):
    line = refused(OptionError, path, rows=rows)
    assert line.startswith(f"rows must be 'A:B', a range within the 30 rows of {path}; got ")


@pytest.mark.parametrize(
    "options, name",
    [
        ({"sequence_length": 10}, "drop_position"),
        ({"drop_position": 0}, "sequence_length"),
        ({"sequence_length": 0, "drop_position": 0}, "sequence_length"),
        ({"sequence_length": 1, "drop_position": 0}, "sequence_length"),
        ({"sequence_length": 1.5, "drop_position": 0}, "sequence_length"),
        ({"sequence_length": 10, "drop_position": 10}, "drop_position"),
        ({"sequence_length": 10, "drop_position": -1}, "drop_position"),
        ({"sequence_length": 10, "drop_position": True}, "drop_position"),
        ({"dtype": "float16"}, "dtype"),
        ({"dtype": "int32"}, "dtype"),
    ],
)
def test_options_that_make_no_sense(path, options, name):
    assert refused(OptionError, path, **options).startswith(f"{name} must be ")


@pytest.mark.parametrize("indices", [[0.0], [True], [[0]], ["0"]])
def test_indices_are_whole_numbers_in_one_axis(path, indices):
    with pytest.raises(IndexError, match="whole numbers in one axis"):
        Activations(path).rows(indices)


def test_no_indices_give_no_rows(path):
    assert Activations(path).rows([]).shape == (0, I)


def test_what_is_returned_is_the_callers_own(array):
    array = array.astype(np.float32)
    a = Activations(array)
    for got in (a.rows([0, 1]), a.read(), next(a.blocks())):
        got[:] = 0
    assert np.array_equal(a.read(), array)


def test_a_file_is_read_a_block_at_a_time(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((20_000, 500), np.float16))  # 20 MB
    tracemalloc.start()
    try:
        a = Activations(path)
        a.rows(np.arange(0, 20_000, 1000))
        few = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        for _ in a.blocks(1000):
            pass
        many = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Twenty rows are 40 kB as float32; of a block of 1000, 1 MB as float16 and 2 MB as float32,
    # there may be two at once, and its mask of 0.5 MB.
    assert few < 1_000_000
    assert many < 8_000_000


def test_a_file_is_not_written_to(path):
    before = path.read_bytes()
    a = Activations(path)
    a.read()[:] = 0
    assert path.read_bytes() == before


# In memory.


def test_arrays_lists_and_views(array):
    wide = array.astype(np.float64)
    views = [wide, wide.tolist(), np.asfortranarray(wide), wide[::-1][::-1], wide.astype(">f8")]
    for view in views:
        got = Activations(view).rows([3, 0])
        assert got.flags.c_contiguous
        assert np.array_equal(got, array[[3, 0]].astype(np.float32))


def test_a_name_for_messages(array):
    array[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match="^x must be finite"):
        Activations(array, "x").check()
    with pytest.raises(NonFiniteError, match="^activations must be finite"):
        Activations(array).check()


# Numbers that are not finite.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_first_offender_is_named_by_its_place_in_the_file(tmp_path, array, dtype, bad):
    array = array.astype(dtype)
    array[17, 2] = array[17, 3] = array[23, 0] = bad
    np.save(tmp_path / "x.npy", array)
    a = Activations(tmp_path / "x.npy", rows="6:30", sequence_length=6, drop_position=0)
    for read in (a.check, a.read, lambda: list(a.blocks(4)), lambda: a.rows(np.arange(len(a)))):
        with pytest.raises(NonFiniteError) as caught:
            read()
        assert caught.value.index == (17, 2)
        line = f"{a.name} must be finite; got {bad} at row 17, column 2. Leave such rows out."
        assert str(caught.value) == line
    # 17 is index 9: rows 6, 12 and 18 are dropped.
    assert np.isfinite(a.rows([0, 8, 10])).all()
    Activations(tmp_path / "x.npy", rows="0:17").check()


def test_rows_that_are_left_out_may_hold_anything(tmp_path, array):
    array[::10] = np.nan
    np.save(tmp_path / "x.npy", array)
    Activations(tmp_path / "x.npy", sequence_length=10, drop_position=0).check()


def test_without_the_check_they_are_handed_on(tmp_path, array):
    array[3, 1] = np.nan
    np.save(tmp_path / "x.npy", array)
    got = Activations(tmp_path / "x.npy", check_finite=False).read()
    assert np.argwhere(np.isnan(got)).tolist() == [[3, 1]]


def test_a_number_too_large_for_the_type_asked_for(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0], [3.0, 1e300]]))
    with pytest.raises(
        NonFiniteError, match=r"1e\+300 at row 1, column 1. It is too large for float32"
    ):
        Activations(tmp_path / "x.npy").check()
    Activations(tmp_path / "x.npy", dtype="float64").check()


def test_bfloat16_that_is_not_finite(tmp_path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    np.save(tmp_path / "x.npy", np.array([[1, 2], [np.inf, 3]], bfloat16))
    with pytest.raises(NonFiniteError, match="got inf at row 1, column 0"):
        Activations(tmp_path / "x.npy").check()


# Files that will not do.


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def header(text):
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


ROWS = np.ones((6, 4), np.float32)
WHOLE = npy(ROWS)
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"1.0 2.0\n", "this is a file of unknown format, not a NumPy .npy file"),
    "csv": (b"\xff\xfe1,2", "this is a file of unknown format"),
    "npz": (zipped("x.npy"), "a NumPy .npz archive, not.*np.save"),
    "torch": (zipped("x/data.pkl"), "a PyTorch pickle, not.*weights_only=True"),
    "pickle": (pickle.dumps(ROWS), "a Python pickle, not.*could run any code"),
    "safetensors": ((2).to_bytes(8, "little") + b"{}", "holds 0 tensors"),
    "pickled npy": (
        npy(np.array([[0.5, None]]), allow_pickle=True),
        "holds pickled objects, which could run any code.*allow_pickle=True",
    ),
    "no header": (WHOLE[:8], "its header makes no sense"),
    "half a header": (WHOLE[:60], "its header makes no sense"),
    "a later version": (b"\x93NUMPY\x09\x00" + WHOLE[8:], "its header makes no sense"),
    "nonsense": (header("hello"), "its header makes no sense"),
    "code": (header("__import__('os').abort()"), "its header makes no sense"),
    "no numbers": (WHOLE[:128], "is truncated: 224 bytes by its header, and it has 128"),
    "half": (WHOLE[:-1], "is truncated: 224 bytes by its header, and it has 223"),
    "two arrays": (WHOLE + WHOLE, "goes on after its array: 224 bytes .* and it has 448"),
    "huge": (
        header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**61}, 4)}}"),
        "is truncated",
    ),
    "negative": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6, -4)}") + ROWS.tobytes(),
        "must have shape",
    ),
    "Fortran": (npy(np.asfortranarray(ROWS)), r"Fortran order.*np.ascontiguousarray\(x\)"),
    "transposed": (npy(ROWS.T), "Fortran order"),
    "complex": (npy(ROWS.astype("c8")), "real floating-point numbers; got dtype complex64"),
    "text array": (npy(ROWS.astype(str)), "real floating-point numbers; got dtype <U"),
    "bytes": (npy(ROWS.astype("S3")), "real floating-point numbers; got dtype"),
    "whole numbers": (npy(ROWS.astype("i8")), r"got dtype int64. Save it as float32: np.save"),
    "uint16": (npy(ROWS.astype("u2")), "got dtype uint16"),
    "bool": (npy(ROWS.astype(bool)), "got dtype bool"),
    "times": (npy(ROWS.astype("i8").astype("M8[s]")), "got dtype datetime64"),
    "records": (npy(np.zeros((6, 4), [("a", "f4"), ("b", "f4")])), "got dtype"),
    "one axis": (npy(ROWS[0]), r"must have shape .*got \(4,\). One row: x\[None, :\]"),
    "three axes": (npy(ROWS[None]), r"got \(1, 6, 4\). Join sequences: x.reshape"),
    "a scalar": (npy(np.float32(1)), r"must have shape .*got \(\)"),
    "no rows": (npy(ROWS[:0]), r"without an empty axis; got \(0, 4\)"),
    "no columns": (npy(ROWS[:, :0]), r"without an empty axis; got \(6, 0\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_one_line(tmp_path, kind):
    path = tmp_path / "x.npy"
    content, words = BAD[kind]
    path.write_bytes(content)
    with pytest.raises((FileError, DTypeError, ShapeError), match=words) as caught:
        Activations(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_whole_file_is_good(tmp_path):
    (tmp_path / "x.npy").write_bytes(WHOLE)
    assert np.array_equal(Activations(tmp_path / "x.npy").read(), ROWS)


def test_missing_and_folder(tmp_path):
    assert "there is no such file" in refused(FileError, tmp_path / "missing.npy")
    assert "is a folder that holds no shard" in refused(FileError, tmp_path)
    assert "there is no such file" in refused(FileError, "missing.npy")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_nothing_that_a_file_holds_is_executed(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "x.npy"
    bomb = np.array([[Bomb(marker)]], object)
    for content in (npy(bomb, allow_pickle=True), pickle.dumps(Bomb(marker))):
        path.write_bytes(content)
        refused(FileError, path)
        assert not marker.exists()
    pickle.loads(content)  # the bomb is live
    assert marker.exists()


def test_a_damaged_header_gives_rows_or_one_line(tmp_path, rng):
    path = tmp_path / "x.npy"
    refusals = 0
    for place in range(128):
        for _ in range(3):
            damaged = bytearray(WHOLE)
            damaged[place] = int(rng.integers(256))
            path.write_bytes(damaged)
            with warnings.catch_warnings():
                # NumPy warns of headers as Python 2 wrote them.
                warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file", UserWarning)
                try:
                    Activations(path, check_finite=False).read()
                except Error as error:
                    assert "\n" not in str(error)
                    refusals += 1
    assert refusals > 100


@pytest.mark.parametrize(
    "bad, kind",
    [
        (np.ones((6, 4), complex), DTypeError),
        ([["a", "b"]], DTypeError),
        ([[1.0], [1.0, 2.0]], DTypeError),
        (np.array([[None]]), DTypeError),
        (np.ones(4), ShapeError),
        (np.ones((2, 3, 4)), ShapeError),
        (np.ones((0, 4)), ShapeError),
        (3.0, ShapeError),
        (None, DTypeError),
    ],
)
def test_a_bad_array_gets_one_line(bad, kind):
    assert refused(kind, bad, "x").startswith("x must ")


# Pairs.


def test_a_pair_takes_the_same_options(tmp_path, path, array):
    target = np.arange(N, dtype=np.float64)[:, None]
    options = {"rows": "10:30", "sequence_length": 10, "drop_position": 0}
    x, y = paired(path, target, **options)
    want = [r for r in range(10, 30) if r % 10]
    assert y.read().ravel().tolist() == want
    assert np.array_equal(x.read(), array[want].astype(np.float32))
    assert (x.name, y.name) == (str(path), "target")
    assert paired(x, y) == (x, y)


@pytest.mark.parametrize("rows", [None, "0:20"])
def test_a_pair_whose_rows_do_not_pair_up(tmp_path, path, rows):
    # With a range too, even one that lies within both: shifted files would pair up wrongly.
    np.save(tmp_path / "y.npy", np.zeros((N - 1, 2), np.float32))
    line = rf"\(30, 2\); got \(29, 2\). Its rows must pair up with the 30 of {path}"
    with pytest.raises(ShapeError, match=line):
        paired(path, tmp_path / "y.npy", rows=rows)


def test_a_part_pairs_with_an_array_of_its_length(path, array):
    x, y = paired(Activations(path, rows="5:10"), np.zeros((5, 2)))
    assert len(x) == len(y) == 5
    with pytest.raises(ShapeError, match="target must have shape"):
        paired(Activations(path, rows="5:10"), np.zeros((N, 2)))


def test_a_transposed_target_is_refused(array):
    with pytest.raises(ShapeError, match="target must have shape"):
        paired(array, array.T)


def test_json_and_repr_say_what_it_is(path):
    assert repr(Activations(path)) == f"Activations({str(path)!r}, 30 x 4, float32)"
    assert json.dumps(Activations(path).shape) == "[30, 4]"
