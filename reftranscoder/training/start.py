"""The parameters before the first step.

A feature that no row of data comes near never fires, gets no gradient, and stays dead.  So each
begins at an example: feature j takes a random training row r, in training units, and::

    W_enc[j]  ~  unit(P (x'[r] - mean))  +  unit(A (target'[r] - mean)),   norm 1 / 10    (I1)
    W_dec[j]  ~  target'[r] - mean,                                        norm 1         (I2)
    b_enc[j]  =  - W_enc[j] . mean of x'                                                  (I3)
    b_dec     =  mean of target'                                                          (I4)

with P and A of a ridge regression (``training/ridge.py``): a feature reads what singles its example
out, large columns or not, and what predicts that a target has what it writes.  By (I3) no feature
is favoured by the mean, by (I4) the features need not spend themselves on it.  Random noise is
added to both directions, so that rows that occur twice do not make twins that never part.  W_skip
begins at zero.

The encoder begins small and the decoder large, because Adam moves every entry equally fast: what a
feature reads then changes faster, relative to its start, than what it writes, and that generalizes
better.  On 14,224 rows of SmolLM2-135M's layer 15, in 600 steps of 1024 with 4096 features, K = 32,
held-out FVU is 0.499; with the first half of (I1) alone, P by column, 0.503; with the second alone
hardly lower, but a sixth of the features are dead (at lr 0.002).  With the norms 1 and 0.1 the
other way round, and a second moment for each entry, it was 0.56 in place of 0.52; with
Glorot-uniform weights and zero biases 0.54, and more than half of the features dead.

Under conventions all this is said of what the encoder reads in place of x', and of what is to be
decoded in place of target'.  Thresholds begin at ``theta_start``, the two paths of gated as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import reference
from ..activations import Activations
from ..errors import OptionError
from ..params import NAMES, OWN, Conventions, Gated, JumpReLU, Own, Params, TranscoderConfig
from ..transcoder import Transcoder
from .adam import Recipe
from .ridge import Read, Ridge, unit
from .scaling import Moments, Scaling

_ENCODER_NORM = 0.1
_NOISE = 0.1  # the norm of the noise, that of the example being 1
_BLOCK = 4096  # features at a time, to save memory


class _Seen(NamedTuple):
    """What the encoder reads and what is to be decoded."""

    read: Read  # rows -> what of theirs the encoder reads, less its mean; the same of the decoded
    mean: np.ndarray  # (I,) of what the encoder reads
    b_dec: np.ndarray  # (O,) the mean of what is to be decoded


def starting_arrays(
    config: TranscoderConfig,
    x: Activations,
    target: Activations,
    moments: Moments,
    scaling: Scaling,
    rng: np.random.Generator,
    backend: str,
) -> dict[str, np.ndarray]:
    """The arrays by name, in training units, drawn from the training rows.

    The conventions of ``config`` are those for scaled data.
    """
    I, D, O = config.input_size, config.dict_size, config.output_size
    plain = not config.conventions.changes_input
    seen = _as_they_are(x, target, moments, scaling) if plain else None
    seen = seen or _through(config.conventions, x, target, scaling)
    arrays = {
        "W_enc": np.empty((D, I), config.dtype),
        "b_enc": np.empty(D, config.dtype),
        "W_dec": np.empty((D, O), config.dtype),
        "b_dec": seen.b_dec.astype(config.dtype),  # (I4)
    }
    if config.skip:
        arrays["W_skip"] = np.zeros((O, I), config.dtype)
    order = rng.permutation(len(x))
    ridge = Ridge.of(seen.read, order, backend)
    examples = np.resize(order, D)
    for start in range(0, D, _BLOCK):
        block = slice(start, min(start + _BLOCK, D))
        u, writes = seen.read(examples[block])
        W_enc = _ENCODER_NORM * _directions(ridge.reads(u, unit(writes)), rng)
        arrays["W_enc"][block] = W_enc  # (I1)
        arrays["b_enc"][block] = -(W_enc * seen.mean).sum(axis=1)  # (I3)
        arrays["W_dec"][block] = _directions(writes, rng)  # (I2)
    return arrays


def starting_own(config: TranscoderConfig, recipe: Recipe) -> Own | None:
    """What the activation takes, in training units, with what its gradients are made by."""
    kind, D = OWN.get(config.activation), config.dict_size
    if kind is JumpReLU:
        theta = np.full(D, recipe.theta_start, config.dtype)
        return JumpReLU(theta, recipe.bandwidth, recipe.through)
    if kind is Gated:
        coefficients = recipe.gate_l1_coeff, recipe.auxiliary_coeff
        b_gate, b_mag, r_mag = np.zeros((3, D), config.dtype)
        return Gated(b_gate, b_mag, r_mag, *coefficients)
    return None


def folded(config: TranscoderConfig, scaling: Scaling, arrays: dict[str, np.ndarray]) -> Transcoder:
    """The transcoder for data as they are, of trained arrays.  Its gradients are derivatives."""
    found: dict[str, Any] = scaling.folded(arrays, config.conventions)
    kind = OWN.get(config.activation)
    own = None if kind is None else kind(**{name: found[name] for name in kind.ARRAYS})
    return Transcoder(config, Params(**{n: a for n, a in found.items() if n in NAMES}, own=own))


def _as_they_are(x: Activations, target: Activations, moments: Moments, scaling: Scaling) -> _Seen:
    s_x, s_y = scaling.input_scale, scaling.target_scale

    def read(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (x.rows(rows) - moments.x) / s_x, (target.rows(rows) - moments.target) / s_y

    return _Seen(read, moments.x / s_x, moments.target / s_y)


def _through(
    conventions: Conventions, x: Activations, target: Activations, scaling: Scaling
) -> _Seen:
    """Of what the encoder reads, which takes another pass over all rows."""
    normalization = reference.NORMALIZATIONS[conventions.normalize_activations]

    def read(rows_x: np.ndarray, rows_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wide = rows_x.astype(np.float64) / scaling.input_scale
        u, gain, shift = normalization.forward(wide, conventions)
        decoded = rows_y.astype(np.float64) / scaling.target_scale
        if conventions.rescale_output:  # a row without deviation writes its mean, whatever it is
            decoded = (decoded - shift) / np.where(gain == 0, 1, gain)
        return u, decoded

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for pair in zip(x.blocks(), target.blocks(), strict=True):
            yield read(*pair)

    # The order of the sums is that of the rows.
    sums, written = np.zeros(x.shape[1]), np.zeros(target.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        for u, decoded in blocks():
            sums += u.sum(axis=0)
            written += decoded.sum(axis=0)
    mean, b_dec = sums / len(x), written / len(x)
    if not np.isfinite(mean).all():  # which the rows are, as they were read before
        name = conventions.normalize_activations
        raise OptionError("normalize_activations", "another, where a row of x is zero", name)

    def less_means(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, decoded = read(x.rows(rows), target.rows(rows))
        return u - mean, decoded - b_dec

    offset = mean - b_dec if conventions.apply_b_dec_to_input else mean
    return _Seen(less_means, offset, b_dec)


def _directions(examples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of norm 1: those of ``examples`` with some noise, or only noise for a row of zeros."""
    noise = rng.standard_normal(examples.shape)
    return unit(unit(examples) + _NOISE * unit(noise))
