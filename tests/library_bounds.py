"""How far what a library computes may be from what ours does, from the same arrays and rows.

A dot product of n terms is within n u of the sum of their sizes; u is the unit roundoff of what the
library computes in.  To that come a mean and a deviation of I terms, and a few roundings more.
"""

from __future__ import annotations

import numpy as np

U = {"float32": 2.0**-24, "bfloat16": 2.0**-8}


def sums(tc, x):
    """The sizes of the terms of pre, and of what comes before it, for bounds: (B, D)."""
    p, conventions = tc.params, tc.config.conventions
    wide = x.astype(np.float64)
    if conventions.normalize_activations == "layer_norm":
        deviation = wide.std(axis=1, ddof=1, keepdims=True) + conventions.eps
        wide = (np.abs(wide) + np.abs(wide.mean(axis=1, keepdims=True))) / deviation
    wide = wide * conventions.scale
    if conventions.apply_b_dec_to_input:
        wide = np.abs(wide) + np.abs(p.b_dec)
    norms = 1.0
    if conventions.rescale_acts_by_decoder_norm:
        norms = np.linalg.norm(p.W_dec.astype(np.float64), axis=1)
    found = (np.abs(wide) @ np.abs(p.W_enc).T + np.abs(p.b_enc)) * norms
    if tc.config.activation == "gated":
        found = found * np.exp(p.own.r_mag.astype(np.float64)) + np.abs(p.own.b_mag)
    return found


def features_bound(tc, x, u):
    """How far each feature may be from ours, (B, D)."""
    return (3 * tc.config.input_size + 24) * u * sums(tc, x)


def reconstruction_bound(tc, x, features, u):
    """How far each output may be from ours, of the same ``features``, (B, O)."""
    p, conventions = tc.params, tc.config.conventions
    terms = np.abs(features).astype(np.float64) @ np.abs(p.W_dec) + np.abs(p.b_dec)
    if p.W_skip is not None:
        terms += np.abs(x) @ np.abs(p.W_skip).T
    if conventions.changes_output and conventions.normalize_activations == "layer_norm":
        terms = terms * (x.std(axis=1, ddof=1, keepdims=True) + 1)
        terms += np.abs(x).mean(axis=1, keepdims=True)
    terms = terms / conventions.scale
    return (tc.config.dict_size + 3 * tc.config.input_size + 24) * u * terms
