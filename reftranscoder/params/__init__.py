"""What a transcoder is: its sizes and options, and its arrays.  Both are values: frozen and
checked.

The letters, here and everywhere: B batch, I input_size, D dict_size, O output_size, K top_k.
Arrays are feature-major: row ``j`` of ``W_enc`` is what feature ``j`` reads, row ``j`` of
``W_dec`` is what it writes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..arrays import check_finite, to_array
from ..declaring import option
from ..errors import OptionError
from ..options import LARGEST_SIZE, instance, one_of, positive_integer, truth
from ..ownership import common_dtype, float_dtype, locked, owned, view
from .conventions import Conventions, check_conventions
from .gated import Gated
from .jumprelu import JumpReLU
from .losses import Losses
from .own import Own
from .shapes import check_own, check_shapes

__all__ = [
    "ACTIVATIONS",
    "Architecture",
    "Conventions",
    "Gated",
    "JumpReLU",
    "KEEPING_ALL",
    "Losses",
    "NAMES",
    "OWN",
    "Own",
    "Params",
    "Sizes",
    "TIES",
    "TranscoderConfig",
    "check_activation",
    "check_agreement",
    "check_plain",
]

ACTIVATIONS = ("topk", "relu", "batchtopk", "groupmax", "abstopk", "jumprelu", "gated")
#: What an activation takes beside the arrays of `Params`: those that take something.
OWN: dict[str, type[Own]] = {"jumprelu": JumpReLU, "gated": Gated}
#: Those of which every active feature is kept: ``top_k`` is then ``dict_size``.
KEEPING_ALL = ("relu", "jumprelu", "gated")
#: The arrays of `Params`.
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")
TIES = ("lowest_index", "keep_all")


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
    activation: str = option("topk", "which features are active", choices=ACTIVATIONS)
    skip: bool = option(False, "with a skip connection")
    ties: str = option("lowest_index", "which of equal activations are kept", choices=TIES)
    dtype: Any = option("float32", "of the parameters")  # whatever names one; kept as its name
    conventions: Conventions = option(Conventions(), "of input and output", "a `Conventions`")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranscoderConfig(Architecture, Sizes):
    """The sizes and options of a transcoder.

    ``activation`` says which features are active (``reference/encode.py``)::

        "topk"       the top_k largest positive activations of a row
        "relu"       every positive one
        "batchtopk"  the B top_k largest positive ones of a batch of B rows
        "groupmax"   the largest positive one of each of top_k groups of neighbouring features
        "abstopk"    the top_k of a row that are farthest from zero, of either sign
        "jumprelu"   every positive one above its feature's threshold, `Params.own`
        "gated"      every one whose gate is open and whose magnitude is positive, `Params.own`

    For the last two and relu ``top_k`` is ``dict_size``, whatever was passed.  ``ties`` says what
    happens to values equal to the last one that is kept: ``"lowest_index"`` keeps exactly as many
    as above, ``"keep_all"`` keeps them all.  ``conventions`` says what the encoder reads, and what
    is done to what is decoded.

    Raises:
        OptionError: a size that is not a positive integer, ``top_k`` above ``dict_size`` or, for
            groupmax, no divisor of it, a name that is not among those above, or conventions that
            make no sense in these sizes.

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
        instance("conventions", self.conventions, Conventions)
        check_conventions(self.conventions, self.input_size, self.output_size)
        if self.activation in KEEPING_ALL:
            object.__setattr__(self, "top_k", self.dict_size)
        if self.top_k > self.dict_size:
            raise OptionError(
                "top_k", f"from 1 to dict_size = {self.dict_size}", self.top_k, "Lower it."
            )
        if self.activation == "groupmax" and self.dict_size % self.top_k:
            raise OptionError("top_k", f"a divisor of dict_size = {self.dict_size}", self.top_k)
        if self.activation == "gated" and self.conventions.rescale_acts_by_decoder_norm:
            raise OptionError("rescale_acts_by_decoder_norm", "False, for gated", True)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for files and reports; conventions only where chosen.

        Returns:
            Name -> value.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        chosen = fields.pop("conventions").chosen
        return {**fields, "conventions": chosen} if chosen else fields

    @property
    def decode_reads_x(self) -> bool:
        """Whether a reconstruction depends on x beside hidden."""
        return self.skip or self.conventions.changes_output

    @property
    def selection(self) -> str:
        """Which features are active, in few words."""
        if self.activation in KEEPING_ALL:
            return self.activation
        name = "" if self.activation == "topk" else f"{self.activation}, "
        return f"{name}top_k={self.top_k}, ties={self.ties!r}"


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
    own: Own | None = None  # what the activation takes that no other does

    def __post_init__(self) -> None:
        # Only W_skip may be absent: another None is an object, and refused as one.
        given = {**{name: getattr(self, name) for name in NAMES[:4]}, **self.arrays()}
        arrays = {name: to_array(value, name) for name, value in given.items()}
        if self.own is not None:
            taken = instance("own", self.own, Own, "a JumpReLU or a Gated").arrays()
            dtype = common_dtype({**arrays, **taken}, {**given, **taken})
            object.__setattr__(self, "own", self.own.astype(dtype))
        else:
            dtype = common_dtype(arrays, given)
        check_shapes(arrays)
        check_own(self.own, len(arrays["b_enc"]))
        for name, array in arrays.items():
            ours = owned(array, dtype)
            check_finite(ours, name, "No parameter may be: correct the array.")
            object.__setattr__(self, name, ours)

    @classmethod
    def taking(cls, own: Own | None = None, **arrays: np.ndarray) -> Params:
        """Return the same of arrays that nobody else holds: they are checked, and not copied.

        For what was read from a file, so that it is in memory once.
        """
        ours = {n: locked(a) if a.base is None else a for n, a in arrays.items()}
        return cls(**ours, own=own)

    @classmethod
    def adopt(
        cls,
        W_enc: np.ndarray,
        b_enc: np.ndarray,
        W_dec: np.ndarray,
        b_dec: np.ndarray,
        W_skip: np.ndarray | None = None,
        own: Own | None = None,
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
        for name, array in zip(NAMES, (W_enc, b_enc, W_dec, b_dec, W_skip), strict=True):
            object.__setattr__(self, name, None if array is None else view(array))
        object.__setattr__(self, "own", own)
        check_shapes(self.arrays())
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, without an absent ``W_skip``."""
        fields = {name: getattr(self, name) for name in NAMES}
        return {name: array for name, array in fields.items() if array is not None}

    def all_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, those of ``own`` too."""
        return self.arrays() | ({} if self.own is None else self.own.arrays())

    @property
    def active_above(self) -> np.ndarray:
        """What ``pre`` must exceed for a feature to be active, if that is rectified: (D,)."""
        return np.zeros(len(self.b_enc)) if self.own is None else self.own.active_above

    @property
    def dtype(self) -> np.dtype:
        return self.W_enc.dtype

    def check_in_memory(self, what: str) -> None:
        """Refuse ``what`` where the arrays stay in their file.

        Raises:
            OptionError: they do: see ``unpacked.py``.
        """

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
            own = None if self.own is None else self.own.astype(dtype)
        for name, array in arrays.items():
            check_finite(array, name, f"It was finite in {self.dtype}: keep that dtype.")
        return _made_here(arrays, own)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.arrays().items())
        return f"Params({shapes}, {self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_here, (self.arrays(), self.own)

    def __deepcopy__(self, memo: object) -> Params:
        return self  # a value


def check_activation(config: TranscoderConfig, known: tuple[str, ...], what: str) -> None:
    """Refuse an activation that is not ``known`` to ``what``.

    Raises:
        OptionError: naming those that are.
    """
    if config.activation not in known:
        raise OptionError("activation", f"{' or '.join(known)}, for {what}", config.activation)


def check_plain(config: TranscoderConfig, what: str, remedy: str = "") -> None:
    """Refuse conventions of input and output, which are not known to ``what``.

    Raises:
        OptionError: naming those that were chosen.
    """
    if not config.conventions.plain:
        want = f"none, for {what}"
        raise OptionError("conventions", want, config.conventions.chosen, remedy)


def check_agreement(config: TranscoderConfig, params: Params) -> None:
    """Refuse ``config`` unless it says of ``params`` what they are.

    Raises:
        OptionError: another size, dtype or skip connection, or an activation without what it takes.
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
    kind = OWN.get(config.activation)
    if type(params.own) is not (kind or type(None)):
        takes = "None" if kind is None else kind.TAKES
        raise OptionError("own", f"{takes}, for {config.activation}", params.own)
    if params.own is not None:
        params.own.check(config)


def _made_here(arrays: dict[str, np.ndarray], own: Own | None = None) -> Params:
    """`Params` of arrays made a moment ago, checked and nobody else's: no copy is needed."""
    return Params.adopt(**{name: locked(array) for name, array in arrays.items()}, own=own)
