"""Where the kinks are: the radius by hand, and against the selection itself."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from reftranscoder import reference
from reftranscoder.gradcheck import kink_free_radius
from reftranscoder.gradcheck.kinks import slack


def test_the_radius_by_hand():
    # top_k = 2 keeps 5 and 4.  4 falls at 1, 3 rises at 1: they meet after 1 / 2, and 5, which
    # falls at 4, meets 3 after 2 / 5.
    pre, rate = np.array([[5.0, 4, 3, -9]]), np.array([[-4.0, -1, 1, 2]])
    assert kink_free_radius(pre, rate, 2) == 2 / 5
    # top_k = 4: all of 5, 4, 3 are kept, and 4 / 1, 5 / 4, 3 / 1 and -9 / 2 are the ways to zero.
    assert kink_free_radius(pre, rate, 4) == 5 / 4
    # Only -9 moves: towards the 3 that it would have to pass, 12 away, or, if there is room, to 0.
    only = np.array([[0.0, 0, 0, 2]])
    assert kink_free_radius(pre, only, 3) == 12 / 2
    assert kink_free_radius(pre, only, 4) == 9 / 2
    # The rounding of both takes from the distance.
    assert kink_free_radius(pre, only, 3, rounding=1.0) == 10 / 2
    assert kink_free_radius(pre, only, 3, rounding=6.0) == 0
    # Nothing moves.
    assert kink_free_radius(pre, 0 * only, 2) == np.inf
    # The nearest row counts.
    assert kink_free_radius(np.vstack([pre, 2 * pre]), np.vstack([only, rate]), 2) == 4 / 5


def test_the_radius_at_ties():
    pre, rate = np.array([[3.0, 2, 2, 1]]), np.array([[0.0, 1, 2, 0]])
    assert kink_free_radius(pre, rate, 2) == 0  # one of the two is kept
    assert kink_free_radius(pre, rate, 2, ties="keep_all") == 0  # both are, until they part
    assert kink_free_radius(pre, rate, 3) == 1 / 2  # both are in: 2 and 1 meet
    assert kink_free_radius(pre, rate, 1) == 1 / 2  # both are out: 2 and 3 meet
    together = np.array([[0.0, 1, 1, 0]])
    assert kink_free_radius(pre, together, 2) == 1  # they stay level, until the 3 or the 1


def test_the_radius_of_fractions_is_a_fraction():
    pre = np.array([[Fraction(1, 3), Fraction(1, 7)]], dtype=object)
    radius = kink_free_radius(pre, np.array([[Fraction(1), Fraction(2)]], dtype=object), 1)
    assert type(radius) is Fraction and radius == Fraction(4, 21)


@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
def test_the_radius_is_where_the_selection_changes(ties, rng):
    def selected(pre, top_k):
        return reference.topk_forward(reference.relu_forward(pre), top_k, ties) != 0

    for _ in range(200):
        B, D = rng.integers(1, 4), rng.integers(1, 9)
        top_k = rng.integers(1, D + 1)
        pre, rate = rng.standard_normal((2, B, D))
        radius = kink_free_radius(pre, rate, top_k, ties)
        start = selected(pre, top_k)
        inside, outside = (
            [np.array_equal(selected(pre + s * rate, top_k), start) for s in (-step, step)]
            for step in (radius * (1 - 1e-9), radius * (1 + 1e-9))
        )
        assert all(inside) and not all(outside)
        # Everything may use up its slack at once.
        room = slack(pre, top_k, ties) * (1 - 1e-9)
        for signs in rng.choice([-1, 1], (8, B, D)):
            assert np.array_equal(selected(pre + signs * room, top_k), start)
