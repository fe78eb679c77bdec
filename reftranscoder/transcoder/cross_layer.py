"""The cross-layer transcoder that users hold: `Transcoder`'s operations on L layers at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import formats
from ..arrays import check_finite as refuse_non_finite
from ..arrays import (
    check_layers,
    spread_non_finite,
    to_array,
    to_dtype,
    to_layers,
    to_sparse,
)
from ..backends.cross_layer import CrossLayerBackend, cross_layer_backend
from ..errors import OptionError, ShapeError
from ..options import finite_number, instance, truth
from ..params import JumpReLU, Params
from ..params.cross_layer import (
    CrossLayerConfig,
    CrossLayerParams,
    check_cross_layer,
    side_by_side,
)
from ..sparse import Sparse, for_users, to_csr
from . import Transcoder

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ..formats import Origin

_REMEDY = "Correct it, or pass check_finite=False: such a row then gives NaN."


class CrossLayerTranscoder:
    """A cross-layer transcoder of L layers: features of layer l, read from its own input, write to
    the reconstructions of layers l to L - 1 (``reference/cross_layer.py``).

    ``clt(x)`` is the reconstruction (L, B, O) of ``x`` (L, B, I): the same B tokens at L layers.
    The config and the parameters are a ``CrossLayerConfig`` and a ``CrossLayerParams`` of
    ``params/cross_layer.py``, made by `from_arrays`.  Like a `Transcoder` it never changes, and
    every method that takes data takes ``backend`` and ``check_finite`` and raises what its do.

    >>> arrays = {"W_enc": np.ones((2, 8, 4)), "b_enc": np.zeros((2, 8)), "b_dec": np.zeros((2, 3))}
    >>> W_dec = [np.ones((8, 2, 3)), np.ones((8, 1, 3))]
    >>> clt = rt.CrossLayerTranscoder.from_arrays(**arrays, W_dec=W_dec, top_k=2)
    >>> clt(np.ones((2, 5, 4)))[:, 0]
    array([[ 8.,  8.,  8.],
           [16., 16., 16.]])
    """

    def __init__(
        self, config: CrossLayerConfig, params: CrossLayerParams, origin: Origin | None = None
    ) -> None:
        instance("config", config, CrossLayerConfig)
        check_cross_layer(config, instance("params", params, CrossLayerParams))
        self._config, self._params, self._origin = config, params, origin

    @classmethod
    def from_arrays(
        cls,
        *,
        W_enc: Any,
        b_enc: Any,
        W_dec: Any,
        b_dec: Any,
        post_enc: Any = None,
        W_skip: Any = None,
        top_k: int = 32,
        activation: str = "topk",
        ties: str = "lowest_index",
        own: Sequence[JumpReLU] | None = None,
    ) -> CrossLayerTranscoder:
        """A cross-layer transcoder with copies of these arrays; sizes and dtype are theirs.

        Each is an array with an axis of layers, or a list of L arrays: ``W_enc`` L of (D, I),
        ``b_enc`` L of (D,), ``b_dec`` L of (O,), and ``W_dec`` L of (D, L - l, O), as layer l
        writes to itself and the L - l - 1 later ones.  So do its skip connections, ``W_skip``, L of
        (L - l, O, I).  ``post_enc``, L of (D, L - l), is added to an active feature before it is
        decoded for each of these layers.  ``own`` is L of `JumpReLU` where that is the activation,
        which is the same in each layer.

        Returns:
            A `CrossLayerTranscoder` in their widest dtype, at least float32.

        Raises:
            ShapeError: arrays that do not fit each other, with the layer.
            DTypeError, NonFiniteError, OptionError: as `Transcoder.from_arrays`.
        """
        needed = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        params = CrossLayerParams.of(**needed, W_skip=W_skip, post_enc=post_enc, own=own)
        I, D, O = params.sizes
        config = CrossLayerConfig(
            layers=len(params.layers),
            input_size=I,
            output_size=O,
            dict_size=D,
            top_k=top_k,
            activation=activation,
            skip=W_skip is not None,
            ties=ties,
            dtype=params.dtype.name,
        )
        return cls(config, params)

    @property
    def config(self) -> CrossLayerConfig:
        return self._config

    @property
    def params(self) -> CrossLayerParams:
        return self._params

    @property
    def origin(self) -> Origin | None:
        """What its files said of it, an `Origin`; None of one that was not loaded."""
        return self._origin

    def layer(self, l: int) -> Transcoder:
        """Return the `Transcoder` that layer ``l`` is: of what it reads to the (L - l) O outputs
        that it adds to those of other layers, side by side.

        Raises:
            OptionError: there is no such layer, or it has a post_enc, which no `Transcoder` has.
        """
        if self.params.post_enc is not None:
            raise OptionError("l", "of a cross-layer transcoder without post_enc", l)
        L = self.config.layers
        if isinstance(l, bool | np.bool_) or not isinstance(l, int | np.integer) or not 0 <= l < L:
            raise OptionError("l", f"a layer from 0 to {L - 1}", l)
        return Transcoder(self.config.layer(int(l)), self.params.layers[l])

    def __call__(
        self, x: Any, *, backend: str = "kernels", check_finite: bool = True
    ) -> np.ndarray:
        """The reconstruction of ``x`` (L, B, I).

        Returns:
            (L, B, O) in the dtype of the parameters.
        """
        run = self._backend(backend)
        x = self._input(x, check_finite)
        return run.decode(run.encode(x), x)

    def encode(
        self, x: Any, *, backend: str = "kernels", check_finite: bool = True
    ) -> tuple[csr_array, ...]:
        """The active features of each layer of ``x`` (L, B, I), and how strongly each is active.

        Returns:
            ``hidden``, L of (B, D), in the dtype of the parameters.
        """
        hidden = self._backend(backend).encode(self._input(x, check_finite))
        return tuple(to_csr(layer) for layer in hidden)

    def decode(
        self, hidden: Any, x: Any = None, *, backend: str = "kernels", check_finite: bool = True
    ) -> np.ndarray:
        """The reconstruction of ``hidden``, L of (B, D), sparse or dense.

        With skip connections ``x`` (L, B, I) is needed too; otherwise it is not used.

        Returns:
            (L, B, O), as from a call.
        """
        run = self._backend(backend)
        check = truth("check_finite", check_finite)
        layers: list[Sparse] = []
        hidden = to_layers(hidden, "hidden")
        check_layers("hidden", hidden, self.config.layers)
        for l, given in enumerate(hidden):
            layer = to_sparse(given, f"hidden[{l}]", self.config.dict_size, self.params.dtype)
            if check:
                refuse_non_finite(layer.values, f"hidden[{l}].values", "Correct it.")
            if layer.shape[0] != (rows := layers[0].shape[0] if layers else layer.shape[0]):
                want = (rows, layer.shape[1])
                raise ShapeError(f"hidden[{l}]", want, layer.shape, "Rows must pair up.")
            layers.append(layer)
        if not self.config.skip:
            return run.decode(tuple(layers), None)
        if x is None:
            raise OptionError("x", "the input (L, B, I), of which skip connections read, too", x)
        x = self._input(x, check_finite)
        if x.shape[1] != layers[0].shape[0]:
            paired = (len(x), layers[0].shape[0], x.shape[2])
            raise ShapeError("x", paired, x.shape, "Rows must pair up.", "(L, B, I)")
        return run.decode(tuple(layers), x)

    def stages(
        self,
        x: Any,
        target: Any = None,
        l1_coeff: float = 1e-3,
        *,
        backend: str = "reference",
        check_finite: bool = True,
    ) -> dict[str, Any]:
        """All that is computed on the way by name, in that order.

        The names are those of `Transcoder.stages`.  The loss is a scalar: the sum over layers of
        ``mean((target[l] - reconstruction[l])**2) + l1_coeff * mean(abs(hidden[l]))``.  Everything
        else is a tuple of its L layers; ``dW_dec[l]`` is (D, L - l, O).

        Returns:
            Name -> loss, or tuple of arrays in the dtype of the parameters.
        """
        run = self._backend(backend)
        x = self._input(x, check_finite)
        if target is None:
            return _for_users(run.forward(x))
        target = self._target(target, x, check_finite)
        return _for_users(run.stages(x, target, finite_number("l1_coeff", l1_coeff)))

    def value_and_grad(
        self,
        x: Any,
        target: Any,
        l1_coeff: float = 1e-3,
        *,
        backend: str = "kernels",
        check_finite: bool = True,
    ) -> tuple[np.floating, CrossLayerParams]:
        """The loss of `stages`, and its gradient by every parameter.

        Returns:
            The loss, a scalar, and ``grads``, a `CrossLayerParams` whose ``W_dec[l]`` is
            dW_dec[l] (D, L - l, O).
        """
        run = self._backend(backend)
        x = self._input(x, check_finite)
        target = self._target(target, x, check_finite)
        stages = run.backward(x, target, finite_number("l1_coeff", l1_coeff))
        layers = tuple(self._gradient(stages, l) for l in range(self.config.layers))
        return stages["loss"], CrossLayerParams(layers, stages.get("dpost_enc"))

    def astype(self, dtype: Any) -> CrossLayerTranscoder:
        """Return the same with parameters rounded to ``dtype``, and results in it."""
        params = self.params.astype(dtype)
        if params is self.params:
            return self
        fields = vars(self.config) | {"dtype": params.dtype.name}
        return CrossLayerTranscoder(CrossLayerConfig(**fields), params)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to ``path``, ``.npz`` or ``.safetensors``, all or nothing; an old file is replaced.

        Raises:
            FileError: another suffix, or a file that cannot be written.  An old file then survives.
        """
        formats.save(formats.CrossLayerModel(self.config, self.params), path)

    def __repr__(self) -> str:
        c = self.config
        sizes = f"{c.layers} layers of {c.input_size} -> {c.dict_size} -> {c.output_size}"
        more = ", skip" if c.skip else ""
        more += "" if self.params.post_enc is None else ", post_enc"
        return f"CrossLayerTranscoder({sizes}, {c.selection}{more}, {c.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CrossLayerTranscoder, (self.config, self.params, self.origin)

    def __deepcopy__(self, memo: object) -> CrossLayerTranscoder:
        return self  # a value

    def _backend(self, name: str) -> CrossLayerBackend:
        return cross_layer_backend(name, self.config, self.params)

    def _input(self, x: Any, check: bool) -> np.ndarray:
        rows = self._rows(x, "x", "(L, B, I)", self.config.input_size)
        if truth("check_finite", check):
            refuse_non_finite(rows, "x", _REMEDY)
            return rows
        return np.stack([spread_non_finite(layer) for layer in rows])

    def _target(self, target: Any, x: np.ndarray, check: bool) -> np.ndarray:
        rows = self._rows(target, "target", "(L, B, O)", self.config.output_size)
        if rows.shape[1] != x.shape[1]:
            want = (len(x), x.shape[1], rows.shape[2])
            raise ShapeError("target", want, rows.shape, "Rows must pair up.", "(L, B, O)")
        if not x.shape[1]:
            raise ShapeError("x", "with at least one row", x.shape, "A mean needs one.")
        if truth("check_finite", check):
            refuse_non_finite(rows, "target", _REMEDY)
        return rows

    def _rows(self, value: Any, name: str, letters: str, width: int) -> np.ndarray:
        array, L = to_array(value, name), self.config.layers
        if array.ndim != 3 or len(array) != L or array.shape[2] != width:
            raise ShapeError(name, f"({L}, any, {width})", array.shape, letters=letters)
        return to_dtype(array, name, self.params.dtype)

    def _gradient(self, stages: dict[str, Any], l: int) -> Params:
        """The gradient by the parameters of layer ``l``, as `CrossLayerParams` has these."""
        dW_dec, own = stages["dW_dec"][l], self.params.own[l]
        return Params.adopt(
            stages["dW_enc"][l],
            stages["db_enc"][l],
            dW_dec.reshape(len(dW_dec), -1),
            side_by_side(stages["db_dec"][l], dW_dec.shape[1]),
            stages["dW_skip"][l].reshape(-1, self.config.input_size) if self.config.skip else None,
            own=None if own is None else own.gradient({"dtheta": stages["dtheta"][l]}),
        )


def _for_users(stages: dict[str, Any]) -> dict[str, Any]:
    """``stages`` with a ``csr_array`` for each `Sparse`."""
    return {
        name: tuple(for_users({name: layer})[name] for layer in s) if isinstance(s, tuple) else s
        for name, s in stages.items()
    }
