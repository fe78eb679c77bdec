"""What features read and write before the first step, by ``training/start.py`` and ``ridge.py``."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.activations import Activations
from reftranscoder.params import TranscoderConfig
from reftranscoder.training.ridge import Ridge, inverse, inverse_of_block, product_by, unit
from reftranscoder.training.scaling import Moments, Scaling
from reftranscoder.training.start import starting_arrays

# Two columns that differ in their variance, 4 and 1, and do not vary together; the target is
# twice the first and minus the second: C = diag(4, 1), S = (8, -1), and ridge 0.1 * 5 / 2 = 1 / 4.
X = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]], float)
TARGET = X @ np.array([[2.0], [-1.0]])


BACKENDS = ["kernels", "reference"]


def regression(backend="kernels"):
    return Ridge.of(lambda r: (X[r], TARGET[r]), np.arange(4), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_regression_computed_by_hand(backend):
    ridge = regression(backend)
    P = np.diag([Fraction(4, 17), Fraction(4, 5)])  # (R1): 1 / (4 + 1/4), 1 / (1 + 1/4)
    A = P @ np.array([[8], [-1]])
    # A quotient or two of exact numbers, and a product.
    np.testing.assert_allclose(ridge.inverse, P.astype(float), rtol=4 * 2.0**-53)
    np.testing.assert_allclose(ridge.slopes, A.astype(float), rtol=8 * 2.0**-53)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_read_is_a_sum_of_two_directions_by_hand(backend):
    got = regression(backend).reads(X[:1], np.array([[-3.0]]))
    of_row = np.array([2 * 4 / 17, 4 / 5])
    of_written = -3.0 * np.array([32 / 17, -4 / 5])
    want = of_row / np.hypot(*of_row) + of_written / np.hypot(*of_written)  # (R3)
    np.testing.assert_allclose(got, [want], rtol=32 * 2.0**-53)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_regression_that_least_squares_finds(rng, backend):
    """With a root of the ridge below them as rows, least squares has the same solution."""
    x, target = rng.standard_normal((5000, 6)), rng.standard_normal((5000, 3))  # two blocks
    got = Ridge.of(lambda r: (x[r], target[r]), rng.permutation(5000), backend).slopes
    ridge = 0.1 * np.square(x).mean()
    below = np.sqrt(5000 * ridge) * np.eye(6)
    rows = np.concatenate([x, below]), np.concatenate([target, np.zeros((6, 3))])
    want = np.linalg.lstsq(*rows, rcond=None)[0]
    # Both sums of 5000 terms, each within 5000 u of the sum of absolute terms, which is at most
    # of the size of the norms; the condition is at most 1 + 10 * 6.
    np.testing.assert_allclose(got, want, rtol=0, atol=61 * 5000 * 2.0**-53)


def test_only_so_many_rows_are_read():
    read = []

    def rows_of(rows):
        read.append(rows)
        return X[rows % 4], TARGET[rows % 4]

    Ridge.of(rows_of, np.arange(20_000)[::-1], "reference")
    assert sum(map(len, read)) == 1 << 13 and max(map(len, read)) == 4096
    assert min(map(min, read)) == 20_000 - (1 << 13)
    assert all((np.diff(rows) > 0).all() for rows in read)  # in the order of the file


def test_an_inverse_is_exact_in_fractions():
    L = np.array([[2, 0, 0], [1, 3, 0], [-1, 1, 1]], dtype=object) * Fraction(1)
    A = L @ L.T
    np.testing.assert_array_equal(inverse_of_block(A) @ A, np.eye(3, dtype=int))


def test_without_variance_nothing_is_divided_by_zero():
    nothing = np.zeros((4, 2))
    ridge = Ridge.of(lambda r: (nothing[r], TARGET[r]), np.arange(4), "reference")
    np.testing.assert_array_equal(ridge.reads(nothing, TARGET), nothing)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_each_feature_begins_at_an_example(rng, normalize, backend):
    """(I1) to (I4), with the noise of a tenth that both directions get."""
    x = rng.standard_normal((64, 5)) * [9, 3, 1, 1, 1] + 2
    target = np.tanh(x[:, :4])
    conventions = rt.Conventions(normalize_activations=normalize)
    sizes = {"input_size": 5, "dict_size": 64, "output_size": 4, "top_k": 3}
    config = TranscoderConfig(**sizes, dtype="float64", conventions=conventions)
    pair = Activations(x, "x"), Activations(target, "target")
    moments, one = Moments.of(*pair), Scaling(1.0, 1.0)
    got = starting_arrays(config, *pair, moments, one, np.random.default_rng(5), backend)
    u, gain, shift = reference.NORMALIZATIONS[normalize].forward(x, conventions)
    decoded = (target - shift) / gain if conventions.rescale_output else target
    u, y = u - u.mean(axis=0), decoded - decoded.mean(axis=0)
    rows = np.random.default_rng(5).permutation(64)
    ridge = Ridge.of(lambda r: (u[r], y[r]), rows, backend)
    reads, writes = ridge.reads(u[rows], unit(y[rows])), unit(y[rows])
    for W, want in ((got["W_enc"] * 10, unit(reads)), (got["W_dec"], writes)):
        cosines = (W * want).sum(axis=1) / np.linalg.norm(W, axis=1)
        # The sine of the angle is at most the length of the noise; what is rounded is far smaller.
        assert (cosines > np.sqrt(1 - 0.11**2)).all() and (cosines < np.sqrt(1 - 0.001**2)).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_inverse_of_several_blocks(backend):
    """Of 1 + v v^T it is 1 - v v^T / (1 + v.v), and the condition is 1 + v.v."""
    n = 150
    got = inverse(np.eye(n) + 1.0, product_by(backend))
    # Higham (2002), section 14.4: within 8 n^(5/2) u times the condition, for such matrices.
    atol = 8 * n**2.5 * 2.0**-53 * (n + 1)
    np.testing.assert_allclose(got, np.eye(n) - 1 / (n + 1), rtol=0, atol=atol)


def test_the_reference_trains_without_a_kernel():
    """Whatever is trained: Numba is never loaded."""
    code = """
import sys
import numpy as np
import reftranscoder as rt

rng = np.random.default_rng(0)
x, target = rng.standard_normal((2, 40, 6))
options = {"dict_size": 12, "top_k": 3, "steps": 3, "batch_size": 16, "backend": "reference"}
for more in (
    {"aux_k": 4, "skip": True, "patience": 2, "log_every": 1},
    {"activation": "batchtopk", "second_moment": "row", "clip_norm": 0.1},
    {"activation": "jumprelu", "unit_norm_decoder": True, "average": 0.9},
    {"conventions": rt.Conventions(rescale_acts_by_decoder_norm=True)},
):
    rt.fit(x, target, validation=0.25, **options, **more)
rt.fit_cross_layer([x, x], [target, target], validation=0.25, **options)
print([name for name in sys.modules if name.startswith(("numba", "llvmlite"))][:3])
"""
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"
