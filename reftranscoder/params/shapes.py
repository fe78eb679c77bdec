"""Whether the arrays of a transcoder fit each other, and which of them looks transposed."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from .own import Own


def check_shapes(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays of `Params`, by name, that do not fit each other.

    Raises:
        ShapeError: naming one, and what it must be.
    """
    for name, axes in (("b_enc", 1), ("b_dec", 1), ("W_enc", 2), ("W_dec", 2), ("W_skip", 2)):
        if name in arrays and arrays[name].ndim != axes:
            raise ShapeError(name, f"with {axes} axes", arrays[name].shape)
        if name in arrays and 0 in arrays[name].shape:
            raise ShapeError(name, "without an empty axis", arrays[name].shape)
    D, O = len(arrays["b_enc"]), len(arrays["b_dec"])
    W_enc = arrays["W_enc"]
    if D != W_enc.shape[0] == arrays["W_dec"].shape[0]:
        _refuse("b_enc", "(D,)", W_enc.shape[:1], (D,), False)
    if W_enc.shape[0] != D:
        transposed = W_enc.shape[1] == D
        _refuse(
            "W_enc", "(D, I)", (D, W_enc.shape[0 if transposed else 1]), W_enc.shape, transposed
        )
    I = W_enc.shape[1]
    for name, letters, want in (("W_dec", "(D, O)", (D, O)), ("W_skip", "(O, I)", (O, I))):
        if name in arrays and arrays[name].shape != want:
            shape = arrays[name].shape
            _refuse(name, letters, want, shape, shape == want[::-1])


def check_own(own: Own | None, D: int) -> None:
    """Refuse what an activation takes if it is of another number of features.

    Raises:
        ShapeError: naming an array of it.
    """
    for name, array in ({} if own is None else own.arrays()).items():
        if len(array) != D:
            raise ShapeError(name, (D,), array.shape, letters="(D,)")


def _refuse(
    name: str, letters: str, want: tuple[int, ...], got: tuple[int, ...], transposed: bool
) -> None:
    raise ShapeError(
        name, want, got, f"It looks transposed: pass {name}.T." if transposed else "", letters
    )
