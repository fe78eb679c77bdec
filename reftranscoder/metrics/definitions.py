"""What is published under the names of FVU, explained variance and reconstruction error.

With e = y - y_hat for rows i = 1 ... n and columns j = 1 ... d, and c (d,) the mean of y by column,
of all rows or of those of a batch, every one of them is made of a few sums, which add up over
blocks of rows as long as c is the same (`Sums`).  Numbers by different definitions, or by one on
batches and by the same on all rows at once, are not comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import to_matrix
from ..errors import ShapeError

WHOLE, BATCHES, ROWS = "whole", "batches", "rows"


class Sums(NamedTuple):
    """Sums over rows in float64, each of them 0 before the first; ``a + b`` by `plus`."""

    rows: int
    errors: Any  # (d,) of e^2
    error: Any  # (d,) of e
    squares: Any  # (d,) of (y - c)^2
    uncentred: Any  # (d,) of y^2
    over_centred: float  # of |e_i|^2 / |y_i - c|^2
    over_uncentred: float  # of |e_i|^2 / |y_i|^2
    over_norm: float  # of |e_i|^2 / |y_i|
    over_input: float  # of |y_hat_i - x_i|^2 / |x_i|^2; NaN where the widths differ
    cosine: float  # of y_i . y_hat_i / (|y_i| |y_hat_i|)

    def plus(self, other: Sums) -> Sums:
        """Return the sums over the rows of both, which were taken about the same ``c``."""
        return Sums(*(a + b for a, b in zip(self, other)))


def sums_of(target: Any, reconstruction: Any, mean: Any = None, x: Any = None) -> Sums:
    """Return the `Sums` over the rows of ``target`` and ``reconstruction``, both (B, O).

    Args:
        target, reconstruction: y and y_hat.
        mean: (O,) c; by default the mean of these rows.
        x: (B, I) what was read, for the definition that compares with it.

    Raises:
        ShapeError: shapes that do not fit each other, or no row.
    """
    y = to_matrix(target, "target", "(B, O)", None, np.float64)
    y_hat = to_matrix(reconstruction, "reconstruction", "(B, O)", y.shape[1], np.float64)
    if y_hat.shape != y.shape:
        raise ShapeError("reconstruction", y.shape, y_hat.shape, letters="(B, O)")
    if not len(y):
        raise ShapeError("target", "with at least one row", y.shape)
    c = y.mean(axis=0) if mean is None else np.asarray(mean, np.float64)
    e = y - y_hat
    with np.errstate(all="ignore"):
        of_errors, of_rows = np.square(e).sum(axis=1), np.square(y).sum(axis=1)
        over_input = np.nan
        if x is not None and np.shape(x) == y.shape:
            wide = np.asarray(x, np.float64)
            missed = np.square(y_hat - wide).sum(axis=1)
            over_input = float((missed / np.square(wide).sum(axis=1)).sum())
        norms = np.sqrt(of_rows * np.square(y_hat).sum(axis=1))
        return Sums(
            rows=len(y),
            errors=np.square(e).sum(axis=0),
            error=e.sum(axis=0),
            squares=np.square(y - c).sum(axis=0),
            uncentred=np.square(y).sum(axis=0),
            over_centred=float((of_errors / np.square(y - c).sum(axis=1)).sum()),
            over_uncentred=float((of_errors / of_rows).sum()),
            over_norm=float((of_errors / np.sqrt(of_rows)).sum()),
            over_input=over_input,
            cosine=float(((y * y_hat).sum(axis=1) / norms).sum()),
        )


class Definition(NamedTuple):
    """A published definition: its formula, and who computes it so."""

    name: str
    formula: str
    published_by: str
    published_on: str  # WHOLE: all rows at once; BATCHES: the mean over batches; ROWS: over rows
    of: Callable[[Sums], Any]  # a number

    def __call__(self, sums: Sums) -> float:
        """Return its value on the rows of ``sums``; NaN or infinite where it divides by zero."""
        with np.errstate(all="ignore"):
            return float(self.of(sums))


def _fvu(s: Sums) -> Any:
    return np.sum(s.errors) / np.sum(s.squares)


def _fvu_macro(s: Sums) -> Any:
    return np.mean(s.errors / s.squares)


def _variance(s: Sums) -> Any:
    # The sum of (e - mean e)^2, so that an error that is the same in every row costs nothing.
    return 1 - np.sum(s.errors - np.square(s.error) / s.rows) / np.sum(s.squares)


def _unlike_any(s: Sums) -> Any:
    # Squares inside the mean that is to be squared, and that mean over the columns too.
    squares = np.sum(s.uncentred) / s.rows
    return 1 - np.sum(s.errors) / s.rows / (squares - np.square(squares / len(s.uncentred)))


def _clipped(s: Sums) -> Any:
    return np.clip(_variance(s), 0, 1)


#: All by name.  The first seven are forms of FVU or of explained variance, of which one is about 1
#: less the other; the rest are reported as losses.
DEFINITIONS = {
    row.name: row
    for row in (
        Definition(
            "fvu",
            "sum e^2 / sum (y - c)^2",
            "reftranscoder; 1 - SAELens 6.54 explained_variance (evals.py)",
            WHOLE,
            _fvu,
        ),
        Definition(
            "fvu_batch",
            "sum e^2 / sum (y - c)^2 within a batch",
            "sparsify (sparse_coder.py), clt-training",
            BATCHES,
            _fvu,
        ),
        Definition(
            "fvu_macro",
            "mean over columns of sum e_j^2 / sum (y_j - c_j)^2",
            "crosslayer-transcoder (clt_lightning.py)",
            BATCHES,
            _fvu_macro,
        ),
        Definition(
            "ev_batch_mean",
            "1 - sum (e - mean e)^2 / sum (y - c)^2 within a batch",
            "dictionary_learning frac_variance_explained (evaluation.py)",
            BATCHES,
            _variance,
        ),
        Definition(
            "ev_clipped",
            "the same, clipped to 0 ... 1",
            "crosslayer-coding (evaluator.py)",
            BATCHES,
            _clipped,
        ),
        Definition(
            "ev_legacy",
            "mean over rows of 1 - |e_i|^2 / |y_i - c|^2, c within a batch",
            "SAELens explained_variance_legacy, SAEBench",
            ROWS,
            lambda s: 1 - s.over_centred / s.rows,
        ),
        Definition(
            "ev_wrong",
            "1 - mean |e|^2 / (S - (S / d)^2), S = mean |y|^2",
            "SAELens 6.18 explained_variance (evals.py)",
            WHOLE,
            _unlike_any,
        ),
        Definition(
            "ev_against_input",
            "mean over rows of 1 - |y_hat_i - x_i|^2 / |x_i|^2",
            "transcoder_circuits explained_variance",
            ROWS,
            lambda s: 1 - s.over_input / s.rows,
        ),
        Definition(
            "nmse_uncentred",
            "mean over rows of |e_i|^2 / |y_i|^2",
            "openai/sparse_autoencoder (loss.py)",
            ROWS,
            lambda s: s.over_uncentred / s.rows,
        ),
        Definition(
            "mse_mean",
            "sum e^2 / (n d)",
            "reftranscoder, Edifice",
            WHOLE,
            lambda s: np.sum(s.errors) / (s.rows * len(s.errors)),
        ),
        Definition(
            "mse_sum",
            "sum e^2 / n",
            "SAELens, dictionary_learning",
            WHOLE,
            lambda s: np.sum(s.errors) / s.rows,
        ),
        Definition(
            "mse_over_norm",
            "mean over entries of e_ij^2 / |y_i|",
            "transcoder_circuits (sparse_autoencoder.py)",
            WHOLE,
            lambda s: s.over_norm / (s.rows * len(s.errors)),
        ),
        Definition(
            "cosine",
            "mean over rows of the cosine of y_i and y_hat_i",
            "SAELens cossim, dictionary_learning cossim",
            ROWS,
            lambda s: s.cosine / s.rows,
        ),
    )
}
