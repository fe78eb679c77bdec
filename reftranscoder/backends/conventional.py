"""The two backends under conventions: what is before the encoder and after the decoder, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import reference
from ..params import Conventions, Params, TranscoderConfig
from ..sparse import Sparse
from . import Aim, Backend, KernelsBackend, ReferenceBackend, quiet, selection


class ConventionalReference(ReferenceBackend):
    """The reference under conventions.  What the encoder reads is a stage, rounded once like every
    one that is stored, and this is what is encoded: by the kernels, too."""

    def __init__(self, config: TranscoderConfig, params: Params) -> None:
        super().__init__(config, params)
        self.gradients = reference.conventional_backward
        self.options |= {"conventions": config.conventions}

    def encode(self, x: np.ndarray) -> Sparse:
        hidden: Sparse = self.forward(x)["hidden"]
        return hidden

    @quiet
    def decode(self, hidden: Sparse, x: np.ndarray | None) -> np.ndarray:
        dense, wide = hidden.astype(self.wide).dense(), None if x is None else x.astype(self.wide)
        W_dec, b_dec, W_skip = (self.arrays.get(name) for name in ("W_dec", "b_dec", "W_skip"))
        made = reference.conventional_decode(
            dense, wide, self._read(wide), W_dec, b_dec, W_skip, self.config.conventions
        )
        reconstruction: np.ndarray = made[-1].astype(self.dtype)
        return reconstruction

    def _forward(self, x: np.ndarray) -> Any:
        options = selection(self.config, self.own) | {"conventions": self.config.conventions}
        return reference.conventional_forward(x, self._read(x), **self.arrays, **options)

    def _read(self, x: np.ndarray | None) -> Any:
        if x is None:
            return reference.Read(None, 1, 0)
        read = reference.input_forward(x, self.arrays["b_dec"], self.config.conventions)
        rounded = read.encoder_input.astype(self.dtype).astype(self.wide)
        return read._replace(encoder_input=rounded)

    def _rounded(self, stages: dict[str, Any]) -> dict[str, Any]:
        return super()._rounded(_there(stages, self.config.conventions))


class ConventionalKernels(KernelsBackend):
    """The kernels under conventions."""

    def __init__(self, config: TranscoderConfig, params: Params) -> None:
        super().__init__(config, params)
        from ..kernels import conventional

        self.conventional: Any = conventional
        self.norms, self.W, self.b = None, self.arrays["W_enc"], self.arrays["b_enc"]
        if config.conventions.rescale_acts_by_decoder_norm:
            self.encoder = conventional.scaled_encoder_of(params)
            self.norms, self.W, self.b = self.encoder[:3]

    @quiet
    def encode(self, x: np.ndarray) -> Sparse:
        return super().encode(self._read(x).encoder_input)

    @quiet
    def decode(self, hidden: Sparse, x: np.ndarray | None) -> np.ndarray:
        decoded: np.ndarray = self._decoded(hidden, x, self._read(x)).reconstruction
        return decoded

    @quiet
    def forward(self, x: np.ndarray) -> dict[str, Any]:
        return self._forward(x)[0]

    @quiet
    def backward(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        read = self._read(x)
        decoded = self._decoded(super().encode(read.encoder_input), x, read)
        return self._gradients(x, read, decoded, aim)

    @quiet
    def stages(self, x: np.ndarray, aim: Aim) -> dict[str, Any]:
        made, read, decoded = self._forward(x)
        return made | self._gradients(x, read, decoded, aim)

    def _forward(self, x: np.ndarray) -> tuple[dict[str, Any], Any, Any]:
        read = self._read(x)
        pre = self.kernels.affine_forward(read.encoder_input, self.W, self.b)
        pre_acts, hidden = self.activate(pre, **selection(self.config, self.own))
        decoded = self._decoded(hidden.astype(self.dtype), x, read)
        dense = {"pre": pre.astype(self.dtype), "pre_acts": pre_acts.astype(self.dtype)}
        made = {"encoder_input": read.encoder_input} | dense | decoded._asdict()
        return _there(made, self.config.conventions), read, decoded

    def _gradients(self, x: np.ndarray, read: Any, decoded: Any, aim: Aim) -> dict[str, Any]:
        self.refuse_what_it_does_not_make()
        weights = (self.arrays.get(name) for name in ("W_enc", "W_dec", "W_skip"))
        options = {"norms": self.norms, "conventions": self.config.conventions}
        options |= {"activation": self.config.activation, "own": self.own, "losses": aim.losses}
        gradients = self.conventional.conventional_backward(
            x, aim.target, read, decoded, *weights, l1_coeff=aim.l1_coeff, **options
        )
        loss = self.loss(decoded.reconstruction, decoded.hidden, aim)
        return self.named(loss, _there(gradients, self.config.conventions))

    def _read(self, x: np.ndarray | None) -> Any:
        if x is None:
            return self.conventional.Read(None, 1.0, 0.0)
        return self.conventional.input_forward(x, self.arrays["b_dec"], self.config.conventions)

    def _decoded(self, hidden: Sparse, x: np.ndarray | None, read: Any) -> Any:
        weights = (self.arrays.get(name) for name in ("W_dec", "b_dec", "W_skip"))
        options = self.norms, self.config.conventions, self.decoder
        return self.conventional.conventional_decode(hidden, x, read, *weights, *options)


#: As `BACKENDS`.
CONVENTIONAL: dict[str, Callable[[TranscoderConfig, Params], Backend]] = {
    "kernels": ConventionalKernels,
    "reference": ConventionalReference,
}


def _there(stages: dict[str, Any], conventions: Conventions) -> dict[str, Any]:
    """The ``stages`` that these conventions have."""
    hidden = {"affine", "written", "gain", "shift"}
    if not conventions.changes_input:
        hidden |= {"encoder_input", "d_encoder_input"}
    if not conventions.changes_output:
        hidden |= {"decoded", "d_decoded"}
    return {name: stage for name, stage in stages.items() if name not in hidden}
