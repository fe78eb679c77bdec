"""What training by batchtopk ends with: a threshold, by which every row is encoded by itself.

Bussmann, Leask and Nanda (2024), "BatchTopK Sparse Autoencoders", section 3, take the least
activation that the selection over a batch X keeps, on average over batches of training rows::

    theta  =  mean over X of  min { hidden[b, d] : hidden[b, d] > 0 }                     (H1)

and the transcoder for inference is the jumprelu one with theta for every feature.  Here X are the
first `BATCHES` batches of the run, or those of one epoch where these are fewer, encoded by the
transcoder that is returned.  A batch without a positive activation keeps none and does not count;
if there is no other, theta is 0.

Libraries estimate the same while they train, of weights that go on changing: SAELens (6.54.12) by
``theta += 0.01 (min - theta)`` from 0, so that after t steps it is still low by 0.99^t;
dictionary_learning (0.1.0) by a factor of 0.999 from the minimum of the first step after 1,000.
"""

from __future__ import annotations

import math

import numpy as np

from ..activations import Activations
from ..transcoder import Transcoder
from .batches import Batches

#: Batches of which the minimum is averaged.
BATCHES = 32


def for_inference(
    transcoder: Transcoder, x: Activations, batches: Batches, backend: str
) -> Transcoder:
    """``transcoder``, with the threshold (H1) in place of batchtopk; any other as it is.

    It is for the rows of ``x`` as they are, of which ``batches`` says which come together.
    """
    if transcoder.config.activation != "batchtopk":
        return transcoder
    epoch = math.ceil(len(x) / len(batches.rows(1)))
    least = []
    for t in range(1, min(BATCHES, epoch) + 1):
        rows = x.rows(batches.rows(t)).astype(transcoder.config.dtype, copy=False)
        kept = transcoder.encode(rows, backend=backend).data
        if (positive := kept[kept > 0]).size:
            least.append(float(positive.min()))
    return transcoder.with_threshold(np.mean(least) if least else 0.0)  # (H1)
