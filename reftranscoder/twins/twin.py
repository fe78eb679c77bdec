"""A row of the table: one operation in both rooms, and what passes between them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..bounds import Worst, precision, worst
from ..sparse import Sparse

_PACKAGE = __package__.partition(".")[0]

#: Dense (B, D) arrays to the reference, `Sparse` to the kernels.
SPARSE = ("hidden", "d_hidden", "d_pre")
#: What a kernel overwrites with its result.
IN_PLACE = ("p", "m", "v", "v_rows", "average")


class Twin(NamedTuple):
    """One operation, in both rooms."""

    name: str
    outputs: tuple[str, ...]  # what it returns, by name
    reference: str  # where it stands, below `reftranscoder`
    kernel: str | None  # the same, or None: ``why`` then says why there is none
    bound: str | None  # a function of `reftranscoder.twin_bounds`, or None without a kernel
    why: str  # why the two are no further apart

    def function(self, room: str) -> Callable[..., Any]:
        """Return the function itself; ``room`` is "reference", "kernel" or "bound"."""
        module, _, name = getattr(self, room).rpartition(".")
        found: Callable[..., Any]
        found = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        return found

    def run_reference(self, arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the outputs of the reference by name, called in float64.

        A kernel makes d_hidden only where hidden has an entry: elsewhere it is set to zero here.
        """
        wide = {name: _to_float64(value) for name, value in arguments.items()}
        outputs = self.named(self.function("reference")(**wide))
        if "d_hidden" in outputs:
            hidden = wide["forward"].hidden if "forward" in wide else wide.get("hidden")
            outputs["d_hidden"] = np.where(hidden != 0, outputs["d_hidden"], 0)
        return outputs

    def run_kernel(self, arguments: Mapping[str, Any]) -> dict[str, np.ndarray | Sparse]:
        """Return the outputs of the kernel by name, called with the arguments of the reference."""
        given = {name: to_kernel(name, value) for name, value in arguments.items()}
        return self.named(self.function("kernel")(**given))

    def bounds(
        self, arguments: Mapping[str, Any], want: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return how far the kernel may be from ``want``, what `run_reference` returns, by name."""
        to = precision(dtype_of(arguments))
        wide = {name: _to_float64(value) for name, value in arguments.items()}
        bounds: dict[str, np.ndarray] = self.function("bound")(to, want, **wide)
        return bounds

    def compare(self, arguments: Mapping[str, Any]) -> dict[str, Worst]:
        """Return for each output of the kernel, by name, the entry that uses most of its bound."""
        want = self.run_reference(arguments)
        bound = self.bounds(arguments, want)
        got = self.run_kernel(arguments)
        return {
            name: worst(to_dense(value), want[name], bound[name]) for name, value in got.items()
        }

    def named(self, result: Any) -> dict[str, Any]:
        """Return the parts of ``result``, of either function, by name, without what is None; of
        d_own each array."""
        values = result if len(self.outputs) > 1 else (result,)
        named = {name: v for name, v in zip(self.outputs, values, strict=True) if v is not None}
        d_own = named.pop("d_own")._asdict() if "d_own" in named else {}
        return named | {f"d{n}": a for n, a in d_own.items() if isinstance(a, np.ndarray)}


def to_kernel(name: str, value: Any) -> Any:
    """Return what a kernel takes where the reference takes ``value`` for its argument ``name``."""
    if name == "forward":
        hidden = Sparse.from_dense(value.hidden)
        return value._replace(pre=None, pre_acts=None, hidden=hidden)
    if name in SPARSE:
        return Sparse.from_dense(value)
    return value.copy() if name in IN_PLACE else value


def to_dense(value: Any) -> Any:
    """Return what the reference returns where a kernel returns ``value``."""
    return value.dense() if isinstance(value, Sparse) else value


def dtype_of(arguments: Mapping[str, Any]) -> np.dtype:
    """Return the dtype of the arrays among ``arguments``."""
    arrays = (np.asarray(a) for a in arguments.values() if isinstance(a, np.ndarray))
    return next(arrays).dtype


def _to_float64(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype(np.float64)
    if hasattr(value, "_fields"):
        return type(value)(*map(_to_float64, value))
    return value


def paired(name: str, outputs: str, why: str, bound: str | None = None) -> Twin:
    """A row whose function bears the same name in every room."""
    names = f"reference.{name}", f"kernels.{name}", f"twin_bounds.{bound or name}"
    return Twin(name, tuple(outputs.split()), *names, why)


def alone(name: str, outputs: str, why: str) -> Twin:
    """A row of the reference without a kernel."""
    return Twin(name, tuple(outputs.split()), f"reference.{name}", None, None, why)
