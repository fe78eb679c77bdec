"""A cross-layer transcoder as transcoders that the judges of one know, two for each layer.

Layer l **encodes** as a transcoder whose L - l outputs stand side by side, with a
W_dec (D, (L - l) O): its are pre, pre_acts and hidden, and from d_reconstruction of all layers from
l on, side by side, (L3), (L4), (L7), (L8) and all that follows.  Layer t **is decoded** as by a
transcoder with the features of layers 0 to t side by side, and their inputs where there are skip
connections: its are reconstruction (L1), (L6), d_reconstruction and db_dec (L5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import OptionError
from ...params import Params
from ...params.cross_layer import CrossLayerConfig, CrossLayerParams
from ...sparse import Sparse, row_starts
from ..intervals.interval import TIERS, Interval
from ..intervals.sparse_interval import SparseInterval
from ..task.arithmetic import Arithmetic
from ..task.definition import Definition, definition_of
from ..task.problem import Problem
from ..task.stage_graph import OF_OWN

#: The stages of a layer as it is decoded; the others are those of it as it encodes.
DECODED = ("reconstruction", "d_reconstruction", "db_dec")
ENCODED = (
    *("pre", "pre_acts", "hidden", "d_hidden", "d_pre"),
    *("dW_dec", "dW_skip", "dW_enc", "db_enc", "dx", *OF_OWN),
)


class Views:
    """The `Problem` of each layer as it encodes, and as it is decoded."""

    def __init__(
        self,
        config: CrossLayerConfig,
        params: CrossLayerParams,
        arithmetic: dict[str, Arithmetic],
        x: np.ndarray,
        target: np.ndarray | None,
        l1_coeff: float,
    ) -> None:
        if params.post_enc is not None:
            raise OptionError("post_enc", "None, for an audit", "given")
        self.config, self.x, self.target = config, x, target
        self.as_given = params.layers  # the same as ``params``, in their own dtype
        self._given: dict[str, Any] = {"arithmetic": arithmetic, "l1_coeff": l1_coeff}
        L = config.layers
        self.params = tuple(layer.astype(np.float64) for layer in params.layers)
        self.W_dec = tuple(
            layer.W_dec.reshape(-1, L - l, self.O) for l, layer in enumerate(self.params)
        )
        self.W_skip = tuple(
            None if layer.W_skip is None else layer.W_skip.reshape(L - l, self.O, -1)
            for l, layer in enumerate(self.params)
        )
        self.definitions = tuple(
            definition_of(config.layer(l), layer.own) for l, layer in enumerate(params.layers)
        )
        self.encoding = tuple(self._encoding(l) for l in range(L))
        self.decoding = tuple(self._decoding(t) for t in range(L))

    @property
    def O(self) -> int:  # noqa: E743
        """The output_size of a layer."""
        return self.config.output_size

    def _encoding(self, l: int) -> Problem:
        """Layer ``l`` with its outputs side by side; its target is not looked at."""
        target = None if self.target is None else np.concatenate(self.target[l:], axis=1)
        return Problem(
            params=self.params[l],
            definition=self.definitions[l],
            x=self.x[l],
            target=target,
            operands={},
            parts=self._parts(len(self.params) - l),
            **self._given,
        )

    def _parts(self, layers: int) -> int:
        """How many products of so many ``layers`` are added up: those of skip connections, too."""
        return layers * (2 if self.config.skip else 1)

    def _decoding(self, t: int) -> Problem:
        """Layer ``t`` as decoded of all features up to it, side by side."""
        W_dec = [self.W_dec[l][:, t - l] for l in range(t + 1)]
        W_skip = [of_l[t - l] for l, of_l in enumerate(self.W_skip[: t + 1]) if of_l is not None]
        b_dec = self.params[t].b_dec[: self.O]
        return self.decoding_by(t, W_dec, b_dec, W_skip)

    def decoding_by(
        self,
        t: int,
        W_dec: Sequence[np.ndarray],
        b_dec: np.ndarray,
        W_skip: Sequence[np.ndarray],
    ) -> Problem:
        """The same by these arrays, of every layer up to ``t``: nobody looks at an encoder."""
        decoder = np.concatenate(W_dec)
        x = np.concatenate(self.x[: t + 1], axis=1) if W_skip else self.x[t]
        features = len(decoder)
        params = Params.adopt(
            W_enc=np.zeros((features, x.shape[1])),
            b_enc=np.zeros(features),
            W_dec=decoder,
            b_dec=np.array(b_dec),
            W_skip=np.ascontiguousarray(np.concatenate(W_skip, axis=1)) if W_skip else None,
        )
        return Problem(
            params=params,
            definition=Definition(top_k=features, activation="relu"),
            x=x,
            target=None if self.target is None else self.target[t],
            operands={},
            parts=self._parts(t + 1),
            **self._given,
        )


def beside(parts: Sequence[Interval]) -> Interval:
    """Intervals of the same rows, side by side."""
    if len(parts) == 1:
        return parts[0]
    value = np.concatenate([part.value for part in parts], axis=1)
    if all(part.errors is None for part in parts):
        return Interval(value)
    errors = tuple(
        np.concatenate([np.broadcast_to(p.error(tier), p.value.shape) for p in parts], axis=1)
        for tier in range(len(TIERS))
    )
    return Interval(value, errors)


def features_beside(parts: Sequence[SparseInterval]) -> SparseInterval:
    """Features of the same rows, those of each layer after those of the one before."""
    if len(parts) == 1:
        return parts[0]
    pattern, order = sparse_beside([part.pattern for part in parts])
    errors = None
    if any(part.entries.errors is not None for part in parts):
        errors = tuple(
            np.concatenate(
                [np.broadcast_to(p.entries.error(tier), p.entries.value.shape) for p in parts]
            )[order]
            for tier in range(len(TIERS))
        )
    value = np.concatenate([part.entries.value for part in parts])[order]
    return SparseInterval(pattern, Interval(value, errors))


def sparse_beside(parts: Sequence[Sparse]) -> tuple[Sparse, np.ndarray]:
    """Matrices of the same rows side by side, and where each entry comes from."""
    widths = np.cumsum([0, *(part.shape[1] for part in parts)])
    rows = np.concatenate([part.rows() for part in parts])
    columns = np.concatenate([p.indices + first for p, first in zip(parts, widths)])
    order = np.argsort(rows, kind="stable")  # within a row, layer by layer
    starts = row_starts(np.bincount(rows, minlength=parts[0].shape[0]))
    values = np.concatenate([part.values for part in parts])[order]
    shape = (parts[0].shape[0], int(widths[-1]))
    return Sparse(starts, columns[order].astype(np.int32), values, shape), order
