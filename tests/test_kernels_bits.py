"""What a kernel returns depends on its arguments alone, to the last bit: not on the number of
threads, nor on the rest of the batch, nor on whether it was compiled.

Run as a script, this file writes every result to the file it is given: that is how results are
compared between processes.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core import config

from reftranscoder import kernels
from reftranscoder.kernels.affine import four_rows, two_rows
from reftranscoder.kernels.engine.work_division import equal_parts, row_blocks
from reftranscoder.kernels.fused_step import step_in_place
from reftranscoder.sparse import Sparse

pytestmark = pytest.mark.kernels

SMALL = {"B": 6, "I": 11, "D": 19, "O": 13, "K": 3}
LARGE = {"B": 300, "I": 21, "D": 150, "O": 35, "K": 5}
EDGES = [
    {"B": 0, "I": 3, "D": 5, "O": 2, "K": 2},
    {"B": 1, "I": 1, "D": 1, "O": 1, "K": 1},
    {"B": 3, "I": 1, "D": 5, "O": 1, "K": 5},
    {"B": 2, "I": 8, "D": 4, "O": 16, "K": 1},
]


def problem(dtype, B, I, D, O, K):
    """Inputs, target and parameters; the last three features are never active."""
    rng = np.random.default_rng(20240617)
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,), "W_skip": (O, I)}
    P = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    if D > 5:
        P["b_enc"][-3:] = -100
    x, target = (rng.standard_normal((B, size)).astype(dtype) for size in (I, O))
    return x, target, P


def everything(dtype, B, I, D, O, K):
    """Every array that any kernel makes of `problem`, by name."""
    x, target, P = problem(dtype, B, I, D, O, K)
    made = {
        "pre": kernels.affine_forward(x, P["W_enc"], P["b_enc"]),
        "pre_acts": kernels.affine_relu_forward(x, P["W_enc"], P["b_enc"]),
    }
    made["selected"] = kernels.topk_forward(made["pre"].astype(dtype), K)  # of negative ones too
    for activation, ties in ("topk", "lowest_index"), ("topk", "keep_all"), ("relu", "keep_all"):
        out = kernels.transcoder_forward(x, **P, top_k=K, activation=activation, ties=ties)
        back = {}
        if B:
            loss = kernels.transcoder_loss(target, out.reconstruction, out.hidden, 0.1)
            back = kernels.transcoder_backward(
                x, target, out, P["W_enc"], P["W_dec"], P["W_skip"], l1_coeff=0.1
            )._asdict()
            back["loss"] = np.asarray(loss)
        for name, array in (out._asdict() | back).items():
            made[f"{activation} {ties} {name}"] = array
        if B:
            state = [{name: a.copy() for name, a in P.items()} for _ in range(3)]
            options = {"top_k": K, "activation": activation, "ties": ties}
            step_in_place(
                state[0],
                state[1],
                {name: np.square(a) for name, a in state[2].items()},
                x,
                target,
                *(2, 1e-3, 0.9, 0.999, 1e-8),
                l1_coeff=0.1,
                unit_norm_decoder=activation == "relu",
                **options,
            )
            for group, arrays in zip(("p", "m"), state):
                made |= {f"{activation} {ties} {group}.{n}": a for n, a in arrays.items()}
    p, g, m = (P["W_enc"].copy() for _ in range(3))
    kernels.adam_step(p, g, m, np.zeros_like(p), 2, 1e-3, 0.9, 0.999, 1e-8)
    made |= {"p": p, "m": m}
    arrays = {}
    for name, array in made.items():
        if isinstance(array, Sparse):
            arrays |= {f"{name} {part}": getattr(array, part) for part in array._fields}
        elif array is not None:
            arrays[name] = array
    return {name: np.asarray(array) for name, array in arrays.items()}


def different(one, other):
    """The names of arrays that are not the same bits."""
    assert one.keys() == other.keys()
    return [
        name
        for name, array in one.items()
        if (array.dtype, array.shape) != (other[name].dtype, other[name].shape)
        or array.tobytes() != other[name].tobytes()
    ]


both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread")
@both_types
@pytest.mark.parametrize("sizes", [SMALL, LARGE][: 1 if config.DISABLE_JIT else 2], ids=str)
def test_the_same_bits_on_one_thread_and_on_two(dtype, sizes):
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = everything(dtype, **sizes)
        numba.set_num_threads(2)
        two = everything(dtype, **sizes)
    finally:
        numba.set_num_threads(threads)
    assert different(one, two) == []


def test_rows_have_the_same_sums_however_many_are_taken_at_once(rng):
    x, panel = rng.standard_normal((7, 24)), rng.standard_normal((4, 24))
    want = kernels.affine_forward(x, panel, np.zeros(4))
    for at_once in (
        numba.njit(lambda x, r, panel: two_rows(x, r, panel)),
        numba.njit(lambda x, r, panel: four_rows(x, r, panel)),
    ):
        for r in range(len(x)):
            rows = np.minimum(np.arange(r, r + len(at_once(x, r, panel))), len(x) - 1)
            assert np.array_equal(at_once(x, r, panel), want[rows])


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: nothing is compiled")
def test_the_same_bits_as_plain_python(tmp_path):
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, __file__, str(tmp_path / "plain.npz")]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    with np.load(tmp_path / "plain.npz") as plain:
        assert different(of_all_sizes(), dict(plain)) == []


def of_all_sizes():
    return {
        f"{np.dtype(dtype)} {sizes} {name}": array
        for dtype in (np.float32, np.float64)
        for sizes in [SMALL, *EDGES]
        for name, array in everything(dtype, **sizes).items()
    }


@both_types
def test_a_row_does_not_depend_on_its_batch(dtype):
    sizes = SMALL if config.DISABLE_JIT else LARGE
    x, _, P = problem(dtype, **sizes)
    batch = kernels.transcoder_forward(x, **P, top_k=sizes["K"])
    for b in {0, 1, len(x) // 2, len(x) - 1}:
        alone = kernels.transcoder_forward(x[b : b + 1], **P, top_k=sizes["K"])
        assert np.array_equal(alone.reconstruction[0], batch.reconstruction[b])
        row = slice(*batch.hidden.indptr[b : b + 2])
        assert np.array_equal(alone.hidden.indices, batch.hidden.indices[row])
        assert np.array_equal(alone.hidden.values, batch.hidden.values[row])


@both_types
@pytest.mark.parametrize("sizes", [SMALL, *EDGES], ids=str)
def test_a_sparse_result_is_in_its_one_form(dtype, sizes):
    x, _, P = problem(dtype, **sizes)
    hidden = kernels.encode_forward(x, P["W_enc"], P["b_enc"], top_k=sizes["K"])
    assert hidden.shape == (sizes["B"], sizes["D"])
    assert (hidden.indptr.dtype, hidden.indices.dtype) == (np.int32, np.int32)
    assert hidden.values.dtype == dtype and (hidden.values > 0).all()
    assert len(hidden.indptr) == sizes["B"] + 1
    assert hidden.indptr[-1] == len(hidden.indices) == len(hidden.values)
    for b in range(sizes["B"]):
        row = hidden.indices[slice(*hidden.indptr[b : b + 2])]
        assert len(row) <= sizes["K"] and (np.diff(row) > 0).all()


def test_what_rounds_to_zero_is_not_stored():
    W = np.array([[1e-30], [1e-10], [1e-30], [2e-30]])
    for dtype, kept in (np.float32, [1]), (np.float64, [1, 3]):
        x = np.full((1, 1), 1e-30, dtype)  # 1e-60 is nothing in float32
        hidden = kernels.encode_forward(x, W.astype(dtype), np.zeros(4, dtype), top_k=2)
        assert hidden.indices.tolist() == kept and hidden.indptr.tolist() == [0, len(kept)]


def test_a_tie_goes_to_the_lower_index_and_nan_ranks_first():
    nan = np.nan
    rows = np.array([[2, 3, 2, 0, 3, 2], [nan, 5, nan, 1, 5, nan], [0, -1, 0, -2, -1, -3]])
    for dtype in np.float32, np.float64:
        p = rows.astype(dtype)
        for top_k, kept in [
            (1, [[1], [0], []]),
            (3, [[0, 1, 4], [0, 2, 5], [1]]),
            (4, [[0, 1, 2, 4], [0, 1, 2, 5], [1, 4]]),
            (6, [[0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5], [1, 3, 4, 5]]),
        ]:
            hidden = kernels.topk_forward(p, top_k)
            assert [i.tolist() for i in np.split(hidden.indices, hidden.indptr[1:-1])] == kept
        hidden = kernels.topk_forward(p, 2, ties="keep_all")
        assert hidden.indices.tolist() == [1, 4, 0, 2, 5]
        hidden = kernels.topk_forward(p, 3, ties="keep_all")
        assert hidden.indices.tolist() == [0, 1, 2, 4, 5, 0, 2, 5, 1, 4]


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too many numbers for plain Python")
@pytest.mark.parametrize("top_k", [1, 7, 40, 1000, 4000, 5000])
def test_selection_among_many(top_k, rng):
    # Long rows take the way by a sample; few distinct values make many ties.
    p = rng.integers(0, 60, size=(12, 5000)) * rng.integers(0, 2, size=(12, 1))
    p[0] = np.arange(5000)
    p[1] = p[0, ::-1]
    order = np.argsort(-p, axis=1, kind="stable")[:, :top_k]
    want = np.zeros(p.shape)
    np.put_along_axis(want, order, np.take_along_axis(p, order, axis=1), axis=1)
    assert np.array_equal(kernels.topk_forward(p.astype(np.float64), top_k).dense(), want)


def test_blocks_cover_all_rows():
    for B, D, I in [(0, 1, 1), (1, 10, 10), (1000, 4096, 576), (100, 1 << 24, 1 << 20), (7, 1, 1)]:
        rows = np.arange(B)
        assert [*rows] == [b for block in row_blocks(B, D, I) for b in rows[block]]


def test_parts_are_equal(rng):
    counts = rng.zipf(1.3, size=3000).clip(0, 2000) * rng.integers(0, 2, size=3000)
    starts = np.concatenate([[0], np.cumsum(counts)])
    firsts = equal_parts(starts)
    assert firsts[0] == 0 and firsts[-1] == 3000 and (np.diff(firsts) >= 0).all()
    work = np.add.reduceat(counts + 1, firsts[:-1])
    assert work.max() <= (counts + 1).sum() / len(work) + counts.max() + 2
    assert equal_parts(np.zeros(1, np.int32)).max() == 0
    assert equal_parts(np.zeros(100, np.int32))[-1] == 99


if __name__ == "__main__":
    np.savez(sys.argv[1], **of_all_sizes())
