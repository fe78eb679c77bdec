"""The two ways to compute everything: by the reference and by the kernels.

A backend gets checked arrays in the dtype of the parameters and returns results in it, sparse
ones as `Sparse`.  `reftranscoder.transcoder` is the only one to call it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import reference
from ..errors import OptionError
from ..options import one_of
from ..params import Gated, JumpReLU, Losses, Params, TranscoderConfig
from ..params.unpacked import UnpackedParams
from ..sparse import Sparse


class Aim(NamedTuple):
    """What a loss is of: what the reconstruction should be, and how its terms are weighed."""

    target: np.ndarray  # (B, O)
    l1_coeff: float
    losses: Losses = Losses()


class Backend(Protocol):
    """What a backend does.  ``x`` (B, I), ``hidden`` (B, D)."""

    def encode(self, x: np.ndarray) -> Sparse: ...

    def decode(self, hidden: Sparse, x: np.ndarray | None) -> np.ndarray: ...

    def reconstruct(self, x: np.ndarray) -> np.ndarray: ...

    def forward(self, x: np.ndarray) -> dict[str, Any]:
        """pre, pre_acts, hidden, reconstruction."""

    def backward(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        """loss, then every gradient."""

    def stages(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        """`forward` and `backward`, encoding once."""


def check_backend(name: str, dtype: np.typing.DTypeLike) -> None:
    """Raise `OptionError` for an unknown name, or for numbers that only the reference can do."""
    one_of("backend", name, BACKENDS)
    if name == "kernels" and np.dtype(dtype).itemsize > 8:
        raise OptionError("backend", f"'reference' for {np.dtype(dtype)}", name)


def backend_for(name: str, config: TranscoderConfig, params: Params) -> Backend:
    """The backend called ``name``.  Raises `OptionError` as `check_backend`."""
    check_backend(name, params.dtype)
    if config.conventions.plain:
        return BACKENDS[name](config, params)
    from .conventional import CONVENTIONAL

    return CONVENTIONAL[name](config, params)


class Backends:
    """The backends of one transcoder, by name.  That of the kernels is kept: to make it takes as
    long as they do for a small row.  The reference's is not, as it has copies of all weights."""

    def __init__(self, config: TranscoderConfig, params: Params) -> None:
        self._of = config, params
        self._kept: Backend | None = None

    def named(self, name: str) -> Backend:
        """The backend called ``name``.  Raises `OptionError` as `check_backend`."""
        if not isinstance(name, str) or name != "kernels":
            return backend_for(name, *self._of)
        if self._kept is None:
            self._kept = backend_for(name, *self._of)
        return self._kept


#: What an activation takes, as the functions of either room take it.
Own = reference.JumpReLU | reference.Gated | None
ROOMS: dict[type, Callable[..., Own]] = {
    JumpReLU: reference.JumpReLU,
    Gated: reference.Gated,
}


def selection(config: TranscoderConfig, own: Own) -> dict[str, Any]:
    """What the functions that select take, by name."""
    options = {"top_k": config.top_k, "activation": config.activation, "ties": config.ties}
    return options | {"own": own}


def own_of(params: Params, dtype: np.dtype) -> Own:
    """What the activation takes that no other does, as the functions of either room take it."""
    own = params.own
    if own is None:
        return None
    arrays = {name: a.astype(dtype, copy=False) for name, a in own.arrays().items()}
    return ROOMS[type(own)](**arrays, **own.options())


def _gradients_of(own: Own, d_own: Own) -> dict[str, Any]:
    """The gradients of what the activation takes, by the names of its arrays."""
    if own is None:
        return {}
    fields = {name: value for name, value in own._asdict().items() if isinstance(value, np.ndarray)}
    return {f"d{name}": getattr(d_own, name) for name in fields}


#: An overflow gives inf, and what follows from it NaN, without a warning: as in the kernels.
#: Nor does the norm of a row of zeros warn.
quiet = np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore")


class ReferenceBackend:
    """`reftranscoder.reference` in float64 or wider, each result rounded once to the parameters'
    dtype."""

    def __init__(self, config: TranscoderConfig, params: Params) -> None:
        self.dtype = params.dtype
        self.wide = np.result_type(params.dtype, np.float64)
        self.arrays = {name: a.astype(self.wide, copy=False) for name, a in params.arrays().items()}
        self.own = own_of(params, self.wide)
        self.config = config
        self.gradients: Callable[..., Any] = reference.transcoder_backward
        self.options: dict[str, Any] = {"activation": config.activation, "own": self.own}

    @quiet
    def encode(self, x: np.ndarray) -> Sparse:
        W_enc, b_enc = self.arrays["W_enc"], self.arrays["b_enc"]
        hidden = reference.encode_forward(
            x.astype(self.wide), W_enc, b_enc, **selection(self.config, self.own)
        )
        rounded: Sparse = self._rounded({"hidden": hidden})["hidden"]
        return rounded

    @quiet
    def decode(self, hidden: Sparse, x: np.ndarray | None) -> np.ndarray:
        W_dec, b_dec = self.arrays["W_dec"], self.arrays["b_dec"]
        dense = hidden.astype(self.wide).dense()
        reconstruction: np.ndarray = reference.decode_forward(dense, W_dec, b_dec)
        if x is not None and "W_skip" in self.arrays:
            skip = reference.skip_forward(x.astype(self.wide), self.arrays["W_skip"])
            reconstruction = reconstruction + skip
        return reconstruction.astype(self.dtype)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        reconstruction: np.ndarray = self.forward(x)["reconstruction"]
        return reconstruction

    @quiet
    def forward(self, x: np.ndarray) -> dict[str, Any]:
        return self._rounded(self._forward(x.astype(self.wide))._asdict())

    @quiet
    def backward(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        return self._backward(self._forward(x.astype(self.wide)), x, aim)

    @quiet
    def stages(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        forward = self._forward(x.astype(self.wide))
        made = self._rounded(forward._asdict())
        return made | self._backward(forward, x, aim)

    def _backward(self, forward: Any, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        x, target = x.astype(self.wide), aim.target.astype(self.wide)
        options = self.options | {"own": self._with_frozen(target), "losses": aim.losses}
        loss = reference.transcoder_loss(
            target, forward.reconstruction, forward.hidden, aim.l1_coeff,
            self.arrays["W_dec"], aim.losses,
        )  # fmt: skip
        loss = loss + reference.ACTIVATIONS[self.config.activation].loss(
            forward.pre, options["own"]
        )
        weights = (self.arrays.get(name) for name in ("W_enc", "W_dec", "W_skip"))
        gradients = self.gradients(x, target, forward, *weights, l1_coeff=aim.l1_coeff, **options)
        made = {"loss": loss} | gradients._asdict()
        return self._rounded(made | _gradients_of(self.own, made.pop("d_own")))

    def _with_frozen(self, target: np.ndarray) -> Own:
        """What the activation takes, with what its auxiliary loss, if there is one, holds fixed."""
        own = self.own
        if not isinstance(own, reference.Gated) or not (own.gate_l1_coeff or own.auxiliary_coeff):
            return own
        frozen = reference.Frozen(target, self.arrays["W_dec"], self.arrays["b_dec"])
        return own._replace(frozen=frozen)

    def _forward(self, x: np.ndarray) -> Any:
        chosen = selection(self.config, self.own)
        return reference.transcoder_forward(x, **self.arrays, **chosen)

    def _rounded(self, stages: dict[str, Any]) -> dict[str, Any]:
        rounded = {n: s.astype(self.dtype) for n, s in stages.items() if s is not None}
        if "hidden" in rounded:
            rounded["hidden"] = Sparse.from_dense(rounded["hidden"])
        return rounded


class KernelsBackend:
    """`reftranscoder.kernels`, imported (and Numba with it) at the first use."""

    def __init__(self, config: TranscoderConfig, params: Params) -> None:
        from .. import kernels
        from ..kernels.encode import activate
        from ..kernels.encoders import encoder_of
        from ..kernels.stored_weights import decode_stored

        self.kernels: Any = kernels
        self.activate: Any = activate
        self.encoder = encoder_of(params)
        self.decoder: Any = kernels.decode_forward
        if isinstance(params, UnpackedParams):
            self.decoder = decode_stored
        self.config = config
        self.dtype = params.dtype
        self.arrays = params.arrays()
        self.own = own_of(params, self.dtype)
        self.of_the_reference = "" if params.own is None else params.own.of_the_reference

    def encode(self, x: np.ndarray) -> Sparse:
        hidden: Sparse = self.encoder.encode(x, **selection(self.config, self.own))
        return hidden

    def decode(self, hidden: Sparse, x: np.ndarray | None) -> np.ndarray:
        W_dec, b_dec = self.arrays["W_dec"], self.arrays["b_dec"]
        reconstruction: np.ndarray = self.decoder(hidden, W_dec, b_dec)
        if x is not None and "W_skip" in self.arrays:
            reconstruction += self.kernels.skip_forward(x, self.arrays["W_skip"])
        return reconstruction

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        return self.decode(self.encode(x), x)

    def forward(self, x: np.ndarray) -> dict[str, Any]:
        # The dense p that `encode` never keeps, and the same selection from it.
        pre = self.kernels.affine_forward(x, self.arrays["W_enc"], self.arrays["b_enc"])
        pre_acts, hidden = self.activate(pre, **selection(self.config, self.own))
        hidden = hidden.astype(self.dtype)
        with np.errstate(over="ignore", under="ignore"):
            return {
                "pre": pre.astype(self.dtype, copy=False),
                "pre_acts": pre_acts.astype(self.dtype, copy=False),
                "hidden": hidden,
                "reconstruction": self.decode(hidden, x),
            }

    def backward(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        hidden = self.encode(x)
        return self._backward(hidden, self.decode(hidden, x), x, aim)

    def stages(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        made = self.forward(x)
        hidden, reconstruction = made["hidden"], made["reconstruction"]
        return made | self._backward(hidden, reconstruction, x, aim)

    def _backward(
        self, hidden: Sparse, reconstruction: np.ndarray, x: np.ndarray, aim: Aim
    ) -> dict[str, Any]:
        self.refuse_what_it_does_not_make()
        loss = self.loss(reconstruction, hidden, aim)
        gradients = self.kernels.transcoder_backward(
            x,
            aim.target,
            self.kernels.Forward(None, None, hidden, reconstruction),
            self.arrays["W_enc"],
            self.arrays["W_dec"],
            self.arrays.get("W_skip"),
            l1_coeff=aim.l1_coeff,
            activation=self.config.activation,
            own=self.own,
            losses=aim.losses,
        )
        return self.named(loss, gradients._asdict())

    def loss(self, reconstruction: np.ndarray, hidden: Sparse, aim: Aim) -> Any:
        options = aim.l1_coeff, self.arrays["W_dec"], aim.losses
        return self.kernels.transcoder_loss(aim.target, reconstruction, hidden, *options)

    def refuse_what_it_does_not_make(self) -> None:
        if self.of_the_reference:
            want = f"'reference', where the activation has {self.of_the_reference}"
            raise OptionError("backend", want, "kernels", "Its gradients are made there alone.")

    def named(self, loss: Any, gradients: dict[str, Any]) -> dict[str, Any]:
        stages = {"loss": self.dtype.type(loss)} | gradients
        stages |= _gradients_of(self.own, stages.pop("d_own"))
        return {name: stage for name, stage in stages.items() if stage is not None}


BACKENDS: dict[str, Callable[[TranscoderConfig, Params], Backend]] = {
    "kernels": KernelsBackend,
    "reference": ReferenceBackend,
}
