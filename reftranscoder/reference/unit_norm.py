"""Decoder rows of norm 1, and a gradient that does not work against it.

Where only the direction of a row counts, the loss is a function of its unit vector::

    unit[d, o]   =  W[d, o] / |W[d]|                                                      (N1)

    dW[d, o]     =  (d_unit[d, o]  -  (d_unit[d] . unit[d]) unit[d, o]) / |W[d]|          (N2)

(N2) is the gradient without what is parallel to the row.  It is needed where the rows have norm 1
already, and is written for that.

**Convention.** A row of zeros has no direction: it stays, and keeps its gradient.

Source: Bricken et al. (2023), "Towards Monosemanticity", appendix "Advice for training sparse
autoencoders": the parallel part is removed before Adam, which would otherwise take it into its
means.
"""

from __future__ import annotations

import numpy as np


def unit_rows_forward(W):
    """Return ``unit`` (D, O): the rows of ``W`` (D, O), each divided by its norm."""
    norms = np.sqrt(np.sum(W * W, axis=1, keepdims=True))
    return W / np.where(norms == 0, 1, norms)  # (N1)


def unit_rows_backward(d_unit, W):
    """Return ``dW`` (D, O), given ``d_unit`` (D, O) and rows of norm 1, or 0, in ``W`` (D, O)."""
    return d_unit - np.sum(d_unit * W, axis=1, keepdims=True) * W  # (N2)
