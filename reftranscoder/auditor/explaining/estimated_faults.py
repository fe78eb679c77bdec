"""Mistakes with a number in their name, or a format: what a candidate's own results suggest.

Each function takes the `Evidence` and yields lists of hypotheses that are worth judging, the
plainest first; the next list is tried only if something is left to explain.  None has a name before
every entry of the stage at fault is within its bound under it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...bounds import PRECISIONS
from ..task.arithmetic import representable_mask
from ..task.stage_graph import ALL_STAGES
from .estimates import Entries, differences, estimate, fewest_parts, times_of
from .evidence import COARSE, Evidence
from .hypotheses import Hypothesis

_TOLD = 16  # entries that fit a coarser format, at least: no coincidence
_DECISIVE = 1e-4  # of the loss: one number, and how near it has to be
_PARAMETERS = ("dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
_LAST = {*_PARAMETERS, "dx"}  # no stage reads these
_FIRST_GRADIENT = ALL_STAGES.index("d_reconstruction")


def stages_off_by_factors(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """A stage as a whole; or gradients that none of the others read, by one factor or by many."""
    first = evidence.first
    if first == "loss":
        yield _the_loss_twice(evidence)
        return
    for tangent in (False, True) if first == "dW_dec" else (False,):
        c = _factor(evidence.entries(first, tangent=tangent))
        if c is None:
            continue
        others = [stage for stage in evidence.faults if stage != first]
        if (others or evidence.unseen) and first in _LAST and {*others, *evidence.unseen} <= _LAST:
            found = {first: c} | {stage: _factor(evidence.entries(stage)) for stage in others}
            known = {stage: own for stage, own in found.items() if own is not None}
            if known.keys() == found.keys():
                # The first stands for all; but each may be of its own, too.
                together = (*known, *evidence.unseen)
                yield [_scaled(dict.fromkeys(together, c), tangent, _norm(evidence, together))]
                yield [_scaled(known, tangent)]
        yield [_scaled({first: c}, tangent)]


def _factor(entries: Entries) -> float | None:
    found = estimate(entries, {"": entries.want}, [""])
    return None if found is None or found[""] == 0 else found[""]


def _norm(evidence: Evidence, stages: Sequence[str]) -> str:
    """What clipping by the norm of all gradients leaves, in words, where all are given."""
    candidate = evidence.candidate
    every = [n for n in _PARAMETERS if n != "dW_skip" or evidence.problem.params.W_skip is not None]
    if set(stages) != set(every):
        return ""
    squares = [np.sum(np.square(candidate.whole(n), dtype=np.float64)) for n in every]
    return f", and together of norm {np.sqrt(sum(squares)):.4g}"


def _scaled(factors: Mapping[str, float], tangent: bool = False, norm: str = "") -> Hypothesis:
    """Every stage, times its factor."""
    numbers = set(factors.values())
    c = next(iter(numbers))
    if len(factors) > 1 and len(numbers) == 1:
        what = times_of(c).replace("it should be", "they should be")
        name = f"{listed([*factors])} are {what}{_parts(next(iter(factors)), c) or norm}"
    else:
        each = factors.items()
        name = listed([f"{stage} is {times_of(c)}{_parts(stage, c)}" for stage, c in each])
    changes: dict[str, object] = {"factors": tuple(factors.items())}
    if tangent:
        name += "; before, dW_dec lost its component along W_dec[j]"
        changes["tangent"] = True
    return Hypothesis(name, name, next(iter(factors)), changes)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _parts(stage: str, c: float) -> str:
    """What adding up or averaging the parts of a batch makes of a gradient."""
    if ALL_STAGES.index(stage) < _FIRST_GRADIENT or c <= 0 or abs(c - 1) < 0.6:
        return ""
    for n, how in ((c, "added up"), (1 / c, "averaged")):
        if n > 2 and n == round(n):
            return f", as if {how} over {n:.0f} parts of the batch"
    return ""


def _the_loss_twice(evidence: Evidence) -> list[Hypothesis]:
    """The only factor that one number can show, and only where it is hit closely.

    Its bound grows with the number of squares; what a sum of them is off by grows far less.
    """
    loss = evidence.results["loss"]
    if not loss.want or loss.got is None or abs(loss.got / loss.want - 2) > _DECISIVE:
        return []
    return [_scaled({"loss": 2.0})]


#: For a stage, its parts: the words for each, the field that counts it, and whether that "enters".
_PARTS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "pre": (("x @ W_enc.T", "x", False), ("b_enc", "b_enc", True)),
    "reconstruction": (
        ("hidden @ W_dec", "decoded", False),
        ("b_dec", "b_dec", True),
        ("x @ W_skip.T", "skipped", False),
    ),
    "d_hidden": (
        ("d_reconstruction @ W_dec.T", "through_decoder", False),
        ("the L1 loss's gradient", "l1_gradient", False),
    ),
}
_AS_IF = {"x": ", as if x were scaled before the encoder"}


def parts_off_by_factors(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """Parts of a stage that count another number of times than once."""
    stage, changed = evidence.first, evidence.first
    rows = _PARTS.get(stage, ())
    problem = evidence.problem
    if stage == "hidden" and not {"pre", "pre_acts"} & set(evidence.candidate.given):
        # Where hidden was selected, pre is not rectified.
        rows, changed = _PARTS["pre"], "pre"
        linear = dataclasses.replace(problem.definition, rectified=False)
        problem = problem._replace(definition=linear)
    if not rows:
        return
    without = {field: {field: 0.0} for _, field, _ in rows}
    entries, parts = differences(problem, evidence.candidate, stage, without)
    proposed = []
    for found in fewest_parts(entries, parts):
        counted = [row for row in rows if row[1] in found]
        name = listed([_said(*row, found[row[1]]) for row in counted])
        proposed.append(Hypothesis(name, name, changed, found))
    yield proposed


def _said(words: str, field: str, enters: bool, c: float) -> str:
    if enters and c > 0:
        return f"{words} enters {'twice' if c == 2 else f'{c:.4g} times'}"
    return f"{words} is {times_of(c)}{_AS_IF.get(field, '')}"


def stages_in_coarser_formats(evidence: Evidence) -> Iterator[list[Hypothesis]]:
    """Every entry is a number of a format that is coarser than what was declared."""
    for name in COARSE:
        rounded = [stage for stage in evidence.faults if _fits(evidence, stage, name)]
        if evidence.first not in rounded:
            continue
        for stages in (rounded, [evidence.first]) if len(rounded) > 1 else (rounded,):
            text = f"{listed(stages)} {'are' if len(stages) > 1 else 'is'} rounded to {name}"
            formats = tuple((stage, name) for stage in stages)
            yield [Hypothesis(text, text, evidence.first, {"stored": formats})]


def _fits(evidence: Evidence, stage: str, name: str) -> bool:
    to, declared = PRECISIONS[name], evidence.problem.arithmetic[stage].store
    if to.unit <= declared.unit or stage == "loss":
        return False
    candidate = evidence.candidate
    if stage in ("hidden", "d_hidden", "d_pre") and candidate.is_sparse(stage):
        got = candidate.features(stage, slice(0, candidate.B)).values
    else:
        got = candidate.whole(stage)
    with np.errstate(over="ignore"):
        got = np.asarray(got, np.float64)
    if not np.isfinite(got).all():
        return False
    return int(np.count_nonzero(got)) >= _TOLD and bool(representable_mask(got, to).all())


#: What is tried where no plain mistake explains everything, in this order.
Proposal = Callable[[Evidence], Iterator[list[Hypothesis]]]
PROPOSALS: Sequence[Proposal] = (
    stages_off_by_factors,
    parts_off_by_factors,
    stages_in_coarser_formats,
)
