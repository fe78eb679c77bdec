"""Which features were selected, judged apart from their values.

A correct implementation knows each activation only to within its error: somewhere in the box
[lo, hi].  It may select a set T of features if some point of the boxes has T as its selection.
Putting every member of T at its hi, and everything else at its lo, is the best case, so that this
is decided exactly (with K kept, ReLU, and zeros that are never members)::

    |T| <= K                                                                              (Q1)
    hi[j] > 0                             for every j in T                                (Q2)
    max over i outside T of lo[i]  <=  min over j in T of hi[j],  where |T| = K           (Q3)
    lo[i] <= 0                            for every i outside T, where |T| < K            (Q4)

Under ``keep_all`` T may be larger: there is a threshold t with hi >= t on T and lo < t outside, of
which fewer than K have lo > t.

With thresholds, boxes are those of how far activations are above theirs, and all D may be kept.

Where T is not known, the features that every correct implementation selects have a box without 0
and lo above the (K + 1)-th largest hi of the row; those that none does have lo = hi = 0, which is
where the ReLU leaves what is surely not positive, or hi below the K-th largest lo; what is left is
ambiguous.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Members(NamedTuple):
    """Selected features of a block of rows, as (row, feature) pairs with ascending rows."""

    rows: np.ndarray  # (nnz,)
    columns: np.ndarray  # (nnz,)

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        mask = np.zeros(shape, bool)
        mask[self.rows, self.columns] = True
        return mask


class Breach(NamedTuple):
    """Why the selection of a row is not one that the boxes allow."""

    row: int
    reason: str
    inside: int | None  # the weakest selected feature, where there is one
    outside: int | None  # the strongest feature left out, where that is the reason
    gap: float  # by how much the boxes are apart


class NearTie(NamedTuple):
    """A row whose selection is another than the reference's, and one that the boxes allow."""

    row: int
    selected: tuple[int, ...]  # that the reference leaves out
    left_out: tuple[int, ...]  # that the reference selects
    gap: float  # by how much what was left out is the larger
    bound: float  # by how much that may be wrong


def near_ties(
    value: np.ndarray, error: np.ndarray, selected: np.ndarray, reference: np.ndarray
) -> list[NearTie]:
    """The rows in which two selections, masks (B, D), differ; activations are within ``error``."""
    found = []
    for row in np.flatnonzero((selected != reference).any(axis=1)):
        inside = np.flatnonzero(selected[row] & ~reference[row])
        outside = np.flatnonzero(reference[row] & ~selected[row])
        most = value[row, outside].max(initial=0.0)
        # What replaces nothing is selected in place of zero.
        least = value[row, inside].min() if len(inside) else 0.0
        bound = error[row, outside].max(initial=0.0) + error[row, inside].max(initial=0.0)
        selects, leaves_out = (tuple(int(j) for j in some) for some in (inside, outside))
        found.append(NearTie(int(row), selects, leaves_out, float(most - least), float(bound)))
    return found


def breaches(
    lo: np.ndarray,
    hi: np.ndarray,
    members: Members,
    top_k: int,
    ties: str,
    bar: str = "positive",
) -> list[Breach]:
    """The rows of a block whose ``members`` the boxes ``lo``, ``hi`` (B, D) exclude, and why.

    ``bar`` is what an active feature's activation is, in words.
    """
    B, D = lo.shape
    mask = members.mask(lo.shape)
    counts = mask.sum(axis=1)
    weakest = np.where(mask, hi, np.inf)
    strongest = np.where(mask, -np.inf, lo)
    inside, outside = weakest.argmin(axis=1), strongest.argmax(axis=1)
    least, most = weakest.min(axis=1), strongest.max(axis=1)
    # Where fewer than K are kept, everything that is surely positive must be.
    least_left_out = np.where(counts < top_k, 0.0, least)
    if ties == "keep_all":
        surely_above = (np.where(mask, lo, -np.inf) > least[:, None]).sum(axis=1)
        too_many = surely_above >= top_k
    else:
        too_many = counts > top_k

    found = []
    for b in np.flatnonzero(too_many | (least <= 0) | (most > least_left_out)):
        weak = int(inside[b]) if counts[b] else None
        strong = int(outside[b]) if counts[b] < D else None
        if too_many[b]:
            reason = f"{counts[b]} features are selected, and top_k is {top_k}"
            found.append(Breach(int(b), reason, weak, None, float(counts[b] - top_k)))
        elif least[b] <= 0:
            reason = f"feature {weak} is selected, and its activation is not {bar}"
            found.append(Breach(int(b), reason, weak, None, float(-least[b])))
        elif counts[b] < top_k:
            reason = f"feature {strong} is {bar} and left out"
            if top_k < D:
                reason += f", though only {counts[b]} of {top_k} are selected"
            found.append(Breach(int(b), reason, weak, strong, float(most[b])))
        else:
            reason = (
                f"feature {strong} is left out, and feature {weak}, which is smaller, is selected"
            )
            found.append(Breach(int(b), reason, weak, strong, float(most[b] - least[b])))
    return found


def selection(values: np.ndarray, top_k: int, ties: str) -> np.ndarray:
    """Mask (B, D) of what the rule selects from ``values``, which are exactly known."""
    least = _largest(values, top_k)
    large = values >= least
    if ties == "lowest_index":
        for b in np.flatnonzero(large.sum(axis=1) > top_k):
            equal = np.flatnonzero(values[b] == least[b])
            large[b, equal[top_k - int((values[b] > least[b]).sum()) :]] = False
    selected: np.ndarray = large & (values != 0)
    return selected


def certainty(lo: np.ndarray, hi: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (B, D): the features that every correct implementation selects, and the ambiguous
    ones.  Without a ReLU, activations may be negative."""
    certain_in = ((lo > 0) | (hi < 0)) & (lo > _largest(hi, top_k + 1))
    certain_out = ((lo == 0) & (hi == 0)) | (hi < _largest(lo, top_k))
    return certain_in, ~certain_in & ~certain_out


def _largest(a: np.ndarray, place: int) -> np.ndarray:
    """The ``place``-th largest of each row (B, 1); minus infinity where there are fewer."""
    D = a.shape[1]
    if place > D:
        return np.full((len(a), 1), -np.inf)
    return np.partition(a, D - place, axis=1)[:, D - place, None]
