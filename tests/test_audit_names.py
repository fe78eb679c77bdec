"""What is wrong is called by its name, with the number in it; and nothing else is.

``python tests/test_audit_names.py N`` judges N candidates (1,000) that are wrong in ways that have
no name, and prints those that get one all the same; the suite judges a few.
"""

from __future__ import annotations

import dataclasses
import sys

import ml_dtypes
import numpy as np
import pytest
from simulated_transcoder import Case, Machine, random_case, select, simulate
from test_audit_faults import judged, real_case

import reftranscoder as rt
from reftranscoder.auditor.explaining.estimates import Entries, estimate, times_of
from reftranscoder.auditor.explaining.explain import explain
from reftranscoder.auditor.explaining.known_faults import name_fault
from reftranscoder.auditor.judging.judge import Judge
from reftranscoder.auditor.judging.verdict import first_fault
from reftranscoder.auditor.task.arithmetic import rounded
from reftranscoder.auditor.task.stage_graph import STAGES
from reftranscoder.bounds import PRECISIONS

MACHINE = Machine("float32")
GRADIENTS = ("dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
CASES = {"random": random_case(1, MACHINE), "real": real_case(MACHINE, False, False)}
RIGHT = {name: simulate(case, MACHINE) for name, case in CASES.items()}


def stored(a):
    return np.asarray(a, np.float32).astype(np.float64)


def bfloat16(a):
    return np.asarray(a, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def after(case: Case, **own) -> dict:
    """All stages, of which these are as given, and are read by those after them."""
    given = {name: stored(a) for name, a in own.items()}
    return simulate(case, MACHINE, given) | given


def said(case: Case, results: dict, arithmetic: str = "float32") -> str:
    """The explanation of the first fault, or "" where nothing is at fault."""
    problem, candidate, judge = judged(case, results, arithmetic)
    named = name_fault(problem, candidate, judge.run())
    first = first_fault(named)
    return "" if first is None else named[first].explanation


def parts(case: Case, right: dict):
    return right["hidden"] @ case.W_dec, case.b_dec, case.x @ case.W_skip.T


def along(case: Case, dW_dec):
    unit = case.W_dec / np.linalg.norm(case.W_dec, axis=1, keepdims=True)
    return (dW_dec * unit).sum(axis=1, keepdims=True) * unit


def one_of_each(case: Case, right: dict, last: bool):
    rows, features = np.nonzero(right["hidden"])
    terms = right["hidden"][rows, features, None] * right["d_reconstruction"][rows]
    dW_dec = np.zeros_like(right["dW_dec"])
    for k in range(len(rows)) if last else reversed(range(len(rows))):
        dW_dec[features[k]] = terms[k]
    return {"dW_dec": stored(dW_dec)}


def with_another_skip(case: Case, right: dict, times: float):
    e = right["reconstruction"] + (times - 1) * (case.x @ case.W_skip.T) - case.target
    return after(case, d_reconstruction=2 * e / e.size)


def kept(case: Case, right: dict, mask, values=None):
    return after(case, hidden=np.where(mask, right["pre_acts"] if values is None else values, 0))


def groups(case: Case, right: dict):
    acts = right["pre_acts"].reshape(len(case.x), case.top_k, -1)
    return (acts == acts.max(axis=2, keepdims=True)).reshape(len(case.x), -1)


def decoded(case: Case, right: dict, hidden):
    _, bias, skipped = parts(case, right)
    return after(case, reconstruction=hidden @ case.W_dec + bias + skipped)


def anywhere(case: Case, right: dict):
    rng = np.random.default_rng(0)
    places = rng.permuted(np.tile(np.arange(48), (len(case.x), 1)), axis=1)
    return after(case, hidden=np.take_along_axis(right["hidden"], places, axis=1))


#: By what the audit says, what is given in place of the right results: (case, right) to a dict.
NAMED = {
    **{
        f"{stage} is 0.2452 times what it should be": (
            lambda case, right, stage=stage: {stage: stored(0.2452 * right[stage])}
        )
        for stage in STAGES
        if stage != "loss"
    },
    "loss is twice what it should be": lambda case, right: {"loss": 2 * right["loss"]},
    "x @ W_enc.T is 1.7 times what it should be": lambda case, right: after(
        case, pre=1.7 * case.x @ case.W_enc.T + case.b_enc
    ),
    "hidden @ W_dec is 0.2452 times what it should be": lambda case, right: after(
        case, reconstruction=np.dot((0.2452, 1, 1), np.stack(_whole(case, right), 1))
    ),
    "b_dec enters 4.08 times": lambda case, right: after(
        case, reconstruction=np.dot((1, 4.08, 1), np.stack(_whole(case, right), 1))
    ),
    "x @ W_skip.T is twice what it should be": lambda case, right: after(
        case, reconstruction=np.dot((1, 1, 2), np.stack(_whole(case, right), 1))
    ),
    "hidden @ W_dec is 0.25 times what it should be and b_dec enters 4 times": (
        lambda case, right: after(
            case, reconstruction=np.dot((0.25, 4, 1), np.stack(_whole(case, right), 1))
        )
    ),
    "the L1 loss's gradient is 3.3 times what it should be": lambda case, right: after(
        case,
        d_hidden=right["d_reconstruction"] @ case.W_dec.T
        + 3.3 * case.l1_coeff / right["hidden"].size * np.sign(right["hidden"]),
    ),
    "dW_dec, db_dec, dW_skip, dW_enc and db_enc are 0.3123 times": lambda case, right: {
        name: stored(0.3123 * right[name]) for name in GRADIENTS
    },
    "as if averaged over 3 parts of the batch": lambda case, right: {
        name: stored(right[name] / 3) for name in GRADIENTS
    },
    "dW_dec is 0.3 times what it should be, db_dec is 0.7 times": lambda case, right: {
        "dW_dec": stored(0.3 * right["dW_dec"]),
        "db_dec": stored(0.7 * right["db_dec"]),
        "db_enc": stored(0.9 * right["db_enc"]),
    },
    "dW_enc is rounded to bfloat16": lambda case, right: {"dW_enc": bfloat16(right["dW_enc"])},
    "dW_dec, db_dec, dW_skip, dW_enc and db_enc are rounded to bfloat16": lambda case, right: {
        name: bfloat16(right[name]) for name in GRADIENTS
    },
    "dW_dec is 0.4 times what it should be; before, dW_dec lost its component": (
        lambda case, right: {
            "dW_dec": stored(0.4 * (right["dW_dec"] - along(case, right["dW_dec"])))
        }
    ),
    "dW_dec counts the last alone": lambda case, right: one_of_each(case, right, True),
    "dW_dec counts the first alone": lambda case, right: one_of_each(case, right, False),
    "gradients lacks the skip connection": lambda case, right: with_another_skip(case, right, 0),
    "gradients has the skip connection twice": lambda case, right: with_another_skip(
        case, right, 2
    ),
    "(BatchTopK)": lambda case, right: kept(
        case, right, right["pre_acts"] >= np.sort(right["pre_acts"].ravel())[-6 * len(case.x)]
    ),
    "(GroupMax)": lambda case, right: kept(case, right, groups(case, right)),
    "negative ones dropped": lambda case, right: kept(case, right, select(np.abs(right["pre"]), 6)),
    "(AbsTopK)": lambda case, right: kept(
        case, right, select(np.abs(right["pre"]), 6), right["pre"]
    ),
    "that the row before selects": lambda case, right: kept(
        case, right, np.roll(right["hidden"] != 0, 1, axis=0)
    ),
    "that the row after selects": lambda case, right: kept(
        case, right, np.roll(right["hidden"] != 0, -1, axis=0)
    ),
    "hidden has feature j at j + 1": lambda case, right: after(
        case, hidden=np.roll(right["hidden"], 1, axis=1)
    ),
    "hidden has feature j at j - 1": lambda case, right: after(
        case, hidden=np.pad(right["hidden"], ((0, 0), (0, 1)))[:, 1:]
    ),
    "and stand at other features": anywhere,
    "feature j is decoded by W_dec's row for j + 1": lambda case, right: decoded(
        case, right, np.roll(right["hidden"], 1, axis=1)
    ),
    "feature j is decoded by W_dec's row for j - 1": lambda case, right: decoded(
        case, right, np.roll(right["hidden"], -1, axis=1)
    ),
    "feature 7 is not decoded": lambda case, right: decoded(
        case, right, np.where(np.arange(48) == 7, 0, right["hidden"])
    ),
    **{
        f"{stage} has feature j at j + 1": (
            lambda case, right, stage=stage: {stage: np.roll(right[stage], 1, axis=0)}
        )
        for stage in ("dW_dec", "dW_enc", "db_enc")
    },
    **{
        f"feature 7 is left out of {stage}": (
            lambda case, right, stage=stage: {
                stage: np.where(np.arange(48)[:, None] == 7, 0, right[stage])
            }
        )
        for stage in ("dW_dec", "dW_enc")
    },
    "9 features are kept, not 6": lambda case, right: kept(
        case, right, select(right["pre_acts"], 9)
    ),
}


def _whole(case: Case, right: dict):
    """The parts of the reconstruction, each (B, O)."""
    return np.broadcast_arrays(*parts(case, right))


@pytest.mark.parametrize(
    ("name", "data"),
    [(name, "random") for name in NAMED] + [(name, "real") for name in list(NAMED)[::6]],
)
def test_a_fault_is_called_by_its_name(name, data):
    case, right = CASES[data], RIGHT[data]
    assert name in said(case, right | NAMED[name](case, right))


def test_a_selection_by_coarser_keys_is_named():
    case = random_case(2, MACHINE, B=64, D=400, K=16)
    acts = simulate(case, MACHINE)["pre_acts"]
    results = after(case, hidden=np.where(select(bfloat16(acts), 16), acts, 0))
    assert said(case, results).startswith("features are ranked by keys rounded to bfloat16 (row")


@pytest.mark.parametrize("bits", [15, 16])
def test_an_index_that_wraps_is_what_explains_it(bits):
    case = random_case(3, MACHINE, B=4, I=3, D=(1 << bits) + 9000, O=3, K=4)
    right = simulate(case, MACHINE)
    hidden = np.zeros_like(right["hidden"])
    rows, features = np.nonzero(right["hidden"])
    assert (features >= 1 << bits).any()
    hidden[rows, features % (1 << bits)] = right["hidden"][rows, features]
    given = {name: right[name] for name in ("pre", "pre_acts")} | {"hidden": hidden}
    problem, candidate, judge = judged(case, given, "float32")
    assert judge.run()["hidden"].verdict == "fault"
    wrapped = dataclasses.replace(problem.definition, moved=str(bits))
    found = Judge(problem._replace(definition=wrapped), candidate).run()
    assert found["hidden"].verdict == "exact"


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (lambda j: j % 128, "j less 2^7, where j is that or more"),
        (lambda j: j % 256, "j less 2^8, where j is that or more"),
        (lambda j: j.astype(np.int8), "j as an int8"),
    ],
)
def test_an_index_of_too_few_bits_is_named(index, words):
    case = random_case(3, MACHINE, D=300)
    right = simulate(case, MACHINE)
    W_dec = case.W_dec[index(np.arange(300))]
    _, bias, skipped = parts(case, right)
    results = after(case, reconstruction=right["hidden"] @ W_dec + bias + skipped)
    assert said(case, results) == f"feature j is decoded by W_dec's row for {words}"


def test_where_all_wrong_entries_are_is_said():
    x = np.random.default_rng(0).standard_normal((20, 6))
    tc = rt.build(input_size=6, output_size=4, dict_size=16, top_k=3, dtype="float64")

    def concluded(change):
        theirs = dict(tc.stages(x))
        change(theirs)
        return rt.audit(theirs, tc, x).sentence()

    def one(theirs):
        theirs["reconstruction"][5, 1] += 1

    def column(theirs):
        theirs["reconstruction"][3:9, 1] += np.arange(1, 7)

    def scattered(theirs):
        theirs["reconstruction"][[3, 5], [1, 2]] += 1, 2

    assert concluded(one).endswith("; of 80 entries, that alone is wrong.")
    assert concluded(column).endswith("; 6 of 80 entries are wrong, all in output column 1.")
    assert concluded(scattered).endswith("; 2 of 80 entries are wrong.")


def test_what_padding_overwrites_is_named():
    case = random_case(1, MACHINE, few=True)
    bias = np.where(np.arange(48) == 0, 1.5, case.b_enc)
    case = dataclasses.replace(case, b_enc=MACHINE.store(bias))
    hidden = simulate(case, MACHINE)["hidden"].copy()
    few = (hidden != 0).sum(axis=1) < case.top_k
    assert (hidden[few, 0] != 0).sum() > 3
    hidden[few, 0] = 0
    assert said(case, after(case, hidden=hidden)).startswith("feature 0 is lost where fewer")


def test_the_component_along_the_decoder_is_a_convention():
    case, right = CASES["random"], RIGHT["random"]
    results = right | {"dW_dec": stored(right["dW_dec"] - along(case, right["dW_dec"]))}
    problem, candidate, judge = judged(case, results, "float32")
    assert explain(problem, candidate, judge.run()).convention == "tangent_dW_dec"


def test_an_estimate_needs_entries_that_show_it_and_explains_all():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    bound = np.full(50, 1e-6)
    parts = {"a": a, "b": b}

    def found(got, names=("a",)):
        return estimate(Entries(got, a + b, bound), parts, names)

    assert found(0.7 * a + b) == {"a": pytest.approx(0.7, abs=1e-6)}
    assert found(3.0000001 * a + b) == {"a": 3.0} and found(a / 7 + b) == {"a": 1 / 7}
    assert found(0.7 * a + 2 * b) is None
    assert found(0.7 * a + 2 * b, ("a", "b")) == {"a": pytest.approx(0.7), "b": 2.0}
    wrong = 0.7 * a + b
    wrong[3] += 1e-4
    assert found(wrong) is None
    few = Entries(np.full(5, 0.7), np.ones(5), np.full(5, 1e-6))
    assert estimate(few, {"a": np.ones(5)}, ("a",)) is None
    assert times_of(2.0) == "twice what it should be" and times_of(0.0) == "left out"


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_numbers_are_rounded_to_the_nearest_of_a_coarser_format(name):
    a = np.random.default_rng(0).standard_normal(1000) * np.exp2(np.arange(-20, 20).repeat(25) / 2)
    dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.float16
    a = a.astype(np.float32)
    want = a.astype(dtype).astype(np.float64)
    assert (rounded(a.astype(np.float64), PRECISIONS[name]) == want).all()


def wrong_candidate(seed: int) -> tuple[str, Case, dict]:
    """A candidate that is wrong at random, in one of the ways that have no name."""
    rng = np.random.default_rng(seed)
    case = random_case(seed, MACHINE, few=bool(seed % 2))
    right = simulate(case, MACHINE)
    stage = STAGES[seed % len(STAGES)]
    a = right[stage].copy()
    kind = ("one entry", "one column", "noise", "a power", "rows")[rng.integers(5)]
    if kind == "one entry" and a.ndim:
        places = np.argwhere(a)
        place = tuple(places[rng.integers(len(places))])
        a[place] *= rng.choice([0.0, 0.5, 2.0, 1.1])
    elif kind == "one column" and a.ndim:
        a[..., rng.integers(a.shape[-1])] *= rng.uniform(0.3, 3)
    elif kind == "noise":
        a = a * (1 + 0.01 * rng.standard_normal(a.shape))
    elif kind == "a power":
        a = np.sign(a) * np.abs(a) ** rng.uniform(0.5, 1.5)
    elif a.ndim:
        a[: len(a) // 2] *= rng.uniform(0.3, 3)
    else:
        a = a * rng.uniform(0.3, 3)
    return f"{seed}: {kind} of {stage}", case, right | {stage: stored(a)}


def accidents(seeds) -> list[str]:
    """The candidates among these that got a name: all but what says where an error is."""
    found = []
    for seed in seeds:
        label, case, results = wrong_candidate(seed)
        text = said(case, results)
        if text and not text.startswith("row "):
            found.append(f"{label}: {text}")
    return found


def test_other_mistakes_get_none_of_these_names():
    assert accidents(range(28)) == []


if __name__ == "__main__":
    named = accidents(range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
    print(*named, sep="\n")
    print(f"{len(named)} got a name")
