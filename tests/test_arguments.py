"""Whatever is passed to a public function, it is taken or refused in one line of ours."""

from __future__ import annotations

import datetime
import decimal
import fractions
import importlib.util
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

import reftranscoder as rt
from reftranscoder import metrics
from reftranscoder.errors import DTypeError, Error, OptionError, ShapeError

I, D, O, B = 6, 8, 5, 4
SIZES = {"input_size": I, "output_size": O, "dict_size": D, "top_k": 2}
WEIGHTS = {
    "W_enc": np.ones((D, I)),
    "b_enc": np.ones(D),
    "W_dec": np.ones((D, O)),
    "b_dec": np.ones(O),
}
X = np.random.default_rng(0).standard_normal((B, I)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((B, O)).astype(np.float32)
FIT = {"x": X, "target": Y, "dict_size": D, "top_k": 2, "steps": 2, "batch_size": 2}
FIT |= {"backend": "reference", "log_every": 1}


class Hostile:
    """Raises whatever it is asked."""

    def raises(self, *args, **options):
        raise RuntimeError("no")

    __repr__ = __array__ = __index__ = __float__ = __fspath__ = __len__ = __eq__ = raises
    __hash__ = object.__hash__


class Huge:
    def __index__(self):
        return 10**400


def values() -> dict[str, object]:
    """What Python and NumPy have, by name."""
    recursive: list = []
    recursive.append(recursive)
    bad = sparse.csr_array(np.eye(B, I))
    bad.indices[:] = 99
    found = {
        repr(v): v for v in (None, True, 0, -1, 1, 3, 1.5, -0.0, 1e308, 10**12, 10**400,
                             "hello", b"x", [], {}, 1j, int)
    }  # fmt: skip
    found |= {
        "5000 digits": 10**5000,
        "nan": float("nan"),
        "inf": float("inf"),
        "long": "x" * 10_000,
        "control": "a\n\x1b[31m",
        "ragged": [[1, 2], [3]],
        "recursive": recursive,
        "set": {1},
        "object": object(),
        "hostile": Hostile(),
        "huge": Huge(),
        "fraction": fractions.Fraction(1, 3),
        "decimal": decimal.Decimal("1.5"),
        "date": datetime.date(2026, 1, 1),
        "generator": (n for n in range(3)),
        "empty": np.zeros(0),
        "no rows": np.zeros((0, I)),
        "nothing": np.zeros((0, 0)),
        "masked": np.ma.masked_all((B, I)),
        "three axes": np.ones((1, B, I)),
        "transposed": np.ones((I, B)),
        "one number": np.broadcast_to(np.float32(1), (B, I)),
        "numbers too large": [[10**400] * I] * B,
        "well-formed": sparse.csr_array(np.eye(B, I)),
        "coo": sparse.coo_array(np.eye(B, I)),
        "dok": sparse.dok_array((B, I)),
        "complex sparse": sparse.csr_array(np.eye(B, I) * 1j),
        "one axis sparse": sparse.coo_array(np.ones(I)),
        "malformed": bad,
    }
    for fill in (np.nan, np.inf, 1e300):
        found[f"full of {fill}"] = np.full((B, I), fill)
    for dtype in "? i1 u8 f2 f4 f8 g F D O U3 S3 M8[s] V2".split():
        found[f"dtype {dtype}"] = np.zeros((B, I), dtype)
    found["records"] = np.zeros((B, I), [("a", "f4")])
    if importlib.util.find_spec("ml_dtypes"):
        import ml_dtypes

        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"):
            found[name] = np.ones((B, I)).astype(getattr(ml_dtypes, name))
    return found


def tensors() -> dict[str, object]:
    """What torch has, if it is installed."""
    if not importlib.util.find_spec("torch"):
        return {}
    import torch

    ones = torch.ones(B, I)
    found = {
        "requires grad": torch.ones(B, I, requires_grad=True),
        "list that requires grad": [torch.ones(I, requires_grad=True)] * B,
        "list of bfloat16": [torch.ones(I, dtype=torch.bfloat16)] * B,
        "meta": torch.ones(B, I, device="meta"),
        "conjugate": (ones + 0j).conj(),
        "negative": (ones + 1j * ones).conj().imag,
        "scalar": torch.tensor(1.0),
    }
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "bool", "int32", "complex64"):
        found[f"torch.{name}"] = ones.to(getattr(torch, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch calls a prototype
        found["quantised"] = torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8)
        found["nested"] = torch.nested.nested_tensor([torch.ones(I)] * B)
        found |= {f"torch {n}": getattr(ones, f"to_sparse{n}")() for n in ("", "_csr", "_csc")}
        found["hybrid"] = torch.ones(B, I, 2).to_sparse(2)
    return found


VALUES = values() | tensors()


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Every argument of every public function, by name: a function of the value it gets."""
    tc = rt.build(**SIZES)
    stages = tc.stages(X, Y)
    folder = tmp_path_factory.mktemp("calls")

    def gradients(params, x, target):
        return rt.Transcoder(tc.config, params).value_and_grad(x, target, backend="reference")

    def evaluate(**given):
        evaluation = metrics.Evaluation(given.pop("mean", None))
        evaluation.add(**{"target": Y, "reconstruction": Y} | given)
        return evaluation.result()

    plain = {"name": "a", "inputs": "float32", "accumulator": "float32", "store": "float32"}
    functions = {
        "build": (rt.build, SIZES, (*SIZES, "activation", "skip", "ties", "dtype", "seed")),
        "output_size": (rt.output_size, SIZES, (*SIZES, "activation", "skip", "ties", "dtype")),
        "config": (rt.TranscoderConfig, SIZES, (*SIZES, "activation", "skip", "ties", "dtype")),
        "loss": (
            rt.loss,
            {"target": Y, "reconstruction": Y, "hidden_acts": stages["hidden"]}
            | {"l1_coeff": 0, "backend": "reference"},
            ("target", "reconstruction", "hidden_acts", "l1_coeff", "backend"),
        ),
        "from_arrays": (
            rt.Transcoder.from_arrays,
            WEIGHTS | {"top_k": 2},
            (*WEIGHTS, "W_skip", "top_k", "activation", "ties"),
        ),
        "Params": (rt.Params, WEIGHTS, (*WEIGHTS, "W_skip")),
        "Transcoder": (
            rt.Transcoder,
            {"config": tc.config, "params": tc.params},
            ("config", "params"),
        ),
        "Activations": (
            rt.Activations,
            {"source": X},
            ("source", "name", "rows", "sequence_length", "dtype", "check_finite"),
        ),
        "fvu": (
            metrics.fvu,
            {"target": Y, "reconstruction": Y},
            ("target", "reconstruction", "mean"),
        ),
        "evaluate": (evaluate, {}, ("hidden", "mean")),
        "fit": (
            rt.fit,
            FIT,
            (*(n for n in FIT if n != "steps"), "activation", "ties", "skip", "dtype", "lr")
            + ("warmup", "decay", "l1_coeff", "unit_norm_decoder", "beta1", "beta2", "eps")
            + ("validation", "seed", "checkpoint_every"),
        ),
        "check_gradient": (
            rt.check_gradient,
            {"fn": gradients, "config": tc.config, "params": tc.params, "x": X, "target": Y},
            ("config", "params", "x", "target", "l1_coeff", "step", "arithmetic", "seed"),
        ),
        "audit": (
            rt.audit,
            {"candidate": {"pre": stages["pre"]}, "tc": tc, "x": X, "target": Y},
            ("candidate", "tc", "x", "target", "l1_coeff", "arithmetic", "conventions"),
        ),
        "Arithmetic": (rt.Arithmetic, plain, (*plain, "truncating", "depth", "flushing")),
    }
    found = {}
    for name, (function, options, arguments) in functions.items():
        for argument in arguments:
            found[f"{name} {argument}"] = lambda value, f=function, o=options, a=argument: f(
                **o | {a: value}
            )
    for name in ("encode", "decode", "forward", "stages"):
        method = getattr(tc, name)
        found[f"{name} first"] = lambda value, f=method: f(value, backend="reference")
    for name in stages:
        found[f"audit of {name}"] = lambda value, n=name: rt.audit({n: value}, tc, X, Y)
    pair = {"indices": np.zeros((B, 1), int), "values": np.zeros((B, 1))}
    for name in ("indices", "values", "refused"):
        found[f"audit of {name}"] = lambda value, n=name: rt.audit(pair | {n: value}, tc, X, Y)
    rows = rt.Activations(X)
    found |= {
        "backward target": lambda v: tc.backward(X, v, backend="reference"),
        "value_and_grad l1_coeff": lambda v: tc.value_and_grad(X, Y, v, backend="reference"),
        "tc backend": lambda v: tc(X, backend=v),
        "tc check_finite": lambda v: tc(X, backend="reference", check_finite=v),
        "astype": tc.astype,
        "load": rt.load,
        "save": lambda v: tc.save(v if not isinstance(v, str) else folder / v[:20]),
        "rows": rows.rows,
        "blocks": lambda v: list(rows.blocks(v)),
        "part": lambda v: rows.part(v, 3),
        "drop_position": lambda v: rt.Activations(X, sequence_length=4, drop_position=v),
        "l0": metrics.l0,
        "dead_features": metrics.dead_features,
        "from_dense": rt.Sparse.from_dense,
    }
    return found


def insist(call, value):
    """``call(value)`` is taken, or refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy's, which say that a number overflows
        try:
            call(value)
        except Error as error:
            message = str(error)
            assert message.isprintable() and 0 < len(message) <= type(error).longest


@pytest.mark.parametrize("name", VALUES)
def test_nothing_but_our_errors(calls, name):
    for call in calls:
        if isinstance(VALUES[name], type) and call == "audit candidate":
            continue  # a function of the user's, which is called
        try:
            insist(calls[call], VALUES[name])
        except Exception as error:
            error.add_note(f"{call}, given {name}")
            raise


SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
DTYPES = arrays.scalar_dtypes() | arrays.array_dtypes()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.complex_numbers()
        | st.text()
        | st.binary()
        | arrays.arrays(DTYPES, SHAPES),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=4,
    )
)
@settings(max_examples=60)
def test_nothing_but_our_errors_whatever_it_is(calls, value):
    skipped = ("load", "save", "fit checkpoint_every", "blocks")  # texts are names of files there
    for name, call in calls.items():
        if name not in skipped and not name.startswith(("fit", "audit", "check_gradient")):
            insist(call, value)


# What the answer is.


def test_of_nothing_there_is_no_fvu():
    for empty in (np.zeros((0, 3)), np.zeros((0, 0))):
        with pytest.raises(ShapeError, match="with at least one row"):
            metrics.fvu(empty, empty)


@pytest.mark.parametrize("name", ["input_size", "output_size", "dict_size", "top_k"])
@pytest.mark.parametrize("value", [2**31, 10**400, 10**5000], ids=["2**31", "400", "5000"])
def test_sizes_beyond_all_bounds(name, value):
    with pytest.raises(OptionError, match=f"^{name} must be a positive integer up to") as caught:
        rt.build(**SIZES | {name: value})
    assert caught.value.got == value


def test_a_batch_beyond_all_bounds():
    with pytest.raises(OptionError, match="^batch_size must be a positive integer up to 1,048,576"):
        rt.fit(**FIT | {"batch_size": 10**12})


TENSORS = {
    "torch.float8_e4m3fn": r"x must hold .* got dtype torch.float8_e4m3fn. Pass x.float\(\)",
    "quantised": r"torch.qint8, quantised. Pass x.dequantize\(\)",
    "nested": "a nested tensor. Pass rows of one length",
    "list that requires grad": r"Pass one array, or one tensor: torch.stack\(rows\)",
    "list of bfloat16": r"torch.stack\(rows\)",
    "meta": "on meta. Pass a CPU tensor",
    "conjugate": "got dtype complex64. Pass its real part",
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_numpy_cannot_read(name):
    pytest.importorskip("torch")
    with pytest.raises(DTypeError, match=TENSORS[name]):
        rt.build(**SIZES)(VALUES[name], backend="reference")


def test_views_that_are_negative_on_paper():
    torch = pytest.importorskip("torch")
    imaginary = torch.complex(torch.zeros(B, I), torch.from_numpy(X)).conj().imag
    assert imaginary.is_neg()
    tc = rt.build(**SIZES)
    assert np.array_equal(tc(imaginary, backend="reference"), tc(-X, backend="reference"))


def test_float8_of_ml_dtypes_is_widened():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tc = rt.build(**SIZES)
    narrow = X.astype(ml_dtypes.float8_e5m2)
    wide = narrow.astype(np.float32)
    assert np.array_equal(tc(narrow, backend="reference"), tc(wide, backend="reference"))
