"""`TranscoderRegressor`: a transcoder in scikit-learn's conventions.

An extra, ``pip install "reftranscoder[sklearn]"``: only this module imports scikit-learn, and
nothing imports this module before it is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from .activations import Activations
from .declaring import declared
from .errors import OptionError
from .options import LARGEST_SIZE, positive_integer
from .params import Architecture, TranscoderConfig
from .training import fit
from .training.adam import Recipe, State
from .training.batches import start_generator
from .training.fitting import check_trained
from .training.options import FitOptions
from .training.scaling import Moments, Scaling
from .training.start import folded, starting_arrays, starting_own
from .training.step import training_step

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        MultiOutputMixin,
        RegressorMixin,
        TransformerMixin,
    )
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    what = 'reftranscoder.estimator needs scikit-learn 1.6 or newer: pip install "reftranscoder'
    raise ImportError(f'{what}[sklearn]" ({error})') from None

_READ = {"dtype": (np.float64, np.float32)}
#: Options of `fit` that are parameters of `TranscoderRegressor`, and those that may be given in its
#: ``options``.  The seed is its ``random_state``.
_PARAMETERS = (
    *("dict_size", "top_k", "activation", "skip"),
    *("steps", "batch_size", "lr"),
    *("l1_coeff", "backend"),
)
_OPTIONS = set(declared(FitOptions)) - {*_PARAMETERS, "seed"}


class TranscoderRegressor(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]  # scikit-learn has no types
    MultiOutputMixin,  # type: ignore[misc]  # scikit-learn has no types
    RegressorMixin,  # type: ignore[misc]  # scikit-learn has no types
    BaseEstimator,  # type: ignore[misc]  # scikit-learn has no types
):
    """Predicts ``Y`` (N, O) from ``X`` (N, I) through few of many features, and shows them.

    The options are those of `reftranscoder.fit`, which trains; ``random_state`` is its seed, as
    scikit-learn has it, and ``options`` holds those that are no parameters here.  ``score`` is the
    mean over columns of R^2, which is 1 less ``fvu_macro`` of `reftranscoder.metrics` on all rows.

    Attributes: ``transcoder_`` (a `Transcoder`, for data in their own units), ``n_features_in_``
    (I), ``n_outputs_`` (O), ``n_steps_`` (of Adam, made so far); after `fit` also ``history_``.

    Args:
        dict_size: features.
        top_k: features that are active in a row, where the activation selects so many.
        activation: one that `reftranscoder.fit` trains.
        skip: whether ``X`` also reaches the prediction by a matrix.
        steps, batch_size, lr: of Adam.
        l1_coeff: of the L1 loss.
        backend: ``"kernels"`` or ``"reference"``.
        random_state: None, an int or a ``RandomState``.
        options: None, or other options of `reftranscoder.fit` by name: a mapping such as
            ``{"average": 0.99, "aux_k": 64}``.  `partial_fit` heeds those of the transcoder, of the
            losses and of Adam.

    >>> model = rt.TranscoderRegressor(8, 2, steps=5, options={"sparsity_loss": "l1_sum"})
    >>> x = np.random.default_rng(0).standard_normal((50, 4))
    >>> model.fit(x, np.tanh(x)).transform(x).shape
    (50, 8)
    """

    def __init__(
        self,
        dict_size: int = 1024,
        top_k: int = 32,
        *,
        activation: str = "topk",
        skip: bool = False,
        steps: int = 600,
        batch_size: int = 1024,
        lr: float = 1.5e-3,
        l1_coeff: float = 1e-3,
        backend: str = "kernels",
        random_state: Any = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.dict_size = dict_size
        self.top_k = top_k
        self.activation = activation
        self.skip = skip
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.l1_coeff = l1_coeff
        self.backend = backend
        self.random_state = random_state
        self.options = options

    def fit(self, X: Any, y: Any) -> TranscoderRegressor:
        """Train anew on ``X`` (N, I) and ``y`` (N, O) or (N,).

        Raises:
            ValueError: data that scikit-learn refuses, or options that make no sense.
        """
        X, y = self._checked(X, y, reset=True)
        self._state: State | None = None
        options = {name: getattr(self, name) for name in _PARAMETERS} | self._others()
        options["batch_size"] = min(len(X), positive_integer("batch_size", self.batch_size))
        result = fit(X, y, **options, seed=self._seed())
        self.transcoder_, self.history_, self.n_steps_ = (
            result.transcoder,
            result.history,
            result.steps,
        )
        return self

    def partial_fit(self, X: Any, y: Any) -> TranscoderRegressor:
        """Make one step of Adam, of rate ``lr``, on all rows of ``X`` (N, I) and ``y`` (N, O).

        The first call also sets the units of training and the parameters before the first step, by
        these rows: let there be many.  It begins anew after `fit`.

        Raises:
            ValueError: as `fit`; or other widths than in the first call.
        """
        state = getattr(self, "_state", None)
        X, y = self._checked(X, y, reset=state is None)
        if state is None:
            self._state = state = self._begin(X, y)
        elif y.shape[1] != self.n_outputs_:
            raise OptionError("y", f"{self.n_outputs_} columns wide, as before", y.shape[1])
        dtype = np.dtype(state.config.dtype)
        x, target = (
            (part.astype(np.result_type(part, dtype)) / scale).astype(dtype)
            for part, scale in ((X, self._scaling.input_scale), (y, self._scaling.target_scale))
        )
        recipe = Recipe(**self._of(Recipe))
        training_step(state, recipe, float(self.lr), x, target, self.backend)
        # The state's own arrays are overwritten by the next step: these are others.
        self.transcoder_ = folded(self._config, self._scaling, state.measured)
        self.n_steps_ = state.t
        return self

    def transform(self, X: Any) -> Any:
        """The features of ``X`` (N, I): a ``scipy.sparse.csr_array`` (N, dict_size), float32."""
        rows = self._rows(X)
        return self.transcoder_.encode(rows, backend=self.backend)

    def predict(self, X: Any) -> np.ndarray:
        """What is predicted of ``X`` (N, I): (N, O), or (N,) after it was fitted to such ``y``.

        Numbers of float32 as float64, which scikit-learn expects.
        """
        rows = self._rows(X)
        predicted = self.transcoder_(rows, backend=self.backend).astype(np.float64)
        return predicted[:, 0] if self._is_flat else predicted

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "transcoder_")
        rows: np.ndarray = validate_data(self, X, reset=False, **_READ)
        return rows

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, reset=reset, multi_output=True, y_numeric=True, **_READ)
        if reset:
            self._is_flat = y.ndim == 1
            self.n_outputs_ = 1 if self._is_flat else y.shape[1]
        return X, np.asarray(y, np.float64).reshape(len(y), -1)

    def _others(self) -> dict[str, Any]:
        """``options``, if they can be passed on."""
        given = {} if self.options is None else self.options
        if not isinstance(given, Mapping):
            raise OptionError("options", "a mapping from options of fit to values, or None", given)
        for name in given:
            if name in _PARAMETERS:
                want = f"without {name}, a parameter of TranscoderRegressor itself"
                raise OptionError("options", want, name, "Pass it there.")
            if name not in _OPTIONS:
                want = "of names of options of reftranscoder.fit, and not of its data or its seed"
                raise OptionError("options", want, name, "See help(reftranscoder.fit).")
        return dict(given)

    def _of(self, kind: type) -> dict[str, Any]:
        """What is chosen of the options that ``kind`` declares."""
        chosen = {name: getattr(self, name) for name in _PARAMETERS} | self._others()
        return {name: chosen[name] for name in declared(kind) if name in chosen}

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(LARGEST_SIZE))

    def _begin(self, X: np.ndarray, y: np.ndarray) -> State:
        sizes = {"input_size": X.shape[1], "output_size": y.shape[1]}
        self._config = config = TranscoderConfig(**sizes, **self._of(Architecture))
        recipe = Recipe(**self._of(Recipe))
        check_trained(recipe, config)
        x, target = (Activations(data, n, dtype=config.dtype) for n, data in (("X", X), ("y", y)))
        moments = Moments.of(x, target)
        self._scaling = scaling = Scaling.of(moments, config.dtype, config.conventions)
        conventions = scaling.conventions(config.conventions)
        scaled = dataclasses.replace(config, conventions=conventions)
        rng = start_generator(np.random.SeedSequence(self._seed()))
        arrays = starting_arrays(scaled, x, target, moments, scaling, rng, self.backend)
        return State.start(scaled, arrays, recipe, own=starting_own(config, recipe))

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn makes names of."""
        return int(self.transcoder_.config.dict_size)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever X is
        return tags

    def __getstate__(self) -> Any:
        state = dict(super().__getstate__())
        if state.get("_state") is not None:  # what the kernels know of W_enc is made again
            state["_state"] = dataclasses.replace(state["_state"], encoder=None)
        return state
