"""The parameters of a cross-layer transcoder before the first step, and in the units of the data.

Every layer begins as a transcoder of itself to itself (``training/start.py``), and writes nothing
to later layers yet: each of these blocks of W_dec, and W_skip, begins at zero.

Every layer has its own scales (``training/scaling.py``), so that the loss, which is a sum over
layers, counts each alike, however large its activations are.  With s_x[l] and s_y[l] those of
layer l, and activations of its features in the units of its own target::

    W_enc[l]           =  (s_y[l] / s_x[l]) W_enc[l]',    b_enc[l]  =  s_y[l] b_enc[l]'    (V1)
    W_dec[l][:, t - l] =  (s_y[t] / s_y[l]) W_dec[l][:, t - l]'                            (V2)
    b_dec[t]           =  s_y[t] b_dec[t]',               theta[l]  =  s_y[l] theta[l]'    (V3)
    W_skip[l][t - l]   =  (s_y[t] / s_x[l]) W_skip[l][t - l]'                              (V4)

each entry computed in float64 and rounded once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...params import NAMES, JumpReLU, Params
from ...params.cross_layer import CrossLayerConfig, CrossLayerParams, side_by_side
from ...transcoder.cross_layer import CrossLayerTranscoder
from ..scaling import Moments, Scaling
from ..start import starting_arrays
from ..steps import Pair


@dataclasses.dataclass(frozen=True)
class LayersScaling:
    """The `Scaling` of each layer."""

    layers: tuple[Scaling, ...]

    @property
    def in_words(self) -> str:
        """What is divided by what, in a clause."""
        inputs, targets = (
            ", ".join(f"{getattr(layer, name):.6g}" for layer in self.layers)
            for name in ("input_scale", "target_scale")
        )
        return f"inputs are divided by {inputs} and targets by {targets}, layer by layer"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {"layers": [dataclasses.asdict(layer) for layer in self.layers]}

    def folded(self, l: int, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of layer ``l`` for data as they are, of trained ones: (V1) to (V4)."""
        s_x, s_h = self.layers[l].input_scale, self.layers[l].target_scale
        written = np.array([layer.target_scale for layer in self.layers[l:]])
        O = len(arrays["b_dec"]) // len(written)
        columns = np.repeat(written, O)
        factors: dict[str, Any] = {
            "W_enc": s_h / s_x,
            "W_dec": columns / s_h,
            "b_dec": columns,
            "W_skip": (columns / s_x)[:, None],
        }
        found = {}
        with np.errstate(over="ignore", under="ignore"):
            for name, array in arrays.items():
                wide = array.astype(np.result_type(array, np.float64))
                found[name] = (wide * factors.get(name, s_h)).astype(array.dtype)
        return found


def starting_layers(
    config: CrossLayerConfig,
    pairs: tuple[Pair, ...],
    moments: tuple[Moments, ...],
    scaling: LayersScaling,
    rng: np.random.Generator,
    backend: str,
) -> list[dict[str, np.ndarray]]:
    """The arrays of each layer by name, in training units, its outputs side by side."""
    own, L = config.layer(config.layers - 1), config.layers
    found = []
    for l, (pair, of_layer) in enumerate(zip(pairs, moments)):
        arrays = starting_arrays(own, *pair, of_layer, scaling.layers[l], rng, backend)
        D, O = arrays["W_dec"].shape
        W_dec = np.zeros((D, (L - l) * O), config.dtype)
        W_dec[:, :O] = arrays["W_dec"]
        arrays |= {"W_dec": W_dec, "b_dec": side_by_side(arrays["b_dec"], L - l)}
        if config.skip:
            arrays["W_skip"] = np.zeros(((L - l) * O, config.input_size), config.dtype)
        found.append(arrays)
    return found


def folded(
    config: CrossLayerConfig, scaling: LayersScaling, arrays: Mapping[str, np.ndarray]
) -> CrossLayerTranscoder:
    """The transcoder for data as they are, of trained arrays by name and layer (``W_enc.0``)."""
    layers = []
    for l in range(config.layers):
        ours = {
            name.rpartition(".")[0]: array
            for name, array in arrays.items()
            if name.endswith(f".{l}")
        }
        found = scaling.folded(l, ours)
        own = JumpReLU(found["theta"]) if "theta" in found else None
        layers.append(Params(**{n: a for n, a in found.items() if n in NAMES}, own=own))
    return CrossLayerTranscoder(config, CrossLayerParams(tuple(layers)))
