"""The transcoder that users hold: parameters, options, and every operation on them.

Everything that can be wrong with an argument is found here; behind it, the reference
and the kernels compute and check nothing.  The two give the same results to within the bounds
that `reftranscoder.twins` states, by one definition:

The pre-activation of feature j is the float64 sum::

    p[b, j]  =  sum_i x[b, i] W_enc[j, i]  +  b_enc[j]

A feature is active if p > 0; selection ranks p itself; a stored value is p rounded once to the
dtype of the parameters, and is not stored if that is zero.  The kernels fix the order of that sum
(see ``kernels/affine.py``), so that their results depend on the row alone: not on the batch, the
number of threads or the processor.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import formats
from ..arrays import check_finite as refuse_non_finite
from ..arrays import check_same_rows, to_batch, to_sparse, to_target
from ..backends import Aim, Backend, Backends
from ..errors import OptionError
from ..options import finite_number, instance, truth
from ..params import Conventions, Losses, Own, Params, TranscoderConfig, check_agreement
from ..params.folding import folded
from ..params.losses import DEFAULT
from ..params.thresholding import thresholded
from ..params.unpacked import UnpackedParams
from ..sparse import for_users, to_csr

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ..formats import Origin


class Container(NamedTuple):
    """What `Transcoder.forward` returns."""

    reconstruction: np.ndarray  # (B, O)
    hidden: csr_array  # (B, D)
    pre_acts: np.ndarray  # (B, D), after ReLU and before selection


class Transcoder:
    """A transcoder: a `TranscoderConfig` and the `Params` that fit it.

    ``tc(x)`` is the reconstruction.  A transcoder never changes: `astype` and training make new
    ones. Two are equal if they are the same object.

    Every method that takes data takes ``backend`` (``"kernels"`` or ``"reference"``) and
    ``check_finite``: by default NaN and infinity are refused; with ``check_finite=False`` a row
    that holds one gives NaN throughout, and the other rows are as ever.  Those that take a target
    take ``losses``, a `Losses`, for other losses than `reftranscoder.loss` has by default.

    Raises, in every method that takes data:
        ShapeError: an array that does not fit; a transposed one is named as such.
        DTypeError: complex numbers, strings, objects.
        NonFiniteError: NaN or infinity, with its row and column.
        OptionError: an unknown backend, or one that cannot compute in this dtype.

    >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
    >>> tc(np.ones((5, 4))).shape
    (5, 3)
    """

    def __init__(
        self, config: TranscoderConfig, params: Params, origin: Origin | None = None
    ) -> None:
        instance("config", config, TranscoderConfig)
        check_agreement(config, instance("params", params, Params))
        self._config, self._params, self._origin = config, params, origin
        self._backends = Backends(config, params)

    @classmethod
    def from_arrays(
        cls,
        *,
        W_enc: Any,
        b_enc: Any,
        W_dec: Any,
        b_dec: Any,
        W_skip: Any = None,
        top_k: int = 32,
        activation: str = "topk",
        ties: str = "lowest_index",
        own: Own | None = None,
        conventions: Conventions | None = None,
        pack: bool = True,
    ) -> Transcoder:
        """A transcoder with copies of these arrays or torch tensors; sizes and dtype are theirs.

        ``W_enc`` (D, I), ``b_enc`` (D,), ``W_dec`` (D, O), ``b_dec`` (O,), ``W_skip`` (O, I);
        ``own`` is a `JumpReLU` or a `Gated` where that is the activation; ``conventions`` say what
        is done to input and output.  ``pack`` is that of `reftranscoder.load`, of memory maps here.

        Returns:
            A `Transcoder` in their widest dtype, at least float32.

        >>> doubles = {"W_enc": np.eye(3), "b_enc": np.zeros(3), "W_dec": 2 * np.eye(3)}
        >>> tc = rt.Transcoder.from_arrays(**doubles, b_dec=np.ones(3), top_k=1)
        >>> tc([[1, 5, -2]])
        array([[ 1., 11.,  1.]])
        """
        kind = Params if truth("pack", pack) else UnpackedParams
        params = kind(W_enc, b_enc, W_dec, b_dec, W_skip, own)
        D, I = params.W_enc.shape
        config = TranscoderConfig(
            input_size=I,
            output_size=len(params.b_dec),
            dict_size=D,
            top_k=top_k,
            activation=activation,
            skip=W_skip is not None,
            ties=ties,
            dtype=params.dtype.name,
            conventions=Conventions() if conventions is None else conventions,
        )
        return cls(config, params)

    @property
    def config(self) -> TranscoderConfig:
        return self._config

    @property
    def params(self) -> Params:
        return self._params

    @property
    def origin(self) -> Origin | None:
        """What its file said of it, an `Origin`; None of a transcoder that was not loaded."""
        return self._origin

    def __call__(
        self, x: Any, *, backend: str = "kernels", check_finite: bool = True
    ) -> np.ndarray:
        """The reconstruction of ``x`` (B, I).

        Returns:
            (B, O) in the dtype of the parameters and the units of the target.
        """
        return self._backend(backend).reconstruct(self._input(x, check_finite))

    def encode(self, x: Any, *, backend: str = "kernels", check_finite: bool = True) -> csr_array:
        """The active features of ``x`` (B, I), and how strongly each is active.

        Returns:
            ``hidden`` (B, D), in the dtype of the parameters: sorted, without stored zeros.

        >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
        >>> hidden = tc.encode(np.random.default_rng(0).normal(size=(5, 4)))
        >>> hidden.shape, hidden.nnz <= 5 * 2
        ((5, 8), True)
        """
        return to_csr(self._backend(backend).encode(self._input(x, check_finite)))

    def decode(
        self, hidden: Any, x: Any = None, *, backend: str = "kernels", check_finite: bool = True
    ) -> np.ndarray:
        """The reconstruction (B, O) of ``hidden`` (B, D), sparse or dense.

        With a skip connection, or conventions that change the output, ``x`` (B, I) is needed too;
        otherwise it is not used.

        Returns:
            (B, O), as from a call.
        """
        run = self._backend(backend)
        hidden = to_sparse(hidden, "hidden", self.config.dict_size, self.params.dtype)
        if truth("check_finite", check_finite):
            refuse_non_finite(hidden.values, "hidden.values", "Correct it.")
        if not self.config.decode_reads_x:
            return run.decode(hidden, None)
        if x is None:
            raise OptionError("x", "the input (B, I), on which this output depends, too", x)
        x = self._input(x, check_finite)
        check_same_rows("x", x, hidden.shape[0])
        return run.decode(hidden, x)

    def forward(self, x: Any, *, backend: str = "kernels", check_finite: bool = True) -> Container:
        """The reconstruction, ``hidden``, and the dense ``pre_acts`` (B, D) it was selected from.

        The dense array costs B * D * 8 bytes on the way; `encode` never makes it.

        Returns:
            A `Container` with these three, in the dtype of the parameters.
        """
        stages = self._backend(backend, "dense results").forward(self._input(x, check_finite))
        return Container(stages["reconstruction"], to_csr(stages["hidden"]), stages["pre_acts"])

    def stages(
        self,
        x: Any,
        target: Any = None,
        l1_coeff: float = 1e-3,
        *,
        losses: Losses = DEFAULT,
        backend: str = "reference",
        check_finite: bool = True,
    ) -> dict[str, Any]:
        """Every intermediate result by name, in the order in which they are computed.

        ``pre``, ``pre_acts``, ``hidden`` (a ``csr_array``), ``reconstruction`` and, given a
        ``target`` (B, O), ``loss``, ``d_reconstruction``, ``d_hidden``, ``d_pre``, ``dW_dec``,
        ``db_dec``, ``dW_skip`` (with a skip connection), ``dW_enc``, ``db_enc``, ``dx``, and those
        of what the activation takes, such as ``dtheta``.  The reference gives ``d_hidden`` and
        ``d_pre`` dense; the kernels at the entries of ``hidden``, which alone matter, as csr_array.

        Returns:
            Name -> array in the dtype of the parameters; ``d_name`` has the shape of ``name``.

        >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
        >>> stages = tc.stages(np.ones((5, 4)), np.ones((5, 3)))
        >>> {name: stages[name].shape for name in ("hidden", "loss", "dW_dec", "dx")}
        {'hidden': (5, 8), 'loss': (), 'dW_dec': (8, 3), 'dx': (5, 4)}
        """
        run = self._backend(backend, "dense results")
        x = self._input(x, check_finite)
        if target is None:
            return for_users(run.forward(x))
        return for_users(run.stages(x, self._aim(target, x, l1_coeff, losses, check_finite)))

    def backward(
        self,
        x: Any,
        target: Any,
        l1_coeff: float = 1e-3,
        *,
        losses: Losses = DEFAULT,
        backend: str = "kernels",
        check_finite: bool = True,
    ) -> dict[str, Any]:
        """The gradients among `stages`.  The selected features are held fixed.

        Returns:
            Name -> array, in the order and the forms of `stages`.
        """
        stages = self._backward(x, target, l1_coeff, losses, backend, check_finite)
        del stages["loss"]
        return for_users(stages)

    def value_and_grad(
        self,
        x: Any,
        target: Any,
        l1_coeff: float = 1e-3,
        *,
        losses: Losses = DEFAULT,
        backend: str = "kernels",
        check_finite: bool = True,
    ) -> tuple[np.floating, Params]:
        """The loss, and its gradient by every parameter.

        Returns:
            The loss, a scalar, and ``grads``, a `Params` whose ``W_enc`` is dW_enc.

        >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
        >>> loss, grads = tc.value_and_grad(np.ones((5, 4)), np.zeros((5, 3)))
        >>> grads
        Params(W_enc (8, 4), b_enc (8,), W_dec (8, 3), b_dec (3,), float32)
        """
        stages = self._backward(x, target, l1_coeff, losses, backend, check_finite)
        grads = {name: stages[f"d{name}"] for name in self.params.arrays()}
        own = None if self.params.own is None else self.params.own.gradient(stages)
        return stages["loss"], Params.adopt(**grads, own=own)

    def with_threshold(self, theta: Any) -> Transcoder:
        """Return the jumprelu transcoder with the same arrays, and ``theta`` as thresholds.

        ``theta`` is one number for all features, or (D,).  This is how one that was trained by
        batchtopk is used: with the least activation that training kept, on average over batches,
        what a row gives no longer depends on the rows it comes with.  `reftranscoder.fit` does so.

        Raises:
            ShapeError, DTypeError, NonFiniteError: as `JumpReLU`.
            OptionError: of a gated transcoder.

        >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, activation="batchtopk", top_k=2)
        >>> tc.with_threshold(0.5)
        Transcoder(4 -> 8 -> 3, jumprelu, float32)
        """
        return Transcoder(*thresholded(self.config, self.params, theta))

    def folded(self) -> Transcoder:
        """Return the transcoder without conventions that computes the same: b_dec is folded into
        b_enc, scale and norms of W_dec into the weights, each entry rounded once (`folding_bound`).

        Raises:
            OptionError: what is done to x depends on the row: there is no such transcoder.

        >>> read = rt.Conventions(apply_b_dec_to_input=True)
        >>> tc = rt.build(input_size=4, output_size=4, dict_size=8, top_k=2, conventions=read)
        >>> tc.folded()
        Transcoder(4 -> 8 -> 4, top_k=2, ties='lowest_index', float32)
        """
        return Transcoder(*folded(self.config, self.params))

    def astype(self, dtype: Any) -> Transcoder:
        """Return the same transcoder with parameters rounded to ``dtype``, and results in it."""
        params = self.params.astype(dtype)
        if params is self.params:
            return self
        return Transcoder(dataclasses.replace(self.config, dtype=params.dtype.name), params)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to ``path``, ``.npz`` or ``.safetensors``, all or nothing; an old file is replaced.

        Raises:
            FileError: another suffix, or a file that cannot be written.  An old file then survives.
        """
        formats.save(formats.Model(self.config, self.params), path)

    def __repr__(self) -> str:
        c = self.config
        skip = ", skip" if c.skip else ""
        conventions = f", {c.conventions!r}" if c.conventions.chosen else ""
        sizes = f"{c.input_size} -> {c.dict_size} -> {c.output_size}"
        return f"Transcoder({sizes}, {c.selection}{skip}, {c.dtype}{conventions})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Transcoder, (self.config, self.params, self.origin)

    def __deepcopy__(self, memo: object) -> Transcoder:
        return self  # a value

    def _backend(self, name: str, in_memory: str = "") -> Backend:
        if in_memory:
            self.params.check_in_memory(in_memory)
        return self._backends.named(name)

    def _backward(
        self, x: Any, target: Any, l1_coeff: float, losses: Losses, backend: str, check: bool
    ) -> dict[str, Any]:
        """The loss and every gradient by name."""
        run, x = self._backend(backend, "gradients"), self._input(x, check)
        return run.backward(x, self._aim(target, x, l1_coeff, losses, check))

    def _aim(self, target: Any, x: np.ndarray, l1_coeff: float, losses: Losses, check: bool) -> Aim:
        target = to_target(target, x, self.config.output_size, self.params.dtype, check)
        return Aim(target, finite_number("l1_coeff", l1_coeff), instance("losses", losses, Losses))

    def _input(self, x: Any, check: bool) -> np.ndarray:
        return to_batch(x, "x", "(B, I)", self.config.input_size, self.params.dtype, check)
