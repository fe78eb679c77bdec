"""Probes in which every feature is selected in some row, however many there are.

Features come in groups of K, or fewer, and each group has a row of x of its own, which no other
feature is active in.  Both are a code of the group's number, a sign for every bit of it::

    W_enc[j, i] = s_j c(g)_i,  g the group of j;    x[g, i] = c(g)_i;    b_enc[j] = -s_j t     (P1)

The product of x[g] and the row of W_enc of another group is at most I - 2 m, where m is the least
number of columns that one bit has, and that of its own is I, times s_j.  With t between these, the
features of the group are positive, and all others negative.  So that m is not too small, there is
a code for no more bits than columns; where that are too few for all groups, they come in parts,
and the biases keep those of the other parts inactive.

Where one is kept of each of K groups of neighbours, the features of a group of ours are as far
apart as those groups are.  Where the K farthest from zero are kept, no product may be near -I
either: c has one bit more, which is 0 for all, and there are no biases; the rows of W_enc of other
parts are zero in their place.

The numbers of W_dec are odd, from 33 to 63 over a power of two, with any sign: no term vanishes
among K others.  Everything has eight significant bits at most, and every sum in pre is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .numbers import Numbers, Sizes, short

_MOST_AT_ONCE = 32  # features of one group: among more, one might be too small to see
_ENTRIES = 1 << 25  # of pre (B, D), above which the rows are given in several batches
_MOST_ENTRIES = 1 << 30  # in all batches together, above which the last features are left out
_MOST_PARTS = 256


def every_feature(
    rng: np.random.Generator, sizes: Sizes, activation: str = "topk"
) -> Iterator[Numbers]:
    """The batches, in float32; those of one part share all arrays but ``x`` and ``target``."""
    _, I, D, O, K = sizes
    signed = activation == "abstopk"
    group = _groups(D, K, activation == "groupmax")
    groups = int(group.max()) + 1
    bits = min(max(1, (groups - 1).bit_length()), I - signed)
    width = bits + signed  # of the code
    # s (D,), so that the activations of a group are about 1 and 1/2, or all are the same.
    scale = np.exp2(-np.rint(np.log2(I // width)) - (not signed) * (np.arange(D) % 2))
    threshold = short(np.array(float(I - I // width)))
    W_enc = every_part = _code(group, width, I)
    W_enc *= scale[:, None].astype(np.float32)
    W_dec = _odd(rng, D, O)
    b_dec = short(rng.standard_normal(O) / 4)
    W_skip = short(rng.standard_normal((O, I)) / np.exp2(np.rint(np.log2(I) / 2)))
    step = max(1, _ENTRIES // D)
    left = _MOST_ENTRIES // D
    for part in range(min(-(-groups >> bits), _MOST_PARTS)):
        inside = group >> bits == part
        b_enc = -scale * np.where(inside, threshold, 2.0 ** (2 * I).bit_length())
        if signed:
            b_enc = np.zeros(D)
            W_enc = np.where(inside[:, None], every_part, np.float32(0))
        for first in range(part << bits, min(groups, (part + 1) << bits), step):
            rows = np.arange(first, min(first + step, groups, (part + 1) << bits))[:left]
            left -= len(rows)
            if len(rows):
                target = short(rng.standard_normal((len(rows), O)))
                x = _code(rows, width, I)
                yield Numbers(W_enc, b_enc, W_dec, b_dec, W_skip, x, target)


def _groups(D: int, K: int, apart: bool) -> np.ndarray:
    """The group (D,) of each feature: neighbours, or K that are D / K ``apart``."""
    most = min(K, _MOST_AT_ONCE)
    if not apart:
        return np.arange(D) // most
    place, first = np.divmod(np.arange(D), D // K)
    group: np.ndarray = first * -(-K // most) + place // most
    return group


def _code(numbers: np.ndarray, bits: int, width: int) -> np.ndarray:
    """c of these ``numbers`` (n,), in float32 (n, width): column i has the bit i mod ``bits``."""
    places = np.arange(bits)
    signs = (1 - 2 * (numbers[:, None] >> places & 1)).astype(np.float32)
    repeated: np.ndarray = signs[:, np.arange(width) % bits]
    return repeated


def _odd(rng: np.random.Generator, D: int, O: int) -> np.ndarray:
    """Odd numbers from 33 to 63, with any sign, over a power of two, in float32 (D, O)."""
    drawn = rng.integers(-16, 16, (D, O), dtype=np.int8)
    drawn = 2 * drawn + np.where(drawn < 0, np.int8(-31), np.int8(33))
    odd: np.ndarray = drawn.astype(np.float32)
    odd *= np.float32(2.0 ** -(5 + np.rint(np.log2(O) / 2)))
    return odd
