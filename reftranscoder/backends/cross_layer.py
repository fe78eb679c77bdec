"""The two ways to compute a cross-layer transcoder.  Every stage but the loss is a tuple of its
layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from .. import reference
from ..params.cross_layer import CrossLayerConfig, CrossLayerParams
from ..sparse import Sparse
from . import KernelsBackend, check_backend, own_of, quiet, selection

Stages = dict[str, Any]


class CrossLayerBackend(Protocol):
    """What a backend does.  ``x`` (L, B, I), ``target`` (L, B, O), ``hidden`` L of (B, D)."""

    def encode(self, x: np.ndarray) -> tuple[Sparse, ...]: ...

    def decode(self, hidden: tuple[Sparse, ...], x: np.ndarray | None) -> np.ndarray:
        """(L, B, O)."""

    def forward(self, x: np.ndarray) -> Stages:
        """pre, pre_acts, hidden, reconstruction."""

    def backward(self, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        """loss, then every gradient."""

    def stages(self, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        """`forward` and `backward`, encoding once."""


def cross_layer_backend(
    name: str, config: CrossLayerConfig, params: CrossLayerParams
) -> CrossLayerBackend:
    """The backend called ``name``.  Raises `OptionError` as `check_backend`."""
    check_backend(name, params.dtype)
    return CROSS_LAYER[name](config, params)


class CrossLayerReference:
    """`reftranscoder.reference` in float64 or wider, each result rounded once to the parameters'
    dtype."""

    def __init__(self, config: CrossLayerConfig, params: CrossLayerParams) -> None:
        self.dtype = params.dtype
        self.wide = np.result_type(params.dtype, np.float64)
        self.arrays = {n: self._widened(arrays) for n, arrays in params.arrays().items()}
        own = tuple(own_of(layer, self.wide) for layer in params.layers)
        self.own = None if own[0] is None else own
        self.options = selection(config.layer(0), None)
        self.L = config.layers

    @quiet
    def encode(self, x: np.ndarray) -> tuple[Sparse, ...]:
        W_enc, b_enc, own = self.arrays["W_enc"], self.arrays["b_enc"], self.own
        hidden = (
            reference.encode_forward(
                x[l].astype(self.wide), W_enc[l], b_enc[l],
                **self.options | {"own": None if own is None else own[l]},
            )
            for l in range(self.L)
        )  # fmt: skip
        return tuple(self._sparse(h) for h in hidden)

    @quiet
    def decode(self, hidden: tuple[Sparse, ...], x: np.ndarray | None) -> np.ndarray:
        dense = [h.astype(self.wide).dense() for h in hidden]
        W_dec, b_dec = self.arrays["W_dec"], self.arrays["b_dec"]
        W_skip, post_enc = self.arrays.get("W_skip"), self.arrays.get("post_enc")
        wide = None if x is None else self._widened(x)
        made = reference.cross_layer_decode(dense, W_dec, b_dec, wide, W_skip, post_enc)
        return np.stack(self._rounded(made))

    @quiet
    def forward(self, x: np.ndarray) -> Stages:
        return self._made(self._forward(x))

    @quiet
    def backward(self, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        return self._backward(self._forward(x), x, target, l1_coeff)

    @quiet
    def stages(self, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        forward = self._forward(x)
        return self._made(forward) | self._backward(forward, x, target, l1_coeff)

    def _forward(self, x: np.ndarray) -> Any:
        options = self.options | {"own": self.own}
        return reference.cross_layer_forward(self._widened(x), **self.arrays, **options)

    def _made(self, forward: Any) -> Stages:
        made = {name: self._rounded(layers) for name, layers in forward._asdict().items()}
        return made | {"hidden": tuple(self._sparse(h) for h in forward.hidden)}

    def _backward(self, forward: Any, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        x_wide, wanted = self._widened(x), self._widened(target)
        loss = reference.cross_layer_loss(wanted, forward.reconstruction, forward.hidden, l1_coeff)
        weights = (self.arrays.get(name) for name in ("W_enc", "W_dec", "W_skip", "post_enc"))
        gradients = reference.cross_layer_backward(
            x_wide, wanted, forward, *weights,
            l1_coeff=l1_coeff, activation=self.options["activation"], own=self.own,
        )._asdict()  # fmt: skip
        d_own = gradients.pop("d_own")
        gradients = _there(gradients, self.arrays)
        if self.own is not None:
            gradients["dtheta"] = tuple(own.theta for own in d_own)
        made = {name: self._rounded(layers) for name, layers in gradients.items()}
        return {"loss": self.dtype.type(loss)} | made

    def _widened(self, layers: Any) -> tuple[np.ndarray, ...]:
        return tuple(array.astype(self.wide, copy=False) for array in layers)

    def _rounded(self, layers: Any) -> tuple[np.ndarray, ...]:
        return tuple(array.astype(self.dtype) for array in layers)

    def _sparse(self, hidden: np.ndarray) -> Sparse:
        return Sparse.from_dense(hidden.astype(self.dtype))


class CrossLayerKernels:
    """The kernels, layer by layer: each is a transcoder whose outputs stand side by side."""

    def __init__(self, config: CrossLayerConfig, params: CrossLayerParams) -> None:
        from ..kernels import cross_layer

        self.kernels: Any = cross_layer
        self.layers = [
            KernelsBackend(config.layer(l), layer) for l, layer in enumerate(params.layers)
        ]
        self.L, self.O, self.I = config.layers, config.output_size, config.input_size
        self.arrays, self.post_enc = params.arrays(), params.post_enc

    def encode(self, x: np.ndarray) -> tuple[Sparse, ...]:
        return tuple(layer.encode(rows) for layer, rows in zip(self.layers, x))

    def decode(self, hidden: tuple[Sparse, ...], x: np.ndarray | None) -> np.ndarray:
        rows = [None] * self.L if x is None else x
        written = (layer.decode(*given) for layer, *given in zip(self.layers, hidden, rows))
        return self._added(written, hidden)

    def forward(self, x: np.ndarray) -> Stages:
        made = [layer.forward(rows) for layer, rows in zip(self.layers, x)]
        stages = {n: tuple(of[n] for of in made) for n in ("pre", "pre_acts", "hidden")}
        written = (of["reconstruction"] for of in made)
        return stages | {"reconstruction": tuple(self._added(written, stages["hidden"]))}

    def _added(self, written: Iterable[np.ndarray], hidden: tuple[Sparse, ...]) -> np.ndarray:
        """What each layer writes, added up."""
        if self.post_enc is not None:
            layers = zip(written, hidden, self.post_enc, self.layers)
            written = (
                of + self.kernels.post_enc_forward(h, post_enc, layer.arrays["W_dec"])
                for of, h, post_enc, layer in layers
            )
        added: np.ndarray = self.kernels.add_layers(written, self.L)
        return added

    def backward(self, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        hidden = self.encode(x)
        return self._backward(hidden, tuple(self.decode(hidden, x)), x, target, l1_coeff)

    def stages(self, x: np.ndarray, target: np.ndarray, l1_coeff: float) -> Stages:
        made = self.forward(x)
        hidden, reconstruction = made["hidden"], made["reconstruction"]
        return made | self._backward(hidden, reconstruction, x, target, l1_coeff)

    def _backward(
        self,
        hidden: tuple[Sparse, ...],
        reconstruction: tuple[np.ndarray, ...],
        x: np.ndarray,
        target: np.ndarray,
        l1_coeff: float,
    ) -> Stages:
        self.layers[0].refuse_what_it_does_not_make()
        names = ("W_enc", "W_dec", "W_skip")
        weights = [
            [layer.arrays[name] for layer in self.layers] if name in self.layers[0].arrays else None
            for name in names
        ]
        loss = self.kernels.cross_layer_loss(target, reconstruction, hidden, l1_coeff)
        gradients = self.kernels.cross_layer_backward(
            x, target, hidden, reconstruction, *weights, self.post_enc, l1_coeff=l1_coeff
        )
        stages = _there(gradients._asdict(), self.arrays)
        stages["dW_dec"] = tuple(d.reshape(len(d), -1, self.O) for d in stages["dW_dec"])
        if "dW_skip" in stages:
            stages["dW_skip"] = tuple(d.reshape(-1, self.O, self.I) for d in stages["dW_skip"])
        named = [layer.named(loss, {"d_own": _zeros_of(layer.own)}) for layer in self.layers]
        dtheta = tuple(of["dtheta"] for of in named if "dtheta" in of)
        stages |= {"dtheta": dtheta} if dtheta else {}
        return {"loss": named[0]["loss"]} | stages


def _there(gradients: Stages, arrays: Stages) -> Stages:
    """The ``gradients`` by parameters that there are, and by stages."""
    absent = {"dW_skip", "dpost_enc"} - {f"d{name}" for name in arrays}
    return {name: layers for name, layers in gradients.items() if name not in absent}


CROSS_LAYER: dict[str, Callable[[CrossLayerConfig, CrossLayerParams], CrossLayerBackend]] = {
    "kernels": CrossLayerKernels,
    "reference": CrossLayerReference,
}


def _zeros_of(own: Any) -> Any:
    """The derivatives by thresholds, which move the loss by jumps alone."""
    return None if own is None else own._replace(theta=np.zeros_like(own.theta))
