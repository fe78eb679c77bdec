"""What the result of a run depends on: only where all of it is the same, a checkpoint is gone on
from.

===============  ===============================================================================
``data``         for ``x``, ``target`` and the two of the validation rows: SHA-256 of the rows
                 that `fit` reads, in order, as they are stored, behind their dtype, their shape
                 and the dtype they are read as, if it is not float32
options          every field of `TranscoderConfig`, `Schedule` and `Recipe`, but those of
                 `LEFT_OUT` that are not chosen; ``backend``, ``log_every``; the seed, as entropy
                 and spawn key
``validation``   which rows are measured while training
===============  ===============================================================================

The versions of reftranscoder and of NumPy are kept beside it: random orders and sums may change
with them, so that another version is worth a warning, not a refusal.  Left out is what changes no
bit: names of files, ``checkpoint_every``, ``progress``, the number of threads.  (The reference
backend adds in the order of NumPy's BLAS, which is that of the processor: it promises the same
bits on the same machine.)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..activations import Activations
from ..declaring import declared
from ..params import Losses, TranscoderConfig
from ..params.cross_layer import CrossLayerConfig
from .adam import Recipe
from .schedule import Schedule

_OF_RECIPE = (*declared(Losses), "theta_start", "bandwidth", "through")
_OF_RECIPE += ("gate_l1_coeff", "auxiliary_coeff")
#: Options that checkpoints do not name where they have these values: they came later.
LEFT_OUT: dict[str, Any] = {name: declared(Recipe)[name].default for name in _OF_RECIPE}
LEFT_OUT |= {"conventions": {}}
DATA = ("x", "target", "validation x", "validation target")


def start_digests(
    training: tuple[Activations, Activations],
    validation: tuple[Activations, Activations] | None,
) -> dict[str, Any]:
    """A digest for each of `DATA` that there is: of the validation rows, which are read for it,
    complete; of the others to be fed."""
    digests = {}
    for name, data in zip(DATA, (*training, *(validation or ()))):
        digests[name] = hashlib.sha256(f"{data.described()} ".encode())
    if validation is not None:
        for name, data in zip(DATA[2:], validation, strict=True):
            for _ in data.blocks(digest=digests[name]):
                pass
    return digests


def identity_of(
    config: TranscoderConfig | CrossLayerConfig,
    schedule: Schedule,
    recipe: Recipe,
    digests: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """The identity of a run as plain values; ``more`` has what no class of options holds."""
    of_recipe = dataclasses.asdict(recipe)
    return {
        **config.to_dict(),
        **dataclasses.asdict(schedule),
        **{name: v for name, v in of_recipe.items() if LEFT_OUT.get(name, ...) != v},
        **more,
        "data": {name: digest.hexdigest() for name, digest in digests.items()},
    }


def versions() -> dict[str, str]:
    """What random orders and sums may depend on, by name."""
    return {"reftranscoder": __version__, "NumPy": np.__version__}
