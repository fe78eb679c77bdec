"""On a cluster everything has the bits that it has here: however many workers, and if some die."""

from __future__ import annotations

import functools
import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import ClusterError, NonFiniteError, OptionError, ShapeError

REASON = "dask.distributed is an extra: reftranscoder[distributed]"
distributed = pytest.importorskip("distributed", reason=REASON)
da = pytest.importorskip("dask.array", reason=REASON)

B, I, D, O, K = 16, 6, 24, 4, 3
OPTIONS = {"dict_size": D, "top_k": K, "steps": 5, "batch_size": B, "lr": 1e-2, "log_every": 3}


@contextmanager
def cluster(workers, **options):
    """A client of so many workers: threads of this process, or processes of their own."""
    threads = {"processes": False, "protocol": "inproc://"} | options
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", **threads
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def three():
    with cluster(3) as client:
        yield client


@functools.cache
def data():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((80, I)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((I, O)), 0) + 1


@functools.cache
def plain(**options):
    return rt.fit(*data(), **OPTIONS | options)


def bits(fit):
    """All that a run gives but how fast it was."""
    log = [(e.step, e.lr, e.loss, e.fvu, e.l0, e.dead) for e in fit.history]
    arrays = {name: a.tobytes() for name, a in fit.transcoder.params.arrays().items()}
    return arrays, log, fit.steps, fit.best_step, fit.metrics and fit.metrics.fvu


# Training


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"skip": True, "accumulate": 3}, marks=pytest.mark.kernels),
        pytest.param(
            {"activation": "relu", "unit_norm_decoder": True, "average": 0.9},
            marks=pytest.mark.kernels,
        ),
        {"activation": "groupmax"},
        {"activation": "abstopk", "second_moment": "entry"},
        {"ties": "keep_all", "validation": 0.25, "patience": 1},
        pytest.param({"aux_k": 2, "dead_after": 1}, marks=pytest.mark.kernels),
        {"aux_k": 40, "dead_after": 1, "accumulate": 2, "top_k_start": 6},
        {"clip_norm": 0.01, "skip": True, "average": 0.5},
        {"dtype": "float64", "top_k": D},
    ],
    ids=str,
)
def test_the_bits_are_those_of_fit(three, options):
    assert bits(rt.distributed.fit(three, *data(), **OPTIONS | options)) == bits(plain(**options))


def test_what_was_compared_has_dead_features_and_clips():
    """Else those options would change nothing, here and there."""
    assert bits(plain(aux_k=2, dead_after=1)) != bits(plain())
    assert bits(plain(clip_norm=0.01)) != bits(plain())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_no_bit(workers):
    with cluster(workers) as client:
        got = rt.distributed.fit(client, *data(), **OPTIONS, aux_k=2, dead_after=1)
    assert bits(got) == bits(plain(aux_k=2, dead_after=1))


def test_more_workers_than_features():
    options = {"dict_size": 2, "top_k": 1}
    with cluster(3) as client:
        got = rt.distributed.fit(client, *data(), **OPTIONS | options)
    assert bits(got) == bits(plain(**options))


@pytest.mark.kernels
def test_equal_activations_are_chosen_as_there(three):
    """Every row twice, in whole numbers: features tie, in several slices."""
    x, target = (np.rint(a) for a in data())
    options = OPTIONS | {"steps": 2, "dict_size": 160}  # features begin at rows: twins, but noise
    assert bits(rt.distributed.fit(three, x, target, **options)) == bits(
        rt.fit(x, target, **options)
    )


def test_wherever_the_rows_lie(three, tmp_path, monkeypatch):
    x, target = data()
    with rt.ActivationWriter(tmp_path / "acts", dtype="float32") as writer:
        for start in range(0, 80, 16):
            writer.add(x[start : start + 16], target[start : start + 16])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "target.npy", target)
    monkeypatch.chdir(tmp_path)
    chunks = da.from_array(x, chunks=((33, 40, 7), 4)), da.from_array(target, chunks=(29, O))
    for given in (("acts",), ("x.npy", "target.npy"), chunks):
        assert bits(rt.distributed.fit(three, *given, **OPTIONS)) == bits(plain()), given
    dropping = {"sequence_length": 8, "drop_position": 0, "rows": "3:70"}
    wanted = bits(rt.fit(*rt.paired(x, target, **dropping), **OPTIONS))
    for given in (("x.npy", "target.npy"), chunks, (x, target)):
        got = rt.distributed.fit(three, *rt.paired(*given, **dropping), **OPTIONS)
        assert bits(got) == wanted, given


def test_moments_by_many_blocks(three, tmp_path):
    """More than one block in a task, and more than one task."""
    x = np.random.default_rng(5).standard_normal((70_000, 1)) * 1e3 + 7
    np.save(tmp_path / "x.npy", x)
    options = {"dict_size": 2, "top_k": 1, "steps": 1, "batch_size": 2}
    want = bits(rt.fit(x, x, **options))
    path = tmp_path / "x.npy"
    assert bits(rt.distributed.fit(three, path, path, **options)) == want
    chunked = da.from_array(x, chunks=(9_999, 1))
    assert bits(rt.distributed.fit(three, chunked, chunked, **options)) == want


def test_a_run_goes_on_here_and_there(three, tmp_path):
    def stop(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    here, there = functools.partial(rt.fit), functools.partial(rt.distributed.fit, three)
    for number, (first, second) in enumerate([(here, there), (there, here)]):
        options = OPTIONS | {"checkpoint": tmp_path / f"{number}.npz"}
        assert first(*data(), **options, progress=stop).interrupted
        assert bits(second(*data(), **options)) == bits(plain())


def test_nothing_is_left_in_the_workers(three):
    rt.distributed.fit(three, *data(), **OPTIONS)
    assert set(three.run(_slices_held).values()) == {0}


def _slices_held():
    from reftranscoder.distributed import slices

    return len(vars(slices)["_held"])


def test_what_moves_does_not_grow_with_the_dictionary():
    """Between workers, by the table in the docstring: counted at 1, 2 and 4 of them."""
    rows, steps = 64, 2
    options = OPTIONS | {"batch_size": rows, "steps": steps, "log_every": steps}
    for workers in (1, 2, 4):
        for dict_size in (D, 4 * D):
            with cluster(workers) as client:
                rt.distributed.fit(client, *data(), **options | {"dict_size": dict_size})
                sent = [entry for log in client.run(_received).values() for entry in log]
                names = set(client.run_on_scheduler(_task_names))
            hops = steps * (workers - 1)
            least = hops * 4 * rows * (I + 2 * O)
            most = least + hops * (20 * rows * K + 24 * rows) + bool(hops) * steps * 4 * rows * O
            arrays = sum(len(entry["keys"]) for entry in sent) * 500  # what is not numbers
            assert least <= sum(entry["total"] for entry in sent) <= most + arrays
            assert {"read", "encode", "choose", "errors", "gradient"} <= names
            assert ("decode" in names) == (workers > 1)


def _received(dask_worker):
    log = dask_worker.transfer_incoming_log
    return [{"keys": dict(entry["keys"]), "total": entry["total"]} for entry in log]


def _task_names(dask_scheduler):
    return list(dask_scheduler.task_prefixes)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"backend": "reference"}, "backend must be 'kernels' on a cluster"),
        ({"activation": "batchtopk"}, "activation must be topk or relu or"),
        ({"activation": "jumprelu"}, "activation must be topk or relu or"),
        ({"sparsity_loss": "l1_sum"}, "losses must be the default ones"),
        ({"steps": 0}, "steps must be a positive integer"),
    ],
    ids=str,
)
def test_what_is_not_trained_on_a_cluster(three, options, want):
    with pytest.raises(OptionError, match=want):
        rt.distributed.fit(three, *data(), **OPTIONS | options)


def test_a_client_is_one():
    with pytest.raises(OptionError, match="client must be a distributed.Client"):
        rt.distributed.fit("tcp://nowhere:1", *data(), **OPTIONS)


# A transcoder over a Dask array


@pytest.fixture(scope="module")
def tc():
    return rt.build(input_size=I, output_size=O, dict_size=D, top_k=K, skip=True, seed=3)


CHUNKS = ((33, 40, 7), 4)


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_encode_and_predict_are_lazy_and_have_the_bits_of_the_whole(tc, backend):
    x, _ = data()
    lazy = da.from_array(x, chunks=CHUNKS)
    hidden = rt.distributed.encode(tc, lazy, backend=backend)
    assert hidden.shape == (80, D) and hidden.chunks == ((33, 40, 7), (D,))
    want, got = tc.encode(x, backend=backend), hidden.compute()
    assert (type(got), got.dtype, hidden.dtype) == (type(want), want.dtype, want.dtype)
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(got, name), getattr(want, name))
    assert hidden.blocks[1].compute().shape == (40, D)
    predicted = rt.distributed.predict(tc, lazy, backend=backend)
    assert np.array_equal(predicted.compute(), tc(x, backend=backend))


def test_nothing_is_computed_before_it_is_asked_for(tc):
    def fails(block):
        raise ValueError("computed")

    lazy = da.from_array(data()[0], chunks=CHUNKS).rechunk((20, I)).map_blocks(fails, dtype="f8")
    for made in (rt.distributed.encode(tc, lazy), rt.distributed.predict(tc, lazy)):
        with pytest.raises(ValueError, match="computed"):
            made.compute(scheduler="sync")


@pytest.mark.parametrize("batch_rows", [4096, 32, 7])
def test_evaluate_gives_the_same_numbers(tc, batch_rows):
    x, target = data()
    want = rt.evaluate(tc, x, target, batch_rows=batch_rows)
    chunks = da.from_array(x, chunks=CHUNKS), da.from_array(target, chunks=(29, O))
    got = rt.distributed.evaluate(tc, *chunks, batch_rows=batch_rows)
    assert numbers(got) == numbers(want)


def numbers(found):
    m = found.metrics
    arrays = m.firing_rates.tobytes(), m.l0_counts.tobytes(), found.fvu_by_column.tobytes()
    return repr((found.whole, found.batches, m.rows, m.mse, m.fvu, m.l0)), arrays


def test_evaluate_on_a_cluster(three, tc):
    x, target = data()
    chunks = da.from_array(x, chunks=(9, I)), da.from_array(target, chunks=(80, O))
    got = rt.distributed.evaluate(tc, *chunks, batch_rows=10)
    assert numbers(got) == numbers(rt.evaluate(tc, x, target, batch_rows=10))


def test_what_does_not_fit_is_refused(tc):
    x, target = (da.from_array(a, chunks=(20, -1)) for a in data())
    for function in (rt.distributed.encode, rt.distributed.predict):
        with pytest.raises(OptionError, match="x must be a Dask array; got 'ndarray'"):
            function(tc, data()[0])
        with pytest.raises(ShapeError, match=r"x must have shape \(any, 6\); got \(80, 4\)"):
            function(tc, target)
        with pytest.raises(OptionError, match="activation must be topk or"):
            sizes = {"input_size": I, "output_size": O, "dict_size": D, "top_k": 3}
            function(rt.build(**sizes, activation="batchtopk"), x)
    with pytest.raises(ShapeError, match="target must have shape"):
        rt.distributed.evaluate(tc, x, target[:70])
    with pytest.raises(ShapeError, match="compute_chunk_sizes"):
        rt.distributed.evaluate(tc, x[x[:, 0] > 0], target)


def test_nan_is_named_by_its_row_in_the_whole(tc):
    x, target = (a.copy() for a in data())
    x[61, 3] = np.nan
    x, target = da.from_array(x, chunks=CHUNKS), da.from_array(target, chunks=CHUNKS)
    for ask in (
        lambda: rt.distributed.encode(tc, x).compute(),
        lambda: rt.distributed.evaluate(tc, x, target, batch_rows=50),
    ):
        with pytest.raises(NonFiniteError, match="x must be finite; got nan at row 61, column 3"):
            ask()


# Loss


def test_what_is_lost_is_made_again(three):
    """Twice: before the first log, and just after it."""

    def lose(progress):
        if progress.step in (2, 3):
            three.run(_lose)

    got = rt.distributed.fit(three, *data(), **OPTIONS, progress=lose, average=0.9)
    assert bits(got) == bits(plain(average=0.9))


def _lose():
    from reftranscoder.distributed import slices

    vars(slices)["_held"].clear()


def test_a_step_that_is_always_lost(three, monkeypatch):
    from reftranscoder.distributed import slices

    monkeypatch.setattr(slices, "hold", lambda *given: None)
    with pytest.raises(ClusterError, match="step 1 was lost 6 times, and not made: slice"):
        rt.distributed.fit(three, *data(), **OPTIONS)


def test_a_killed_process(monkeypatch):
    """One is killed within a step and comes back as another; then one that does not."""
    from reftranscoder.distributed import cluster as steps

    seen = []

    def kill(progress):
        seen.append(progress.step)
        if len(seen) in (2, 4):
            # The second time it is not waited for.
            monkeypatch.setattr(steps, "_GRACE", 60.0 if len(seen) == 2 else 0.0)
            victim = min(client.run(os.getpid).values())
            before.append(set(client.nthreads()))
            threading.Timer(0.01, os.kill, (victim, signal.SIGKILL)).start()

    before = []
    processes = {"processes": True, "protocol": "tcp://", "env": {"NUMBA_DISABLE_JIT": "1"}}
    with cluster(2, **processes) as client:
        got = rt.distributed.fit(client, *data(), **OPTIONS, progress=kill)
        now = set(client.nthreads())
    assert seen == [1, 2, 3, 4, 5]  # nothing is told twice
    assert bits(got) == bits(plain())
    assert len(before) == 2 and before[0] != before[1] and before[1] != now
