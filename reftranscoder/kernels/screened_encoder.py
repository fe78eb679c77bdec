"""The fast encoder: a screen discards, float64 decides, and the bits are `encode_forward`'s.

An `Encoder` holds what can be prepared for one array of weights.  Whatever the screen cannot vouch
for goes to `encode_forward`: rows that it leaves out or that keep too many candidates, and whole
calls where too much is kept for a screen to help.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..sparse import Sparse, row_starts
from .affine import affine_block
from .batchtopk import largest_entries
from .encode import encode_forward
from .engine.kernel_arrays import as_kernel_array
from .engine.threads_and_forks import Lock, threads, threads_are_awake
from .engine.work_division import few_threads
from .screen.cpu_target import PANELS, TILE
from .screen.expectations import Expectations
from .screen.packed_float32 import FloatWeights
from .screen.packed_whole import FEWEST_ROWS, Columns, PackedWeights
from .screen.quantised import SCREENED, ZERO, Quantised
from .screen.rescoring import WRONG_GUESS
from .screen.search import search as find
from .screen.workspace import workspace
from .topk import joined

_BLOCK_BYTES = 1 << 26  # of candidates
_MOST_ROWS = 2048  # in a block
#: How far below the K-th largest estimate a threshold is guessed, in widths of a bound: one width
#: is never wrong if all are equal; errors are a part of it that falls as the root of I.
_SURE, CAUTION = np.float32(1), 4

#: Room for candidates, beside twice those that are kept.
ROOM = 24 * TILE.features

#: A float32 screen pays from this many rows; as the second one, only while its weights are small.
FEWEST_FOR_FLOATS = 16
_MOST_FLOAT_BYTES = 1 << 27

#: The activations that the screen serves; the others are computed in full.
SCREENED_ACTIVATIONS = ("topk", "relu", "jumprelu", "batchtopk")

_NONE = np.float32(0)  # a level: p that is not above it is never kept

_LONGEST = 1 << 17  # inputs that the theorem of a screen allows

_ROWS_PER_TASK = 256  # their 8-bit panels stay in the second-level cache

#: What a thread must have to read before it is woken, once for each tile of rows: about a
#: millisecond of work, as waking one took up to eight.  If it is awake, a tenth of that.
_WORTH_WAKING, _WORTH_SHARING = 1 << 24, 1 << 21


class Threshold(NamedTuple):
    """What `encode_forward` takes of jumprelu."""

    theta: np.ndarray  # (D,) float64


class Search(NamedTuple):
    """What a screen looks for in each row."""

    kept: int  # features, or D: all
    keep_all: bool  # that equal the least of these
    levels: np.ndarray  # (B,) float32, below which none is wanted
    caution: np.float32  # in guessing a threshold: see `CAUTION`
    room: int  # for candidates, in every segment of the features


class Encoder:
    """`encode_forward` under ``W_enc`` (D, I) and ``b_enc`` (D,).

    These must not change, unless whoever changes them says so: see `rewrite`.  ``panels`` is the
    dtype in which the first screen has the weights, one of `PANELS`.  ``theta`` (D,) are the
    thresholds of jumprelu.

    A screen finds what may be above zero, so that it is given b_enc - theta, rounded up: p > theta
    is s + b_enc > theta, with s the sum of products, as the one addition that makes p rounds
    monotonically; and then s + (b_enc - theta) > 0 for that difference and whatever is larger.
    """

    def __init__(self, W_enc, b_enc, panels=PANELS[0], theta=None):
        self._W = as_kernel_array(W_enc, W_enc.dtype)
        self._b = self._screened_b = as_kernel_array(b_enc, W_enc.dtype)
        self._theta = np.zeros(len(W_enc))
        self._fits = True
        if theta is not None:
            np.fmax(theta, 0.0, out=self._theta)
            self._screened_b = difference_up(self._b, self._theta)
            self._fits = bool(np.isfinite(self._screened_b).all())  # infinity is not above it
        self._expected = Expectations(self._theta)
        self._caution = np.float32(min(CAUTION / np.sqrt(W_enc.shape[1]), _SURE))
        self._panels, self._whole = panels, panels != np.float32
        self._lock = Lock()
        self._packed, self._measured, self._as_floats = None, False, None

    @property
    def screens(self):
        """Whether there can be a screen."""
        return self._fits and self._W.shape[1] <= _LONGEST

    def encode(self, x, *, top_k, activation="topk", ties="lowest_index", own=None):
        """Return ``hidden``, a `Sparse` (B, D) of ``x`` (B, I), as `encode_forward` does."""
        D = len(self._W)
        few = len(x) < FEWEST_FOR_FLOATS and not self._whole
        screened = activation in SCREENED_ACTIVATIONS and self.screens
        x, keep_all = as_kernel_array(x, self._W.dtype), ties == "keep_all"
        if few or not screened or self._expected.much(x, top_k, activation, self._p_of):
            selection = {"top_k": top_k, "activation": activation, "ties": ties, "own": own}
            hidden = encode_forward(x, self._W, self._b, **selection)
        elif activation == "batchtopk":
            hidden = self._of_the_batch(x, top_k, ties)
        else:
            hidden = self.of_rows(x, top_k if activation == "topk" else D, keep_all)
        self._expected.had(hidden, top_k, activation)
        return hidden.astype(x.dtype)

    def _p_of(self, x):
        """p (B, D) of every feature, where that is above zero."""
        p = np.empty((len(x), len(self._W)))
        affine_block(x, self._W, self._b, True, p)
        return p

    def _of_the_batch(self, x, top_k, ties):
        """batchtopk: where enough of p is at or above a level, what is below it is not kept."""
        most = len(x) * top_k
        hidden = None
        for level in self._expected.levels(x, top_k, self._p_of):
            hidden = self.of_rows(x, len(self._W), True, level)
            if np.count_nonzero(~(hidden.values < level)) >= most:  # NaN is above all numbers
                break
        return largest_entries(hidden, most, ties)

    def of_rows(self, x, kept, keep_all, level=_NONE):
        """The ``kept`` largest of each row, in float64; or all that are above their thresholds,
        or of these at least those that are not below ``level``, one number or (B,) float32."""
        D = len(self._W)
        x, levels = as_kernel_array(x, self._W.dtype), np.full(len(x), level, np.float32)
        weights = self.weights_for(x)
        room = _capacity(kept, D)
        if kept == D:
            room = self._expected.room(room)
        search = Search(kept, keep_all, levels, self._caution, room)
        rows = _rows_at_once(room)
        blocks = [
            self._block(x[part], weights, search._replace(levels=levels[part]))
            for part in _parts(len(x), rows)
        ]
        return blocks[0] if len(blocks) == 1 else joined(blocks, D)

    def rewrite(self):
        """Before all weights are overwritten: where their 8-bit copies must be, too.

        Returns ``order`` and `Quantised`, where feature ``order[n]`` is at place n.  Without a copy
        its panels have no bytes.
        """
        self._as_floats = None
        if self._packed is not None:
            return self._packed.order, self._packed.quantised
        order = np.arange(len(self._W), dtype=np.int32)
        panels = np.empty(0, self._panels if self._whole else np.uint8)
        features, sixteen = np.empty((5, 0), np.float32), np.empty((0, 0), np.int16)
        none = panels, features, 1, sixteen, features[:3]
        return order, Quantised(np.ones((2, 0)), 0, 1.0, *none)

    def weights_for(self, x):
        """What the screen of ``x`` (B, I) is made with, packed when it is first asked for."""
        if not self._whole:
            return self._floats()
        with self._lock:
            if self._packed is None or (not self._measured and len(x) >= FEWEST_ROWS):
                self._measured = len(x) >= FEWEST_ROWS
                columns = Columns.of(x, self._W)
                self._packed = PackedWeights(self._W, self._screened_b, columns, self._panels)
            return self._packed

    def _floats(self):
        with self._lock:
            if self._as_floats is None:
                self._as_floats = FloatWeights(self._W, self._screened_b)
            return self._as_floats

    def _block(self, x, weights, search):
        found, states, block = self._screened(x, weights, search)
        if not np.count_nonzero(found < 0):
            return block

        def again(rows, weights, **changes):
            """Search some rows of this block once more."""
            nonlocal block
            more = search._replace(**changes)
            parts = [rows[part] for part in _parts(len(rows), _rows_at_once(more.room))]
            blocks = [
                self._block(_rows(x, part), weights, more._replace(levels=more.levels[part]))
                for part in parts
            ]
            if blocks:
                made = joined(blocks, len(self._W))
                block = _replaced(block, rows, made, np.arange(len(rows)))
                found[rows] = 0

        if search.caution < _SURE:
            again(np.flatnonzero(found == WRONG_GUESS), weights, caution=_SURE)
        room = _capacity(search.kept, len(self._W))
        if search.room < room:
            again(_crowded(found, states), weights, room=room)
        crowded = _crowded(found, states)
        if self._hands_over(weights, len(crowded)):
            again(crowded, self._floats())
        left = np.flatnonzero(found < 0)
        if len(left):
            rest = self._without_screen(x, left, states, search.kept, search.keep_all)
            block = _replaced(block, left, *rest)
        return block

    def _screened(self, x, weights, search):
        """How many features each row has, or why that is not known; what became of it when it was
        packed; and the `Sparse` of all features that are known."""
        B, D = len(x), len(self._W)
        tiles, groups = -(-B // TILE.rows), weights.features.shape[1] // TILE.features
        to_read = tiles * weights.panels.nbytes
        worth = _WORTH_SHARING if threads_are_awake() else _WORTH_WAKING
        with few_threads(to_read // worth), workspace() as work:
            inputs = weights.pack(x)
            available = threads()
            tasks, segments = _division(tiles, groups, available)
            capacity = min(search.room, -(-groups // segments) * TILE.features)
            room = (tiles * TILE.rows * segments * capacity,)
            most = segments * capacity
            most = most if search.keep_all else min(search.kept, most)
            found, starts, indices, p, candidates = find(
                weights.panels, weights.features, weights.steps, weights.sixteen, weights.closer,
                weights.order, inputs.panels, inputs.rows, inputs.starts, inputs.states,
                inputs.sixteen, x, self._W, self._b, self._theta, search.kept, search.keep_all,
                search.levels, search.caution, tasks, segments, max(min(available, B), 1),
                work.array("ids", room, np.int32), work.array("bounds", room, np.float32),
                work.array("estimates", room, np.float32), work.array("kept", (B, most), np.int32),
                work.array("p", (B, most), np.float64),
            )  # fmt: skip
        if search.kept == D:
            self._expected.found(candidates)
        return found, inputs.states, Sparse(starts, indices, p, (B, D))

    def _hands_over(self, weights, rows):
        """Whether ``rows`` that one screen leaves are worth another, and packing weights for it."""
        bytes_needed = 4 * self._W.size
        return (
            self._whole
            and isinstance(weights, PackedWeights)
            and rows >= FEWEST_FOR_FLOATS
            and bytes_needed <= _MOST_FLOAT_BYTES
        )

    def _without_screen(self, x, rows, states, kept, keep_all):
        """`encode_forward` of some rows of ``x``, those of all zeros once; and where each is."""
        zero = states[rows] == ZERO
        chosen = np.concatenate([rows[zero][:1], rows[~zero]])
        # Where every feature above its threshold is kept, jumprelu is what relu is at zero.
        all_kept = kept == len(self._W)
        selection = {"top_k": kept, "ties": "keep_all" if keep_all else "lowest_index"}
        selection |= {"activation": "jumprelu", "own": Threshold(self._theta)} if all_kept else {}
        # In float64, where rows compete: what is rounded may be equal.
        plain = encode_forward(x[chosen].astype(np.float64), self._W, self._b, **selection)
        places = np.cumsum(~zero) - 1 + zero.any()
        places[zero] = 0
        return plain, places


def difference_up(b, theta):
    """``b - theta`` in the dtype of ``b``, rounded up."""
    difference = np.nextafter(b.astype(np.float64) - theta, np.inf)
    with np.errstate(over="ignore"):
        nearest = difference.astype(b.dtype)
    return np.where(nearest < difference, np.nextafter(nearest, b.dtype.type(np.inf)), nearest)


def _rows(x, which):
    return as_kernel_array(x[which], x.dtype)


def _rows_at_once(room):
    """How many rows are searched at a time, with ``room`` for candidates in each."""
    return max(min(_BLOCK_BYTES // (20 * room), _MOST_ROWS), TILE.rows)


def _parts(rows, size):
    """Slices of so many ``rows``, of at most ``size``."""
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]


def _capacity(kept, D):
    """How many candidates of a row and a segment there is room for."""
    return min(min(2 * kept, D // 4) + ROOM, D)


def _crowded(found, states):
    """The rows that were screened, to no avail."""
    return np.flatnonzero((found < 0) & (states == SCREENED))


def _division(tiles, panels, available):
    """Divide the work among ``available`` threads: tiles of rows into tasks and, if there are few,
    panels of features into segments.  Returns how many there are of either."""
    most = max(_ROWS_PER_TASK // TILE.rows, 1)
    tasks = min(available * -(-tiles // (available * most)), tiles)
    return tasks, min(-(-available // tasks), panels)


def _replaced(matrix, rows, other, places):
    """The `Sparse` ``matrix`` with ``places`` of ``other`` as its ``rows``."""
    sources = np.arange(matrix.shape[0])
    sources[rows] = matrix.shape[0] + places
    both = joined([matrix, other], matrix.shape[1])
    counts = np.diff(both.indptr)[sources]
    starts = row_starts(counts)
    entries = np.arange(starts[-1]) + np.repeat(both.indptr[sources] - starts[:-1], counts)
    return Sparse(starts, both.indices[entries], both.values[entries], matrix.shape)
