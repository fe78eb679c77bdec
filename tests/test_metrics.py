"""The metrics against their definitions, computed in fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import reftranscoder as rt
from reftranscoder.errors import OptionError, ShapeError
from reftranscoder.metrics import Evaluation, dead_features, firing_rates, fvu, l0
from reftranscoder.sparse import Sparse

U = Fraction(1, 2**53)


def exact_sums(y, y_hat, mean=None):
    """The two sums of the definition, as fractions."""
    y, y_hat = [[[Fraction(v) for v in row] for row in a.tolist()] for a in (y, y_hat)]
    if mean is None:
        mean = [sum(column) / len(column) for column in zip(*y)]
    else:
        mean = [Fraction(v) for v in mean.tolist()]
    errors = sum((a - b) ** 2 for r, s in zip(y, y_hat) for a, b in zip(r, s))
    squares = sum((a - m) ** 2 for row in y for a, m in zip(row, mean))
    return errors, squares


def whole(rng, rows, columns, size=8):
    return rng.integers(-size, size + 1, (rows, columns)).astype(np.float64)


# FVU.


def test_by_hand():
    y = np.array([[1.0, 0.0], [3.0, 0.0]])  # means 2 and 0: squares 1 + 1
    assert fvu(y, np.array([[1.0, 0.0], [3.0, 1.0]])) == 0.5
    assert fvu(y, y) == 0.0
    assert fvu(y, np.array([[2.0, 0.0], [2.0, 0.0]])) == 1.0  # no better than the mean
    assert fvu(y, -y) == 20.0  # and it has no upper limit
    assert fvu(y, y * 0, mean=np.zeros(2)) == 1.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [2, 8, 64])
def test_exact_where_no_sum_rounds(rng, dtype, rows):
    # Whole numbers of 2, 8 or 64 rows: the means and every sum are exact, only the quotient rounds.
    y, y_hat = (whole(rng, rows, 5).astype(dtype) for _ in range(2))
    errors, squares = exact_sums(y, y_hat)
    assert fvu(y, y_hat) == float(errors / squares)
    mean = whole(rng, 1, 5)[0]
    errors, squares = exact_sums(y, y_hat, mean)
    assert fvu(y, y_hat, mean) == float(errors / squares)


def test_a_large_mean_does_not_swallow_the_variance(rng):
    # sum(y**2) - n mean**2, the one-pass formula, is off by everything here: y**2 needs 81 bits.
    y = 2.0**40 + whole(rng, 64, 3)
    y_hat = y + whole(rng, 64, 3)
    errors, squares = exact_sums(y, y_hat)
    assert fvu(y, y_hat) == float(errors / squares)
    evaluation = Evaluation()
    for start in range(0, 64, 16):
        evaluation.add(y[start : start + 16], y_hat[start : start + 16])
    # The origin, the first block's mean, is a multiple of 1/16, and so is what is left beside it:
    # both are exact, and the rounding is that of the same data without the large mean.
    bound = sum_bound(y - 2.0**40, y_hat - 2.0**40, 4)[1] / squares
    assert abs(Fraction(evaluation.result().fvu) - errors / squares) <= bound * errors / squares + U


def sum_bound(y, y_hat, blocks):
    """How far the two computed sums may be from the exact ones: to first order in u, and doubled.

    Let M be the largest magnitude, n the number of entries and B that of rows.

    Errors: a difference, at most 2 M, rounds by 2 M u; its square then by 2 (2 M) (2 M u) + 4
    M**2 u = 12 M**2 u; a sum of n such by n u of its value, 4 n M**2.

    Squares: an entry less the origin, at most 2 M, rounds by 2 M u.  A mean of B rows then rounds
    by 2 (B + 1) M u, and by 4 roundings of at most 4 M for each block that joins.  An entry less
    its mean, at most 4 M, is off by the sum of these and 4 M u; its square by 8 M times that and
    16 M**2 u; the sum of n such by n u of 16 n M**2.  A join adds n shift**2, at most 16 n M**2,
    with 5 roundings, where the shift is off by two means.
    """
    M = Fraction(max(np.abs(y).max(), np.abs(y_hat).max()))
    n, B = y.size, len(y)
    errors = n * (12 + 4 * n) * M**2 * U
    mean = (2 * (B + 1) + 16 * blocks) * M * U
    entry = 2 * M * U + mean + 4 * M * U
    squares = n * (8 * M * entry + (16 + 16 * n) * M**2 * U)
    squares += blocks * n * (5 * 16 * M**2 * U + 8 * M * 2 * mean)
    return 2 * errors, 2 * squares


@st.composite
def data(draw):
    rows, columns = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    offset = draw(st.sampled_from([0.0, 1.0, 1e3]))
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=5)))
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((rows, columns)) + offset
    return y, y + rng.standard_normal((rows, columns)), [0, *cuts, rows]


@given(data(), st.booleans())
def test_any_blocks_give_the_definition_within_rounding(drawn, has_mean):
    y, y_hat, cuts = drawn
    mean = y[0] / 2 if has_mean else None
    evaluation = Evaluation(mean)
    for start, stop in zip(cuts, cuts[1:]):
        evaluation.add(y[start:stop], y_hat[start:stop])
    got = evaluation.result()
    errors, squares = exact_sums(y, y_hat, mean)
    d_errors, d_squares = sum_bound(y, y_hat, len(cuts) - 1)
    assert got.rows == len(y)
    assert abs(Fraction(got.mse) * y.size - errors) <= d_errors + 2 * U * errors
    if squares > d_squares:  # else one row, or none that differ: see below
        worst = max(
            abs((errors + e) / (squares + s) - errors / squares)
            for e in (-d_errors, d_errors)
            for s in (-d_squares, d_squares)
        )
        assert abs(Fraction(got.fvu) - errors / squares) <= worst * (1 + U) + U * errors / squares


def test_blocks_in_any_type(rng):
    y, y_hat = whole(rng, 8, 3), whole(rng, 8, 3)
    want = fvu(y, y_hat)
    assert fvu(y.astype(np.float16), y_hat.astype(np.float32)) == want
    assert fvu(y.tolist(), np.asfortranarray(y_hat)) == want


def test_one_row_and_a_constant_target():
    one = np.array([[1.0, 2.0]])
    assert fvu(one, one + 1) == math.inf
    assert math.isnan(fvu(one, one))
    assert fvu(one, one + 1, mean=np.zeros(2)) == 2 / 5
    constant = np.full((5, 2), 0.1)
    assert fvu(constant, constant + 1) > 1e12  # 5 * 0.1 / 5 may round: infinite, or nearly
    assert math.isnan(fvu(np.zeros((5, 2)), np.zeros((5, 2))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(rng, bad):
    y, y_hat = whole(rng, 8, 3), whole(rng, 8, 3)
    spoiled = y_hat.copy()
    spoiled[3, 1] = bad
    assert not math.isfinite(fvu(y, spoiled))
    spoiled = y.copy()
    spoiled[3, 1] = bad
    assert math.isnan(fvu(spoiled, y_hat))


# Features.


HIDDEN = np.array(
    [
        [0.0, 1.0, 0.0, -1.0, 0.0],
        [0.0, 2.0, 3.0, 0.0, 0.0],
        [0.0, 0.0, 1e-45, -2.0, 0.0],
        [0.0, 5.0, 0.0, 0.0, -0.0],
    ],
    np.float32,
)
EXPLICIT_ZERO = scipy.sparse.csr_array(
    (np.float32([1, 0, -1, 2, 3, 1e-45, -2, 5]), [1, 0, 3, 1, 2, 2, 3, 1], [0, 3, 5, 7, 8]),
    shape=(4, 5),
)
KINDS = {
    "dense": HIDDEN,
    "float64": HIDDEN.astype(np.float64),
    "list": HIDDEN.tolist(),
    "csr_array": scipy.sparse.csr_array(HIDDEN),
    "csr_matrix": scipy.sparse.csr_matrix(HIDDEN),
    "csc_array": scipy.sparse.csc_array(HIDDEN),
    "coo_array": scipy.sparse.coo_array(HIDDEN),
    "Sparse": Sparse.from_dense(HIDDEN),
    "a stored zero, out of order": EXPLICIT_ZERO,
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_fire_where_the_value_is_above_zero(kind):
    hidden = KINDS[kind]
    assert l0(hidden) == 5 / 4
    assert firing_rates(hidden).tolist() == [0.0, 0.75, 0.5, 0.0, 0.0]
    assert dead_features(hidden).tolist() == [0, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_counts_over_all_blocks(rng, kind):
    y = whole(rng, 8, 3)
    other = np.zeros((4, 5), np.float32)
    other[:, 4] = 1
    evaluation = Evaluation()
    evaluation.add(y[:4], y[:4], KINDS[kind])
    evaluation.add(y[4:], y[4:], scipy.sparse.csr_array(other))
    got = evaluation.result()
    assert (got.rows, got.mse, got.fvu, got.l0) == (8, 0.0, 0.0, 9 / 8)
    assert got.firing_rates.tolist() == [0.0, 3 / 8, 2 / 8, 0.0, 0.5]
    assert got.dead_features.tolist() == [0, 3]
    assert not got.firing_rates.flags.writeable


def test_entries_that_cancel_do_not_fire():
    twice = scipy.sparse.csr_array(
        (np.array([1.0, -1.0, 2.0, 3.0]), np.array([0, 0, 1, 1]), np.array([0, 4])), shape=(1, 2)
    )
    assert firing_rates(twice).tolist() == [0.0, 1.0]
    assert twice.nnz == 4  # the caller's own is as it was


def test_without_hidden_nothing_is_said_of_features(rng):
    evaluation = Evaluation()
    evaluation.add(whole(rng, 4, 3), whole(rng, 4, 3))
    got = evaluation.result()
    assert got.l0 is got.firing_rates is got.dead_features is None


def test_a_result_is_a_value(rng):
    evaluation = Evaluation()
    evaluation.add(whole(rng, 4, 3), whole(rng, 4, 3), np.ones((4, 2)))
    first = evaluation.result()
    before = first.firing_rates.tolist(), first.fvu
    evaluation.add(whole(rng, 4, 3), whole(rng, 4, 3), np.zeros((4, 2)))
    assert (first.firing_rates.tolist(), first.fvu) == before
    assert evaluation.result().l0 == 1.0
    with pytest.raises(AttributeError):
        first.fvu = 0.0


def test_of_a_transcoder(rng):
    tc = rt.build(input_size=6, output_size=4, dict_size=20, top_k=3, seed=0)
    x, y = rng.standard_normal((2, 50, 6))
    y = y[:, :4]
    hidden = tc.encode(x, backend="reference")
    evaluation = Evaluation()
    evaluation.add(y, tc.decode(hidden, backend="reference"), hidden)
    got = evaluation.result()
    assert got.l0 == hidden.nnz / 50
    assert sorted(set(range(20)) - set(hidden.indices)) == got.dead_features.tolist()


# Bad input.


@pytest.mark.parametrize(
    "y, y_hat",
    [
        (np.zeros((4, 3)), np.zeros((4, 1))),  # NumPy would broadcast these three
        (np.zeros((4, 3)), np.zeros((1, 3))),
        (np.zeros((4, 3)), np.zeros(3)),
        (np.zeros((4, 3)), np.zeros((3, 4))),
        (np.zeros((4, 3)), np.zeros((5, 3))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((1, 4, 3)), np.zeros((1, 4, 3))),
    ],
)
def test_shapes_that_do_not_fit(y, y_hat):
    with pytest.raises(ShapeError) as caught:
        fvu(y, y_hat)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mean", [np.zeros(2), np.zeros((1, 3)), 0.0])
def test_a_mean_that_does_not_fit(mean):
    with pytest.raises(ShapeError, match="mean must have shape"):
        fvu(np.zeros((4, 3)), np.zeros((4, 3)), mean)


def test_blocks_that_do_not_fit_the_ones_before(rng):
    y, hidden = whole(rng, 4, 3), np.ones((4, 5))
    evaluation = Evaluation()
    evaluation.add(y, y * 0, hidden)
    before = vars(evaluation.result())
    for kind, arguments in [
        (ShapeError, (y[:, :2], y[:, :2], hidden)),
        (ShapeError, (y, y, hidden[:, :4])),
        (ShapeError, (y, y, scipy.sparse.csr_array(hidden[:, :4]))),
        (ShapeError, (y, y, hidden[:3])),
        (OptionError, (y, y)),
    ]:
        with pytest.raises(kind):
            evaluation.add(*arguments)
    after = vars(evaluation.result())
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("measure", [l0, firing_rates, dead_features])
def test_no_rows(measure):
    for hidden in (np.zeros((0, 5)), scipy.sparse.csr_array((0, 5))):
        with pytest.raises(ShapeError, match="at least one row"):
            measure(hidden)
    with pytest.raises(ShapeError, match="at least one row"):
        Evaluation().result()


def test_an_empty_block_changes_nothing(rng):
    y, hidden = whole(rng, 4, 3), np.ones((4, 5))
    evaluation = Evaluation()
    evaluation.add(y[:0], y[:0], hidden[:0])
    evaluation.add(y, y * 0, hidden)
    evaluation.add(y[:0], y[:0], hidden[:0])
    got = evaluation.result()
    assert (got.rows, got.fvu, got.l0) == (4, fvu(y, y * 0), 5.0)
