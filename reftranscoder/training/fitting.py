"""Training a transcoder: minibatch Adam on activations in memory or on disk.

The same data, options, seed and NumPy version give the same bits, whatever the number of threads,
and whether the run went through or was stopped, killed and taken up again from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ..activations import Activations, paired
from ..backends import check_backend
from ..errors import OptionError, ShapeError
from ..files.atomic import check_replaceable
from ..files.leftovers import remove_leftovers
from ..interruption import Interruption, number_of
from ..metrics import Metrics
from ..options import path, positive_integer, seed_sequence
from ..params import TranscoderConfig
from ..transcoder import Transcoder
from .adam import Recipe, State
from .batches import Batches, start_generator
from .checkpoint import Checkpoint, load, save
from .evaluation import Measure
from .history import History
from .identity import identity_of, start_digests
from .progress import listener
from .run import Run
from .scaling import Moments, Scaling
from .schedule import Schedule
from .start import starting_arrays

_LARGEST_BATCH = 1 << 20  # rows, where there are fewer to train on


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """What `fit` returns."""

    transcoder: Transcoder  # for data in their own units
    history: History
    metrics: Metrics | None  # of ``transcoder`` on all validation rows; FVU as in `fit`
    steps: int  # made
    interrupted: bool  # before all of them were
    signal: int | None = None  # the number of the signal that interrupted it

    def __repr__(self) -> str:
        interrupted = ", interrupted" if self.interrupted else ""
        fvu = f", FVU {self.metrics.fvu:.4f}" if self.metrics else ""
        return f"Fit({self.transcoder!r}, {self.steps} steps{interrupted}{fvu})"


def fit(
    x: Any,
    target: Any,
    *,
    dict_size: int = 4096,
    top_k: int = 32,
    activation: str = "topk",
    ties: str = "lowest_index",
    skip: bool = False,
    dtype: Any = "float32",
    steps: int = 600,
    batch_size: int = 1024,
    lr: float = 1e-3,
    warmup: float = 0.05,
    decay: float = 1.0,
    l1_coeff: float = 1e-3,
    unit_norm_decoder: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    validation: Any = None,
    seed: Any = 0,
    backend: str = "kernels",
    log_every: int = 50,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 100,
    progress: Any = False,
) -> Fit:
    """Train a transcoder that predicts ``target`` (N, O) from ``x`` (N, I).

    Both are arrays, paths of ``.npy`` files (memory-mapped; float16 is read as it is) or
    `Activations`.  Training sees them divided by their root mean squares; the scales are folded
    into the parameters that are returned (``training/scaling.py``), which take data as they are.

    Each step takes the next ``batch_size`` rows of random orders of all rows, and makes one step of
    Adam on ``mean((target - reconstruction)**2) + l1_coeff * mean(abs(hidden))``.

    Ctrl-C, SIGTERM and SIGHUP end training after the step under way, and so does a
    ``KeyboardInterrupt`` raised by ``progress``: the result is then what was reached, with
    ``interrupted`` set and ``signal`` the number of the signal.

    Args:
        x, target: the data; rows belong together.
        dict_size, top_k, activation, ties, skip, dtype: as in `TranscoderConfig`.
        steps, batch_size: of Adam; rows in each, up to all there are, or 1,048,576.
        lr, warmup, decay: the highest learning rate, and in what fraction of the steps it rises
            to it and falls from it, linearly (``training/schedule.py``).
        l1_coeff: of the loss, in training units.
        unit_norm_decoder: divide each row of ``W_dec`` by its norm after every step.
        beta1, beta2, eps: of Adam (``reference/adam.py``).
        validation: a pair ``(x, target)``; or a fraction: the last rows, which training then
            does not see (never random rows: neighbours would leak).  What ``history`` measures is
            measured on at most the first 4096 of these rows, or else of the training rows, and
            ``metrics`` on all of them.  FVU compares with the mean of the training target.
        seed: an int, a ``SeedSequence`` or a ``Generator``.
        backend: ``"kernels"``; or ``"reference"``, in which gradients are computed in float64.
        log_every: steps between two entries of ``history``.
        checkpoint: a file from which training goes on, if it exists, and which is written
            every ``checkpoint_every`` steps, when interrupted, and at the end.
        checkpoint_every: see ``checkpoint``.
        progress: True for a bar on a terminal; or a function, called with a `Progress` after every
            step.

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
    x, target = paired(x, target, dtype=dtype)
    x, target, held_out = _split(x, target, validation, dtype)
    config = TranscoderConfig(
        input_size=x.shape[1],
        output_size=target.shape[1],
        dict_size=dict_size,
        top_k=top_k,
        activation=activation,
        skip=skip,
        ties=ties,
        dtype=dtype,
    )
    schedule = Schedule(lr, steps, warmup, decay)
    recipe = Recipe(l1_coeff, beta1, beta2, eps, unit_norm_decoder, backend)
    check_backend(backend, config.dtype)
    seed = seed_sequence(seed)
    batch_size = positive_integer("batch_size", batch_size, max(len(x), _LARGEST_BATCH))
    log_every = positive_integer("log_every", log_every)
    checkpoint_every = positive_integer("checkpoint_every", checkpoint_every)
    if checkpoint is not None:
        if not isinstance(checkpoint, str | os.PathLike):
            raise OptionError("checkpoint", "a path, or None", checkpoint)
        checkpoint = path("checkpoint", checkpoint)
        check_replaceable(checkpoint)
        remove_leftovers(checkpoint)

    # Without a checkpoint nobody asks what the data were.
    digests = start_digests((x, target), held_out) if checkpoint is not None else {}
    moments = Moments.of(x, target, digests)
    scaling = Scaling.of(moments, config.dtype)
    measure = Measure((x, target), held_out, moments.target, backend)
    batches = Batches(x, target, scaling, batch_size, seed, config.dtype)
    identity = identity_of(
        config,
        schedule,
        recipe,
        digests,
        batch_size=batch_size,
        log_every=log_every,
        seed=[seed.entropy, list(seed.spawn_key)],
        validation=measure.rows_in_words,
    )
    rng = start_generator(seed)
    start = State.start(config, starting_arrays(config, x, target, moments, scaling, rng))
    if checkpoint is not None and os.path.exists(checkpoint):
        saved = load(checkpoint, identity, start)
    else:
        saved = Checkpoint(identity, start, [], [])
    run = Run(saved, schedule, recipe, batches, scaling, measure, log_every)

    with listener(progress, run.steps, schedule.steps) as tell, Interruption() as interruption:
        while not run.done and interruption.requested is None:
            told = run.step()
            if checkpoint is not None and (run.steps % checkpoint_every == 0 or run.done):
                save(checkpoint, saved)
            try:
                tell(told)
            except KeyboardInterrupt as stop:
                interruption.requested = number_of(stop)
        if checkpoint is not None and not run.done:
            save(checkpoint, saved)

    transcoder = run.transcoder()
    metrics = measure.all(transcoder) if held_out and run.done else None
    return Fit(
        transcoder,
        run.history(),
        metrics,
        run.steps,
        not run.done,
        None if run.done else interruption.requested,
    )


def _split(
    x: Activations, target: Activations, validation: Any, dtype: Any
) -> tuple[Activations, Activations, tuple[Activations, Activations] | None]:
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
