"""Faults planted in every stage: each is caught where it was made, or hidden for a reason.

``python tests/test_audit_faults.py`` prints the table: a fault a line, and a column for each
arithmetic, regime (``few``: rows with fewer than K positive activations; ``many``: with more) and
data (random, and real activations of a language model)::

    caught       a fault, blamed on the stage that made it
    named        so, and called by its name (asked for on random data in float32)
    equal        provably equivalent: every number is the one without the fault
    below        below the floor: nowhere does its effect exceed twice the bound

Whether a fault can be seen is computed apart from the audit: the stage it is in is computed in
float64, with and without the fault, from the candidate's own upstream.  Where the two differ by
more than twice the bound, no correct result is near what the candidate gave.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import NamedTuple

import numpy as np
import pytest
from simulated_transcoder import Case, Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder import sample
from reftranscoder.auditor.explaining.known_faults import name_fault
from reftranscoder.auditor.judging.judge import Judge
from reftranscoder.auditor.judging.verdict import Tally
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.candidate import Candidate
from reftranscoder.auditor.task.definition import Definition
from reftranscoder.auditor.task.problem import Problem
from reftranscoder.auditor.task.stage_graph import STAGES

ARITHMETICS = ("float32", "bfloat16", "float16")
_SQUARE = {"D": 16, "K": 4}


class Fault(NamedTuple):
    """``how`` the simulated transcoder goes wrong, in which stage, and what the audit says."""

    name: str
    stage: str
    how: dict
    says: str = ""  # what the explanation holds, where the fault has a name
    square: bool = False  # needs D = I = O


def _times(stage: str, factor: float, what: str, says: str = "") -> Fault:
    return Fault(f"{stage} {what}", stage, {"times": {stage: factor}}, says)


FAULTS = (
    Fault("b_enc is not added", "pre", {"no_b_enc": 1}, "b_enc is not added"),
    Fault("b_enc is subtracted", "pre", {"b_enc_sign": -1}, "b_enc is subtracted"),
    Fault("one row of W_enc is 1 % off", "pre", {"pre_row": (3, 1.01)}),
    Fault("one row of W_enc is 1e-4 off", "pre", {"pre_row": (3, 1.0001)}),
    Fault("W_enc is transposed", "pre", {"transposed_W_enc": 1}, "W_enc is transposed", True),
    Fault("no ReLU", "pre_acts", {"unrectified": 1}, "not rectified"),
    Fault("leaky ReLU", "pre_acts", {"leaky": 1}),
    Fault("the absolute value for ReLU", "pre_acts", {"absolute": 1}),
    Fault("K + 1 are kept", "hidden", {"more": 1}, "features are kept, not"),
    Fault("K - 1 are kept", "hidden", {"more": -1}, "features are kept, not"),
    Fault("no selection", "hidden", {"no_topk": 1}, "nothing is selected"),
    Fault("the smallest are kept", "hidden", {"smallest": 1}),
    Fault("ranked by |pre|", "hidden", {"by_magnitude": 1}),
    Fault("K B of the whole batch are kept", "hidden", {"per_batch": 1}),
    Fault("the mask is shifted by one", "hidden", {"shifted": 1}),
    Fault("the values are shifted by one", "hidden", {"next_feature": 1}),
    Fault("ones for values", "hidden", {"binary": 1}),
    Fault("one entry is dropped", "hidden", {"dropped": 1}),
    Fault("b_dec is not added", "reconstruction", {"no_b_dec": 1}, "b_dec is not added"),
    Fault("b_dec is added twice", "reconstruction", {"b_dec_times": 2}),
    Fault(
        "W_dec is transposed",
        "reconstruction",
        {"transposed_W_dec": 1},
        "W_dec is transposed",
        True,
    ),
    Fault("the skip is missing", "reconstruction", {"no_skip": 1}, "skip connection is missing"),
    Fault(
        "W_skip is transposed", "reconstruction", {"transposed_W_skip": 1}, "W_skip is transposed"
    ),
    Fault("ReLU at the end", "reconstruction", {"relu_out": 1}),
    Fault("x for the target", "loss", {"against_x": 1}, "compared with x"),
    Fault("no L1 loss", "loss", {"l1_loss": 0}, "L1 loss is left out"),
    Fault("the root of the loss", "loss", {"loss_sqrt": 1}),
    Fault("the factor 2 is lost", "d_reconstruction", {"G_times": 0.5}, "factor 2"),
    Fault("d_reconstruction's sign", "d_reconstruction", {"G_times": -1}, "wrong sign"),
    Fault("no gradient for the last row", "d_reconstruction", {"G_row_zero": 1}),
    Fault("the target is forgotten", "d_reconstruction", {"G_no_target": 1}),
    Fault("W_dec is transposed in d_hidden", "d_hidden", {"back_W_dec": 1}, "in d_hidden", True),
    Fault("no L1 gradient", "d_hidden", {"l1_grad": 0}, "L1 loss has no gradient"),
    Fault("the L1 gradient's sign", "d_hidden", {"l1_grad": -1}, "wrong sign"),
    Fault("the L1 gradient on all features", "d_hidden", {"l1_everywhere": 1}),
    Fault("an L2 gradient for L1", "d_hidden", {"l1_value": 1}),
    Fault("top-k's mask is lost", "d_pre", {"mask": "active"}, "active features not selected"),
    Fault("ReLU's mask is lost", "d_pre", {"mask": "largest"}, "features that are inactive"),
    Fault("both masks are lost", "d_pre", {"mask": "all"}, "all features"),
    Fault("the mask is inverted", "d_pre", {"mask": "inverse"}),
    Fault("the largest passes no gradient", "d_pre", {"mask": "at_K"}),
    Fault("d_pre is doubled", "d_pre", {"d_pre_times": 2}, "twice"),
    Fault("d_pre times the activation", "d_pre", {"times_pre": 1}),
    Fault("dW_dec of pre_acts", "dW_dec", {"dW_dec_pre_acts": 1}, "pre_acts, not hidden"),
    Fault("dW_dec is transposed", "dW_dec", {"flipped": ["dW_dec"]}, "dW_dec is transposed", True),
    Fault("dW_dec's last column is zero", "dW_dec", {"last_zero": ["dW_dec"]}),
    _times("dW_dec", 2.0, "is doubled", "twice"),
    _times("db_dec", 1 / 24, "is averaged", "averaged"),
    Fault("db_dec's last entry is zero", "db_dec", {"last_zero": ["db_dec"]}),
    Fault("dW_skip is transposed", "dW_skip", {"flipped": ["dW_skip"]}, "dW_skip is transposed"),
    _times("dW_skip", 0.0, "is zero", "is zero"),
    Fault("dW_enc under pre_acts' mask", "dW_enc", {"dW_enc_pre_acts": 1}, "active features"),
    Fault("dW_enc of centred x", "dW_enc", {"dW_enc_minus": 1}),
    _times("dW_enc", -1.0, "has the wrong sign", "wrong sign"),
    _times("dW_enc", 1.001, "is 0.1 % off"),
    Fault("db_enc under pre_acts' mask", "db_enc", {"db_enc_pre_acts": 1}, "active features"),
    _times("db_enc", 0.0, "is zero", "is zero"),
    Fault("dx without the skip", "dx", {"dx_no_skip": 1}, "lacks the skip"),
    Fault("dx without the encoder", "dx", {"dx_no_encoder": 1}, "lacks the encoder"),
    Fault("dx with W_dec for W_enc", "dx", {"dx_W_dec": 1}),
    Fault("dx through W_skip transposed", "dx", {"dx_skip_transposed": 1}),
)


def real_case(machine: Machine, few: bool, square: bool) -> Case:
    """Some rows and columns of real activations, scaled to unit mean square, and random weights."""
    data = sample.load()
    rows = np.flatnonzero(data.position > 0)[:: 8192 // 24][:24]
    case = random_case(3, machine, few=few, **(_SQUARE if square else {}))
    found = {}
    for name in ("x", "target"):
        a = getattr(data, name)[rows, :16].astype(np.float64)
        a = (a / np.sqrt(np.mean(a**2))).astype(machine.inputs)
        found[name] = machine.store(a.astype(np.float64))
    return dataclasses.replace(case, **found)


class Spy(Tally):
    """Remembers the bounds of a stage."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.bounds, self.places = [], []

    def add(self, got, want, index) -> None:
        super().add(got, want, index)
        bound = np.broadcast_to(want.error(0), want.value.shape).ravel()
        self.bounds += bound.tolist()
        self.places += [index(k) for k in range(bound.size)]


def judged(case: Case, results: dict, arithmetic: str):
    params = rt.Params(**case.params())
    definition = Definition(case.top_k, case.activation, case.ties)
    problem = Problem(params, definition, by_stage(arithmetic), case.x, case.target, case.l1_coeff)
    D, I = case.W_enc.shape
    candidate = Candidate(results, (len(case.x), I, D, len(case.b_dec)), True)
    return problem, candidate, Judge(problem, candidate)


def visible(case: Case, results: dict, fault: Fault, arithmetic: str) -> str:
    """Whether a correct implementation could give this: "equal", "below" or "above" the floor."""
    exact = Machine("float64")
    upstream = {name: results[name] for name in STAGES if name in results}
    with_it = simulate(case, exact, upstream, **fault.how)[fault.stage]
    without = simulate(case, exact, upstream)[fault.stage]
    effect = np.abs(with_it - without)
    if fault.stage == "hidden":
        return _selection_visible(case, results, with_it, without, arithmetic)
    if not effect.any():
        return "equal"
    _, _, judge = judged(case, results, arithmetic)
    judge.comparison.tallies[fault.stage] = spy = Spy(fault.stage)
    judge.run()
    bounds = np.zeros(effect.shape)
    for place, bound in zip(spy.places, spy.bounds):
        bounds[place] = bound
    return "above" if (effect > 2 * bounds).any() else "below"


def _selection_visible(case, results, with_it, without, arithmetic) -> str:
    """A selection is provably wrong where something certainly larger was passed over."""
    kept, right = results["hidden"] != 0, without != 0
    if (kept == right).all() and np.array_equal(results["hidden"], without):
        return "equal"
    _, _, judge = judged(case, {"pre": results["pre"]}, arithmetic)
    judge.comparison.tallies["pre"] = spy = Spy("pre")
    judge.run()
    error = np.zeros(kept.shape)
    for place, bound in zip(spy.places, spy.bounds):
        error[place] = bound
    pre = results["pre"]
    # The true pre is within ``error`` of this one, either way.
    low, high = pre - 2 * error, pre + 2 * error
    counts = kept.sum(axis=1)
    wrong = (counts > case.top_k) | (np.where(kept, high, np.inf).min(axis=1) <= 0)
    best_out = np.where(kept, -np.inf, low).max(axis=1)
    worst_in = np.where(kept, high, np.inf).min(axis=1)
    wrong |= best_out > np.where(counts < case.top_k, 0, worst_in)
    wrong |= (np.abs(results["hidden"] - pre) > 2 * error)[kept].any() and kept.any()
    return "above" if wrong.any() else "below"


def outcome(fault: Fault, arithmetic: str, few: bool, real: bool) -> tuple[str, str]:
    """What became of a planted fault, and what the audit said."""
    machine = Machine(arithmetic)
    if real:
        case = real_case(machine, few, fault.square)
    else:
        case = random_case(1, machine, few=few, **(_SQUARE if fault.square else {}))
    results = simulate(case, machine, **fault.how)
    problem, candidate, judge = judged(case, results, arithmetic)
    stages = judge.run()
    blamed = next((name for name in STAGES if stages[name].verdict == "fault"), None)
    if blamed is None:
        seen = visible(case, results, fault, arithmetic)
        if seen == "above":
            return "MISSED", ""
        verdict = stages[fault.stage].verdict
        return ("equal" if seen == "equal" else f"below ({verdict})"), ""
    if blamed != fault.stage:
        return f"BLAMED {blamed}", ""
    if not fault.says or arithmetic != "float32" or real:
        return "caught", ""
    said = name_fault(problem, candidate, stages)[blamed].explanation
    return ("named" if fault.says in said else "caught"), said


REGIMES = [(few, real) for real in (False, True) for few in (False, True)]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_planted_fault_above_the_floor_passes_and_blame_is_right(fault, arithmetic):
    found = [outcome(fault, arithmetic, few, real)[0] for few, real in REGIMES]
    assert not any(f.startswith(("MISSED", "BLAMED")) for f in found), found
    if arithmetic == "float32":
        # Each shows in at least one regime, by its name where it has one.
        wanted = "named" if fault.says else "caught"
        assert wanted in found, (found, [outcome(fault, arithmetic, *r) for r in REGIMES])


@pytest.mark.parametrize("given", [("reconstruction",), ("pre", "reconstruction", "dW_enc")])
def test_a_missing_relu_is_named_where_hidden_is_not_given(given):
    """Where fewer than K are positive, negative ones are kept."""
    machine = Machine("float32")
    case = random_case(1, machine, few=True)
    results = simulate(case, machine, unrectified=1)
    problem, candidate, judge = judged(case, {n: results[n] for n in given}, "float32")
    named = name_fault(problem, candidate, judge.run())
    assert named["reconstruction"].explanation.startswith("pre is not rectified")


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_stage_that_is_off_by_more_than_its_floor_is_at_fault(arithmetic, alone, copies):
    """As a whole, by a factor; and where an entry is exactly known, by however little."""
    machine = Machine(arithmetic)
    case = random_case(1, machine)
    results = simulate(case, machine)

    def result(given, stage):
        problem, candidate, _ = judged(case, given, arithmetic)
        return Judge(problem._replace(copies=copies), candidate).run()[stage]

    for stage in STAGES:
        if stage == "hidden" and not alone:
            continue  # a kept value may be the activation given, or as near the true one
        given = {stage: results[stage]} if alone else results
        right = result(given, stage)
        floor = right.floor["R"]
        assert right.verdict != "fault" and floor >= 0
        if floor < np.inf:
            wrong = results[stage] * (1 + 1.0001 * max(floor, 1e-12))
            assert result(given | {stage: wrong}, stage).verdict == "fault", (stage, floor)
        assert floor < np.inf or alone, stage


def test_dead_features_hide_no_floor():
    """Their gradients are zeros that underflow alone bounds: far less than any other's bound."""
    machine = Machine("bfloat16")
    case = random_case(1, machine, few=True)
    case = dataclasses.replace(case, b_enc=np.where(np.arange(48) < 24, case.b_enc, -99.0))
    results = simulate(case, machine)
    assert not results["dW_enc"][24:].any()
    _, _, judge = judged(case, results, "bfloat16")
    # One store, at least: a relative 2^-8, twice.
    assert judge.run()["dW_enc"].floor["C"] > 2 * 2.0**-9


def test_there_are_enough_of_them():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.stage for fault in FAULTS} == set(STAGES)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_without_a_fault_nothing_is_found(arithmetic):
    machine = Machine(arithmetic)
    for few, real in REGIMES:
        case = real_case(machine, few, False) if real else random_case(1, machine, few=few)
        positive = (simulate(case, machine)["pre"] > 0).sum(axis=1)
        assert (positive < case.top_k).any() if few else (positive > case.top_k).any()
        _, _, judge = judged(case, simulate(case, machine), arithmetic)
        verdicts = {name: result.verdict for name, result in judge.run().items()}
        assert "fault" not in verdicts.values(), verdicts


def main() -> None:
    """Print the table."""
    heads = [
        f"{a} {'few' if few else 'many'}{' real' if real else ''}"
        for a in ARITHMETICS
        for few, real in REGIMES
    ]
    width = max(len(head) for head in heads) + 1
    print(f"{'stage':17}{'fault':34}" + "".join(f"{head:{width}}" for head in heads))
    counts: dict[str, int] = {}
    for fault in FAULTS:
        cells = [outcome(fault, a, few, real)[0] for a in ARITHMETICS for few, real in REGIMES]
        for cell in cells:
            kind = cell.split(" ")[0]
            counts[kind] = counts.get(kind, 0) + 1
        print(f"{fault.stage:17}{fault.name:34}" + "".join(f"{cell:{width}}" for cell in cells))
    print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    print(f"of {len(FAULTS)} faults in {len(heads)} runs each")


if __name__ == "__main__":
    sys.exit(main())
