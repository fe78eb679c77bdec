"""`TranscoderRegressor`: a transcoder in scikit-learn's conventions.

An extra, ``pip install "reftranscoder[sklearn]"``: only this module imports scikit-learn, and
nothing imports this module before it is asked for.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .activations import Activations
from .errors import OptionError
from .options import LARGEST_SIZE, positive_integer
from .params import TranscoderConfig
from .training import fit
from .training.adam import Recipe, State
from .training.batches import start_generator
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


class TranscoderRegressor(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]  # scikit-learn has no types
    MultiOutputMixin,  # type: ignore[misc]  # scikit-learn has no types
    RegressorMixin,  # type: ignore[misc]  # scikit-learn has no types
    BaseEstimator,  # type: ignore[misc]  # scikit-learn has no types
):
    """Predicts ``Y`` (N, O) from ``X`` (N, I) through few of many features, and shows them.

    The options are those of `reftranscoder.fit`, which trains; ``random_state`` is its seed, as
    scikit-learn has it.  ``score`` is the mean over columns of R^2, which is 1 less ``fvu_macro``
    of `reftranscoder.metrics` on all rows.

    Attributes: ``transcoder_`` (a `Transcoder`, for data in their own units), ``n_features_in_``
    (I), ``n_outputs_`` (O), ``n_steps_`` (of Adam, made so far); after `fit` also ``history_``.

    Args:
        dict_size: features.
        top_k: features that are active in a row, where the activation selects so many.
        activation: one that `reftranscoder.fit` trains.
        skip: whether ``X`` also reaches the prediction by a matrix.
        steps, batch_size, lr: of Adam.
        l1_coeff: of the L1 loss.
        unit_norm_decoder: whether decoder rows keep norm 1.
        backend: ``"kernels"`` or ``"reference"``.
        random_state: None, an int or a ``RandomState``.
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
        lr: float = 1e-3,
        l1_coeff: float = 1e-3,
        unit_norm_decoder: bool = False,
        backend: str = "kernels",
        random_state: Any = None,
    ) -> None:
        self.dict_size = dict_size
        self.top_k = top_k
        self.activation = activation
        self.skip = skip
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.l1_coeff = l1_coeff
        self.unit_norm_decoder = unit_norm_decoder
        self.backend = backend
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> TranscoderRegressor:
        """Train anew on ``X`` (N, I) and ``y`` (N, O) or (N,).

        Raises:
            ValueError: data that scikit-learn refuses, or options that make no sense.
        """
        X, y = self._checked(X, y, reset=True)
        self._state: State | None = None
        result = fit(
            X,
            y,
            **self._options(),
            steps=self.steps,
            batch_size=min(len(X), positive_integer("batch_size", self.batch_size)),
            lr=self.lr,
            **self._losses(),
            backend=self.backend,
            seed=self._seed(),
        )
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
        recipe = self._recipe()
        x, target = (
            (part / scale).astype(np.float32)
            for part, scale in ((X, self._scaling.input_scale), (y, self._scaling.target_scale))
        )
        training_step(state, recipe, float(self.lr), x, target, self.backend)
        # The state's own arrays are overwritten by the next step: these are others.
        self.transcoder_ = folded(state.config, self._scaling, state.arrays)
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

    def _options(self) -> dict[str, Any]:
        """Those of the transcoder."""
        return {
            "dict_size": self.dict_size,
            "top_k": self.top_k,
            "activation": self.activation,
            "skip": self.skip,
        }

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(LARGEST_SIZE))

    def _begin(self, X: np.ndarray, y: np.ndarray) -> State:
        config = TranscoderConfig(input_size=X.shape[1], output_size=y.shape[1], **self._options())
        x, target = Activations(X, "X"), Activations(y, "y")
        moments = Moments.of(x, target)
        self._scaling = Scaling.of(moments, config.dtype)
        rng = start_generator(np.random.SeedSequence(self._seed()))
        arrays = starting_arrays(config, x, target, moments, self._scaling, rng)
        recipe = self._recipe()
        return State.start(config, arrays, recipe, own=starting_own(config, recipe))

    def _recipe(self) -> Recipe:
        return Recipe(**self._losses())

    def _losses(self) -> dict[str, Any]:
        """Those of the recipe."""
        return {"l1_coeff": self.l1_coeff, "unit_norm_decoder": self.unit_norm_decoder}

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
