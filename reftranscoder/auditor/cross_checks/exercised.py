"""Which features, input columns and output columns the data exercised, at every stage.

One of them is *exercised* at a stage if that stage would have come out otherwise without it: with
zeros for all that it reads and writes.  Of one that is not, a candidate may do with it what it
likes, and nothing in that stage tells.  So it is exercised

- where it has entries of its own in the stage: if one of them is not zero.  These are the features
  of pre, pre_acts, hidden, d_hidden, d_pre, dW_dec, dW_enc and db_enc; the input columns of
  dW_skip, dW_enc and dx; the output columns of reconstruction, d_reconstruction, dW_dec, db_dec
  and dW_skip;
- where the stage sums over it: if neither factor is zero throughout.  These are, with x and W_enc,
  the input columns of pre; with hidden and W_dec, the features of reconstruction; with x and
  W_skip, its input columns; with d_reconstruction and W_dec, the output columns of d_hidden; with
  d_pre and W_enc, the features of dx; with d_reconstruction and W_skip, its output columns; and of
  the loss, the output columns in which there is an error, and with an L1 loss the features of
  hidden.

A row of W_enc and its bias are thus seen wherever pre is given.  Where it is not, they are only if
the feature is active, or selected: that it rightly is not would be as right if they were lost.

Entries are the candidate's own, which were judged.  Where hidden is not given, it is what the
definition selects; a d_reconstruction or d_pre that is not given is taken for zero where all that
it is made of is.  Stages without a verdict that decides exercise nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from ...params import Conventions, Params
from ...transcoder import Transcoder
from ..intervals.interval import made
from ..judging.verdict import StageResult
from ..task.candidate import Candidate
from ..task.case import Case
from ..task.definition import Definition
from ..task.problem import Problem
from ..task.stage_graph import OF_OWN

FEATURES, INPUTS, OUTPUTS = "features", "input columns", "output columns"

#: By stage and axis, which of them were exercised.
Masks = dict[tuple[str, str], np.ndarray]

#: What each axis of a stage numbers; None for rows of the batch.
_OWN = {
    **dict.fromkeys(("pre", "pre_acts", "hidden", "d_hidden", "d_pre"), (None, FEATURES)),
    **dict.fromkeys(("reconstruction", "d_reconstruction"), (None, OUTPUTS)),
    "loss": (),
    "dW_dec": (FEATURES, OUTPUTS),
    "db_dec": (OUTPUTS,),
    "dW_skip": (OUTPUTS, INPUTS),
    "dW_enc": (FEATURES, INPUTS),
    "db_enc": (FEATURES,),
    "dx": (None, INPUTS),
    **dict.fromkeys(OF_OWN, ()),  # where others are exercised, too, or which are zero
}
_DECIDED = ("exact", "rounding", "ambiguous", "convention", "fault")


def exercised(
    case: Case, problem: Problem, candidate: Candidate, results: Mapping[str, StageResult]
) -> Masks:
    """What was exercised at the stages of ``candidate`` that the ``results`` decide on."""
    found: Masks = {}
    summed = _Summed(case, problem, candidate)
    for stage in candidate.given:
        if results[stage].verdict not in _DECIDED:
            continue
        for axis, mask in zip(_OWN[stage], candidate.nonzero(stage)):
            if axis is not None:
                found[stage, axis] = mask
        for axis, mask in summed.over(stage):
            found[stage, axis] = mask
    return found


def joined(one: Masks, other: Masks) -> Masks:
    """What was exercised in one case or in the ``other``, which may be of other sizes.

    What counts is the number of a feature or a column.
    """
    found = dict(one)
    for key, mask in other.items():
        shorter, longer = sorted((mask, found.get(key, mask)), key=len)
        found[key] = longer.copy()
        found[key][: len(shorter)] |= shorter
    return found


class _Summed:
    """What the stages of a candidate sum over."""

    def __init__(self, case: Case, problem: Problem, candidate: Candidate) -> None:
        self.case, self.problem, self.candidate = case, problem, candidate
        self.params = problem.params

    def over(self, stage: str) -> Iterator[tuple[str, np.ndarray]]:
        """The axes that ``stage`` sums over, and along each what is exercised."""
        params, x = self.params, self.problem.x
        W_skip = params.W_skip
        if stage == "pre":
            yield INPUTS, _some(x, 0) & _some(params.W_enc, 0)
        elif stage == "reconstruction":
            yield FEATURES, self._hidden() & _some(params.W_dec, 1)
            if W_skip is not None:
                yield INPUTS, _some(x, 0) & _some(W_skip, 0)
        elif stage == "loss":
            yield OUTPUTS, self._d_reconstruction()
            if self.problem.l1_coeff:
                yield FEATURES, self._hidden()
        elif stage == "d_hidden":
            yield OUTPUTS, self._d_reconstruction() & _some(params.W_dec, 0)
        elif stage == "dx":
            yield FEATURES, self._d_pre() & _some(params.W_enc, 1)
            if W_skip is not None:
                yield OUTPUTS, self._d_reconstruction() & _some(W_skip, 1)

    def _hidden(self) -> np.ndarray:
        """The features (D,) that are selected in some row."""
        if "hidden" in self.candidate:
            return self.candidate.nonzero("hidden")[1]
        x, definition = self.problem.x, self.problem.definition
        config = dataclasses.replace(
            self.case.config,
            activation=definition.activation,
            ties=definition.ties,
            conventions=Conventions(),  # which the definition says
        )
        tc = Transcoder(config, _with_ranks(self.case.params, definition))
        if definition.input != "x":
            x = x - self.case.params.b_dec
        selected = np.zeros(config.dict_size, bool)
        selected[tc.encode(x, check_finite=False).indices] = True
        return selected

    def _d_pre(self) -> np.ndarray:
        """The features (D,) that some gradient passes."""
        if "d_pre" in self.candidate:
            return self.candidate.nonzero("d_pre")[1]
        penalised = bool(self.problem.l1_coeff)
        passed = self._d_reconstruction() if not penalised else np.zeros(self.candidate.O, bool)
        return self._hidden() & (penalised | _some(self.params.W_dec[:, passed], 1))

    def _d_reconstruction(self) -> np.ndarray:
        """The output columns (O,) in which there is an error."""
        if "d_reconstruction" in self.candidate:
            return self.candidate.nonzero("d_reconstruction")[1]
        target = made(self.problem.target)
        if "reconstruction" in self.candidate:
            rows = slice(0, self.candidate.B)
            return _some(self.candidate.rows("reconstruction", rows) - target, 0)
        params = self.params
        wrong: np.ndarray = _some(target, 0) | _some(params.W_dec, 0) | (params.b_dec != 0)
        return wrong


def _some(a: np.ndarray, axis: int) -> np.ndarray:
    """Whether some number along the ``axis`` of a matrix is not zero."""
    found: np.ndarray = np.any(a != 0, axis=axis)
    return found


def _with_ranks(params: Params, definition: Definition) -> Params:
    """The parameters whose pre-activations are what the ``definition`` selects by."""
    if definition.norms == "none":
        return params
    norms = np.linalg.norm(params.W_dec, axis=1)
    scaled = {"W_enc": params.W_enc * norms[:, None], "b_enc": params.b_enc * norms}
    return dataclasses.replace(params, **scaled)
