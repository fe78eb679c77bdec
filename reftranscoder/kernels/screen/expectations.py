"""What a call may expect, from the calls before it: a screen's choice, as no result depends on it.

A screen helps where few features are active.  Under relu and jumprelu that may be any number, and
what batchtopk keeps of a row depends on all others.  A batch is expected to be like the last one,
and of the first one a few rows are computed.
"""

from __future__ import annotations

import numpy as np

#: The share of features, active in the mean row, above which all are computed without a screen.
DENSE = 0.2

#: Rows that are computed of a first batch, if it has so many times these; and fewer, but not below
#: the least, where their sums of all features would be more entries than this.
PROBED, _FEWEST = 32, 2
_LEAST_PROBED, _MOST_ENTRIES = 4, 1 << 22

#: There is room for so many times the candidates of the fullest row, and so many more.
_MORE, _BESIDE = 1.5, 64

#: A cut is guessed so much below the last one, beside one over the root of what is kept; or where
#: a probe had so many times what is to be kept.
_LOWER, _WIDER = 0.02, 1.25

_LARGEST = float(np.finfo(np.float32).max)


class Expectations:
    """What the batches of one encoder, with ``theta`` (D,), are like.

    ``p_of(x)`` is p (B, D), wherever some is to be computed.
    """

    def __init__(self, theta):
        self._theta = theta
        self._share = None  # of the features that are active
        self._most = None  # candidates of the fullest row
        self._cuts = {}  # by top_k, the least value that a batch kept

    def much(self, x, top_k, activation, p_of):
        """Whether so much is kept of ``x`` (B, I) that a screen does not help."""
        D = len(self._theta)
        if not len(x):
            return True
        if activation == "topk":
            return top_k > D // 4
        few = len(x) < _FEWEST * PROBED
        if activation == "batchtopk":
            return top_k > D * DENSE or (few and top_k not in self._cuts)
        if self._share is None:
            if few:
                return True
            self._share = float((p_of(self._some(x)) > self._theta).mean())
        return self._share > DENSE

    def levels(self, x, top_k, p_of):
        """What batchtopk's cut may be above: guesses, each below the one before, the last one 0."""
        kept = len(x) * top_k
        cut = self._cuts.get(top_k)
        if cut is None:
            p = p_of(self._some(x)).reshape(-1)
            wanted = min(int(_WIDER * kept * len(p) / (len(x) * len(self._theta))), len(p) - 1)
            guess = np.partition(p, len(p) - 1 - wanted)[len(p) - 1 - wanted]
        else:
            guess = cut * (1 - _LOWER - kept**-0.5)
        if 0 < guess < np.inf:
            guess = np.float32(min(guess, _LARGEST))
            yield from (guess, guess / 2)
        yield np.float32(0)

    def room(self, most):
        """For how many candidates of a row there is room, where ``most`` would surely do."""
        return most if self._most is None else min(int(_MORE * self._most) + _BESIDE, most)

    def found(self, candidates):
        """Take note of how many ``candidates`` the fullest row had."""
        self._most = int(candidates)

    def had(self, hidden, top_k, activation):
        """Take note of what ``hidden``, a `Sparse` (B, D), has."""
        B, D = hidden.shape
        if not B:
            return
        if activation == "batchtopk" and len(hidden.values):
            self._cuts[top_k] = float(hidden.values.min())
        elif activation != "topk":
            self._share = len(hidden.values) / (B * D)

    def _some(self, x):
        """Some of the rows, evenly spaced."""
        number = max(min(PROBED, _MOST_ENTRIES // len(self._theta)), _LEAST_PROBED)
        return x[:: -(-len(x) // number)]
