"""A threshold in place of a selection: the jumprelu transcoder that one of another kind becomes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..arrays import to_array
from . import ACTIVATIONS, JumpReLU, Params, TranscoderConfig, check_activation

#: The activations that select by pre alone.
_SELECTING = tuple(name for name in ACTIVATIONS if name != "gated")


def thresholded(
    config: TranscoderConfig, params: Params, theta: Any
) -> tuple[TranscoderConfig, Params]:
    """The config and the parameters of jumprelu with the same arrays and ``theta``, one number or
    (D,), as thresholds.

    Raises:
        ShapeError, DTypeError, NonFiniteError: as `JumpReLU`.
        OptionError: of gated, hidden is not pre.
    """
    check_activation(config, _SELECTING, "a threshold")
    theta = to_array(theta, "theta")
    if not theta.ndim:
        with np.errstate(over="ignore", under="ignore"):
            theta = np.full(config.dict_size, theta, params.dtype)
    changed = dataclasses.replace(params, own=JumpReLU(theta))
    changes: dict[str, Any] = {"activation": "jumprelu", "dtype": changed.dtype.name}
    return dataclasses.replace(config, **changes), changed
