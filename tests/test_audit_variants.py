"""The audit of the other activations: right results pass, and planted faults are found.

``python tests/test_audit_variants.py N`` audits N right candidates and prints how many passed, then
the table of faults.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import pytest
from simulated_transcoder import Machine
from simulated_variants import random_variant, simulate_variant

import reftranscoder as rt
from reftranscoder.auditor.task.stage_graph import OF_OWN

ARITHMETICS = ("float32", "float64", "bfloat16")
SIZES = {"groupmax": {"K": 6}, "batchtopk": {}, "abstopk": {}, "jumprelu": {}, "gated": {}}
STE = {"bandwidth": 0.5}
BOTH = {"bandwidth": 0.5, "through": "theta_and_input"}


class Fault(NamedTuple):
    """How a transcoder with this activation goes wrong, in which stage, and what is said."""

    activation: str
    name: str
    stage: str
    how: dict
    says: str = ""
    options: dict = {}


def _times(activation, stage, factor, says, **options):
    name = f"{stage} times {factor}"
    return Fault(activation, name, stage, {"times": {stage: factor}}, says, options)


FAULTS = (
    Fault("jumprelu", "no thresholds", "hidden", {"no_theta": 1}, "thresholds are left out"),
    Fault("jumprelu", "thresholds 10 % off", "hidden", {"theta_times": 1.1}),
    Fault("jumprelu", "thresholds of the neighbours", "hidden", {"theta_rolled": 1}),
    Fault("jumprelu", "one threshold for all", "hidden", {"one_theta": 1}),
    Fault("jumprelu", "below the threshold", "hidden", {"inverse": 1}),
    Fault("jumprelu", "pre less theta", "pre_acts", {"less_theta": 1}),
    Fault("jumprelu", "what is kept less theta", "hidden", {"hidden_less_theta": 1}),
    Fault("jumprelu", "the jump's mask is lost", "d_pre", {"mask": "positive"}, "not selected"),
    Fault("jumprelu", "no mask", "d_pre", {"mask": "all"}, "all features"),
    Fault("jumprelu", "dtheta's sign", "dtheta", {"sign": 1}, "wrong sign", STE),
    Fault("jumprelu", "another bandwidth", "dtheta", {"width_times": 2}, "", STE),
    Fault("jumprelu", "no division by it", "dtheta", {"no_width": 1}, "", STE),
    Fault("jumprelu", "one side of the window", "dtheta", {"one_side": 1}, "", STE),
    Fault("jumprelu", "a triangle for the rectangle", "dtheta", {"smooth": 1}, "", STE),
    Fault("jumprelu", "dtheta without theta", "dtheta", {"no_theta_factor": 1}, "", STE),
    Fault("jumprelu", "dtheta of the selected", "dtheta", {"of_selected": 1}, "", STE),
    Fault("jumprelu", "pre has no slope", "d_pre", {"no_slope": 1}, "", BOTH),
    Fault("jumprelu", "another slope of pre", "d_pre", {"width_times": 2}, "", BOTH),
    Fault("gated", "no gates", "hidden", {"no_gates": 1}, "gates are left out"),
    Fault("gated", "gates without a bias", "hidden", {"gate_without_bias": 1}),
    Fault("gated", "gates of the neighbours", "hidden", {"gate_rolled": 1}),
    Fault("gated", "b_gate is subtracted", "hidden", {"gate_sign": -1}),
    Fault("gated", "gates of the magnitudes", "hidden", {"gate_of_magnitude": 1}),
    Fault("gated", "gate activations for magnitudes", "hidden", {"gate_acts": 1}),
    Fault("gated", "no b_mag", "pre_acts", {"no_b_mag": 1}, "b_mag is not added"),
    Fault("gated", "b_gate for b_mag", "pre_acts", {"b_mag_is_b_gate": 1}),
    Fault("gated", "no strengths", "pre_acts", {"strength_is_one": 1}, "is left out"),
    Fault("gated", "r_mag for exp(r_mag)", "pre_acts", {"strength_is_r": 1}, "r_mag multiplies"),
    Fault("gated", "exp(-r_mag)", "pre_acts", {"exp_of_minus": 1}),
    Fault("gated", "one entry is dropped", "hidden", {"dropped": 1}),
    Fault("gated", "no strengths backward", "d_pre", {"weak_d_pre": 1}, "lacks exp(r_mag)"),
    Fault("gated", "the gates' mask is lost", "d_pre", {"mask": "positive"}, "not selected"),
    Fault("gated", "a gradient of the gates", "db_gate", {"gate_gradient": 1}),
    Fault("gated", "dr_mag of hidden", "dr_mag", {"of_hidden": 1}, "not hidden - b_mag"),
    Fault("gated", "dr_mag of pre", "dr_mag", {"of_pre": 1}),
    _times("gated", "db_mag", 2.0, "twice"),
    Fault("gated", "dr_mag's last is zero", "dr_mag", {"last_zero": ["dr_mag"]}),
    Fault("batchtopk", "each row by itself", "hidden", {"as_topk": 1}),
    Fault("batchtopk", "K + 1 of each row", "hidden", {"more": 1}),
    Fault("batchtopk", "one too few", "hidden", {"too_few": 1}),
    Fault("batchtopk", "no ReLU", "pre_acts", {"unrectified": 1}, "not rectified"),
    Fault("groupmax", "every K-th feature is a group", "hidden", {"strided": 1}),
    Fault("groupmax", "two of each group", "hidden", {"of_each": 2}),
    Fault("groupmax", "the K largest of all", "hidden", {"as_topk": 1}),
    Fault("groupmax", "the groups' mask is lost", "d_pre", {"mask": "positive"}, "not selected"),
    Fault("abstopk", "the K largest", "hidden", {"signed_ranks": 1}),
    Fault("abstopk", "the absolute values", "hidden", {"absolute": 1}),
    Fault("abstopk", "rectified first", "pre_acts", {"rectified": 1}),
    Fault("abstopk", "the penalty of signed values", "loss", {"signed_penalty": 1}),
    Fault("abstopk", "the penalty's gradient without sign", "d_hidden", {"signless": 1}),
    _times("abstopk", "dW_enc", -1.0, "wrong sign"),
)


def audited(seed, activation, arithmetic, order="blas", options=None, given=None, **how):
    machine = Machine(arithmetic, order)
    v = random_variant(seed, activation, machine, **(options or {}))
    results = simulate_variant(v, machine, **how)
    if given is not None:
        results = {name: results[name] for name in given}
    tc = v.transcoder(np.float64 if arithmetic == "float64" else np.float32)
    c = v.case
    return rt.audit(results, tc, c.x, c.target, l1_coeff=c.l1_coeff, arithmetic=arithmetic)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.activation}: {f.name}")
def test_every_planted_fault_is_found_where_it_is(fault):
    for arithmetic in ARITHMETICS:
        report = audited(1, fault.activation, arithmetic, options=fault.options, **fault.how)
        assert report.blame == fault.stage, (arithmetic, str(report))
        if arithmetic == "float32":
            assert fault.says in report.stages[fault.stage].explanation, str(report)


def test_there_are_enough_of_them():
    assert len({(fault.activation, fault.name) for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.stage for fault in FAULTS} >= set(OF_OWN)


#: What right implementations differ in.
RIGHT = (
    ("jumprelu", {}, {}),
    ("jumprelu", STE, {}),
    ("jumprelu", STE, {"factored": 1}),
    ("jumprelu", BOTH, {}),
    ("gated", {}, {}),
    ("gated", {}, {"through_pre": 1}),
    ("batchtopk", {}, {}),
    ("groupmax", {}, {}),
    ("abstopk", {}, {}),
)
SUBSETS = (
    None,
    ("pre", "hidden", "reconstruction", "loss"),
    ("hidden", "dW_dec", "dW_enc", "db_enc", "dx"),
    ("hidden", "d_hidden", "d_pre"),
)


def clean(number: int):
    """The report on right candidate ``number``, another one for each."""
    activation, options, how = RIGHT[number % len(RIGHT)]
    rng = np.random.default_rng(number)
    arithmetic = ("float32", "float64", "bfloat16", "bfloat16-inputs", "float16")[rng.integers(5)]
    order = ("blas", "loop", "permuted", "blocked", "fma", "sorted")[rng.integers(6)]
    given = SUBSETS[rng.integers(len(SUBSETS))]
    own = {"jumprelu": ("dtheta",), "gated": OF_OWN[1:]}.get(activation, ())
    if given is not None:
        given = (*given, *own)
    sizes = {"B": int(rng.integers(1, 30)), "skip": bool(rng.integers(2))}
    sizes["D"] = int(rng.choice([6, 12, 48, 96]))
    sizes["I"] = int(rng.choice([2, 16, 64]))
    return audited(number, activation, arithmetic, order, options | sizes, given, **how)


@pytest.mark.parametrize("number", range(2 * len(RIGHT)))
def test_right_candidates_pass(number):
    report = clean(number)
    assert report.blame is None and report.convention is None, str(report)


@pytest.mark.parametrize("activation", ["jumprelu", "gated"])
@pytest.mark.parametrize("given", [("pre", "hidden"), ("reconstruction", "dx"), OF_OWN])
def test_what_is_not_given_is_worked_out(activation, given):
    own = {"jumprelu": OF_OWN[:1], "gated": OF_OWN[1:]}[activation]
    given = own if given is OF_OWN else given
    options = STE if activation == "jumprelu" else {}
    report = audited(5, activation, "float32", options=options, given=given)
    assert report.passed and set(report.judged) == set(given), str(report)
    for name in set(given) - {"db_gate"}:  # which is zero
        how = {"options": options, "given": given, "times": {name: 1.1}}
        assert audited(5, activation, "float32", **how).blame == name


def main() -> None:
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    failed = [(n, r) for n in range(total) if not (r := clean(n)).passed and r.judged]
    for number, report in failed[:5]:
        print(number, RIGHT[number % len(RIGHT)], report, sep="\n")
    print(f"{total} right candidates, {len(failed)} false alarms")
    for fault in FAULTS:
        cells = []
        for a in ARITHMETICS:
            report = audited(1, fault.activation, a, options=fault.options, **fault.how)
            named = report.blame and fault.says and fault.says in report.sentence()
            cells.append(f"{report.blame}{' named' * bool(named)}")
        mark = "" if all(c.startswith(fault.stage) for c in cells) else "MISSED "
        print(f"{mark}{fault.activation:10} {fault.stage:9} {fault.name:36} {', '.join(cells)}")


if __name__ == "__main__":
    main()
