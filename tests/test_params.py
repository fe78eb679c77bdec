"""Parameters are values: checked, owned, read-only, through pickle, copy and replace too."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from reftranscoder.errors import DTypeError, NonFiniteError, OptionError, ShapeError
from reftranscoder.params import Params, TranscoderConfig

D, I, O = 8, 3, 5


@pytest.fixture
def arrays(rng):
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,), "W_skip": (O, I)}
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def test_writing_to_what_was_given_changes_nothing(arrays):
    given = {name: a.copy() for name, a in arrays.items()}
    params = Params(**given)
    for a in given.values():
        a += 1
    for name, a in params.arrays().items():
        assert np.array_equal(a, arrays[name])


def test_writing_through_a_read_only_view_changes_nothing(arrays):
    view = arrays["W_enc"].view()
    view.flags.writeable = False
    before = view.copy()
    params = Params(**arrays | {"W_enc": view})
    arrays["W_enc"][:] = 0
    assert np.array_equal(params.W_enc, before)


@pytest.mark.parametrize(
    "made",
    [
        lambda p: p,
        lambda p: pickle.loads(pickle.dumps(p)),
        copy.copy,
        copy.deepcopy,
        lambda p: dataclasses.replace(p, b_enc=np.ones(D, np.float32)),
        lambda p: p.astype("float64"),
    ],
    ids=["new", "pickle", "copy", "deepcopy", "replace", "astype"],
)
def test_the_arrays_stay_read_only(arrays, made):
    for array in made(Params(**arrays)).arrays().values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_pickle_keeps_every_number(arrays):
    params = Params(**arrays)
    back = pickle.loads(pickle.dumps(params))
    assert all(np.array_equal(a, getattr(back, n)) for n, a in params.arrays().items())


def test_replacing_one_array_shares_the_others(arrays):
    params = Params(**arrays)
    other = dataclasses.replace(params, b_enc=np.ones(D, np.float32))
    assert np.shares_memory(other.W_enc, params.W_enc)
    assert not np.shares_memory(other.b_enc, params.b_enc)


def test_a_read_only_memory_map_is_shared_and_a_writable_one_is_not(arrays, tmp_path):
    np.save(tmp_path / "W.npy", arrays["W_enc"])
    for mode, shared in (("r", True), ("r+", False), ("c", False)):
        mapped = np.load(tmp_path / "W.npy", mmap_mode=mode)
        params = Params(**arrays | {"W_enc": mapped})
        assert np.shares_memory(params.W_enc, mapped) == shared, mode


def test_equality_is_identity_and_the_text_is_one_line(arrays):
    params = Params(**arrays)
    assert params == params and params != Params(**arrays) and len({params, params}) == 1
    assert "\n" not in repr(params) and "W_skip (5, 3)" in repr(params)


def test_the_widest_dtype_wins_and_half_precision_is_widened(arrays):
    assert Params(**{n: a.astype(np.float16) for n, a in arrays.items()}).dtype == np.float32
    assert Params(**arrays | {"W_dec": arrays["W_dec"].astype(np.float64)}).dtype == np.float64
    assert Params(**arrays | {"b_dec": [0.0] * O}).dtype == np.float32
    wide = Params(**arrays | {"W_dec": arrays["W_dec"].astype(np.longdouble)})
    assert wide.dtype == np.longdouble


def test_bfloat16_is_widened_exactly(arrays):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays come from ml_dtypes")
    rounded = arrays["W_dec"].astype(ml_dtypes.bfloat16)
    params = Params(**arrays | {"W_dec": rounded})
    assert params.dtype == np.float32
    assert np.array_equal(params.W_dec, rounded.astype(np.float32))


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "W_skip"])
def test_a_transposed_array_is_named_as_such(arrays, name):
    with pytest.raises(ShapeError, match=rf"^{name} must .* looks transposed: pass {name}\.T\.$"):
        Params(**arrays | {name: arrays[name].T})


@pytest.mark.parametrize(
    ("name", "array", "error", "text"),
    [
        ("b_enc", np.zeros((D, 1), np.float32), ShapeError, "1 axes"),
        ("W_enc", np.zeros((D, 0), np.float32), ShapeError, "empty axis"),
        ("W_dec", np.zeros((D + 1, O), np.float32), ShapeError, r"\(D, O\) = \(8, 5\); got \(9, 5"),
        ("W_dec", np.zeros((D, O), complex), DTypeError, "complex128. Pass its real part"),
        ("b_dec", np.array(list("abcde")), DTypeError, "text"),
        ("b_dec", np.array([None] * O), DTypeError, "reftranscoder.reference"),
        ("b_dec", np.full(O, np.nan, np.float32), NonFiniteError, "got nan at index 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(arrays, name, array, error, text):
    with pytest.raises(error, match=text) as caught:
        Params(**arrays | {name: array})
    assert "\n" not in str(caught.value) and str(caught.value).startswith(name)


def test_adopted_arrays_must_fit_each_other_too(arrays):
    with pytest.raises(ShapeError, match=r"^b_enc must have shape \(D,\) = \(8,\); got \(3,\)"):
        Params.adopt(**arrays | {"b_enc": np.zeros(3, np.float32)})


def test_a_number_too_large_for_the_new_dtype_is_refused(arrays):
    wide = Params(**arrays | {"b_enc": np.full(D, 1e39)})
    with pytest.raises(NonFiniteError, match="b_enc.*float64"):
        wide.astype("float32")


def test_relu_keeps_every_feature():
    config = TranscoderConfig(input_size=I, output_size=O, dict_size=D, activation="relu")
    assert config.top_k == D


@pytest.mark.parametrize("name", ["input_size", "output_size", "dict_size", "top_k"])
@pytest.mark.parametrize("value", [0, -1, True, 4.0, "4", None])
def test_a_size_is_a_positive_integer(name, value):
    sizes = {"input_size": I, "output_size": O, "dict_size": D, "top_k": 2}
    with pytest.raises(OptionError, match=f"^{name} must be a positive integer"):
        TranscoderConfig(**sizes | {name: value})


def test_a_numpy_integer_is_an_integer():
    assert type(TranscoderConfig(input_size=np.int64(3), output_size=1).input_size) is int


@pytest.mark.parametrize(
    ("option", "value"),
    [("top_k", D + 1), ("activation", "gelu"), ("ties", "highest"), ("dtype", "float16")]
    + [("dtype", "complex64"), ("dtype", ">f4"), ("dtype", "no"), ("skip", 1)],
)
def test_an_option_outside_its_range_is_refused(option, value):
    sizes = {"input_size": I, "output_size": O, "dict_size": D, "top_k": 2}
    with pytest.raises(OptionError, match=f"^{option} must be"):
        TranscoderConfig(**sizes | {option: value})


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_only_the_skip_connection_may_be_absent(arrays, name):
    with pytest.raises(DTypeError, match=f"^{name} must hold real"):
        Params(**arrays | {name: None})


def test_a_signalling_nan_is_refused_without_a_warning(arrays):
    signalling = np.full(O, 0x7F800001, np.uint32).view(np.float32)
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    with pytest.raises(NonFiniteError, match="b_dec must be finite; got nan at index 0"):
        Params(**wide | {"b_dec": signalling})
