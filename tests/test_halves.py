"""Half precision as float32: every one of the numbers that there are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from reftranscoder.files.halves import is_half, widened
from reftranscoder.files.npy import BFLOAT16

EVERY = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(1 << 16,), (1 << 16, 1), (64, 1024), (2, 1 << 15)])
def test_every_number(dtype, shape):
    numbers = EVERY.view(dtype).reshape(shape)
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        wanted = numbers.astype(np.float32)
    for found in (widened(numbers), widened(numbers, np.empty(shape, np.float32))):
        np.testing.assert_array_equal(found, wanted)
        finite = np.isfinite(wanted)
        assert found[finite].tobytes() == wanted[finite].tobytes()  # the sign of zero


def test_in_stretches_and_turned():
    numbers = np.random.default_rng(0).standard_normal((700, 800)).astype(np.float16)
    numbers[3, 4], numbers[650, 7] = np.inf, np.nan
    for given in (numbers, numbers.T, numbers[::2, 1:]):
        np.testing.assert_array_equal(widened(given), given.astype(np.float32))


def test_bfloat16_without_a_meaning():
    stored = EVERY.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widened(EVERY.view(BFLOAT16)), stored)


def test_which_it_takes():
    taken = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), BFLOAT16)
    assert all(map(is_half, taken))
    others = ("f4", "f8", "i2", "u2", "V4", ">f2" if np.dtype("f2").str == "<f2" else "<f2")
    assert not any(is_half(np.dtype(other)) for other in others)
    assert not is_half(np.dtype(ml_dtypes.float8_e4m3fn))
