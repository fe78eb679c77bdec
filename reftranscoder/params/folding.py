"""Conventions folded into the parameters: the plain transcoder that computes the same.

With s the ``scale`` (1, but for ``"expected_average_only_in"``), t what the output is multiplied by
(1 / s with ``rescale_output``, else 1) and n the norms of the rows of W_dec (1, without
``rescale_acts_by_decoder_norm``), the encoder reads s x, less b_dec where that is subtracted::

    n (W_enc (s x - b_dec) + b_enc)    =  (n s W_enc) x  +  n (b_enc - W_enc b_dec)       (F4)
    t ((hidden / n) W_dec  +  b_dec)   =  hidden (t W_dec / n)  +  t b_dec                (F5)
    t W_skip (s x - b_dec)             =  (t s W_skip) x  -  t W_skip b_dec               (F6)

where (F6) is for a skip connection that reads what the encoder does; otherwise W_skip stays.  So
hidden is the same, thresholds too, and what the right-hand sides multiply are the folded arrays.
What is done row by row, by a norm or a standard deviation of that row, has no such equivalent.

Each folded entry is computed in float64, or what is wider, and rounded once.  `folding_bound` says
how far that can take what follows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..bounds import add_up, dot_bound, matmul_up, multiply_up, precision, store_bound
from ..errors import OptionError
from . import Params, TranscoderConfig
from .conventions import Conventions

#: Of a product of four factors, one of which is the norm of a row of O entries.
_FACTORS = 8


def folded(config: TranscoderConfig, params: Params) -> tuple[TranscoderConfig, Params]:
    """The config without conventions, and the parameters that have taken them up.

    Raises:
        OptionError: what is done to x depends on the row, or the arrays are not in memory.
        NonFiniteError: a parameter that is too large for its dtype.
    """
    params.check_in_memory("folding")
    wide, _ = _folded(config, params)
    with np.errstate(over="ignore", under="ignore"):
        arrays: dict[str, Any] = {name: a.astype(params.dtype) for name, a in wide.items()}
    plain = dataclasses.replace(config, conventions=Conventions())
    return plain, Params(**arrays, own=params.own)


def folding_bound(
    config: TranscoderConfig, params: Params, x: np.ndarray, hidden: np.ndarray
) -> dict[str, np.ndarray]:
    """How far ``pre`` (B, D) of `folded` is from pre under the conventions, both computed exactly;
    and the ``reconstruction`` (B, O) of one and the same ``hidden`` (B, D), for ``x`` (B, I).

    The errors of the folded entries, times what they are multiplied by.
    """
    wide, off = _folded(config, params)
    to = precision(params.dtype)
    error = {name: store_bound(wide[name], off[name], to) for name in wide}
    found = {"pre": add_up(matmul_up(np.abs(x), error["W_enc"].T), error["b_enc"])}
    written = add_up(matmul_up(np.abs(hidden), error["W_dec"]), error["b_dec"])
    if "W_skip" in wide:
        written = add_up(written, matmul_up(np.abs(x), error["W_skip"].T))
    return found | {"reconstruction": written}


def _folded(
    config: TranscoderConfig, params: Params
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The folded arrays by name, in a wide dtype, and how far off each entry may be."""
    conventions = config.conventions
    if conventions.normalize_activations not in ("none", "expected_average_only_in"):
        got = conventions.normalize_activations
        raise OptionError(
            "normalize_activations", "a constant, to be folded into the weights", got,
            "What is done row by row is not linear in x.",
        )  # fmt: skip
    wide = np.result_type(params.dtype, np.float64)
    arrays = {name: a.astype(wide) for name, a in params.arrays().items()}
    W_enc, b_enc, W_dec, b_dec = (arrays[n] for n in ("W_enc", "b_enc", "W_dec", "b_dec"))
    s, n = wide.type(conventions.scale), np.ones((len(b_enc), 1), wide)
    t = 1 / s if conventions.changes_output else wide.type(1)
    if conventions.rescale_acts_by_decoder_norm:
        n = np.sqrt(np.sum(W_dec * W_dec, axis=1, keepdims=True))
    inverse = 1 / np.where(n > 0, n, 1)
    shift = b_dec if conventions.apply_b_dec_to_input else np.zeros_like(b_dec)

    found = {"W_enc": n * s * W_enc, "W_dec": t * inverse * W_dec, "b_dec": t * b_dec}
    sizes = {name: np.abs(a) for name, a in found.items()}
    found["b_enc"], sizes["b_enc"] = b_enc, np.abs(b_enc)
    if conventions.apply_b_dec_to_input:
        found["b_enc"] = b_enc - W_enc @ shift
        sizes["b_enc"] = add_up(matmul_up(np.abs(W_enc), np.abs(shift)), np.abs(b_enc))
    found["b_enc"] = n[:, 0] * found["b_enc"]
    sizes["b_enc"] = multiply_up(n[:, 0], sizes["b_enc"])
    if "W_skip" in arrays:
        found["W_skip"] = arrays["W_skip"]
        sizes["W_skip"] = np.abs(arrays["W_skip"])
        if conventions.skip_input == "encoder_input":
            found["W_skip"] = t * s * arrays["W_skip"]
            taken = arrays["W_skip"] @ shift
            found["b_dec"] = t * (b_dec - taken)
            size = add_up(matmul_up(np.abs(arrays["W_skip"]), np.abs(shift)), np.abs(b_dec))
            sizes["b_dec"] = multiply_up(t, size)
    terms = len(b_dec) + W_enc.shape[1] + _FACTORS
    # As a sum of so many terms: the factors too are known to so many roundings.
    off = {name: dot_bound(2 * sizes[name], terms, precision(wide)) for name in found}
    return {name: found[name] for name in params.arrays()}, off
