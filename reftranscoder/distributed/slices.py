"""What a worker holds and does: the slice of the features that it owns.

A slice is features ``first`` to ``stop - 1``: their rows of W_enc, b_enc and W_dec, what Adam
remembers of these, and for how many steps each was silent.  The last slice also has b_dec and
W_skip.  It is made by `hold` from what the client sends, belongs to the process from then on, and
`move` overwrites it: it has a version, the steps made, and whoever asks for another, or for a slice
of a process that was started anew, gets `LostSlice`.

The functions are the tasks of a step, in this order.  None of them changes what it is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..ownership import aligned_copy
from ..params import TranscoderConfig
from ..sparse import Sparse
from ..training.adam import Recipe, State

Pieces = Sequence[np.ndarray]  # consecutive rows


class LostSlice(Exception):
    """The slice is not here, or not in the version that was asked for."""


class Owned(NamedTuple):
    """Which slice of which run it is."""

    run: str
    number: int
    first: int
    stop: int
    last: bool
    config: TranscoderConfig  # of the whole


class Chosen(NamedTuple):
    """The active features of some rows."""

    hidden: Sparse  # (B, D)
    found: Sparse | None  # (B, D), AuxK's, where features are dead


class Errors(NamedTuple):
    """What the loss is made of, and its gradient by the reconstruction."""

    G: np.ndarray  # (B, O)
    aux_G: np.ndarray | None  # (B, O), AuxK's
    squares: np.ndarray  # (B,) float64
    absolutes: np.ndarray  # (B,) float64


class Slice:
    """A slice in a worker."""

    def __init__(self, owned: Owned, recipe: Recipe, state: State) -> None:
        self.owned = owned
        self.recipe = recipe
        self.state = state
        self.gradients: dict[str, np.ndarray] = {}  # of a step that waits for the norm of all
        self.active = np.zeros(0, bool)  # (n,), in that step
        self.loss: float | None = None  # before it

    @property
    def dead(self) -> np.ndarray:
        """Which of the features AuxK takes for dead (n,), before the next step."""
        return self.state.silent >= self.recipe.dead_after


_held: dict[tuple[str, int], Slice] = {}


def hold(owned: Owned, recipe: Recipe, t: int, arrays: dict[str, np.ndarray]) -> None:
    """Make the slice, after step ``t``, of copies of ``arrays`` by their names in checkpoints."""
    groups: dict[str, dict[str, np.ndarray]] = {n: {} for n in ("arrays", "m", "v", "average")}
    for name, array in arrays.items():
        group, _, inner = name.partition(".")
        if inner:
            groups[group][inner] = aligned_copy(array)
    config = _config(owned)
    params, m, v, average = groups.values()
    state = State(config, params, m, v, average, {}, arrays["silent"].copy(), t)
    _held[owned.run, owned.number] = Slice(owned, recipe, state)


def _config(owned: Owned) -> TranscoderConfig:
    """That of a transcoder with these features alone."""
    whole, size = owned.config, owned.stop - owned.first
    width = whole.dict_size // whole.top_k  # of a group, for groupmax
    top_k = size // width if whole.activation == "groupmax" else min(whole.top_k, size)
    return dataclasses.replace(whole, dict_size=size, top_k=top_k)


def forget(run: str) -> None:
    """Let go of every slice of ``run`` in this process."""
    for key in [key for key in _held if key[0] == run]:
        del _held[key]


def held_slice(run: str, number: int, version: int) -> Slice:
    """The slice ``number`` of ``run`` after step ``version``, or a `LostSlice`."""
    held = _held.get((run, number))
    if held is None or held.state.t != version:
        got = "none" if held is None else f"step {held.state.t}"
        raise LostSlice(f"slice {number} of run {run} at step {version}: there is {got}")
    return held


def encode(
    run: str, number: int, t: int, top_k: int, pieces: Pieces
) -> tuple[Sparse, Sparse | None]:
    """The features of the slice that may be active in rows ``pieces``, and AuxK's, with their p."""
    from ..kernels.aux_k import select_dead
    from ..kernels.feature_slices import with_sums
    from ..kernels.screened_encoder import Encoder

    held = held_slice(run, number, t - 1)
    state, x = held.state, together(pieces)
    config, W, b = state.config, state.arrays["W_enc"], state.arrays["b_enc"]
    if state.encoder is None:
        state.encoder = Encoder(W, b)
    most = config.top_k if config.activation == "groupmax" else min(top_k, config.dict_size)
    hidden = state.encoder.encode(x, top_k=most, activation=config.activation, ties=config.ties)
    found = None
    if held.recipe.aux_k and held.dead.any():
        found = with_sums(select_dead(x, held.dead, W, b, held.recipe.aux_k), x, W, b)
    return with_sums(hidden, x, W, b), found


def choose(config: TranscoderConfig, top_k: int, aux_k: int, candidates: Sequence[Any]) -> Chosen:
    """The active features of all: ``candidates`` are what `encode` made of each slice, in order."""
    from ..kernels.feature_slices import choose, side_by_side

    dtype = np.dtype(config.dtype)
    hidden = side_by_side([of_slice for of_slice, _ in candidates])
    hidden = choose(hidden, top_k, config.activation, config.ties).astype(dtype)
    if all(found is None for _, found in candidates):
        return Chosen(hidden, None)
    nothing = np.zeros(0)
    parts = [
        Sparse(np.zeros_like(like.indptr), like.indices[:0], nothing, like.shape)
        if found is None
        else found
        for like, found in candidates
    ]
    found = choose(side_by_side(parts), aux_k, "topk", "lowest_index")
    return Chosen(hidden, found.astype(dtype))


def decode(
    run: str, number: int, t: int, chosen: Chosen, before: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """The reconstruction by the features up to the end of the slice, and AuxK's of the residual.

    ``before`` are those of the slice before, None for the first.
    """
    return _decoded(held_slice(run, number, t - 1), chosen, before)


def _decoded(held: Slice, chosen: Chosen, before: Any) -> tuple[np.ndarray, np.ndarray | None]:
    from ..kernels.engine.sparse_loops import combine_rows
    from ..kernels.feature_slices import columns

    owned, arrays = held.owned, held.state.arrays
    made: list[np.ndarray | None] = []
    for matrix, begun, bias in zip(chosen, before or (None, None), (arrays.get("b_dec"), None)):
        if matrix is None:
            made.append(None)
            continue
        begun = None if begun is None else np.array(begun)
        part = columns(matrix, owned.first, owned.stop)
        made.append(combine_rows(part, arrays["W_dec"], bias, begun))
    reconstruction, of_residual = made
    assert reconstruction is not None
    return reconstruction, of_residual


def errors(
    run: str,
    number: int,
    t: int,
    rows: int,
    chosen: Chosen,
    before: Any,
    x: Pieces,
    target: Pieces,
) -> Errors:
    """The `Errors` of some of the ``rows`` of a batch, by the last slice."""
    from ..kernels.aux_k import aux_k_slopes
    from ..kernels.l1 import row_sums
    from ..kernels.mse import row_squares, slopes
    from ..kernels.skip import skip_forward

    held = held_slice(run, number, t - 1)
    reconstruction, of_residual = _decoded(held, chosen, before)
    y = together(target)
    if "W_skip" in held.state.arrays:
        reconstruction += skip_forward(together(x), held.state.arrays["W_skip"])
    aux_G = None
    if of_residual is not None:
        coeff = held.recipe.aux_coeff
        aux_G = aux_k_slopes(y - reconstruction, of_residual, coeff, rows)
    return Errors(
        slopes(y, reconstruction, 2, rows * y.shape[1]),
        aux_G,
        row_squares(y, reconstruction),
        row_sums(chosen.hidden),
    )


def together(pieces: Pieces) -> np.ndarray:
    """The rows of all ``pieces``, in order."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
