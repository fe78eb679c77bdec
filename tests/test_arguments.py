"""Whatever is passed to a public function, it is taken or refused in one line of ours."""

from __future__ import annotations

import datetime
import decimal
import fractions
import importlib.util
import inspect
import types
import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

import reftranscoder as rt
from reftranscoder import metrics, testing, twins
from reftranscoder.auditor import one_case
from reftranscoder.errors import DTypeError, Error, NonFiniteError, OptionError, ShapeError

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
        "half a character": "\udc80",
        "many digits": f"{'9' * 5000}:",
        "slice of text": slice(None, "a"),
        "slice of floats": slice(0.5, 3),
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
        "signalling nan": decimal.Decimal("sNaN"),
        "empty": np.zeros(0),
        "vector": np.ones(O),
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
    for fill in (np.nan, np.inf, 1e300, np.longdouble("1e4000")):
        found[f"full of {fill}"] = np.full((B, I), fill)
    for shape in ((O,), (B, D)):
        found[f"longdouble {shape}"] = np.full(shape, np.longdouble("1e4000"))
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


TC = rt.build(**SIZES)
LAYERS = {
    "W_enc": np.ones((2, D, I)),
    "b_enc": np.ones((2, D)),
    "W_dec": [np.ones((D, 2, O)), np.ones((D, 1, O))],
    "b_dec": np.ones((2, O)),
}
CLT = rt.CrossLayerTranscoder.from_arrays(**LAYERS, top_k=2)
OF_LAYERS = {"x": np.stack([X, X]), "target": np.stack([Y, Y])}
CLT_STAGES = CLT.stages(**OF_LAYERS, backend="reference")
STAGES = TC.stages(X, Y, backend="reference")
ROWS = rt.Activations(X)
REFERENCE = {"backend": "reference"}  # so that nothing is compiled
PAIR = {"x": X, "target": Y}
SAME = {"target": Y, "reconstruction": Y}


def gradients(params, x, target):
    return rt.Transcoder(TC.config, params).value_and_grad(x, target, **REFERENCE)


def evaluated(target, reconstruction, hidden, mean):
    evaluation = metrics.Evaluation(mean)
    evaluation.add(target, reconstruction, hidden)
    return evaluation.result()


def blocks(size):
    return list(ROWS.blocks(size))


def written(folder, dtype=None, shard_rows=8):
    with rt.ActivationWriter(folder, dtype=dtype, shard_rows=shard_rows) as writer:
        writer.add(X, Y)


def probe(values):
    return testing.Probe(values=values)


PLAIN = {"name": "a", "inputs": "float32", "accumulator": "float32", "store": "float32"}
JUDGED = {"candidate": {"pre": STAGES["pre"]}, "tc": TC} | PAIR
CHECKED = {"fn": gradients, "config": TC.config, "params": TC.params} | PAIR

#: Every public function, and what it is given beside the argument that is tried.
FUNCTIONS = {
    "Activations": (rt.Activations, {"source": X}),
    "Activations of sequences": (
        rt.Activations,
        {"source": X, "sequence_length": 4, "drop_position": 0},
    ),
    "ActivationWriter": (written, {"folder": "acts"}),
    "Activations.announce": (ROWS.announce, {}),
    "Activations.blocks": (blocks, {}),
    "Activations.part": (ROWS.part, {"start": 0, "stop": 3}),
    "Activations.place": (ROWS.place, {}),
    "Activations.rows": (ROWS.rows, {}),
    "Arithmetic": (rt.Arithmetic, PLAIN),
    "Conventions": (rt.Conventions, {}),
    "CrossLayerTranscoder": (
        rt.CrossLayerTranscoder,
        {"config": CLT.config, "params": CLT.params},
    ),
    "CrossLayerTranscoder()": (CLT, {"x": OF_LAYERS["x"]} | REFERENCE),
    "CrossLayerTranscoder.astype": (CLT.astype, {}),
    "CrossLayerTranscoder.decode": (CLT.decode, {"hidden": [np.eye(B, D)] * 2} | REFERENCE),
    "CrossLayerTranscoder.encode": (CLT.encode, {"x": OF_LAYERS["x"]} | REFERENCE),
    "CrossLayerTranscoder.from_arrays": (
        rt.CrossLayerTranscoder.from_arrays,
        LAYERS | {"top_k": 2},
    ),
    "CrossLayerTranscoder.layer": (CLT.layer, {}),
    "CrossLayerTranscoder.save": (CLT.save, {}),
    "CrossLayerTranscoder.stages": (CLT.stages, OF_LAYERS | REFERENCE),
    "CrossLayerTranscoder.value_and_grad": (CLT.value_and_grad, OF_LAYERS | REFERENCE),
    "Gated": (rt.Gated, dict.fromkeys(("b_gate", "b_mag", "r_mag"), np.ones(D))),
    "JumpReLU": (rt.JumpReLU, {"theta": np.ones(D)}),
    "Losses": (rt.Losses, {}),
    "Params": (rt.Params, WEIGHTS),
    "Params.astype": (TC.params.astype, {}),
    "Sparse.from_dense": (rt.Sparse.from_dense, {}),
    "Transcoder": (rt.Transcoder, {"config": TC.config, "params": TC.params}),
    "Transcoder()": (TC, {"x": X} | REFERENCE),
    "Transcoder.astype": (TC.astype, {}),
    "Transcoder.backward": (TC.backward, PAIR | REFERENCE),
    "Transcoder.decode": (TC.decode, {"hidden": np.eye(B, D)} | REFERENCE),
    "Transcoder.encode": (TC.encode, {"x": X} | REFERENCE),
    "Transcoder.forward": (TC.forward, {"x": X} | REFERENCE),
    "Transcoder.from_arrays": (rt.Transcoder.from_arrays, WEIGHTS | {"top_k": 2}),
    "Transcoder.save": (TC.save, {}),
    "Transcoder.stages": (TC.stages, PAIR | REFERENCE),
    "Transcoder.value_and_grad": (TC.value_and_grad, PAIR | REFERENCE),
    "Transcoder.with_threshold": (TC.with_threshold, {}),
    "TranscoderConfig": (rt.TranscoderConfig, SIZES),
    "audit": (rt.audit, JUDGED),
    "build": (rt.build, SIZES),
    "check_gradient": (rt.check_gradient, CHECKED),
    "describe": (rt.describe, {"tc": TC} | PAIR | REFERENCE),
    "evaluated": (evaluated, SAME | {"hidden": None, "mean": None}),
    "evaluate": (rt.evaluate, {"tc": TC} | PAIR | REFERENCE),
    "fit": (rt.fit, FIT),
    "fit_cross_layer": (rt.fit_cross_layer, FIT | OF_LAYERS),
    "load": (rt.load, {"path": "model.npz"}),
    "loss": (rt.loss, SAME | {"hidden_acts": STAGES["hidden"], "l1_coeff": 0} | REFERENCE),
    "metrics.dead_features": (metrics.dead_features, {}),
    "metrics.firing_rates": (metrics.firing_rates, {}),
    "metrics.fvu": (metrics.fvu, SAME),
    "metrics.l0": (metrics.l0, {}),
    "output_size": (rt.output_size, SIZES),
    "paired": (rt.paired, PAIR),
    "scan": (rt.scan, {}),
    "testing.Probe": (probe, {}),
    "twins.find": (twins.find, {}),
}
#: The results of a user's own functions, and arguments that hold others.
WITHIN = {
    "CrossLayerTranscoder W_dec[1]": lambda v: rt.CrossLayerTranscoder.from_arrays(
        **LAYERS | {"W_dec": [LAYERS["W_dec"][0], v]}, top_k=2
    ),
    "CrossLayerTranscoder own[1]": lambda v: rt.CrossLayerTranscoder.from_arrays(
        **LAYERS, activation="jumprelu", own=[rt.JumpReLU(np.ones(D)), v]
    ),
    "CrossLayerTranscoder hidden[1]": lambda v: CLT.decode([np.eye(B, D), v], **REFERENCE),
    "CrossLayerTranscoder x[1]": lambda v: CLT([X, v], **REFERENCE),
    "evaluate cross-layer x": lambda v: rt.evaluate(CLT, v, OF_LAYERS["target"], **REFERENCE),
    "evaluate cross-layer target[1]": lambda v: rt.evaluate(
        CLT, OF_LAYERS["x"], [Y, v], **REFERENCE
    ),
    "fit_cross_layer target[1]": lambda v: rt.fit_cross_layer(
        **FIT | OF_LAYERS | {"target": [Y, v]}
    ),
    "audit cross-layer x": lambda v: rt.audit(CLT_STAGES, CLT, v, OF_LAYERS["target"]),
    "audit cross-layer target": lambda v: rt.audit(CLT_STAGES, CLT, OF_LAYERS["x"], v),
    "audit cross-layer hidden[1]": lambda v: rt.audit(
        {"hidden": [np.eye(B, D), v]}, CLT, **OF_LAYERS
    ),
    "audit cross-layer dW_dec": lambda v: rt.audit({"dW_dec": v}, CLT, **OF_LAYERS),
    "audit cross-layer loss": lambda v: rt.audit({"loss": v}, CLT, **OF_LAYERS),
    "audit returned": lambda v: rt.audit(lambda *_: v, TC, X, Y),
    "audit arithmetic of pre": lambda v: rt.audit(**JUDGED, arithmetic={"pre": v}),
    "audit conventions[0]": lambda v: rt.audit(**JUDGED, conventions=[v]),
    "check_gradient returned": lambda v: rt.check_gradient(**CHECKED | {"fn": lambda *_: v}),
    "check_gradient loss": lambda v: rt.check_gradient(
        **CHECKED | {"fn": lambda *given: (v, gradients(*given)[1])}
    ),
    "check_gradient W_enc": lambda v: rt.check_gradient(
        **CHECKED | {"fn": lambda *a: (gradients(*a)[0], gradients(*a)[1].arrays() | {"W_enc": v})}
    ),
}


def calls():
    """Every argument of every public function, by name: a function of the value it gets.

    The arguments are those of the signature, so that a new one is tried as soon as it is there.
    """
    found = dict(WITHIN)
    for name, (function, options) in FUNCTIONS.items():
        for argument in inspect.signature(function).parameters:
            found[f"{name} {argument}"] = lambda value, f=function, o=options, a=argument: f(
                **o | {a: value}
            )

    def audited(value, stage):
        # A gradient without a name for what is wrong: it takes half a second to find none.
        steps = () if stage.startswith("d") or stage == "loss" else one_case.STEPS
        with mock.patch.object(one_case.report_of, "__defaults__", (steps,)):
            return rt.audit({stage: value}, TC, X, Y)

    for stage in STAGES:
        found[f"audit of {stage}"] = lambda value, n=stage: audited(value, n)
    pair = {"indices": np.zeros((B, 1), int), "values": np.zeros((B, 1))}
    for name in ("indices", "values", "refused"):
        found[f"audit of {name}"] = lambda value, n=name: rt.audit(pair | {n: value}, TC, X, Y)
    return found


CALLS = calls()
#: What a user's own function raises passes through, and so many steps take their time.
LEFT_OUT = {(call, repr(int)) for call in ("audit candidate", "audit progress", "fit progress")}
LEFT_OUT |= {(call, repr(int)) for call in ("check_gradient fn", "evaluate advance")}
LEFT_OUT |= {(call, repr(int)) for call in ("describe advance", "fit_cross_layer progress")}
LEFT_OUT |= {(call, repr(10**12)) for call in ("fit steps", "fit_cross_layer steps")}
#: Where NumPy says that a number overflows, and the result is infinite or refused.
OVERFLOWS = {
    (call, repr(1e308))
    for call in ("check_gradient l1_coeff", "check_gradient loss", "loss l1_coeff")
}


def insist(call, value, warning="error"):
    """``call(value)`` is taken without a warning, or refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter(warning)
        try:
            call(value)
        except Error as error:
            message = str(error)
            assert message.isprintable() and 0 < len(message) <= type(error).longest


@pytest.mark.parametrize("name", CALLS)
def test_nothing_but_our_errors(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some values are names of files
    for label, value in VALUES.items():
        if (name, label) in LEFT_OUT:
            continue
        try:
            insist(CALLS[name], value, "ignore" if (name, label) in OVERFLOWS else "error")
        except Exception as error:
            error.add_note(f"{name}, given {label}")
            raise


def test_every_public_function_is_tried():
    public = {name for name in rt.__all__ if callable(getattr(rt, name))}
    kinds = rt.Activations, rt.Params, rt.Transcoder, rt.TranscoderConfig, rt.CrossLayerTranscoder
    for kind in kinds:
        for name, method in inspect.getmembers(kind, inspect.isroutine):
            takes = isinstance(method, types.FunctionType | types.MethodType)
            if takes and not name.startswith("_") and method.__code__.co_argcount > 1:
                public.add(f"{kind.__name__}.{name}")
    for name, function in inspect.getmembers(metrics, inspect.isfunction):
        if function.__module__ == metrics.__name__ and not name.startswith("_"):
            public.add(f"metrics.{name}")
    # These hold what they are given: what is asked of it is written there.
    assert public - set(FUNCTIONS) == {
        "Sparse",
        "Params.adopt",
        "Params.check_in_memory",
        "Params.taking",
        "Activations.in_store",
    }


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
def test_nothing_but_our_errors_whatever_it_is(value):
    # Texts are names of files there.
    files = ("Activations source", "Activations of sequences source", "ActivationWriter")
    files += "Transcoder.save", "CrossLayerTranscoder.save", "load"
    for name, call in CALLS.items():
        if not name.startswith((*files, "fit", "audit", "check_gradient")):
            try:
                insist(call, value, "ignore")  # NumPy says so where a made number overflows
            except Exception as error:
                error.add_note(name)
                raise


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


@pytest.mark.parametrize("rows", ["9" * 5000 + ":", slice(None, "a"), slice(0.5, 3)])
def test_rows_that_are_no_whole_numbers(rows):
    with pytest.raises(OptionError, match="^rows must be 'A:B', a range within the 4 rows"):
        rt.Activations(X, rows=rows)


def test_a_mean_beyond_float64():
    mean = np.full(O, np.longdouble("1e4000"))
    if np.isinf(mean).any():
        pytest.skip("longdouble is float64 here")
    with pytest.raises(NonFiniteError, match="^mean must be finite.*too large for float64"):
        metrics.fvu(Y, Y, mean)


@pytest.mark.parametrize("value", [Hostile(), np.ones(3), []], ids=["hostile", "array", "list"])
def test_what_is_no_name(value):
    with pytest.raises(OptionError, match="^name must be one of "):
        twins.find(value)
    with pytest.raises(OptionError, match="^values must be one of "):
        testing.Probe(values=value)
    with pytest.raises(OptionError, match="^checkpoint must be "):
        rt.fit(**FIT, checkpoint=value)


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
