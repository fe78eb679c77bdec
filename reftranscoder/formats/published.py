"""What a reader of somebody else's format finds, and how a `Model` is made of it.

A reader says, by `Published`, what its format says: where the arrays lie, turned so that each row
is a feature's, and by which definition they are used.  Whether a transcoder of ours can be that is
decided here alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import Error, FileError
from ..files.mapped import stretches, weights_of
from ..files.stored import Stored
from ..options import one_of, positive_integer, truth
from ..params import ACTIVATIONS, NAMES, OWN, Conventions, Params, TranscoderConfig, check_agreement
from ..params.unpacked import WEIGHTS, UnpackedParams
from .native import Model
from .origin import Origin

#: The formats of others; `formats.recognition` has a row for each.
FORMAT_NAMES = (
    "sparsify",
    "saelens",
    "gemma_scope",
    "gemma_scope_2",
    "clt_training",
    "circuit_tracer",
    "circuit_tracer_clt",
    "crosslayer_coding",
    "llama_scope",
    "dictionary_learning",
    "openai",
    "transcoder_circuits",
    "edifice",
)
_NAMES = set(NAMES)
#: What is folded may overflow.  Then it is not finite, and refused; a warning would add nothing.
QUIET = np.errstate(over="ignore", invalid="ignore", divide="ignore")
_CHOICES = {
    "format": FORMAT_NAMES,
    "activation": ACTIVATIONS,
    "W_dec_rows": ("feature", "output"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a file leaves open, and its reader has to be told; None where nothing was said.

    ``format``: of `FORMATS`, where a file could be of two.  ``apply_b_dec_to_input``: whether the
    encoder reads its input less b_dec.  ``top_k`` and ``activation``: those of `TranscoderConfig`.
    ``W_dec_rows``: whether a row of a square ``W_dec`` in the file is of a ``"feature"`` or an
    ``"output"``.
    """

    format: str | None = None
    apply_b_dec_to_input: bool | None = None
    top_k: int | None = None
    activation: str | None = None
    W_dec_rows: str | None = None

    def __post_init__(self) -> None:
        for name in ("format", "activation", "W_dec_rows"):
            if (value := getattr(self, name)) is not None:
                one_of(name, value, _CHOICES.get(name, ()))
        if self.apply_b_dec_to_input is not None:
            truth("apply_b_dec_to_input", self.apply_b_dec_to_input)
        if self.top_k is not None:
            object.__setattr__(self, "top_k", positive_integer("top_k", self.top_k))

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that were said, but ``format``."""
        fields = (field.name for field in dataclasses.fields(self))
        return tuple(n for n in fields if n != "format" and getattr(self, n) is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """What a file says of a transcoder beside its arrays.

    ``arrays`` has the names of `Params` and those of what the activation takes, `Own`, of which
    one number stands for all.
    ``activation`` is one of `ACTIVATIONS`, or another word, which is then refused.
    ``conventions`` are what changes the arithmetic, by the fields of `Conventions`.
    """

    path: Path
    variant: str
    activation: str
    top_k: int | None = None
    conventions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    layer: int | None = None
    model: str | None = None
    hook_in: str | None = None
    hook_out: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """The type of the weights in the file."""
        raise NotImplementedError


class Made(NamedTuple):
    """An array that is made of others in a file when it is asked for."""

    shape: tuple[int, ...]
    parts: list[Stored]
    read: Callable[[], np.ndarray]

    @property
    def dtype(self) -> np.dtype:
        """That of its first part, as stored."""
        return self.parts[0].dtype

    @property
    def is_float(self) -> bool:
        """Whether all that it is made of are floating-point numbers."""
        return all(part.is_float for part in self.parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(Description):
    """What a file says of a transcoder.

    ``arrays`` has the names of `Params`, and ``theta``, of which one number stands for all.
    """

    arrays: Mapping[str, Stored | Made | np.ndarray]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """I, D and O, by the shapes."""
        D, I = self.arrays["W_enc"].shape
        return I, D, self.arrays["b_dec"].shape[0]

    @property
    def dtype(self) -> str:
        """The type of the weights in the file."""
        return self.arrays["W_enc"].dtype.newbyteorder("=").name


def texts_of(settings: Mapping[str, Any], *names: str) -> tuple[str | None, ...]:
    """Of each of ``names`` the text in ``settings``, or None where there is none."""
    values = (settings.get(name) for name in names)
    return tuple(value if isinstance(value, str) else None for value in values)


@QUIET
def model_of(published: Published, format_name: str, pack: bool = True) -> Model:
    """Read the arrays, and make a transcoder of what ``published`` says.  Without ``pack`` its
    weights stay in their file.

    Raises:
        FileError: no transcoder of ours has that definition, or the arrays do not fit each other or
            are not finite.
    """
    path = published.path
    refuse_unknown(published)
    for name, array in published.arrays.items():
        if not isinstance(array, np.ndarray) and not array.is_float:
            problem = f"{name} must hold floating-point numbers; it holds {array.dtype}"
            raise FileError(path, problem)
    check_shapes(published)
    arrays = {n: _read(path, n, array, pack) for n, array in published.arrays.items()}
    I, D, O = published.sizes
    try:
        kind = OWN.get(published.activation)
        names = () if kind is None else kind.ARRAYS
        taken: dict[str, Any] = {n: np.broadcast_to(arrays.pop(n), (D,)) for n in names}
        own = None if kind is None else kind(**taken)
        params = (Params if pack else UnpackedParams).taking(own=own, **arrays)
        config = TranscoderConfig(
            input_size=I,
            output_size=O,
            dict_size=D,
            top_k=D if published.top_k is None else published.top_k,
            activation=published.activation,
            skip="W_skip" in arrays,
            dtype=params.dtype.name,
            conventions=Conventions(**published.conventions),
        )
        check_agreement(config, params)
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error
    return Model(config, params, origin_of(published, format_name, *seen_in(params)))


def _read(path: Path, name: str, array: Stored | Made | np.ndarray, pack: bool) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    if pack or name not in WEIGHTS:
        return array.read()
    if isinstance(array, Made):
        problem = f"its {name} is made of other arrays when it is read"
        raise FileError(path, problem, "Load it with pack=True.")
    return weights_of(name, array)


def refuse_unknown(published: Description) -> None:
    """Refuse a definition that no transcoder of ours has.

    Raises:
        FileError: naming what is missing.
    """
    if published.activation not in ACTIVATIONS:
        problem = f"its activation is {published.activation}, which is not among ours"
        raise FileError(published.path, problem, f"Ours are {', '.join(ACTIVATIONS)}.")


def check_shapes(published: Published) -> None:
    """Refuse arrays that do not fit each other, by their headers, before one is read.

    Raises:
        FileError: naming the array, and both shapes.
    """
    arrays = published.arrays
    axes = {"W_enc": 2, "b_enc": 1, "W_dec": 2, "b_dec": 1, "W_skip": 2}
    for name, number in axes.items():
        if name in arrays and len(arrays[name].shape) != number:
            problem = f"{name} must have {number} axes; it has the shape {arrays[name].shape}"
            raise FileError(published.path, problem)
    I, D, O = published.sizes
    shapes = {"W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "W_skip": (O, I)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            problem = f"{name} must have shape {shape} by the others; it has {arrays[name].shape}"
            raise FileError(published.path, problem)
    kind = OWN.get(published.activation)
    taken = set() if kind is None else set(kind.ARRAYS)
    for verb, odd in (("lacks", taken - arrays.keys()), ("holds", arrays.keys() - taken - _NAMES)):
        if odd:
            problem = f"{verb} {', '.join(sorted(odd))}, and its activation is"
            raise FileError(published.path, f"{problem} {published.activation}")
    for name in sorted(taken):
        if arrays[name].shape not in ((), (D,)):
            problem = f"its {name} must have shape {(D,)}; it has {arrays[name].shape}"
            raise FileError(published.path, problem)


def origin_of(published: Description, format_name: str, *seen: str) -> Origin:
    """What is said of it, with the warnings ``seen`` in its arrays."""
    return Origin(
        format=format_name,
        variant=published.variant,
        path=str(published.path),
        dtype=published.dtype,
        layer=published.layer,
        model=published.model,
        hook_in=published.hook_in,
        hook_out=published.hook_out,
        conventions=dict(published.conventions),
        warnings=published.warnings + seen,
    )


def seen_in(params: Params) -> tuple[str, ...]:
    """What the arrays themselves give a reason to say."""
    found = []
    silent = _zero_rows(params.W_enc) & (params.b_enc <= params.active_above)
    mute = _zero_rows(params.W_dec)
    below = np.less(getattr(params.own, "theta", 0), 0)
    if silent.any():
        found.append(f"{_features(silent)} can never be active: they read nothing")
    if mute.any():
        found.append(f"{_features(mute)} write nothing: their rows of W_dec are 0")
    if below.any():
        found.append(
            f"{_features(below)} have a threshold below zero, which is as one of zero here: "
            "only positive activations are kept"
        )
    return tuple(found)


def _zero_rows(W: np.ndarray) -> np.ndarray:
    return np.concatenate([~(part != 0).any(axis=1) for _, part in stretches(W)])


def _features(mask: np.ndarray) -> str:
    count = int(np.count_nonzero(mask))
    return f"{count} of {mask.size:,} features"
