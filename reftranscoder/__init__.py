"""A reference implementation of transcoders, with kernels next to it that it judges.

``import reftranscoder as rt`` costs next to nothing: everything below is imported when first used,
and Numba only when a kernel first runs.

Examples in docstrings take ``import numpy as np`` and ``import reftranscoder as rt`` for granted.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the table below says, in words that editors and type checkers read
    from . import errors, kernels, metrics, reference, sample, testing, twins
    from .activations import Activations, ActivationWriter, paired
    from .auditor import Arithmetic
    from .auditor.audit import audit
    from .edifice import build, loss, output_size
    from .evaluating import describe, evaluate
    from .gradcheck import check_gradient
    from .loading import load, scan
    from .params import Conventions, Gated, JumpReLU, Losses, Params, TranscoderConfig
    from .sparse import Sparse
    from .training import fit, fit_cross_layer
    from .transcoder import Transcoder
    from .transcoder.cross_layer import CrossLayerTranscoder

__version__ = "0.1.0"

#: public name -> the module it lives in
_HOMES = {
    "ActivationWriter": "activations",
    "Activations": "activations",
    "Arithmetic": "auditor",
    "Conventions": "params",
    "CrossLayerTranscoder": "transcoder.cross_layer",
    "Gated": "params",
    "JumpReLU": "params",
    "Losses": "params",
    "Params": "params",
    "Sparse": "sparse",
    "Transcoder": "transcoder",
    "TranscoderConfig": "params",
    "audit": "auditor",
    "build": "edifice",
    "check_gradient": "gradcheck",
    "describe": "evaluating",
    "evaluate": "evaluating",
    "fit": "training",
    "fit_cross_layer": "training",
    "load": "loading",
    "loss": "edifice",
    "output_size": "edifice",
    "paired": "activations",
    "scan": "loading",
}
#: What needs a package that is an extra: not in ``__all__``, so that ``import *`` needs none.
_EXTRAS = {"TranscoderRegressor": "estimator"}
_EXTRA_MODULES = ("distributed",)
_MODULES = ("errors", "kernels", "metrics", "reference", "sample", "testing", "twins")

__all__ = [
    "ActivationWriter",
    "Activations",
    "Arithmetic",
    "Conventions",
    "CrossLayerTranscoder",
    "Gated",
    "JumpReLU",
    "Losses",
    "Params",
    "Sparse",
    "Transcoder",
    "TranscoderConfig",
    "__version__",
    "audit",
    "build",
    "check_gradient",
    "describe",
    "errors",
    "evaluate",
    "fit",
    "fit_cross_layer",
    "kernels",
    "load",
    "loss",
    "metrics",
    "output_size",
    "paired",
    "reference",
    "sample",
    "scan",
    "testing",
    "twins",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _EXTRAS.get(name)
    if home:
        value = getattr(importlib.import_module(f".{home}", __name__), name)
    elif name in _MODULES or name in _EXTRA_MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
