"""What a cross-layer transcoder is: its sizes and options, and its arrays, layer by layer.

Layer l of L is a transcoder whose L - l outputs, for layer l and each later one, stand side by
side: its `Params` have a ``W_dec`` (D, (L - l) O), and a ``b_dec`` that is zero but for the first O
entries, which are those of layer l.  What layer t is reconstructed as is the sum of what layers up
to t write to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import check_finite, check_layers, to_array, to_dtype, to_layers
from ..errors import Error, OptionError, ShapeError
from ..options import integer_in
from ..ownership import locked, owned
from . import Architecture, JumpReLU, Params, Sizes, TranscoderConfig, check_agreement, check_plain

_MOST_LAYERS = 1000
_NEEDED = ("W_enc", "b_enc", "W_dec", "b_dec")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossLayerConfig(Architecture, Sizes):
    """The sizes and options of a cross-layer transcoder: those of `TranscoderConfig`, the same for
    each of its ``layers``.

    Raises:
        OptionError: as `TranscoderConfig`; ``layers`` is not from 1 to 1000; conventions, which a
            cross-layer transcoder does not have.

    >>> from reftranscoder.params.cross_layer import CrossLayerConfig
    >>> config = CrossLayerConfig(layers=3, input_size=4, output_size=5, dict_size=8, top_k=2)
    >>> config.layer(1).output_size
    10
    """

    layers: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", integer_in("layers", self.layers, 1, _MOST_LAYERS + 1))
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(TranscoderConfig)}
        checked = TranscoderConfig(**fields)
        for name in fields:
            object.__setattr__(self, name, getattr(checked, name))
        check_plain(checked, "a cross-layer transcoder")
        self.layer(0)

    def layer(self, l: int) -> TranscoderConfig:
        """The config of layer ``l``, whose outputs stand side by side."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(TranscoderConfig)}
        return TranscoderConfig(**fields | {"output_size": (self.layers - l) * self.output_size})

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for files and reports."""
        fields = self.layer(0).to_dict() | {"output_size": self.output_size}
        return {"layers": self.layers} | fields

    @property
    def selection(self) -> str:
        """Which features are active in each layer, in few words."""
        return self.layer(0).selection


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrossLayerParams:
    """The arrays of a cross-layer transcoder, or their gradients: a `Params` for each layer.

    Raises:
        ShapeError: no layer, or one of other sizes than the first.
        OptionError: JumpReLU of more than one bandwidth, or kind of gradient.

    >>> from reftranscoder.params.cross_layer import CrossLayerParams
    >>> W_dec = [np.ones((8, 2, 5)), np.ones((8, 1, 5))]
    >>> arrays = {"W_enc": np.ones((2, 8, 4)), "b_enc": np.zeros((2, 8)), "b_dec": np.zeros((2, 5))}
    >>> CrossLayerParams.of(**arrays, W_dec=W_dec).W_dec[0].shape
    (8, 2, 5)
    """

    layers: tuple[Params, ...]
    post_enc: tuple[np.ndarray, ...] | None = None  # L of (D, L - l)

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        if not layers:
            raise ShapeError("layers", "of at least one layer", ())
        dtype = np.result_type(*(layer.dtype for layer in layers))
        object.__setattr__(self, "layers", tuple(layer.astype(dtype) for layer in layers))
        L, I, D, O = len(layers), *self.sizes
        for l, layer in enumerate(layers):
            shapes = {"W_enc": (D, I), "W_dec": (D, (L - l) * O)}
            for name, want in shapes.items():
                if (got := getattr(layer, name).shape) != want:
                    letters = "(D, I)" if name == "W_enc" else "(D, (L - l) O)"
                    raise ShapeError(f"{name} of layer {l}", want, got, letters=letters)
            if (layer.W_skip is None) != (layers[0].W_skip is None):
                raise ShapeError("W_skip", "of every layer, or of none", f"none of layer {l}")
        if self.post_enc is not None:
            made = tuple(owned(array, dtype) for array in self.post_enc)
            check_layers("post_enc", list(made), L)
            for l, array in enumerate(made):
                if array.shape != (D, L - l):
                    letters = "L of (D, L - l)"
                    raise ShapeError(f"post_enc of layer {l}", (D, L - l), array.shape, "", letters)
            object.__setattr__(self, "post_enc", made)
        if len(kinds := {(o.bandwidth, o.through) for o in self.own if o is not None}) > 1:
            raise OptionError("own", "of one bandwidth and one through in all layers", kinds)

    @classmethod
    def of(
        cls,
        *,
        W_enc: Any,
        b_enc: Any,
        W_dec: Any,
        b_dec: Any,
        W_skip: Any = None,
        post_enc: Any = None,
        own: Sequence[JumpReLU] | None = None,
    ) -> CrossLayerParams:
        """Parameters with copies of these arrays, of which each has its L layers in a row.

        ``W_enc`` L of (D, I), ``b_enc`` L of (D,), ``W_dec`` L of (D, L - l, O), ``b_dec`` L of
        (O,), ``W_skip`` L of (L - l, O, I), or None, ``post_enc`` L of (D, L - l), or None, ``own``
        L of `JumpReLU`, or None.

        Raises:
            ShapeError, DTypeError, NonFiniteError: as `Params`, with the layer.
            OptionError: ``own`` is not L of `JumpReLU`.
        """
        given = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        given |= {} if W_skip is None else {"W_skip": W_skip}
        given |= {} if post_enc is None else {"post_enc": post_enc}
        of_layers = {name: to_layers(value, name) for name, value in given.items()}
        L = len(of_layers["b_dec"])
        for name, layers in of_layers.items():
            check_layers(name, layers, L)
        if own is not None and (not isinstance(own, list | tuple) or len(own) != L):
            raise OptionError("own", f"{L} JumpReLU, one a layer", own)
        offsets = of_layers.pop("post_enc", None)
        made = []
        for l in range(L):
            try:
                arrays = {name: layers[l] for name, layers in of_layers.items()}
                made.append(_layer(arrays, None if own is None else own[l], L - l))
                if offsets is not None:
                    offsets[l] = to_array(offsets[l], "post_enc")
                    check_finite(offsets[l], "post_enc", "No parameter may be: correct the array.")
            except Error as error:
                error.say_where(f"layer {l}")
                raise
        return cls(tuple(made), None if offsets is None else tuple(offsets))

    @classmethod
    def taking(
        cls, own: Sequence[JumpReLU] | None = None, **arrays: Sequence[np.ndarray]
    ) -> CrossLayerParams:
        """Return the same as `of` of arrays that nobody else holds: checked, and not copied."""
        ours = {
            name: [locked(a) if a.base is None else a for a in layers]
            for name, layers in arrays.items()
        }
        return cls.of(own=own, **ours)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """I, D and O."""
        D, I = self.layers[0].W_enc.shape
        return I, D, len(self.layers[-1].b_dec)

    @property
    def dtype(self) -> np.dtype:
        return self.layers[0].dtype

    @property
    def W_enc(self) -> tuple[np.ndarray, ...]:  # L of (D, I)
        return tuple(layer.W_enc for layer in self.layers)

    @property
    def b_enc(self) -> tuple[np.ndarray, ...]:  # L of (D,)
        return tuple(layer.b_enc for layer in self.layers)

    @property
    def W_dec(self) -> tuple[np.ndarray, ...]:  # L of (D, L - l, O)
        _, D, O = self.sizes
        return tuple(layer.W_dec.reshape(D, -1, O) for layer in self.layers)

    @property
    def b_dec(self) -> tuple[np.ndarray, ...]:  # L of (O,)
        O = self.sizes[-1]
        return tuple(layer.b_dec[:O] for layer in self.layers)

    @property
    def W_skip(self) -> tuple[np.ndarray, ...] | None:  # L of (L - l, O, I)
        I, _, O = self.sizes
        found = [layer.W_skip for layer in self.layers if layer.W_skip is not None]
        return tuple(W_skip.reshape(-1, O, I) for W_skip in found) or None

    @property
    def own(self) -> tuple[JumpReLU | None, ...]:
        found = (layer.own for layer in self.layers)
        return tuple(own if isinstance(own, JumpReLU) else None for own in found)

    def arrays(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Return those that there are by name, of each a tuple of its L layers."""
        fields = {name: getattr(self, name) for name in (*_NEEDED, "W_skip", "post_enc")}
        return {name: layers for name, layers in fields.items() if layers is not None}

    def astype(self, dtype: Any) -> CrossLayerParams:
        """Return the same numbers, each rounded once to ``dtype``; itself if that changes nothing.

        Raises:
            OptionError, NonFiniteError: as `Params.astype`.
        """
        layers = tuple(layer.astype(dtype) for layer in self.layers)
        if layers == self.layers:
            return self
        narrow = None
        if self.post_enc is not None:
            narrow = tuple(to_dtype(array, "post_enc", layers[0].dtype) for array in self.post_enc)
        return CrossLayerParams(layers, narrow)

    def __repr__(self) -> str:
        I, D, O = self.sizes
        L = len(self.layers)
        W_dec = f"({D}, {L} - l, {O})"
        shapes = f"W_enc ({D}, {I}), b_enc ({D},), W_dec {W_dec}, b_dec ({O},)"
        shapes += "" if self.W_skip is None else f", W_skip ({L} - l, {O}, {I})"
        shapes += "" if self.post_enc is None else f", post_enc ({D}, {L} - l)"
        return f"CrossLayerParams({L} of {shapes}, {self.dtype})"

    def __deepcopy__(self, memo: object) -> CrossLayerParams:
        return self  # a value


def side_by_side(b_dec: np.ndarray, outputs: int) -> np.ndarray:
    """The bias of ``outputs`` outputs side by side: ``b_dec`` (O,) for the first, then zeros."""
    bias = np.zeros(outputs * len(b_dec), b_dec.dtype)
    bias[: len(b_dec)] = b_dec
    return bias


def check_cross_layer(config: CrossLayerConfig, params: CrossLayerParams) -> None:
    """Refuse ``config`` unless it says of ``params`` what they are.

    Raises:
        OptionError: as `check_agreement`; another number of layers.
    """
    if config.layers != len(params.layers):
        want = f"{len(params.layers)}, which is what the arrays have"
        raise OptionError("layers", want, config.layers)
    if config.output_size != params.sizes[-1]:
        want = f"{params.sizes[-1]}, which is what the arrays have"
        raise OptionError("output_size", want, config.output_size)
    for l, layer in enumerate(params.layers):
        check_agreement(config.layer(l), layer)


def _layer(arrays: dict[str, Any], own: JumpReLU | None, outputs: int) -> Params:
    W_dec, b_dec = (to_array(arrays[name], name) for name in ("W_dec", "b_dec"))
    if W_dec.ndim != 3 or W_dec.shape[1] != outputs:
        want = f"(any, {outputs}, any)"
        turned = W_dec.ndim == 3 and W_dec.shape[0] == outputs
        hint = "Turn its first two axes: pass W_dec.swapaxes(0, 1)." if turned else ""
        raise ShapeError("W_dec", want, W_dec.shape, hint, "(D, L - l, O)")
    if b_dec.shape != W_dec.shape[2:]:
        raise ShapeError("b_dec", W_dec.shape[2:], b_dec.shape, letters="(O,)")
    flat, O = W_dec.reshape(len(W_dec), -1), len(b_dec)
    W_skip = None
    if "W_skip" in arrays:
        W_skip = to_array(arrays["W_skip"], "W_skip")
        if W_skip.ndim != 3 or W_skip.shape[:2] != (outputs, O):
            want = f"({outputs}, {O}, any)"
            raise ShapeError("W_skip", want, W_skip.shape, letters="(L - l, O, I)")
        W_skip = W_skip.reshape(outputs * O, -1)
    bias = side_by_side(b_dec, outputs)
    return Params(arrays["W_enc"], arrays["b_enc"], flat, bias, W_skip, own)
