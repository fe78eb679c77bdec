"""The learning rate of each step, by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from reftranscoder.errors import OptionError
from reftranscoder.training.schedule import Schedule


def rates(steps, warmup, decay, lr=1.0):
    schedule = Schedule(lr=lr, steps=steps, warmup=warmup, decay=decay)
    return [schedule(t) for t in range(1, steps + 1)]


def test_up_level_down():
    # w = 2 and d = 5: thirds up, sixths down.
    want = [Fraction(n, 6) for n in (2, 4, 6, 6, 6, 5, 4, 3, 2, 1)]
    assert rates(10, 0.2, 0.5) == [float(rate) for rate in want]


def test_without_warmup_and_decay_it_is_level():
    assert rates(7, 0, 0, lr=0.25) == [0.25] * 7


def test_decay_over_all_steps_falls_from_the_first():
    assert rates(4, 0, 1) == [4 / 5, 3 / 5, 2 / 5, 1 / 5]


def test_where_warmup_and_decay_overlap_the_lower_rate_holds():
    assert rates(3, 1, 1) == [1 / 4, 2 / 4, 1 / 4]


def test_no_step_is_without_effect():
    for warmup, decay in [(0, 0), (0.05, 1), (1, 1), (1, 0)]:
        assert min(rates(20, warmup, decay)) > 0


def kept(steps, start, fall, last):
    schedule = Schedule(lr=1, steps=steps, top_k_start=start, top_k_fall=fall)
    return [schedule.top_k(t, last) for t in range(1, steps + 1)]


def test_top_k_falls_from_where_it_starts():
    assert kept(8, 10, 0.5, 2) == [10, 8, 6, 4, 2, 2, 2, 2]  # two less in each of four steps
    assert kept(6, 3, 1, 2) == [3, 3, 3, 3, 3, 3]  # a half of a feature is one
    assert kept(4, 10, 0, 2) == kept(4, 0, 0.5, 2) == [2] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"lr": "fast"},
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"warmup": -0.1},
        {"warmup": 1.1},
        {"decay": 2},
        {"decay": float("nan")},
        {"decay": None},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(change):
    (name,) = change
    with pytest.raises(OptionError, match=f"^{name} must be") as caught:
        Schedule(**({"lr": 1e-3, "steps": 10, "warmup": 0.1, "decay": 0.5} | change))
    assert "\n" not in str(caught.value)
