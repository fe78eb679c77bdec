"""The contract of the module this library started from: ``build``, ``loss``, ``output_size``.

Source: Edifice, ``Interpretability.Transcoder`` (Elixir), whose options are keywords and whose
layers are Axon's dense: Glorot-uniform weights and zero biases.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .arrays import to_matrix, to_sparse
from .backends import BACKENDS, check_backend
from .declaring import chosen, option, takes
from .errors import OptionError, ShapeError
from .options import finite_number, random_generator
from .params import OWN, Architecture, Losses, Params, Sizes, TranscoderConfig
from .params.losses import WEIGHTED
from .transcoder import Transcoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seed:
    seed: Any = option(0, "of the weights", "an int, a ``SeedSequence`` or a ``Generator``")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BuildOptions(_Seed, Architecture, Sizes):
    """What `build` takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OutputSizes:
    output_size: int
    input_size: int | None = option(None, "it does not matter here")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OutputSizeOptions(_Seed, Architecture, _OutputSizes):
    """What `output_size` takes."""


@takes(_BuildOptions)
def build(options: _BuildOptions) -> Transcoder:
    """Make a transcoder with random weights.

    Weights are uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16), drawn
    in float64 in the order W_enc, W_dec, W_skip and rounded to ``dtype``; biases are zero.  The
    same ``seed`` and NumPy version give the same bits.

    Returns:
        A `Transcoder` of ``dtype``.

    Raises:
        TypeError: without ``input_size`` or ``output_size``.
        OptionError: as `TranscoderConfig`.

    >>> rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
    Transcoder(4 -> 8 -> 3, top_k=2, ties='lowest_index', float32)
    """
    config = TranscoderConfig(**chosen(TranscoderConfig, options))
    I, D, O = config.input_size, config.dict_size, config.output_size
    rng = random_generator(options.seed)

    def glorot(rows: int, columns: int) -> np.ndarray:
        limit = np.sqrt(6 / (rows + columns))
        return rng.uniform(-limit, limit, (rows, columns)).astype(config.dtype)

    takes_own = OWN.get(config.activation)
    params = Params(
        W_enc=glorot(D, I),
        b_enc=np.zeros(D, config.dtype),
        W_dec=glorot(D, O),
        b_dec=np.zeros(O, config.dtype),
        W_skip=glorot(O, I) if config.skip else None,
        own=takes_own.at_the_start(D, config.dtype) if takes_own else None,
    )
    return Transcoder(config, params)


@takes(_OutputSizeOptions)
def output_size(options: _OutputSizeOptions) -> int:
    """The output size that `build` with the same options would give.

    Returns:
        O, an int.

    Raises:
        TypeError: without ``output_size``.
        OptionError: as `TranscoderConfig`.

    >>> rt.output_size(output_size=3)
    3
    """
    given = chosen(TranscoderConfig, options)
    if options.input_size is None:
        given["input_size"] = 1
    return TranscoderConfig(**given).output_size


@dataclasses.dataclass(frozen=True, eq=False)
class _Arrays:
    target: Any
    reconstruction: Any
    hidden_acts: Any
    l1_coeff: float = option(1e-3, "of the sparsity loss")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _LossOptions(Losses, _Arrays):
    """What `loss` takes."""

    W_dec: Any = option(None, "(D, O), for losses that look at its norms")
    backend: str = option("kernels", "what computes", choices=BACKENDS)


@takes(_LossOptions)
def loss(options: _LossOptions) -> np.floating:
    """``mean((target - reconstruction)**2) + l1_coeff * mean(abs(hidden_acts))``, a scalar.

    ``target`` and ``reconstruction`` are (B, O), ``hidden_acts`` (B, D), dense or sparse, B >= 1.
    The means run over all B * O and all B * D entries; ``reconstruction_loss`` and
    ``sparsity_loss`` choose other terms, by the names in ``reference/losses.py``.  The result has
    the dtype of the arguments, the widest if they differ; the sums are float64.

    Returns:
        A NumPy scalar, in the squared units of ``target``, or what the losses chosen have.

    Raises:
        ShapeError: shapes that differ (NumPy would broadcast them), or no row.
        OptionError: an ``l1_coeff`` that is negative or not finite, an unknown backend, losses as
            in `Losses`, or no ``W_dec`` where one is needed.

    >>> loss = rt.loss([[1, 2]], [[1, 4]], [[0, 3, 0]], l1_coeff=0.5)  # (0 + 4) / 2 + 0.5 * 3 / 3
    >>> float(loss)
    2.5
    >>> names = {"reconstruction_loss": "mse_sum", "sparsity_loss": "l1_sum"}
    >>> float(rt.loss([[1, 2]], [[1, 4]], [[0, 3, 0]], l1_coeff=0.5, **names))  # 4 + 0.5 * 3
    5.5
    """
    target = to_matrix(options.target, "target", "(B, O)")
    reconstruction = to_matrix(options.reconstruction, "reconstruction", "(B, O)")
    hidden = to_sparse(options.hidden_acts, "hidden_acts")
    if reconstruction.shape != target.shape:
        raise ShapeError("reconstruction", target.shape, reconstruction.shape, letters="(B, O)")
    if hidden.shape[0] != len(target):
        raise ShapeError("hidden_acts", (len(target), hidden.shape[1]), hidden.shape)
    if 0 in target.shape or 0 in hidden.shape:
        raise ShapeError("target", "without an empty axis", target.shape, "A mean needs a term.")
    W_dec = _weights(options, hidden.shape[1], target.shape[1])
    l1_coeff = finite_number("l1_coeff", options.l1_coeff)
    losses = Losses(**chosen(Losses, options))
    arrays = (target, reconstruction) + (() if W_dec is None else (W_dec,))
    dtype = np.result_type(*arrays, hidden.values)
    check_backend(options.backend, dtype)
    room: Any
    if options.backend == "reference":
        from . import reference as room

        wide = np.result_type(dtype, np.float64)
        acts: Any = hidden.astype(wide).dense()
    else:
        from . import kernels as room

        wide = np.result_type(dtype, np.float32)
        acts = hidden.astype(wide)
    target, reconstruction = target.astype(wide), reconstruction.astype(wide)
    weights = None if W_dec is None else W_dec.astype(wide)
    loss = room.transcoder_loss(target, reconstruction, acts, l1_coeff, weights, losses)
    found: np.floating = dtype.type(loss)
    return found


def _weights(options: _LossOptions, D: int, O: int) -> np.ndarray | None:
    """``W_dec`` (D, O), if the sparsity loss looks at it."""
    if options.sparsity_loss not in WEIGHTED:
        return None
    if options.W_dec is None:
        raise OptionError("W_dec", f"the decoder (D, O), for {options.sparsity_loss}", None)
    W_dec = to_matrix(options.W_dec, "W_dec", "(D, O)", O)
    if len(W_dec) != D:
        raise ShapeError("W_dec", (D, O), W_dec.shape, letters="(D, O)")
    return W_dec
