"""Cases in which no sum is ever rounded, so that any difference at all is a mistake.

Let q be the largest power of two that all terms of a sum are multiples of, and S the sum of their
absolute values.  Every partial sum is then a multiple of q and at most S.  A format with unit
roundoff u holds all of these if::

    S  <=  q / u                                                                          (X1)

whatever the order of summation.  A product of multiples of q1 and q2 is a multiple of q1 q2, so
that small integers do, if B O, B D and l1_coeff are powers of two, or fractions over one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from ...params import KEEPING_ALL
from ..judging.selection import NearTie
from ..judging.verdict import StageResult
from ..task.arithmetic import Arithmetic
from ..task.case import Case
from ..task.stage_graph import ALL_STAGES, OF_OWN, PARENTS

_UNIT = 2.0**-24  # of float32: in narrower formats no case is exact
_MOST_ENTRIES = 1 << 20  # numbers in an array, above which nobody looks whether sums are exact


def exact_stages(case: Case, arithmetic: dict[str, Arithmetic]) -> frozenset[str]:
    """The stages of ``case`` whose sums, and all that they read, fulfil (X1).

    None, where some row is not finite, or the ``arithmetic`` is coarser than float32, or under
    conventions, whose sums are others.
    """
    if not case.config.conventions.plain or len(case.non_finite):
        return frozenset()
    if any(_unit(a) > _UNIT for a in arithmetic.values()):
        return frozenset()
    exact: set[str] = set()
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not exact
        is_exact = ((n, bool(np.max(S, initial=0) <= q / _UNIT)) for n, S, q in _sums(case))
        _, first = next(is_exact)
        if not first:
            return frozenset()  # every stage reads pre
        rounded = {name for name, is_so in is_exact if not is_so}
    if case.config.activation == "gated":
        # The strengths, exp(r_mag), are rounded; what is selected may be exact all the same.
        return frozenset({"pre", "hidden"} if _gates_are_exact(case) else {"pre"})
    for name in ALL_STAGES:
        if name not in (*rounded, *OF_OWN) and exact.issuperset(PARENTS[name]):
            exact.add(name)
    return frozenset(exact)


def _gates_are_exact(case: Case) -> bool:
    """Whether the sums of both paths are, where the strengths are 1."""
    own = {n: a.astype(np.float64) for n, a in case.params.all_arrays().items()}
    product = case.x.astype(np.float64), own["W_enc"].T
    biases = ((own["b_enc"],), (own["b_gate"],), (own["b_mag"],))
    S, q = _sum(product, *biases)
    return bool(np.max(S, initial=0) <= q / _UNIT)


def require_exact(
    results: Mapping[str, StageResult],
    case: Case,
    arithmetic: dict[str, Arithmetic],
    accepted: Collection[str],
) -> dict[str, StageResult]:
    """The ``results`` on ``case``, where nothing counts as rounding at the stages that are exact.

    A stage whose own upstream is off is left as it is: what it read is no longer exact.  So is what
    follows from features that nobody has seen, where any of some that tie may have been selected.
    In a large case it would take long to know.
    """
    found = dict(results)
    (B, I), (D, O) = case.x.shape, case.params.W_dec.shape
    if case.target is None or D * max(B, I, O) > _MOST_ENTRIES:
        return found
    exact = exact_stages(case, arithmetic)
    if not exact:
        return found
    keeps_all = case.config.ties == "keep_all" and "lowest_index" not in accepted
    if results["hidden"].verdict == "not given" and not keeps_all and has_ties(case):
        exact &= {"pre", "pre_acts"}
    off: set[str] = set()
    for name in ALL_STAGES:
        result = results[name]
        reads_what_is_off = bool(off.intersection(PARENTS[name]))
        if reads_what_is_off or result.verdict in ("fault", "convention") or result.max_error:
            off.add(name)
        if name in exact and not reads_what_is_off:
            found[name] = _without_rounding(result, keeps_all, case)
    return found


def _without_rounding(result: StageResult, keeps_all: bool, case: Case) -> StageResult:
    """The result of a stage at which nothing is ever rounded."""
    activation = case.config.activation
    if activation == "gated" and result.stage == "hidden":
        return _behind_gates(result, case.params.all_arrays()["r_mag"])
    if result.max_error and result.verdict in ("rounding", "cannot tell"):
        return _refused(result)
    if result.verdict == "ambiguous" and not result.max_error:
        if activation == "jumprelu":
            why = _at_threshold(result.extra["near_ties"][0])
            return dataclasses.replace(result, verdict="fault", explanation=why)
        if keeps_all:
            return dataclasses.replace(result, verdict="fault", explanation=_DROPPED)
    return result


def _behind_gates(result: StageResult, r_mag: np.ndarray) -> StageResult:
    """hidden, whose values were rounded, and whose selection was not where strengths are 1."""
    for tie in result.extra.get("near_ties", ()) if result.verdict == "ambiguous" else ():
        for what, features in (("selected", tie.selected), ("left out", tie.left_out)):
            sure = [j for j in features if r_mag[j] == 0]
            if sure:
                why = f"row {tie.row}: feature {sure[0]} is {what}, at its gate or at magnitude 0"
                text = f"{why} (> is meant), where every sum is exact"
                return dataclasses.replace(result, verdict="fault", explanation=text)
    return result


def _at_threshold(tie: NearTie) -> str:
    """What is wrong with a selection by thresholds from numbers that are exactly known."""
    if tie.selected:
        what = f"feature {tie.selected[0]} is active at its threshold, or just below (> is meant)"
    else:
        what = f"feature {tie.left_out[0]} is just above its threshold and left out"
    return f"row {tie.row}: {what}, where every sum is exact"


def has_ties(case: Case) -> bool:
    """Whether in some row the K-th largest activation equals the next, where sums are exact."""
    config = case.config
    if config.activation not in ("topk", *KEEPING_ALL):
        return True  # for all that is known here
    if config.activation in KEEPING_ALL or config.top_k == config.dict_size:
        return False
    ranked = -np.sort(-case.expected["pre_acts"], axis=1)
    last, following = ranked[:, config.top_k - 1], ranked[:, config.top_k]
    return bool(np.any((last == following) & (last > 0)))


_DROPPED = (
    'features are left out that equal the K-th largest exactly, and ties="keep_all" keeps them '
    "(keeping K of them is the convention lowest_index)"
)


def _refused(result: StageResult) -> StageResult:
    explanation = (
        f"off by {result.max_error:.2g}, and every sum of this case is exact in any order: "
        "no rounding explains a difference"
    )
    return dataclasses.replace(result, verdict="fault", tier=None, explanation=explanation)


def _unit(arithmetic: Arithmetic) -> float:
    units = (arithmetic.inputs.unit, arithmetic.unit, arithmetic.store.unit)
    return max(units) if not arithmetic.truncating else max(units[0], units[1] / 2, units[2])


def _sums(case: Case) -> Iterator[tuple[str, np.ndarray, float]]:
    """The stage, S and q of every sum that the transcoder adds up."""
    params = {n: a.astype(np.float64) for n, a in case.params.arrays().items()}
    x, target = case.x.astype(np.float64), np.asarray(case.target, np.float64)
    yield "pre", *_sum((x, params["W_enc"].T), (params["b_enc"],))
    stages = case.expected
    hidden, G = stages["hidden"], stages["d_reconstruction"]
    (B, D), O = hidden.shape, G.shape[1]
    error = stages["reconstruction"] - target
    mean, l1 = np.float64(1 / (B * O)), np.float64(case.l1_coeff / (B * D))
    nothing = np.zeros((1, 1))
    W_skip = params.get("W_skip")
    skip = (nothing, nothing) if W_skip is None else (x, W_skip.T)
    back = (nothing, nothing) if W_skip is None else (G, W_skip)

    yield "reconstruction", *_sum((hidden, params["W_dec"]), skip, (params["b_dec"],))
    yield "d_reconstruction", *_sum((stages["reconstruction"],), (target,))
    yield "d_reconstruction", *_sum((2 * mean * error,))
    # The terms of the loss, before and after they are divided by their number.
    squares, sizes = np.square(error).sum(), np.abs(hidden).sum()
    quanta = quantum(error) ** 2, quantum(hidden)
    yield "loss", squares, quanta[0]
    yield "loss", sizes, quanta[1]
    quanta = quanta[0] * quantum(mean), quanta[1] * quantum(l1)
    yield "loss", squares * mean + sizes * l1, min(quanta)
    yield "d_hidden", *_sum((G, params["W_dec"].T), (np.full((1, D), l1),))
    yield "dW_dec", *_sum((hidden.T, G))
    yield "db_dec", *_sum((np.ones((1, B)), G))
    yield "dW_skip", *_sum((G.T, x))
    yield "dW_enc", *_sum((stages["d_pre"].T, x))
    yield "db_enc", *_sum((np.ones((1, B)), stages["d_pre"]))
    yield "dx", *_sum((stages["d_pre"], params["W_enc"]), back)


def _sum(*terms: tuple[np.ndarray, ...]) -> tuple[np.ndarray, float]:
    """S and q of a sum of products, pairs of matrices, and of plain numbers."""
    S, q = np.zeros(()), np.inf
    for factors in terms:
        sizes = [np.abs(a) for a in factors]
        S = S + (sizes[0] @ sizes[1] if len(sizes) == 2 else sizes[0])
        q = min(q, float(np.prod([quantum(a) for a in factors])))
    return S, q


def quantum(a: np.ndarray | float) -> np.float64:
    """The largest power of two that every entry of ``a`` is a multiple of; infinite for zeros."""
    a = np.atleast_1d(a)
    fraction, exponent = np.frexp(a[a != 0])
    if not fraction.size:
        return np.float64(np.inf)
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    # The lowest bit that is set.
    lowest: np.float64 = np.min(np.ldexp((whole & -whole).astype(np.float64), exponent - 53))
    return lowest
