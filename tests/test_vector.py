"""Each vector instruction is two things of one meaning: a NumPy body, and compiled code."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core import config

from reftranscoder.kernels.engine.jit import routine
from reftranscoder.kernels.engine.vector import (
    LANES,
    fma,
    lane_sum,
    load,
    load_tail,
    subtract,
    zeros,
)

pytestmark = pytest.mark.kernels

compiled_only = pytest.mark.skipif(
    bool(config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT is set: nothing is compiled"
)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def hostile(dtype):
    """Zeros, ones, their neighbours, the ends of the range, what is subnormal, and no number."""
    f = np.finfo(dtype)
    positive = [0, 1, 1 + f.eps, 1 - f.epsneg, 3, f.max, f.tiny, f.smallest_subnormal]
    positive += [f.tiny - f.smallest_subnormal, f.eps / 2, f.max / 2, np.sqrt(f.tiny), np.inf]
    return np.array([*positive, *(-np.array(positive)), np.nan], dtype)


def triples(dtype, rng):
    """x, y and z, for x * y + z: all combinations, sums that cancel, and sums next to a tie."""
    x, y, z = np.array(list(itertools.product(hostile(dtype), repeat=3))).T
    u, v = rng.standard_normal((2, 2000)).astype(dtype)
    e = np.finfo(dtype).eps
    # 1 + e, and just less than half its last place: rounding twice would give 1 + 2e.
    near = np.array([[e / 2 * (1 + e)], [1 - e], [1 + e]], dtype)
    x, y, z = np.concatenate([[x, y, z], [u, v, -(u * v)], near, -near[[0, 0, 2]]], axis=1)
    return x.astype(dtype), y.astype(dtype), z.astype(dtype)


def same(got, want):
    """Equal bits, or both NaN, whose bits no one promises."""
    got, want = np.asarray(got), np.asarray(want)
    bits = got.dtype == want.dtype and got.view(f"i{got.itemsize}") == want.view(f"i{got.itemsize}")
    return np.all(bits | (np.isnan(got) & np.isnan(want)))


def each_fma(x, y, z, out):
    for n in range(len(x)):
        out[n] = fma(x[n], y[n], z[n])
    return out


def each_sum(array, whole, out):
    """A sum over each row in which its last eight lanes and its tail take part."""
    for row in range(len(array)):
        first = load(array, row, whole - LANES)
        tail = load_tail(array, row, whole)
        out[row] = lane_sum(fma(subtract(first, tail), tail, subtract(zeros(), first)))
    return out


def each_lane_sum(array, out):
    for row in range(len(array)):
        out[row] = lane_sum(load(array, row, 0))
    return out


@compiled_only
@both_types
def test_fma_compiled_is_its_body(dtype, rng):
    x, y, z = triples(dtype, rng)
    compiled = numba.njit(each_fma)(x, y, z, np.empty_like(z))
    with np.errstate(all="ignore"):
        assert same(compiled, each_fma(x, y, z, np.empty_like(z)))


@both_types
def test_fma_rounds_once(dtype):
    e = np.finfo(dtype).eps
    assert fma(dtype(1 + e), dtype(1 - e), dtype(-1)) == dtype(-e * e)  # 0 if rounded before
    near_tie = dtype(e / 2 * (1 + e)), dtype(1 - e), dtype(1 + e)
    assert fma(*near_tie) == dtype(1 + e)
    if dtype is np.float32:  # float64 in between is not enough: this is the case that shows it
        twice = np.float64(near_tie[0]) * np.float64(near_tie[1]) + np.float64(near_tie[2])
        assert dtype(twice) == dtype(1 + 2 * e)


@compiled_only
@both_types
@pytest.mark.parametrize("tail", range(LANES))
def test_vectors_compiled_are_their_bodies(dtype, tail, rng):
    whole = 16
    array = rng.standard_normal((200, whole + tail)).astype(dtype)
    array[:100] = rng.choice(hostile(dtype), size=(100, whole + tail))
    compiled = numba.njit(each_sum)(array, whole, np.empty(len(array)))
    with np.errstate(all="ignore"):
        want = each_sum(array, whole, np.empty(len(array)))
    assert same(compiled, want)
    assert np.isfinite(want).any() and not np.isfinite(want).all()


def test_a_sum_beyond_every_number_is_infinite():
    assert fma(1e200, 1e200, 1.0) == np.inf
    assert fma(1e200, -1e200, 1.0) == -np.inf


@both_types
def test_lanes_are_added_as_written(dtype, rng):
    # Of magnitudes far apart, so that another order gives another sum.
    array = (rng.standard_normal((1000, LANES)) * 4.0 ** rng.integers(0, 30, LANES)).astype(dtype)
    v = array.astype(np.float64).T
    written = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    sums = numba.njit(each_lane_sum)(array, np.empty(len(array)))
    assert same(sums, written)
    neighbours = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]))
    halves_last = ((v[0] + v[2]) + (v[1] + v[3])) + ((v[4] + v[6]) + (v[5] + v[7]))
    assert not same(sums, neighbours) and not same(sums, halves_last) and not same(sums, sum(v))


@compiled_only
def test_a_product_and_a_sum_are_not_fused_on_their_own():
    e = np.finfo(np.float64).eps
    x, y, z = 1 + e, 1 - e, -1.0
    twice = routine(lambda x, y, z: x * y + z)
    compiled = numba.njit(lambda x, y, z: twice(x, y, z))
    assert compiled(x, y, z) == 0 != fma(*map(np.float64, (x, y, z)))


END_OF_MEMORY = """
import ctypes, mmap, numpy as np, numba
from reftranscoder.kernels.engine.vector import lane_sum, load_tail
libc = ctypes.CDLL(None, use_errno=True)
memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert libc.mprotect(ctypes.c_void_p(start + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
total = numba.njit(lambda array, column: lane_sum(load_tail(array, 0, column)))
for dtype in np.float32, np.float64:
    for tail in range(8):
        size = 16 + tail
        offset = mmap.PAGESIZE - size * np.dtype(dtype).itemsize
        array = np.frombuffer(memory, dtype, size, offset).reshape(1, size)
        array[:] = 1
        assert total(array, 16) == tail
print("done")
"""


@compiled_only
@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is not there")
def test_a_tail_reads_nothing_beyond_the_array(tmp_path):
    command = [sys.executable, "-c", END_OF_MEMORY]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "done\n", run.stderr
