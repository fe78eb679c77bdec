"""Every kernel against its reference, by checks that read `TWINS`: a new row is tested at once.

exact       small integers, on which every sum is exact: equal numbers
bounded     random shapes and scales: within the bound of the row
hostile     ties, zeros of either sign, nothing active, K = 1 and K = D, no rows and one, NaN: equal
            numbers again; every memory layout: equal bytes
invariant   any number of threads, and a row on its own: equal bytes

A check is a function that raises AssertionError.  The second half of this file plants faults in the
kernels and sees the checks fail.
"""

import functools
import inspect

import numba
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import reftranscoder.kernels
import reftranscoder.reference
from reftranscoder.errors import OptionError
from reftranscoder.sparse import Sparse
from reftranscoder.testing import Probe, assert_same, layouts
from reftranscoder.twins import IN_PLACE, TWINS, dtype_of, find, to_dense

pytestmark = pytest.mark.kernels

PAIRS = [twin for twin in TWINS if twin.kernel]
EXACT = ["integers", "ties", "zeros", "negative"]
CHOICES = {
    "activation": ["topk", "relu", "batchtopk", "groupmax", "abstopk", "jumprelu", "gated"],
    "ties": ["lowest_index", "keep_all"],
    "skip": [True, False],
}
SELECTIONS = {"topk_forward", "batchtopk_forward", "groupmax_forward", "abstopk_forward"}
SELECTIONS |= {"jumprelu_forward", "gated_forward"}
ALWAYS_FLOAT64 = {"pre", "pre_acts", "magnitude", "mse", "mse_sum", "l1", "l1_sum", "loss", "aux"}

each_pair = pytest.mark.parametrize("twin", PAIRS, ids=[twin.name for twin in PAIRS])
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def parameters(twin):
    return inspect.signature(twin.function("reference")).parameters


def options(twin):
    """Every combination of the options that ``twin`` has."""
    names = set(parameters(twin))
    if names & {"forward"}:
        names.add("activation")
    if "W_skip" in names and parameters(twin)["W_skip"].default is None:
        names.add("skip")
    found = [{}]
    for name in sorted(names & set(CHOICES)):
        found = [{**one, name: value} for one in found for value in CHOICES[name]]
    return found


def needs_rows(twin):
    """Whether it is a mean over the batch, or the gradient of one: undefined for B = 0."""
    return bool({"target", "residual", "l1_coeff"} & set(parameters(twin)))


def check(twin, arguments, exact=False, seed=None, order="C"):
    """Raise unless the kernel does with ``arguments`` what the reference does."""
    before = {name: np.copy(a) for name, a in arguments.items() if isinstance(a, np.ndarray)}
    got = twin.run_kernel(arguments)
    for name, array in before.items():
        np.testing.assert_array_equal(arguments[name], array, f"{twin.name} changed its {name}")
    want = twin.run_reference(arguments)
    bound = dict.fromkeys(want, 0.0) if exact else twin.bounds(arguments, want)
    for name, value in got.items():
        what = f"{twin.name}: {name}"
        dtype = np.dtype("float64") if name in ALWAYS_FLOAT64 else dtype_of(arguments)
        if isinstance(value, Sparse):
            check_form(value, arguments, what, "d_" not in name)
            assert value.values.dtype == dtype, what
        elif twin.name not in SELECTIONS:
            assert value.dtype == dtype, what
        assert_same(value, want[name], bound[name], function=what, seed=seed, order=order)
    return got


def check_form(sparse, arguments, what, activations):
    B, D = sparse.shape
    assert sparse.indptr.dtype == sparse.indices.dtype == np.int32, what
    assert sparse.indptr.shape == (B + 1,) and sparse.indptr[0] == 0, what
    assert sparse.indptr[-1] == len(sparse.indices) == len(sparse.values), what
    place = sparse.rows() * D + sparse.indices
    assert np.all(np.diff(place) > 0) and np.all((sparse.indices >= 0) & (sparse.indices < D)), what
    if activations:
        assert np.all(sparse.values != 0), f"{what} stores a zero"
    elif "hidden" in arguments:
        hidden = Sparse.from_dense(arguments["hidden"])
        np.testing.assert_array_equal(sparse.indices, hidden.indices, what)


# The checks.


def exact_check(twin, dtype):
    for values in EXACT:
        for chosen in options(twin):
            arguments = Probe(1, dtype=dtype, values=values, **chosen).arguments(twin)
            # The probe is exact: in float32, where one bit more would show, nothing changes.
            narrow = twin.named(twin.function("reference")(**arguments))
            for name, want in twin.run_reference(arguments).items():
                if name != "d_hidden":  # which run_reference restricts to the entries of hidden
                    assert_same(narrow[name], want, function=f"the probe of {twin.name}: {name}")
            check(twin, arguments, exact=True, seed=(1, values, chosen))


@st.composite
def shapes(draw):
    largest = {"B": 9, "I": 40, "D": 24, "O": 24}
    sizes = {name: draw(st.integers(1, most)) for name, most in largest.items()}
    return sizes | {"K": draw(st.integers(1, sizes["D"]))}


def bounded_check(twin, dtype, examples=20, phases=tuple(Phase)):
    @settings(max_examples=examples, database=None, phases=phases)
    @given(
        st.integers(0, 2**32 - 1),
        shapes(),
        st.sampled_from(["normal", "real", "wild", "tiny", "subnormal"]),
        st.sampled_from(options(twin)),
    )
    def run(seed, sizes, values, chosen):
        arguments = Probe(seed, dtype=dtype, values=values, **sizes, **chosen).arguments(twin)
        check(twin, arguments, seed=(seed, sizes, values, chosen))

    run()


SIZES = {
    "K = 1": {"K": 1},
    "K = D": {"K": 32},
    "one row": {"B": 1},
    "no rows": {"B": 0},
    "one of each": {"B": 1, "I": 1, "D": 1, "O": 1, "K": 1},
    "one feature": {"D": 1, "K": 1},
    "one output": {"O": 1},
}


def hostile_check(twin, dtype):
    for size, changed in SIZES.items():
        if size == "no rows" and needs_rows(twin):
            continue
        for number, values in enumerate(EXACT):
            every = options(twin)  # all of them where everything ties, and elsewhere one by turns
            for chosen in every if values == "ties" else [every[number % len(every)]]:
                probe = Probe(2, dtype=dtype, values=values, **changed, **chosen)
                check(twin, probe.arguments(twin), exact=True, seed=(2, size, values, chosen))
    layouts_check(twin, dtype)
    if by_row(twin):
        nan_check(twin, dtype)


def layouts_check(twin, dtype):
    arguments = Probe(3, dtype=dtype, values="real").arguments(twin)
    plain = twin.run_kernel(arguments)
    arrays = {n: list(layouts(a)) for n, a in arguments.items() if isinstance(a, np.ndarray)}
    for number, (order, _) in enumerate(next(iter(arrays.values()))):
        awkward = {n: made[number][1] for n, made in arrays.items() if n not in IN_PLACE}
        if not all(a.dtype.isnative for a in awkward.values()):
            continue  # kernels take float32 and float64; the door makes other numbers into these
        for name, got in twin.run_kernel(arguments | awkward).items():
            assert_same(got, plain[name], function=f"{twin.name}: {name}", seed=3, order=order)
            same_bytes(got, plain[name], f"{twin.name}: {name}, {order}")


def by_row(twin):
    """Whether each row of the outputs is made from one row of the arguments (scalars: from all)."""
    arguments = Probe(4, B=3).arguments(twin)
    shapes = {np.shape(value)[:1] for value in twin.run_reference(arguments).values()}
    return shapes <= {(3,), ()}


def nan_check(twin, dtype):
    """A row of NaN gives NaN where the reference does, and no other row changes."""
    for chosen in options(twin):
        arguments = Probe(5, dtype=dtype, values="integers", **chosen).arguments(twin)
        for name in {"x", "target", "reconstruction", "pre", "pre_acts", "hidden"} & set(arguments):
            poisoned = arguments[name].copy()
            poisoned[3] = np.nan
            seed = (5, chosen, f"NaN in row 3 of {name}")
            got = check(twin, arguments | {name: poisoned}, exact=True, seed=seed)
            assert any(np.isnan(to_dense(value)).any() for value in got.values())


def threads_check(twin, dtype):
    arguments = Probe(6, dtype=dtype, values="real", B=37, D=48, K=7).arguments(twin)
    threads = numba.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            numba.set_num_threads(count)
            results.append(twin.run_kernel(arguments))
    finally:
        numba.set_num_threads(threads)
    for name, one in results[0].items():
        same_bytes(one, results[1][name], f"{twin.name}: {name} on 1 thread and on 2")


def rows_check(twin, dtype):
    """A row of a forward function depends on that row alone, unless rows compete."""
    if needs_rows(twin) or not by_row(twin) or twin.name == "batchtopk_forward":
        return
    whole = Probe(7, dtype=dtype, values="real", B=5).arguments(twin)
    batch = {"x", "pre", "pre_acts", "hidden", "target"}
    want = twin.run_kernel(whole)
    for b in range(5):
        alone = {n: a[b : b + 1] if n in batch else a for n, a in whole.items()}
        for name, got in twin.run_kernel(alone).items():
            row = to_dense(want[name])[b : b + 1]
            same_bytes(to_dense(got), row, f"{twin.name}: {name}, row {b} on its own")


def same_bytes(got, want, what):
    for a, b in zip(parts(got), parts(want), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), what


def parts(value):
    return value[:3] if isinstance(value, Sparse) else [np.asarray(value)]


# Every row of the table, by every check.


@each_pair
@each_dtype
def test_exact(twin, dtype):
    exact_check(twin, dtype)


@each_pair
@each_dtype
def test_bounded(twin, dtype):
    bounded_check(twin, dtype)


@each_pair
@each_dtype
def test_bounded_as_in_language_models(twin, dtype):
    arguments = Probe(8, dtype=dtype, values="real", B=16, I=96, D=96, O=48, K=8).arguments(twin)
    check(twin, arguments, seed=8)


@each_pair
@each_dtype
def test_hostile(twin, dtype):
    hostile_check(twin, dtype)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="only one thread")
@each_pair
@each_dtype
def test_the_number_of_threads_changes_no_bit(twin, dtype):
    threads_check(twin, dtype)


@each_pair
@each_dtype
def test_a_row_depends_on_that_row_alone(twin, dtype):
    rows_check(twin, dtype)


# The table.


def test_every_function_of_both_rooms_stands_in_the_table():
    for room, names in (
        (reftranscoder.reference, {twin.reference for twin in TWINS}),
        (reftranscoder.kernels, {twin.kernel for twin in PAIRS}),
    ):
        prefix = room.__name__.removeprefix("reftranscoder.")
        functions = {n for n in room.__all__ if inspect.isfunction(getattr(room, n))}
        assert names == {f"{prefix}.{name}" for name in functions}
    assert len({twin.name for twin in TWINS}) == len(TWINS)


@pytest.mark.parametrize("twin", TWINS, ids=[twin.name for twin in TWINS])
def test_rows_say_what_they_must(twin):
    assert twin.why.endswith(".")
    assert (twin.kernel is None) == (twin.bound is None)
    assert find(twin.name) is twin


@each_pair
def test_both_rooms_have_one_signature(twin):
    names = list(inspect.signature(twin.function("kernel")).parameters)
    assert names == list(parameters(twin))


def test_an_unknown_name_is_refused():
    with pytest.raises(OptionError, match="affine_forward"):
        find("affine")
    with pytest.raises(OptionError, match="integers"):
        Probe(values="whole")


@each_pair
@each_dtype
def test_bounds_are_small(twin, dtype):
    """A bound that allows everything proves nothing.  At this shape no sum has more than 22 terms
    and the longest chain of gradients passes three: 100 roundings are more than enough, relative
    to the largest value, which no sum of absolute values here exceeds by a factor of 20."""
    arguments = Probe(9, dtype=dtype).arguments(twin)
    want = twin.run_reference(arguments)
    for name, bound in twin.bounds(arguments, want).items():
        ceiling = 100 * 20 * np.finfo(dtype).eps / 2 * np.abs(want[name]).max()
        assert np.median(bound) <= ceiling, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_selection_is_decided_before_rounding(dtype):
    """p = 1 + rank 2^-40: exact in float64, one and the same number in float32."""
    decided_check(find("encode_forward"), dtype)


def decided_check(twin, dtype):
    rank = np.random.default_rng(10).permutation(32)
    W_enc = np.stack([np.ones(32), rank * 2.0**-40], axis=1).astype(dtype)
    x, b_enc = np.ones((3, 2), dtype), np.zeros(32, dtype)
    hidden = twin.function("kernel")(x=x, W_enc=W_enc, b_enc=b_enc, top_k=5)
    want = np.sort(np.flatnonzero(rank >= 32 - 5))
    np.testing.assert_array_equal(hidden.indices.reshape(3, 5), np.tile(want, (3, 1)))


def test_adam_is_what_numpy_computes_in_the_same_dtype():
    """Stronger than its bound: the same operations, in the same order, none of them fused."""
    twin = find("adam_step")
    arguments = Probe(11, dtype="float32", values="real").arguments(twin)
    want = twin.named(twin.function("reference")(**arguments))
    for name, got in twin.run_kernel(arguments).items():
        same_bytes(got, want[name], name)


# The tester is tested.

CHECKS = {
    "exact": exact_check,
    "bounded": functools.partial(bounded_check, examples=10, phases=[Phase.generate]),
    "hostile": hostile_check,
}


def plant(monkeypatch, twin, fault):
    """Make ``fault(kernel, *arguments)`` the kernel of ``twin``."""
    faulty = functools.partial(fault, twin.function("kernel"))
    monkeypatch.setattr(reftranscoder.kernels, twin.name, faulty)


def with_output(twin, result, name, change):
    """``result`` of ``twin``, where the output ``name`` was put through ``change``."""
    values = [result] if len(twin.outputs) == 1 else list(result)
    which = twin.outputs.index(name)
    if values[which] is None:
        return result
    if isinstance(values[which], Sparse):
        values[which] = values[which].with_values(change(values[which].values))
    else:
        values[which] = change(values[which])
    if len(values) == 1:
        return values[0]
    return type(result)(*values) if hasattr(result, "_fields") else tuple(values)


def summed_from(end):
    """A correct encoder that adds one product after the other, from one end or the other."""

    def encode(sound, x, W_enc, b_enc, top_k, activation="topk", ties="lowest_index", own=None):
        products = np.float64(x)[:, None] * np.float64(W_enc)  # (B, D, I)
        p = np.cumsum(products[..., ::end], axis=2)[..., -1] + b_enc
        return find("topk_forward").function("kernel")(p, top_k, ties).astype(x.dtype)

    return encode


def summed_and_decoded_from(end):
    """A correct transcoder that does so."""

    def forward(sound, x, W_enc, b_enc, W_dec, b_dec, W_skip, **options):
        hidden = summed_from(end)(None, x, W_enc, b_enc, **options)
        reconstruction = find("decode_forward").function("kernel")(hidden, W_dec, b_dec)
        return reftranscoder.kernels.Forward(None, None, hidden, reconstruction)

    return forward


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("encode_forward", summed_from), ("transcoder_forward", summed_and_decoded_from)],
)
@each_dtype
def test_where_rounding_decides_either_may_be_selected(monkeypatch, name, kernel, dtype):
    """Features that hold the same numbers in other orders: equal sums, but for their rounding.
    No fault: of two correct kernels, at least one does not select what the reference selects."""
    twin = find(name)
    probe = Probe(12, dtype=dtype, B=2, I=512, K=8, skip=False)
    half = np.abs(probe.W_enc[0, :256]) * 2.0 ** -(np.arange(256) % 64)  # no float64 sum is exact
    numbers = np.concatenate([half, (2.0**-10 - 1) * half])  # and most of it cancels
    order = np.random.default_rng(12).permuted(np.tile(np.arange(512), (probe.D, 1)), axis=1)
    arguments = probe.arguments(twin) | {
        "x": np.ones_like(probe.x),
        "W_enc": numbers[order].astype(dtype),
        "b_enc": np.zeros_like(probe.b_enc),
    }
    supports = []
    for end in (1, -1):
        with monkeypatch.context() as patched:
            plant(patched, twin, kernel(end))
            supports.append(check(twin, arguments, seed=12)["hidden"].indices.tolist())
    assert supports[0] != supports[1]


OUTPUTS = [
    (twin, name)
    for twin in PAIRS
    for name in twin.outputs
    if twin.name != "transcoder_forward" or name in ("hidden", "reconstruction")
    if name != "d_own"  # which the reference alone makes
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("twin", "name"), OUTPUTS, ids=[f"{t.name}-{name}" for t, name in OUTPUTS])
def test_a_small_fault_in_any_output_is_found(monkeypatch, twin, name, check):
    """One part in 10,000 too much: 800 roundings of float32."""

    def fault(sound, *arguments, **options):
        result = sound(*arguments, **options)
        return with_output(twin, result, name, lambda a: a + a * a.dtype.type(1e-4))

    plant(monkeypatch, twin, fault)
    with pytest.raises(AssertionError, match=f"{twin.name}: {name}"):
        CHECKS[check](twin, "float32")


def ties_go_to_the_higher_index(sound, pre_acts, **options):
    mirrored = sound(np.ascontiguousarray(pre_acts[:, ::-1]), **options)
    return Sparse.from_dense(mirrored.dense()[:, ::-1])


def all_ties_are_kept(sound, **arguments):
    return sound(**arguments | {"ties": "keep_all"})


def one_too_few(sound, **arguments):
    return sound(**arguments | {"top_k": max(arguments["top_k"] - 1, 1)})


def nan_is_lost(sound, **arguments):
    return np.nan_to_num(sound(**arguments))


def nan_is_not_selected(sound, **arguments):
    return Sparse.from_dense(np.nan_to_num(sound(**arguments).dense()))


def zeros_are_stored(sound, **arguments):
    hidden = sound(**arguments)
    return hidden.with_values(hidden.values * (np.arange(len(hidden.values)) > 0))


def columns_are_not_sorted(sound, **arguments):
    hidden = sound(**arguments)
    backwards = np.lexsort((-hidden.indices, hidden.rows()))
    indices, values = hidden.indices[backwards], hidden.values[backwards]
    return hidden._replace(indices=indices, values=values)


def the_bias_is_lost(sound, **arguments):
    name = next(name for name in arguments if name.startswith("b"))
    return sound(**arguments | {name: np.zeros_like(arguments[name])})


def sums_in_float32(sound, x, W, b):
    pre = x.astype(np.float32) @ W.T.astype(np.float32) + b.astype(np.float32)
    return pre.astype(np.float64)


def rounds_before_selecting(sound, x, W_enc, b_enc, top_k):
    p = find("affine_relu_forward").function("kernel")(x, W_enc, b_enc).astype(np.float32)
    return find("topk_forward").function("kernel")(p, top_k)


def ignores_strides(sound, x, **arguments):
    return sound(x.ravel(order="K").reshape(x.shape), **arguments)


def writes_to_its_input(sound, target, reconstruction):
    result = sound(target, reconstruction)
    target *= 2
    return result


def depends_on_threads(sound, **arguments):
    d_hidden, dW_dec, db_dec = sound(**arguments)
    return d_hidden, dW_dec, db_dec * np.float32(1 + numba.get_num_threads() / 2**20)


def depends_on_the_batch(sound, x, **arguments):
    return sound(x, **arguments) * (1 + len(x) / 2**50)


FAULTS = [
    ("topk_forward", ties_go_to_the_higher_index, exact_check),
    ("topk_forward", ties_go_to_the_higher_index, hostile_check),
    ("encode_forward", all_ties_are_kept, exact_check),
    ("encode_forward", one_too_few, exact_check),
    ("encode_forward", one_too_few, CHECKS["bounded"]),
    ("transcoder_forward", one_too_few, CHECKS["bounded"]),
    ("affine_relu_forward", nan_is_lost, nan_check),
    ("encode_forward", nan_is_not_selected, nan_check),
    ("topk_forward", zeros_are_stored, exact_check),
    ("encode_forward", columns_are_not_sorted, exact_check),
    ("affine_forward", the_bias_is_lost, exact_check),
    ("decode_forward", the_bias_is_lost, CHECKS["bounded"]),
    ("affine_forward", sums_in_float32, CHECKS["bounded"]),
    ("encode_forward", rounds_before_selecting, decided_check),
    ("affine_forward", ignores_strides, layouts_check),
    ("mse_forward", writes_to_its_input, exact_check),
    ("decode_backward", depends_on_threads, threads_check),
    ("affine_forward", depends_on_the_batch, rows_check),
]


@pytest.mark.parametrize(
    ("name", "fault", "check"),
    FAULTS,
    ids=[f"{fault.__name__}-{getattr(check, '__name__', 'bounded')}" for _, fault, check in FAULTS],
)
def test_a_fault_is_found(monkeypatch, name, fault, check):
    check(find(name), "float32")
    plant(monkeypatch, find(name), fault)
    with pytest.raises(AssertionError):
        check(find(name), "float32")
