"""The parameters before the first step.

A feature that no row of data comes near never fires, gets no gradient, and stays dead.  So each
begins at an example: feature j takes a random training row r, in training units, and::

    W_enc[j]  ~  (x'[r] - mean) / (variance + mean variance),    of norm 1 / 10           (I1)
    W_dec[j]  ~  target'[r] - mean,                              of norm 1                (I2)
    b_enc[j]  =  - W_enc[j] . mean of x'                                                  (I3)
    b_dec     =  mean of target'                                                          (I4)

with the variance by column, so that a few large columns do not decide which features fire.  By
(I3) no feature is favoured by the mean, by (I4) the features need not spend themselves on it.
Random noise is added to both directions, so that rows that occur twice do not make twins that never
part.  W_skip begins at zero.

The encoder begins small and the decoder large, because Adam moves every entry equally fast: what a
feature reads then changes faster, relative to its start, than what it writes, and that generalizes
better.  On 14,224 rows of SmolLM2-135M's layer 15, in 600 steps of 1024 with 4096 features, K = 32,
and a second moment for each entry: held-out FVU 0.52; with the norms 1 and 0.1 the other way round
0.56; with Glorot-uniform weights and zero biases 0.54, and more than half of the features dead.
"""

from __future__ import annotations

import numpy as np

from ..activations import Activations
from ..params import TranscoderConfig
from .scaling import Moments, Scaling

_ENCODER_NORM = 0.1
_NOISE = 0.1  # the norm of the noise, that of the example being 1
_BLOCK = 4096  # features at a time, to save memory


def starting_arrays(
    config: TranscoderConfig,
    x: Activations,
    target: Activations,
    moments: Moments,
    scaling: Scaling,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The arrays by name, in training units, drawn from the training rows."""
    I, D, O = config.input_size, config.dict_size, config.output_size
    arrays = {
        "W_enc": np.empty((D, I), config.dtype),
        "b_enc": np.empty(D, config.dtype),
        "W_dec": np.empty((D, O), config.dtype),
        "b_dec": (moments.target / scaling.target_scale).astype(config.dtype),  # (I4)
    }
    if config.skip:
        arrays["W_skip"] = np.zeros((O, I), config.dtype)
    mean = moments.x / scaling.input_scale
    variance = moments.x_squares - np.square(moments.x)
    spread = variance + variance.mean()
    spread = np.where(spread > 0, spread, 1)
    examples = np.resize(rng.permutation(len(x)), D)
    for start in range(0, D, _BLOCK):
        block = slice(start, min(start + _BLOCK, D))
        reads = (x.rows(examples[block]) - moments.x) / spread
        writes = target.rows(examples[block]) - moments.target
        W_enc = _ENCODER_NORM * _directions(reads, rng)
        arrays["W_enc"][block] = W_enc  # (I1)
        arrays["b_enc"][block] = -(W_enc * mean).sum(axis=1)  # (I3)
        arrays["W_dec"][block] = _directions(writes, rng)  # (I2)
    return arrays


def _directions(examples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of norm 1: those of ``examples`` with some noise, or only noise for a row of zeros."""
    noise = rng.standard_normal(examples.shape)
    return _unit(_unit(examples) + _NOISE * _unit(noise))


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return rows / np.where(norms > 0, norms, 1)
