"""What a transcoder is: its sizes and options, and its arrays.  Both are values: frozen and
checked.

The letters, here and everywhere: B batch, I input_size, D dict_size, O output_size, K top_k.
Arrays are feature-major: row ``j`` of ``W_enc`` is what feature ``j`` reads, row ``j`` of
``W_dec`` is what it writes.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import numpy as np

from .arrays import check_finite, to_array
from .declaring import option
from .errors import DTypeError, OptionError, ShapeError
from .options import LARGEST_SIZE, one_of, positive_integer, truth

ACTIVATIONS = ("topk", "relu")
TIES = ("lowest_index", "keep_all")
DTYPES = tuple(dict.fromkeys(np.dtype(t).name for t in (np.float32, np.float64, np.longdouble)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a transcoder that its data decide."""

    input_size: int
    output_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The options of a transcoder that its data leave open: `TranscoderConfig` says more."""

    dict_size: int = option(4096, "features")
    top_k: int = option(32, "features kept in a row")
    activation: str = option("topk", "topk or relu", choices=ACTIVATIONS)
    skip: bool = option(False, "with a skip connection")
    ties: str = option("lowest_index", "which of equal activations are kept", choices=TIES)
    dtype: Any = option("float32", "of the parameters")  # whatever names one; kept as its name


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranscoderConfig(Architecture, Sizes):
    """The sizes and options of a transcoder.

    ``activation`` is ``"topk"`` (keep the ``top_k`` largest positive activations of a row) or
    ``"relu"`` (keep every positive one: ``top_k`` is then ``dict_size``, whatever was passed).
    ``ties`` says what happens to values equal to the K-th largest: ``"lowest_index"`` keeps
    exactly K, ``"keep_all"`` keeps them all.

    Raises:
        OptionError: a size that is not a positive integer, ``top_k`` above ``dict_size``, or a name
            that is not among those above.

    >>> config = rt.TranscoderConfig(input_size=4, output_size=3, dict_size=8, activation="relu")
    >>> config.top_k, config.dtype
    (8, 'float32')
    """

    def __post_init__(self) -> None:
        for name in ("input_size", "output_size", "dict_size", "top_k"):
            size = positive_integer(name, getattr(self, name), LARGEST_SIZE)
            object.__setattr__(self, name, size)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("ties", self.ties, TIES)
        object.__setattr__(self, "skip", truth("skip", self.skip))
        object.__setattr__(self, "dtype", float_dtype(self.dtype).name)
        if self.activation == "relu":
            object.__setattr__(self, "top_k", self.dict_size)
        if self.top_k > self.dict_size:
            raise OptionError(
                "top_k", f"from 1 to dict_size = {self.dict_size}", self.top_k, "Lower it."
            )


def float_dtype(dtype: Any) -> np.dtype:
    """Return ``dtype`` as one of `DTYPES`, or raise `OptionError`."""
    found: np.dtype | None
    try:
        found = np.dtype(dtype)
    except Exception:  # TypeError, or what somebody else's object raises when it is asked
        found = None
    if found is None or found.name not in DTYPES or not found.isnative:
        raise OptionError("dtype", f"one of {', '.join(DTYPES)}", dtype)
    return found


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Params:
    """The arrays of a transcoder, or their gradients: owned, of one dtype, and read-only.

    What is given is copied, so that writing to it afterwards changes nothing here; only a read-only
    memory map, and arrays that another `Params` owns, are shared.  Two `Params` are equal when they
    are the same object: comparing millions of numbers should not hide behind ``==``.

    Arrays of float16 or bfloat16 are widened to float32; of several dtypes the widest wins.

    Raises:
        ShapeError: arrays that do not fit each other; a transposed one is named as such.
        DTypeError: complex numbers, strings, objects.
        NonFiniteError: NaN or infinity.

    >>> params = rt.Params(W_enc=np.eye(3, 2), b_enc=np.zeros(3), W_dec=np.eye(3, 2), b_dec=[0, 1])
    >>> params
    Params(W_enc (3, 2), b_enc (3,), W_dec (3, 2), b_dec (2,), float64)
    >>> params.W_enc.flags.writeable
    False
    """

    W_enc: np.ndarray  # (D, I)
    b_enc: np.ndarray  # (D,)
    W_dec: np.ndarray  # (D, O)
    b_dec: np.ndarray  # (O,)
    W_skip: np.ndarray | None = None  # (O, I)

    def __post_init__(self) -> None:
        # Only W_skip may be absent: another None is an object, and refused as one.
        given = {**{name: getattr(self, name) for name in _names()[:4]}, **self.arrays()}
        arrays = {name: to_array(value, name) for name, value in given.items()}
        dtype = _common_dtype(arrays, given)
        _check_shapes(arrays)
        for name, array in arrays.items():
            owned = _owned(array, dtype)
            check_finite(owned, name, "No parameter may be: correct the array.")
            object.__setattr__(self, name, owned)

    @classmethod
    def taking(cls, **arrays: np.ndarray) -> Params:
        """Return the same of arrays that nobody else holds: they are checked, and not copied.

        For what was read from a file, so that it is in memory once.
        """
        return cls(**{n: _locked(a) if a.base is None else a for n, a in arrays.items()})

    @classmethod
    def adopt(
        cls,
        W_enc: np.ndarray,
        b_enc: np.ndarray,
        W_dec: np.ndarray,
        b_dec: np.ndarray,
        W_skip: np.ndarray | None = None,
    ) -> Params:
        """Take over C-contiguous arrays of one float dtype, without a copy and without looking for
        NaN.

        For results made for the purpose, such as gradients.  What is derived from parameters, a
        packed copy for example, relies on their never changing: who writes to the arrays later
        has to make another `Params` before anything reads them.

        Returns:
            `Params` over the same memory.
        """
        self = object.__new__(cls)
        for name, array in zip(_names(), (W_enc, b_enc, W_dec, b_dec, W_skip), strict=True):
            object.__setattr__(self, name, None if array is None else _view(array))
        _check_shapes(self.arrays())
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, without an absent ``W_skip``."""
        fields = {name: getattr(self, name) for name in _names()}
        return {name: array for name, array in fields.items() if array is not None}

    @property
    def dtype(self) -> np.dtype:
        return self.W_enc.dtype

    def astype(self, dtype: Any) -> Params:
        """Return the same numbers, each rounded once to ``dtype``; itself if that changes nothing.

        Raises:
            OptionError: not a dtype that parameters can have.
            NonFiniteError: a number too large for ``dtype``.
        """
        dtype = float_dtype(dtype)
        if dtype == self.dtype:
            return self
        with np.errstate(over="ignore", under="ignore"):
            arrays = {name: array.astype(dtype) for name, array in self.arrays().items()}
        for name, array in arrays.items():
            check_finite(array, name, f"It was finite in {self.dtype}: keep that dtype.")
        return _made_here(arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.arrays().items())
        return f"Params({shapes}, {self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_here, (self.arrays(),)

    def __deepcopy__(self, memo: object) -> Params:
        return self  # a value


def check_agreement(config: TranscoderConfig, params: Params) -> None:
    """Refuse ``config`` unless it says of ``params`` what they are.

    Raises:
        OptionError: another size, dtype, or skip connection.
    """
    D, I = params.W_enc.shape
    sizes = {"input_size": I, "output_size": len(params.b_dec), "dict_size": D}
    for name, size in sizes.items():
        if getattr(config, name) != size:
            want = f"{size}, which is what the arrays have"
            raise OptionError(name, want, getattr(config, name))
    if config.skip != (params.W_skip is not None):
        raise OptionError("skip", f"{not config.skip}, as W_skip says", config.skip)
    if config.dtype != params.dtype.name:
        raise OptionError("dtype", f"{params.dtype.name}, as the arrays have", config.dtype)


def _names() -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(Params))


def _made_here(arrays: dict[str, np.ndarray]) -> Params:
    """`Params` of arrays made a moment ago, checked and nobody else's: no copy is needed."""
    return Params.adopt(**{name: _locked(array) for name, array in arrays.items()})


#: The arrays that `Params` made, by id.  A read-only view of one may be shared.
_OWNED: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()


def _owned(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A read-only array with the numbers of ``array`` that nobody else can write to."""
    fits = array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
    if fits and not array.flags.writeable and (_is_ours(array) or _is_read_only_map(array)):
        return _view(array)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _locked(np.array(array, dtype=dtype, order="C", copy=True, subok=False))


def _locked(array: np.ndarray) -> np.ndarray:
    """A view of ``array``, which owns its memory, that cannot be made writable again."""
    array.flags.writeable = False
    _OWNED[id(array)] = array
    return _view(array)


def _view(array: np.ndarray) -> np.ndarray:
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def _is_ours(array: np.ndarray) -> bool:
    return array.base is not None and _OWNED.get(id(array.base)) is array.base


def _is_read_only_map(array: np.ndarray) -> bool:
    owner: object = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            return owner.mode == "r"
        owner = owner.base
    return False


def _common_dtype(arrays: dict[str, np.ndarray], given: dict[str, Any]) -> np.dtype:
    """The widest float dtype given, at least float32; whole numbers and lists do not count."""
    floats = [
        a.dtype for name, a in arrays.items() if getattr(given[name], "dtype", None) is not None
    ]
    dtype = np.result_type(np.float32, *(floats or [np.dtype(np.float64)]))
    if dtype.name not in DTYPES:
        raise DTypeError("the parameters", dtype, f"Convert them to one of {', '.join(DTYPES)}.")
    return dtype


def _check_shapes(arrays: dict[str, np.ndarray]) -> None:
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


def _refuse(
    name: str, letters: str, want: tuple[int, ...], got: tuple[int, ...], transposed: bool
) -> None:
    raise ShapeError(
        name, want, got, f"It looks transposed: pass {name}.T." if transposed else "", letters
    )
