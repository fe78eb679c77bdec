"""Units: training sees data of unit mean square, and the parameters that it returns see the user's.

With s_x and s_y the root mean squares of all entries of the training inputs and targets, training
minimizes the loss on::

    x'  =  x / s_x,      target'  =  target / s_y                                         (U1)

so that the learning rate and ``l1_coeff`` mean the same whatever the data are measured in.  Call
the trained arrays W_enc', b_enc', ...  Both ReLU and the choice of the K largest commute with a
factor s_y > 0, so that multiplying the reconstruction of target' by s_y gives, for ``x`` as it is::

    s_y (x' W_enc'^T + b_enc')    =  x ((s_y / s_x) W_enc')^T  +  s_y b_enc'
    s_y reconstruction'           =  hidden W_dec'  +  s_y b_dec'  +  x ((s_y / s_x) W_skip')^T

with ``hidden`` selected from the first line: a transcoder with the arrays::

    W_enc  =  (s_y / s_x) W_enc',    b_enc  =  s_y b_enc'                                 (U2)
    W_dec  =  W_dec',                b_dec  =  s_y b_dec',     W_skip  =  (s_y / s_x) W_skip'

each entry rounded once.  Activations have the units of the target; decoder rows have none and keep
their norms, unit norms too.

**Under conventions** what the encoder reads has units of its own, s_u, and what is decoded, s_h.
Then (U2) holds with s_u in place of s_x and s_h in place of s_y, but for a skip connection from x
itself to the reconstruction; and thresholds and the biases of gates have s_h::

    nothing is done to x        s_u = s_x,   s_h = s_y
    x is normalized             s_u = 1,     s_h = s_y
    and the output taken back   s_u = 1,     s_h = 1,    with s_x = s_y                   (U3)

where eps is divided by s_x, and scale is multiplied by it, so that the encoder reads the same.
Where b_dec is subtracted from the input s_u and s_h must be one: s_x is then s_y or, where x is
normalized and the output is not taken back, s_y is 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..activations import Activations
from ..errors import OptionError
from ..params import Conventions


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Means over the training rows of each column, and of its square, in float64."""

    x: np.ndarray  # (I,)
    x_squares: np.ndarray  # (I,)
    target: np.ndarray  # (O,)
    target_squares: np.ndarray  # (O,)
    rows: int

    @classmethod
    def of(
        cls, x: Activations, target: Activations, digests: Mapping[str, Any] | None = None
    ) -> Moments:
        """Read everything once, row after row.

        ``digests["x"]`` and ``digests["target"]`` are fed what is read (`identity.start_digests`).

        Raises:
            NonFiniteError: NaN or infinity among the data.
            OptionError: squares that exceed float64.
        """
        digests = digests or {}
        of_x = _column_means(x, digests.get("x"))
        return cls(*of_x, *_column_means(target, digests.get("target")), len(x))


@dataclasses.dataclass(frozen=True)
class Scaling:
    """``input_scale`` s_x and ``target_scale`` s_y, both above 0 and exact in the dtype used."""

    input_scale: float
    target_scale: float

    @classmethod
    def of(
        cls,
        moments: Moments,
        dtype: np.typing.DTypeLike,
        conventions: Conventions = Conventions(),  # noqa: B008 - a value
    ) -> Scaling:
        """The root mean squares, rounded to ``dtype``; 1 for data that are all zero.

        Under ``conventions`` as (U3) has them.
        """
        kind = np.dtype(dtype).type
        squares = (moments.x_squares, moments.target_squares)
        s_x, s_y = (float(kind(np.sqrt(s.mean()))) or 1.0 for s in squares)
        subtracted, normalized = conventions.apply_b_dec_to_input, _normalizes(conventions)
        if subtracted and normalized and not conventions.rescale_output:
            s_y = 1.0
        elif subtracted or conventions.changes_output:
            s_x = s_y
        return cls(s_x, s_y)

    @property
    def in_words(self) -> str:
        """What is divided by what, in a clause."""
        return (
            f"inputs are divided by {self.input_scale:.6g} and targets by {self.target_scale:.6g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return dataclasses.asdict(self)

    def units(self, conventions: Conventions) -> tuple[float, float]:
        """s_u and s_h: of what the encoder reads, and of what is decoded (U3)."""
        if not _normalizes(conventions):
            return self.input_scale, self.target_scale
        return 1.0, 1.0 if conventions.rescale_output else self.target_scale

    def conventions(self, conventions: Conventions) -> Conventions:
        """The ``conventions`` for data that are scaled."""
        name, s = conventions.normalize_activations, self.input_scale
        if name == "layer_norm":
            return dataclasses.replace(conventions, eps=conventions.eps / s)
        if name == "expected_average_only_in":
            return dataclasses.replace(conventions, scale=conventions.scale * s)
        return conventions

    def folded(
        self,
        arrays: Mapping[str, np.ndarray],
        conventions: Conventions = Conventions(),  # noqa: B008 - a value
    ) -> dict[str, np.ndarray]:
        """The arrays for data as they are, of arrays trained on scaled data: (U2), (U3)."""
        s_u, s_h = self.units(conventions)
        around = conventions.skip_input == "x"
        factors = {
            "W_enc": s_h / s_u,
            "W_dec": 1.0,
            "W_skip": self.target_scale / self.input_scale if around else s_h / s_u,
            "r_mag": 1.0,
        }
        return {name: _times(array, factors.get(name, s_h)) for name, array in arrays.items()}


def _normalizes(conventions: Conventions) -> bool:
    return conventions.normalize_activations != "none"


def _times(array: np.ndarray, factor: float) -> np.ndarray:
    wide = array.astype(np.result_type(array, np.float64))
    with np.errstate(over="ignore", under="ignore"):
        return (wide * factor).astype(array.dtype)


def _column_means(data: Activations, digest: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each column and of its square; the order of the sums is that of the rows."""
    return means_of(map(column_sums, data.blocks(digest=digest)), data)


def column_sums(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of each column of ``block``, and of its square, in float64."""
    with np.errstate(over="ignore"):
        block = block.astype(np.float64)
        return block.sum(axis=0), np.square(block).sum(axis=0)


def means_of(
    of_blocks: Iterable[tuple[np.ndarray, np.ndarray]], data: Activations
) -> tuple[np.ndarray, np.ndarray]:
    """The means of the columns of ``data`` and of their squares, from `column_sums` of the blocks.

    Raises:
        OptionError: squares that exceed float64.
    """
    sums = np.zeros(data.shape[1])
    squares = np.zeros(data.shape[1])
    with np.errstate(over="ignore"):
        for of_block in of_blocks:
            sums += of_block[0]
            squares += of_block[1]
    if not np.isfinite(squares).all():
        want = "finite, with squares that float64 can hold"
        raise OptionError(data.name, want, float(squares.max()), "Leave such rows out.")
    return sums / len(data), squares / len(data)
