"""Training a transcoder: minibatch Adam on activations in memory or on disk.

The same data, options, seed and NumPy version give the same bits, whatever the number of threads,
and whether the run went through or was stopped, killed and taken up again from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from ..activations import Activations, paired
from ..backends import check_backend
from ..declaring import chosen, takes
from ..errors import OptionError, ShapeError
from ..files.atomic import check_replaceable
from ..files.leftovers import remove_leftovers
from ..interruption import Interruption, number_of
from ..metrics import Metrics
from ..options import LARGEST, integer_in, path, positive_integer, seed_sequence, truth
from ..params import Architecture, TranscoderConfig
from ..params.losses import COUNTING
from ..transcoder import Transcoder
from .adam import Recipe, State
from .batches import Batches, start_generator
from .checkpoint import Checkpoint, load
from .evaluation import Measure
from .identity import identity_of, start_digests
from .inference import for_inference
from .keeping import Keeper
from .metrics_log import MetricsLog
from .options import FitOptions
from .outcome import Outcome
from .progress import listener
from .run import Run
from .scaling import Scaling
from .schedule import Schedule
from .start import folded, starting_arrays, starting_own
from .steps import Here, Pair, Plan

#: Those whose top_k may fall in training: groupmax has groups of a size.
FALLING = ("topk", "batchtopk", "abstopk")
M = TypeVar("M")
_LARGEST_BATCH = 1 << 20  # rows, where there are fewer to train on


class Fit(Outcome[Transcoder, Metrics]):
    """What `fit` returns; the FVU of ``metrics`` is as in `fit`."""


@takes(FitOptions, swapped=("skip", "ties"))  # as it was, and as the command line lists them
def fit(options: FitOptions) -> Fit:
    """Train a transcoder that predicts ``target`` (N, O) from ``x`` (N, I).

    Both are arrays, paths of files or of folders of shards (memory-mapped; float16 is read as it
    is) or `Activations`, whose rows belong together; or ``x`` alone is the path of both, as an
    `ActivationWriter` fills it.  Training sees them divided by their root mean
    squares; the scales are folded into the parameters that are returned (``training/scaling.py``),
    which take data as they are.

    Each step takes the next ``batch_size`` rows of random orders of all rows, and makes one step of
    Adam on ``mean((target - reconstruction)**2) + l1_coeff * mean(abs(hidden))``, or on other
    losses, by the names of `Losses`.  The options of the transcoder are those of
    `TranscoderConfig`.  Thresholds of jumprelu are trained by straight-through gradients, the gates
    of gated by an auxiliary loss.  What batchtopk has trained is returned as the jumprelu
    transcoder whose threshold is the least activation that a batch keeps, on average over batches
    of training rows (``training/inference.py``); ``history`` is measured before.

    Ctrl-C, SIGTERM and SIGHUP end training after the step under way, and so does a
    ``KeyboardInterrupt`` raised by ``progress``: the result is then what was reached, with
    ``interrupted`` set and ``signal`` the number of the signal.

    Returns:
        A `Fit`; its ``transcoder`` takes and returns data in the units of ``x`` and ``target``.

    Raises:
        OptionError: an option that makes no sense, or differs from the checkpoint's; an ``lr`` so
            high that the loss is no longer finite.
        ShapeError: ``x`` and ``target``, or the validation rows, do not fit each other.
        NonFiniteError: NaN or infinity in the data, with row and column.
        FileError: a file that cannot be read or, for ``checkpoint``, written; a checkpoint of other
            data.

    >>> x, target, *_ = rt.sample.load()
    >>> options = {"dict_size": 64, "top_k": 8, "steps": 20, "batch_size": 100}
    >>> fit = rt.fit(x[:1000], target[:1000], validation=0.2, **options)
    >>> fit.transcoder
    Transcoder(576 -> 64 -> 576, top_k=8, ties='lowest_index', float32)
    >>> fit.metrics.rows, fit.metrics.fvu < 1
    (200, True)
    """
    return fit_in(Here(), options)


def fit_in(place: Here, options: FitOptions) -> Fit:
    """`fit`, with the steps made in ``place``."""
    x, target = paired(options.x, options.target, dtype=options.dtype)
    for data in (x, target):
        data.verify()
    x, target = place.opened((x, target))
    x, target, held_out = split(x, target, options.validation, options.dtype)
    I, O = x.shape[1], target.shape[1]
    config = TranscoderConfig(input_size=I, output_size=O, **chosen(Architecture, options))
    options = checked_options(options, config, len(x))
    place.check(config, Recipe(**chosen(Recipe, options)), options.backend)
    run, measure, batches = _prepared(place, options, config, (x, target), held_out)
    log = MetricsLog(options.log, run.saved, (x, target, *(held_out or ())))
    signal = train(run, options, log)
    transcoder = for_inference(run.transcoder(), x, batches, options.backend)
    return Fit.of(run, transcoder, signal, measure.all if held_out else None)


def checked_options(options: FitOptions, config: TranscoderConfig, rows: int) -> FitOptions:
    """``options`` with what they were given as made what they must be, for so many rows."""
    schedule = Schedule(**chosen(Schedule, options))
    recipe = Recipe(**chosen(Recipe, options))
    check_backend(options.backend, config.dtype)
    checked = {
        **vars(schedule),
        **vars(recipe),
        "seed": seed_sequence(options.seed),
        "batch_size": positive_integer("batch_size", options.batch_size, max(rows, _LARGEST_BATCH)),
        "log_every": positive_integer("log_every", options.log_every),
        "patience": integer_in("patience", options.patience, 0, LARGEST),
        "accumulate": positive_integer("accumulate", options.accumulate),
        "checkpoint_every": positive_integer("checkpoint_every", options.checkpoint_every),
        "checkpoint_last": positive_integer("checkpoint_last", options.checkpoint_last),
        "checkpoint_best": truth("checkpoint_best", options.checkpoint_best),
    }
    if checked["patience"] and options.validation is None:
        raise OptionError("validation", "given where patience is", None, "Or leave patience out.")
    _check_together(schedule, config, checked)
    check_trained(recipe, config)
    for name in ("checkpoint", "log"):
        file = getattr(options, name)
        if file is not None:
            if not isinstance(file, str | os.PathLike):
                raise OptionError(name, "a path, or None", file)
            checked[name] = path(name, file)
            check_replaceable(checked[name])
            remove_leftovers(checked[name])
    if options.log is not None and checked["log"] == checked.get("checkpoint"):
        raise OptionError("log", "another file than checkpoint", options.log)
    return dataclasses.replace(options, **checked)


def _check_together(
    schedule: Schedule, config: TranscoderConfig, checked: Mapping[str, Any]
) -> None:
    """Refuse what makes no sense for this transcoder."""
    start, rows = schedule.top_k_start, checked["batch_size"]
    if start and config.activation not in FALLING:
        raise OptionError("top_k_start", f"0 for activation={config.activation!r}", start)
    if start and not config.top_k <= start <= config.dict_size:
        want = f"0, or from top_k, {config.top_k}, to dict_size, {config.dict_size}"
        raise OptionError("top_k_start", want, start)
    if checked["accumulate"] > rows:
        raise OptionError("accumulate", f"at most batch_size, {rows}", checked["accumulate"])
    if checked["accumulate"] > 1 and config.activation == "batchtopk":
        want = "1 for activation='batchtopk', where the rows of a batch compete"
        raise OptionError("accumulate", want, checked["accumulate"])


def check_trained(recipe: Recipe, config: TranscoderConfig) -> None:
    """Refuse what would train nothing, or not what it says.

    Raises:
        OptionError: a loss of the number of active features, where no threshold is trained; AuxK or
            gates under conventions for which they are not defined.
    """
    if recipe.sparsity_loss in COUNTING and config.activation != "jumprelu":
        want = f"another, for {config.activation}: it trains thresholds alone"
        raise OptionError("sparsity_loss", want, recipe.sparsity_loss)
    if recipe.aux_k and (config.activation == "gated" or not config.conventions.plain):
        raise OptionError("aux_k", "0, for gated and under conventions", recipe.aux_k)
    if (own := starting_own(config, recipe)) is not None:
        own.check(config)


def _prepared(
    place: Here,
    options: FitOptions,
    config: TranscoderConfig,
    training: Pair,
    held_out: Pair | None,
) -> tuple[Run[Transcoder], Measure, Batches]:
    """The run before its next step, the first or the one after its checkpoint."""
    # Without a checkpoint nobody asks what the data were.
    digests = start_digests(training, held_out) if options.checkpoint is not None else {}
    moments = place.moments(training, digests)
    scaling = Scaling.of(moments, config.dtype, config.conventions)
    scaled = dataclasses.replace(config, conventions=scaling.conventions(config.conventions))
    measure = Measure(training, held_out, moments.target, options.backend)
    schedule = Schedule(**chosen(Schedule, options))
    recipe = Recipe(**chosen(Recipe, options))
    identity = identity_of(
        config,
        schedule,
        recipe,
        digests,
        backend=options.backend,
        log_every=options.log_every,
        patience=options.patience,
        seed=[options.seed.entropy, list(options.seed.spawn_key)],
        validation=measure.rows_in_words,
    )
    rng = start_generator(options.seed)
    arrays = starting_arrays(scaled, *training, moments, scaling, rng, options.backend)
    own = starting_own(config, recipe)
    start = State.start(scaled, arrays, recipe, options.patience > 0, own)
    saved = Checkpoint(identity, start, [], [])
    if options.checkpoint is not None and os.path.exists(options.checkpoint):
        saved = load(options.checkpoint, identity, start)
    batches = Batches(*training, scaling, options.batch_size, options.seed, config.dtype)
    divided = options.accumulate, options.backend
    plan = Plan(start, schedule, recipe, batches, training, scaling, *divided)
    often = options.log_every, options.patience
    made = functools.partial(folded, config, scaling)
    run = Run(saved, schedule, place.steps(plan), scaling, measure, *often, made)
    return run, measure, batches


def train(run: Run[M], options: FitOptions, log: MetricsLog) -> int | None:
    """Make the steps that are left; return the number of the signal that left some, or None."""
    keeper = _keeper(run, options)
    with listener(options.progress, run.steps, options.steps) as tell, Interruption() as stop:
        while not run.done and stop.requested is None:
            told = run.step()
            if keeper is not None:
                keeper.save_if_best(run.saved)
                if run.steps % options.checkpoint_every == 0 or run.done:
                    keeper.save(run.up_to_date())
            log.add(run.saved.entries)
            try:
                tell(told)
            except KeyboardInterrupt as raised:
                stop.requested = number_of(raised)
        if keeper is not None and not run.done:
            keeper.save(run.up_to_date())
        log.end(run.steps, run.best_step, run.done)
    return None if run.done else stop.requested


def _keeper(run: Run[M], options: FitOptions) -> Keeper | None:
    if options.checkpoint is None:
        return None
    found = run.steps if os.path.exists(options.checkpoint) else None
    checkpoint = path("checkpoint", options.checkpoint)
    return Keeper(checkpoint, options.checkpoint_last, options.checkpoint_best, found)


def split(
    x: Activations, target: Activations, validation: Any, dtype: Any
) -> tuple[Activations, Activations, Pair | None]:
    """The training rows, and the validation rows if there are any."""
    if validation is None:
        return x, target, None
    if isinstance(validation, tuple | list) and len(validation) == 2:
        names = ("validation x", "validation target")
        pair = paired(*(_opened(v, n, dtype) for v, n in zip(validation, names)))
        for data, like, letters in ((pair[0], x, "(B, I)"), (pair[1], target, "(B, O)")):
            if data.shape[1] != like.shape[1]:
                want = f"(any, {like.shape[1]})"
                raise ShapeError(data.name, want, data.shape, "As in training.", letters)
        return x, target, pair
    rows = len(x)
    try:
        held_out = round(float(validation) * rows)
    except Exception:  # it is no number: TypeError, or what somebody else's __float__ raises
        held_out = 0
    if isinstance(validation, bool) or not 1 <= held_out < rows:
        want = f"a pair (x, target), or a fraction that leaves some of {rows} rows on either side"
        raise OptionError("validation", want, validation)
    train = rows - held_out
    parts = [(data.part(0, train), data.part(train, rows)) for data in (x, target)]
    return parts[0][0], parts[1][0], (parts[0][1], parts[1][1])


def _opened(source: Any, name: str, dtype: Any) -> Activations:
    if isinstance(source, Activations):
        return source
    is_path = isinstance(source, str | os.PathLike)
    return Activations(source, None if is_path else name, dtype=dtype)
