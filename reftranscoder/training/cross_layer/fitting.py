"""Training a cross-layer transcoder: `fit` on several layers at once."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from ...activations.layers import paired_layers
from ...declaring import chosen, declared, takes
from ...errors import OptionError, ShapeError
from ...metrics import Evaluation, LayersMetrics
from ...params import Architecture, Losses
from ...params.cross_layer import CrossLayerConfig
from ...transcoder.cross_layer import CrossLayerTranscoder
from ..adam import Recipe
from ..batches import Batches, start_generator
from ..checkpoint import Checkpoint, load
from ..evaluation import SOME, Figures, in_words
from ..fitting import checked_options, split, train
from ..identity import identity_of, start_digests
from ..metrics_log import MetricsLog
from ..options import FitOptions
from ..outcome import Outcome
from ..run import Run
from ..scaling import Moments, Scaling
from ..schedule import Schedule
from ..start import starting_own
from ..steps import Pair
from .start import LayersScaling, folded, starting_layers
from .step import LayersState, LayersSteps

Pairs = tuple[Pair, ...]
#: What trains one transcoder and not several layers, and the value that leaves it out.
_LEFT_OUT = {"aux_k": 0, "accumulate": 1}
_LEFT_OUT |= {name: option.default for name, option in declared(Losses).items()}


class CrossLayerFit(Outcome[CrossLayerTranscoder, LayersMetrics]):
    """What `fit_cross_layer` returns; FVU and L0 of ``history`` are means over layers, and the FVU
    of ``metrics`` is as in `fit_cross_layer`."""

    _fvu = "mean FVU"


@takes(FitOptions, swapped=("skip", "ties"))
def fit_cross_layer(options: FitOptions) -> CrossLayerFit:
    """Train a cross-layer transcoder that predicts ``target``, L of (N, O), from ``x``, L of
    (N, I).

    Each is a list with whatever `fit` takes for each layer, or an array with an axis of layers in
    front; row r is the same token in all of them, and all have the same sizes.  A pair for
    ``validation`` is of two such lists.

    It is trained as `fit` trains, to the same bits whatever the number of threads, on the loss of
    `CrossLayerTranscoder.stages`: the sum over layers of the mean squared error and of
    ``l1_coeff`` times the mean activation, with each layer's data divided by their own root mean
    squares (``training/cross_layer/start.py``).  All of a step is on the same rows of every layer.
    Ameisen et al. (2025), section "Cross-Layer Transcoder", whose penalty is another.

    The options are those of `fit`, but that AuxK, ``accumulate``, other losses, conventions and
    gated are refused; what is trained by batchtopk stays that, without a threshold.  What
    ``history`` measures, FVU and L0, are means over layers.

    Returns:
        A `CrossLayerFit`, whose ``transcoder`` takes and returns data in their own units.

    Raises:
        OptionError, NonFiniteError, FileError: as `fit`; an option that is not for several layers.
        ShapeError: the layers do not fit each other.

    >>> x, target, *_ = rt.sample.load()
    >>> options = {"dict_size": 64, "top_k": 8, "steps": 10, "batch_size": 100}
    >>> layers = [x[:1000], x[:1000]], [target[:1000], target[:1000]]
    >>> fit = rt.fit_cross_layer(*layers, validation=0.2, **options)
    >>> fit.transcoder
    CrossLayerTranscoder(2 layers of 576 -> 64 -> 576, top_k=8, ties='lowest_index', float32)
    >>> fit.metrics.layers[1].fvu < 1
    True
    """
    pairs = paired_layers(options.x, options.target, dtype=options.dtype)
    for data in (data for pair in pairs for data in pair):
        data.verify()
    pairs, held_out = _split(pairs, options)
    I, O = pairs[0][0].shape[1], pairs[0][1].shape[1]
    config = CrossLayerConfig(
        layers=len(pairs), input_size=I, output_size=O, **chosen(Architecture, options)
    )
    if config.activation == "gated":
        raise OptionError("activation", "another, for several layers", config.activation)
    options = checked_options(options, config.layer(len(pairs) - 1), len(pairs[0][0]))
    for name, value in _LEFT_OUT.items():
        if (got := getattr(options, name)) != value:
            raise OptionError(name, f"{value!r}, for several layers", got)
    run, measure = _prepared(options, config, pairs, held_out)
    every = tuple(data for pair in (*pairs, *(held_out or ())) for data in pair)
    log = MetricsLog(options.log, run.saved, every)
    signal = train(run, options, log)
    return CrossLayerFit.of(run, run.transcoder(), signal, measure.all if held_out else None)


class LayersMeasure:
    """As `Measure`, of each layer against the mean of its own training target."""

    def __init__(
        self, training: Pairs, validation: Pairs | None, means: list[np.ndarray], backend: str
    ) -> None:
        self._pairs = training if validation is None else validation
        self._kind = "training" if validation is None else "validation"
        self._means, self._backend = means, backend

    @property
    def rows_in_words(self) -> str:
        """Which rows `some` looks at."""
        return in_words(len(self._pairs[0][0]), self._kind)

    def some(self, transcoder: CrossLayerTranscoder) -> Figures:
        """On the first rows, 4096 at most."""
        rows = min(len(self._pairs[0][0]), SOME)
        found = self._on(transcoder, [[d.part(0, rows) for d in pair] for pair in self._pairs])
        return Figures(found.fvu, found.l0, found.dead)

    def all(self, transcoder: CrossLayerTranscoder) -> LayersMetrics:
        """On all rows."""
        return self._on(transcoder, self._pairs)

    def _on(self, transcoder: CrossLayerTranscoder, pairs: Any) -> LayersMetrics:
        evaluations = [Evaluation(mean) for mean in self._means]
        inputs, targets = zip(*pairs)
        blocks = (zip(*(data.blocks() for data in side), strict=True) for side in (inputs, targets))
        for x, y in zip(*blocks, strict=True):
            x = np.stack(x)
            hidden = transcoder.encode(x, backend=self._backend)
            reconstruction = transcoder.decode(hidden, x, backend=self._backend)
            for evaluation, *of_layer in zip(evaluations, y, reconstruction, hidden):
                evaluation.add(*of_layer)
        return LayersMetrics(tuple(evaluation.result() for evaluation in evaluations))


def _split(pairs: Pairs, options: FitOptions) -> tuple[Pairs, Pairs | None]:
    """The training rows of every layer, and the validation rows if there are any."""
    given = options.validation
    if isinstance(given, tuple | list) and len(given) == 2:
        held_out = paired_layers(*given, layers=len(pairs), dtype=options.dtype)
        for data, like in zip(held_out[0], pairs[0]):
            if data.shape[1] != like.shape[1]:
                want = f"(any, {like.shape[1]})"
                raise ShapeError(f"validation {data.name}", want, data.shape, "As in training.")
        return pairs, held_out
    parts = [split(*pair, given, options.dtype) for pair in pairs]
    training = tuple((x, target) for x, target, _ in parts)
    held_out = tuple(pair for *_, pair in parts if pair is not None)
    return training, held_out or None


def _prepared(
    options: FitOptions, config: CrossLayerConfig, pairs: Pairs, held_out: Pairs | None
) -> tuple[Run[CrossLayerTranscoder], LayersMeasure]:
    """The run before its next step, the first or the one after its checkpoint."""
    digests: list[dict[str, Any]] = [{} for _ in pairs]
    if options.checkpoint is not None:
        digests = [
            start_digests(*of_layer) for of_layer in zip(pairs, held_out or [None] * len(pairs))
        ]
    moments = tuple(Moments.of(*pair, fed) for pair, fed in zip(pairs, digests))
    scaling = LayersScaling(tuple(Scaling.of(of_layer, config.dtype) for of_layer in moments))
    measure = LayersMeasure(pairs, held_out, [m.target for m in moments], options.backend)
    schedule = Schedule(**chosen(Schedule, options))
    recipe = Recipe(**chosen(Recipe, options))
    identity = identity_of(
        config,
        schedule,
        recipe,
        {f"{name} of layer {l}": d for l, fed in enumerate(digests) for name, d in fed.items()},
        backend=options.backend,
        log_every=options.log_every,
        patience=options.patience,
        seed=[options.seed.entropy, list(options.seed.spawn_key)],
        validation=measure.rows_in_words,
    )
    rng = start_generator(options.seed)
    arrays = starting_layers(config, pairs, moments, scaling, rng, options.backend)
    own = starting_own(config.layer(0), recipe)
    state = LayersState.start(config, arrays, recipe, options.patience > 0, own)
    saved = Checkpoint(identity, state, [], [])
    if options.checkpoint is not None and os.path.exists(options.checkpoint):
        saved = load(options.checkpoint, identity, state)
    batches = (
        Batches(*pair, of_layer, options.batch_size, options.seed, config.dtype)
        for pair, of_layer in zip(pairs, scaling.layers)
    )
    steps = LayersSteps(state, schedule, recipe, tuple(batches), options.backend)
    often = options.log_every, options.patience
    made = functools.partial(folded, config, scaling)
    return Run(saved, schedule, steps, scaling, measure, *often, made), measure
