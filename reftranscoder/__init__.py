"""A reference implementation of transcoders, with kernels next to it that it judges.

``import reftranscoder as rt`` costs next to nothing: everything below is imported when first used,
and Numba only when a kernel first runs.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: public name -> the module it lives in
_HOMES = {
    "Activations": "activations",
    "Arithmetic": "auditor",
    "Params": "params",
    "Sparse": "sparse",
    "Transcoder": "transcoder",
    "TranscoderConfig": "params",
    "audit": "auditor",
    "build": "edifice",
    "check_gradient": "gradcheck",
    "fit": "training",
    "load": "transcoder",
    "loss": "edifice",
    "output_size": "edifice",
}
_MODULES = ("errors", "kernels", "metrics", "reference", "sample", "testing", "twins")

__all__ = sorted([*_HOMES, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
