"""What is kept of one definition for the next changes no result."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_transcoder import Machine, random_case, simulate

from reftranscoder.auditor.explaining.conventions import documented
from reftranscoder.auditor.explaining.known_faults import known_faults
from reftranscoder.auditor.explaining.subsets import in_float64
from reftranscoder.auditor.intervals.interval import Interval
from reftranscoder.auditor.judging.intermediates import Intermediates
from reftranscoder.auditor.judging.judge import Judge
from reftranscoder.auditor.judging.known_results import KnownResults
from reftranscoder.auditor.task.arithmetic import by_stage
from reftranscoder.auditor.task.candidate import Candidate
from reftranscoder.auditor.task.definition import Definition
from reftranscoder.auditor.task.problem import Problem
from reftranscoder.params import Params

MACHINE = Machine("float32")
CASE = random_case(6, MACHINE, B=12, D=32, K=4)
STAGES = simulate(CASE, MACHINE)
D, I = CASE.W_enc.shape
SIZES = len(CASE.x), I, D, len(CASE.b_dec)


def the_problem():
    params = Params(**{name: a.astype(np.float64) for name, a in CASE.params().items()})
    definition = Definition(CASE.top_k, CASE.activation, CASE.ties)
    arithmetic = by_stage("float32")
    return in_float64(Problem(params, definition, arithmetic, CASE.x, CASE.target, CASE.l1_coeff))


@pytest.mark.parametrize(
    "given", [("loss",), ("dx",), ("db_enc", "dW_dec"), ("pre", "d_pre"), ("hidden", "dW_enc")]
)
def test_under_every_definition_a_stage_is_what_it_is_by_itself(given):
    problem, candidate = the_problem(), Candidate({n: STAGES[n] for n in given}, SIZES, True)
    known = KnownResults(problem, candidate, Judge(problem, candidate).run())
    hypotheses = [*documented(problem), *known_faults(problem)][::2]
    differ = set()
    for hypothesis in hypotheses:
        other = hypothesis.applied(problem)
        for name, result in known.some(other, given).items():
            alone = Judge(other, candidate, frozenset(given) - {name}).run()[name]
            assert result == alone, (hypothesis.name, name)
            differ.add((name, alone.want, alone.bound))
    assert len(differ) > len(given)  # the definitions are not all one to these stages


def test_what_was_used_longest_ago_goes_where_there_is_no_room():
    made = []

    def make(name, size):
        return lambda: made.append(name) or Interval(np.zeros(size))

    kept = Intermediates(room=800)
    for name in "abacabd":
        size = 200 if name == "d" else 40
        assert kept.once(name, make(name, size)).value.shape == (size,)
    assert made == ["a", "b", "c", "b", "d"]  # c drove b out, and b then c
    kept.once("d", make("d", 200))
    assert made[-2:] == ["d", "d"]  # larger than all the room
