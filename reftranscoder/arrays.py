"""What a user may hand in for an array, and what is refused.

NumPy arrays, lists of numbers and torch tensors on a CPU become NumPy arrays of real floating-point
numbers.  A tensor that requires grad is detached, bfloat16 is widened to float32 (which is
exact), and everything else that cannot be meant is refused in one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, NonFiniteError, ShapeError, words
from .options import truth
from .sparse import Sparse, widened

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def to_array(value: Any, name: str) -> np.ndarray:
    """Return ``value`` as an array of real numbers in its own dtype, without a copy where possible.

    Raises:
        DTypeError: complex numbers, strings, objects; a tensor that is not on the CPU.
    """
    if hasattr(value, "detach"):  # a torch tensor, named by what it can do: torch is not imported
        value = _readable(value, name)
    elif hasattr(value, "tocsr"):
        raise DTypeError(name, "scipy.sparse", f"Pass {name}.toarray().")
    elif isinstance(value, np.ma.MaskedArray):
        raise DTypeError(name, "a masked array", f"Fill it first: {name}.filled(0).")
    elif value is None:
        raise DTypeError(name, None, "Pass an array.")
    array = _read(value, name)
    if array.dtype.isbuiltin != 1 and array.dtype.name.startswith(_EXTENSIONS):
        return array.astype(np.float32)
    if array.dtype.kind == "f":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    raise DTypeError(name, array.dtype, _DTYPE_HINTS.get(array.dtype.kind, "Convert it first."))


def numbers(value: Any, name: str) -> np.ndarray:
    """Return ``value``, a list, an array or a tensor on the CPU, as an array of whatever it holds.

    Raises:
        DTypeError: NumPy cannot read it.
    """
    return _read(_readable(value, name) if hasattr(value, "detach") else value, name)


def _read(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:
        raise DTypeError(name, "a ragged list", "Pass rows of one length.") from None
    except MemoryError:
        raise
    except Exception as error:  # of a list of tensors, or of somebody else's __array__
        raise DTypeError(name, f"what NumPy cannot read: {words(error)}", _ONE_ARRAY) from None


def _detached(tensor: Any, name: str) -> Any:
    """The tensor without its history, if it is on the CPU."""
    if tensor.device.type != "cpu":
        raise DTypeError(name, f"{tensor.dtype} on {tensor.device}", "Pass a CPU tensor.")
    return tensor.detach()


def _readable(tensor: Any, name: str) -> Any:
    """A tensor as one whose memory NumPy reads: bfloat16 becomes float32, and a view that is
    conjugate or negative on paper becomes so in memory."""
    tensor = _detached(tensor, name)
    if is_sparse(tensor):
        raise DTypeError(name, "a sparse tensor", f"Pass {name}.to_dense().")
    dtype = str(tensor.dtype)
    if dtype == "torch.bfloat16":
        return tensor.float()
    if getattr(tensor, "is_quantized", False):
        raise DTypeError(name, f"{dtype}, quantised", f"Pass {name}.dequantize().")
    if getattr(tensor, "is_nested", False):
        raise DTypeError(name, "a nested tensor", "Pass rows of one length: torch.stack(rows).")
    if dtype.startswith(("torch.float8", "torch.float4")):
        raise DTypeError(name, dtype, f"Pass {name}.float(), which is exact.")
    return tensor.resolve_conj().resolve_neg() if hasattr(tensor, "resolve_neg") else tensor


_AT_ONCE = 1 << 22  # entries that are looked at for NaN
#: The beginnings of the names of ml_dtypes' float types, all of which float32 holds exactly.
_EXTENSIONS = ("bfloat16", "float8_", "float6_", "float4_")
_ONE_ARRAY = "Pass one array, or one tensor: torch.stack(rows)."
_DTYPE_HINTS = {
    "c": "Pass its real part.",
    "O": "The functions of reftranscoder.reference take fractions and other objects.",
    "U": "It holds text.",
    "S": "It holds text.",
    "b": "Pass numbers, not truth values.",
}


def to_matrix(
    value: Any,
    name: str,
    letters: str,
    columns: int | None = None,
    dtype: np.typing.DTypeLike | None = None,
) -> np.ndarray:
    """Return ``value`` as a matrix, of ``columns`` columns and of ``dtype`` where these are given.

    ``letters`` names the axes in the message, as in ``"(B, I)"``.

    Raises:
        ShapeError: another number of axes, or of columns; a transposed matrix is named as such.
        DTypeError: as `to_array`.
    """
    array = to_array(value, name)
    want = f"(any, {'any' if columns is None else columns})"
    if array.ndim != 2:
        hints = {
            1: f"For one row pass {name}[None, :].",
            3: f"Pass {name}.reshape(-1, {name}.shape[-1]).",
        }
        raise ShapeError(name, want, array.shape, hints.get(array.ndim, ""), letters)
    if columns is not None and array.shape[1] != columns:
        transposed = array.shape[0] == columns
        hint = f"It looks transposed: pass {name}.T." if transposed else ""
        raise ShapeError(name, want, array.shape, hint, letters)
    return array if dtype is None else to_dtype(array, name, dtype)


def to_dtype(array: np.ndarray, name: str, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return ``array`` rounded to ``dtype``, or itself if it has that already.

    Raises:
        NonFiniteError: a finite number that is too large for ``dtype``.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    too_large = np.isinf(converted) & np.isfinite(array)
    if too_large.any():
        index = tuple(int(i) for i in np.argwhere(too_large)[0])
        raise NonFiniteError(name, index, array[index], f"It is too large for {np.dtype(dtype)}.")
    return converted


def bytes_of(array: np.ndarray) -> np.ndarray:
    """The bytes of the numbers in ``array`` in C order, to make a digest of.

    Of an 80-bit longdouble these are ten of sixteen: the others are whatever was in memory.
    """
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if array.dtype.kind == "f" and array.itemsize == 16 and np.finfo(array.dtype).nmant == 63:
        content = np.ascontiguousarray(content.reshape(-1, 16)[:, :10]).reshape(-1)
    return content


def check_finite(array: np.ndarray, name: str, hint: str) -> None:
    """Raise `NonFiniteError`, naming the first offender, unless every entry is finite."""
    # A stretch at a time: a truth value for each entry of large weights is a quarter of them.
    whole = np.atleast_1d(array)
    rows = max(_AT_ONCE * len(whole) // max(whole.size, 1), 1)
    for first in range(0, len(whole), rows):
        finite = np.isfinite(whole[first : first + rows])
        if not finite.all():
            place = first * finite[0].size + int(np.argmin(finite))
            index = tuple(int(i) for i in np.unravel_index(place, array.shape))
            raise NonFiniteError(name, index, array[index], hint)


def spread_non_finite(array: np.ndarray) -> np.ndarray:
    """Return ``array`` (B, I) with every row that holds NaN or infinity made all NaN.

    A sum over an infinite input may be minus infinity, which the ReLU would turn into an innocent
    zero.  NaN cannot get lost that way: such a row's results are all NaN, whatever the weights are.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(array)):  # sooner known than of each
            return array
    bad = ~np.isfinite(array).all(axis=1)
    array = array.copy()
    array[bad] = np.nan
    return array


def is_sparse(value: Any) -> bool:
    """Whether `to_sparse` takes ``value`` as its entries: of SciPy, of torch, or a `Sparse`."""
    by_torch = str(getattr(value, "layout", "")).startswith("torch.sparse")
    return by_torch or isinstance(value, Sparse) or hasattr(value, "tocsr")


def to_sparse(
    value: Any,
    name: str,
    columns: int | None = None,
    dtype: np.typing.DTypeLike | None = None,
) -> Sparse:
    """Return ``value`` (B, D) as a `Sparse`.

    It may be dense, a `Sparse`, of any SciPy sparse format, or a torch tensor in COO or CSR.

    Raises:
        ShapeError, DTypeError: as `to_matrix`; another sparse layout of torch.
    """
    if not is_sparse(value):
        return Sparse.from_dense(to_matrix(value, name, "(B, D)", columns, dtype))
    own = value.values.dtype if isinstance(value, Sparse) else value.dtype
    if isinstance(value, Sparse):
        value = _csr(value)
    elif not hasattr(value, "tocsr"):
        value = _from_torch(_detached(value, name), name)
    if value.ndim != 2 or (columns is not None and value.shape[1] != columns):
        raise ShapeError(name, f"(any, {columns or 'any'})", value.shape, letters="(B, D)")
    csr = value.tocsr()
    try:
        csr.check_format()
    except ValueError as problem:
        raise ShapeError(name, "of a well-formed CSR matrix", str(problem)) from None
    if not csr.has_canonical_format or not csr.data.all():
        csr = csr.copy()
        csr.sum_duplicates()
        csr.eliminate_zeros()
    indptr = csr.indptr.astype(np.int32, copy=False)
    indices = csr.indices.astype(np.int32, copy=False)
    sparse = Sparse(indptr, indices, to_array(csr.data, name), csr.shape)
    if str(own).removeprefix("torch.") == "float16":
        sparse = sparse.astype(np.float16)
    return sparse if dtype is None else sparse.astype(dtype)


def _from_torch(tensor: Any, name: str) -> Any:
    """A sparse torch tensor as a SciPy matrix."""
    from scipy.sparse import coo_array, csr_array

    shape, layout = tuple(tensor.shape), str(tensor.layout)
    if layout not in ("torch.sparse_coo", "torch.sparse_csr"):
        raise DTypeError(name, layout, f"Pass {name}.to_dense().")
    if tensor.dense_dim():
        raise DTypeError(name, "a tensor whose entries are rows", f"Pass {name}.to_dense().")
    if len(shape) != 2:
        raise ShapeError(name, "(any, any)", shape, letters="(B, D)")
    if layout == "torch.sparse_coo":
        tensor = tensor.coalesce()
        places = tuple(tensor.indices().numpy())
        return coo_array((widened(to_array(tensor.values(), name)), places), shape)
    places = tensor.col_indices().numpy(), tensor.crow_indices().numpy()
    return csr_array((widened(to_array(tensor.values(), name)), *places), shape)


_ROWS_HINT = "Remove such rows, or pass check_finite=False: they then give NaN."


def to_batch(
    value: Any,
    name: str,
    letters: str,
    width: int,
    dtype: np.dtype,
    check: bool,
    spread: bool = True,
) -> np.ndarray:
    """Return rows of data as `to_matrix` does.

    NaN and infinity are refused or, without ``check``, make their whole row NaN if they ``spread``.

    Raises:
        ShapeError, DTypeError: as `to_matrix`.
        NonFiniteError: NaN or infinity, with row and column.
        OptionError: ``check`` is not True or False.
    """
    rows = to_matrix(value, name, letters, width, dtype)
    if truth("check_finite", check):
        check_finite(rows, name, _ROWS_HINT)
        return rows
    return spread_non_finite(rows) if spread else rows


def to_target(value: Any, x: np.ndarray, width: int, dtype: np.dtype, check: bool) -> np.ndarray:
    """Return the target (B, O) that goes with ``x`` (B, I), B >= 1.

    Raises:
        ShapeError, DTypeError, NonFiniteError, OptionError: as `to_batch`; or there is no row.
    """
    rows = to_matrix(value, "target", "(B, O)", width, dtype)
    check_same_rows("target", rows, len(x))
    if len(x) == 0:
        raise ShapeError("x", "with at least one row", x.shape, "A mean needs one.")
    return to_batch(rows, "target", "(B, O)", width, dtype, check, spread=False)


def check_same_rows(name: str, array: np.ndarray, rows: int) -> None:
    """Refuse an array that does not have as many ``rows`` as what it goes with.

    Raises:
        ShapeError: it has more, or fewer.
    """
    if len(array) != rows:
        raise ShapeError(name, (rows, array.shape[1]), array.shape, "Rows must pair up.")


def to_layers(value: Any, name: str) -> list[Any]:
    """Return ``value``, a sequence of arrays or an array with an axis of layers, as a list.

    Raises:
        ShapeError: it has no axis.
        DTypeError: as `to_array`; what is in a sequence is not looked at.
    """
    if isinstance(value, list | tuple):
        return list(value)
    array = to_array(value, name)
    if not array.ndim:
        raise ShapeError(name, "of L layers", array.shape)
    return list(array)


def check_layers(name: str, layers: list[Any], L: int) -> None:
    """Refuse another number of ``layers`` than ``L``.

    Raises:
        ShapeError: there are more, or fewer.
    """
    if len(layers) != L:
        raise ShapeError(name, f"of {L} layers", f"{len(layers)} layers")


def _csr(sparse: Sparse) -> csr_array:
    from scipy.sparse import csr_array

    return csr_array((widened(sparse.values), sparse.indices, sparse.indptr), shape=sparse.shape)
