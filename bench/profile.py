"""Where the time of one call goes, beside what the machine could do at best.

Parts are timed in calls of their own, on the same arguments: the compiled search without
candidates, with candidates that are not looked at, and whole; what remains of the call is Python,
NumPy and SciPy.  Limits are measured here as well:

- *product*: the screen's own loop of multiplications, on data that stay in the caches;
- *memory*: bytes that have to be read, or read and written, at the rate of a stream.

A part has no limit where neither says anything about it.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import numba
import numpy as np

from reftranscoder.kernels import batch_part, fused_step, screened_encoder
from reftranscoder.kernels.screen.cpu_target import TILE
from reftranscoder.kernels.screen.packed_whole import PackedWeights
from reftranscoder.training import step

from .peers.ours import Ours
from .work import Work

_STREAM_BYTES = 1 << 28
#: Rows of the loops whose difference is the product alone: both stay in the second-level cache.
_SHORT, _LONG = 512, 1024
_ROWS = 8192


class Part(NamedTuple):
    """A part of a call."""

    call: str
    part: str
    seconds: float
    limit: float | None  # seconds


def profile(work: Work, rounds: int) -> list[Part]:
    """The parts of encoding all rows, of encoding one, and of a step of training."""
    peak, stream = product_peak(rounds), stream_rate(rounds)
    found = []
    for call, x in (("encode", work.x), ("row", work.x[:1])):
        found += _of_encoding(call, work, np.ascontiguousarray(x), rounds, peak, stream)
    return found + _of_step(work, rounds, peak, stream)


def lines(parts: list[Part]) -> Iterator[str]:
    """A line for each part."""
    columns = "{:<8} {:<44} {:>10} {:>10} {:>8}"
    yield columns.format("call", "part", "ms", "limit ms", "ratio")
    before = None
    for part in parts:
        limit = ratio = ""
        if part.limit:
            limit, ratio = f"{1e3 * part.limit:.3f}", f"{part.seconds / part.limit:.2f}"
        call, before = part.call if part.call != before else "", part.call
        yield columns.format(call, part.part, f"{1e3 * part.seconds:.3f}", limit, ratio).rstrip()


def _seconds(run: Callable[[], object], rounds: int, calls: int = 1) -> list[float]:
    """Of a call, after one that is not timed."""
    run()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        taken.append((time.perf_counter() - start) / calls)
    return taken


def stream_rate(rounds: int) -> float:
    """Bytes per second that all threads read from memory, one after the other."""
    data = np.ones(_STREAM_BYTES // 8, np.int64)
    sums = np.zeros(8 * numba.get_num_threads(), np.int64)
    return data.nbytes / min(_seconds(lambda: _read(data, sums), rounds))


@numba.njit(parallel=True)
def _read(data: Any, sums: Any) -> None:
    parts = len(sums)
    for part in numba.prange(parts):
        total = 0
        for value in data[len(data) * part // parts : len(data) * (part + 1) // parts]:
            total += value
        sums[part] = total


def product_peak(rounds: int) -> float:
    """Multiplications and additions per second of the screen's loop, by all threads."""
    taken = []
    for I in (_SHORT, _LONG):  # noqa: E741
        rng = np.random.default_rng(0)
        W = rng.standard_normal((TILE.features, I), np.float32)
        x = rng.standard_normal((_ROWS, I), np.float32)
        searches = _searches(screened_encoder.Encoder(W, W[:, 0]), x, 1, rounds, min)
        taken.append(searches["product"])
    return _ROWS * TILE.features * (_LONG - _SHORT) / max(taken[1] - taken[0], 1e-9)


def _searches(
    encoder: Any,
    x: np.ndarray,
    top_k: int,
    rounds: int,
    chosen: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Seconds of packing the inputs, and of the compiled search by what it does; or nothing, where
    a screen does not pay."""
    given: list[tuple[Any, ...]] = []
    search, pack = screened_encoder.find, PackedWeights.pack

    def recorded(*arguments: Any) -> Any:
        # What is found is written over.
        given.append(tuple(_copied(a) if isinstance(a, np.ndarray) else a for a in arguments))
        return search(*arguments)

    with mock.patch.object(screened_encoder, "find", recorded):
        encoder.encode(x, top_k=top_k)
    if not given:
        return {}
    calls = 1 if len(x) > 1 else 30
    names = search.py_func.__code__.co_varnames

    def seconds(reached: bool = True, **changes: object) -> float:
        blocks = []
        for arguments in given[: -(-len(x) // len(given[0][names.index("states")]))]:
            named = dict(zip(names, arguments)) | changes
            if not reached:
                named["levels"] = np.full_like(named["levels"], np.inf)
            blocks.append(list(named.values()))
        return chosen(_seconds(lambda: [search(*block) for block in blocks], rounds, calls))

    weights = encoder.weights_for(x)
    found = {
        "product": seconds(reached=False, parts=0),
        "candidates": seconds(parts=0),
        "search": seconds(),
        "pack": 0.0,
    }
    if isinstance(weights, PackedWeights):
        found["pack"] = chosen(_seconds(lambda: pack(weights, x), rounds, calls))
    return found


def _copied(array: np.ndarray) -> np.ndarray:
    """A copy that is as read-only as ``array``: for another type, kernels would compile again."""
    copy = array.copy()
    copy.flags.writeable = array.flags.writeable
    return copy


def _of_encoding(
    call: str, work: Work, x: np.ndarray, rounds: int, peak: float, stream: float
) -> list[Part]:
    sizes = work.sizes
    I, D, K = (sizes[letter] for letter in "IDK")
    encoder = screened_encoder.Encoder(work.tc.params.W_enc, work.tc.params.b_enc)
    encoder.encode(work.x, top_k=K)  # which measures columns, as the transcoder has
    found = _searches(encoder, x, K, rounds)
    calls = 1 if len(x) > 1 else 30
    whole = statistics.median(_seconds(lambda: work.tc.encode(x), rounds, calls))
    if not found:
        limit = D * I * x.itemsize / stream
        return [Part(call, part, whole, limit) for part in ("without a screen", "in all")]
    padded = -(-len(x) // TILE.rows) * TILE.rows
    panels = encoder.weights_for(x).panels.nbytes
    product = max(padded * D * I / peak, panels / stream)
    kept = len(x) * K * I * x.itemsize / stream
    parts = [
        Part(call, "inputs rounded to 8 and 16 bits", found["pack"], x.nbytes / stream),
        Part(call, "product and bounds", found["product"], product),
        Part(call, "candidates", found["candidates"] - found["product"], None),
        Part(call, "rescoring, selecting, gathering", found["search"] - found["candidates"], kept),
        Part(call, "Python, NumPy and SciPy", whole - found["search"] - found["pack"], None),
    ]
    return [*parts, Part(call, "in all", whole, x.nbytes / stream + product + kept)]


#: What a step does, by what does it: (where it is looked up, its name) -> the part.
_OF_STEP = {
    (screened_encoder.Encoder, "encode"): "encode",
    (batch_part, "decode_forward"): "decode",
    (batch_part, "row_squares"): "loss and its gradients",
    (batch_part, "slopes_in_place"): "loss and its gradients",
    (batch_part, "l1_slopes"): "loss and its gradients",
    (batch_part, "row_sums"): "loss and its gradients",
    (batch_part, "by_feature"): "hidden, by feature",
    (fused_step, "_step_features"): "gradients of weights, Adam, 8 and 16 bits",
    (step, "average_weights"): "the average of the weights",
}


def _of_step(work: Work, rounds: int, peak: float, stream: float) -> list[Part]:
    peer = Ours(work)
    taken: list[dict[str, float]] = []
    peer.step(*work.batches[0])
    for turn in range(rounds):
        seconds = dict.fromkeys(_OF_STEP.values(), 0.0)
        with _timed(seconds):
            start = time.perf_counter()
            peer.step(*work.batches[(turn + 1) % len(work.batches)])
            seconds["in all"] = time.perf_counter() - start
        seconds["Python, NumPy and SciPy"] = 2 * seconds["in all"] - sum(seconds.values())
        taken.append(seconds)
    sizes = work.sizes
    B, I, D, O = (sizes[letter] for letter in "BIDO")
    product = B * D * I / peak
    memory = 24 * (D * (I + O) + D + O) / stream  # p, m and v, read and written
    limits = {"encode": product, "gradients of weights, Adam, 8 and 16 bits": memory}
    limits["the average of the weights"] = memory / 2  # itself, read and written, and p
    limits["in all"] = product + memory
    order = [*dict.fromkeys(_OF_STEP.values()), "Python, NumPy and SciPy", "in all"]
    return [
        Part("step", name, statistics.median(seconds[name] for seconds in taken), limits.get(name))
        for name in order
    ]


@contextlib.contextmanager
def _timed(seconds: dict[str, float]) -> Iterator[None]:
    """Inside, what each part takes is added to ``seconds``."""
    with contextlib.ExitStack() as stack:
        for (owner, name), part in _OF_STEP.items():
            stack.enter_context(mock.patch.object(owner, name, _adding(owner, name, seconds, part)))
        yield


def _adding(owner: Any, name: str, seconds: dict[str, float], part: str) -> Callable[..., object]:
    function = getattr(owner, name)

    def run(*arguments: Any, **options: Any) -> object:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] += time.perf_counter() - start

    return run
