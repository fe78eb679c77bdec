"""Training at equal rows: the held-out FVU of ours and of others' trainers against seconds.

Who takes part stands in `peers`, as ``TRAINERS``.  All are given the same rows, in the same order,
divided beforehand by their root mean square, for which their learning rates are made; each trains
as its authors have it, from its own start.  They take turns, an eighth of the steps each, so that
what slows the machine slows them all.  The clock runs from when a trainer gets its data to when it
is done, and stands still between turns, when what it has learnt so far is measured on rows that
none has seen.

Nothing is measured that is wrong: what a trainer has learnt is taken as a `Transcoder`, and before
the first step and after the last ``rt.audit`` judges what the trainer itself makes of a few rows.
Whatever a peer raises, it is absent, and its reason is given.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import reftranscoder as rt
from reftranscoder.activations import Activations
from reftranscoder.errors import OptionError
from reftranscoder.options import seed_sequence
from reftranscoder.training.batches import Batches
from reftranscoder.training.evaluation import Measure
from reftranscoder.training.scaling import Moments, Scaling

from . import contest, races

#: Modules of `peers`, in the order of the table; ours comes first.
PEERS = ("ours", "pytorch", "sparsify", "sae_lens", "dictionary_learning")

TURNS = 8


class Task(NamedTuple):
    """The same for every trainer, in float32."""

    x: np.ndarray  # (N, I) to train on, of root mean square 1
    target: np.ndarray  # (N, O)
    held_out: tuple[np.ndarray, np.ndarray]  # rows behind them, divided by the same
    dict_size: int
    top_k: int
    steps: int
    batch_size: int
    seed: int
    origin: str

    @classmethod
    def load(cls, options: argparse.Namespace, sizes: dict[str, int]) -> Task:
        """The rows of ``--x`` and ``--target``, or of the package's sample; the last are held out.

        ``--x`` alone is its own target: the transcoder is an autoencoder.

        Raises:
            OptionError: fewer rows than are to be held out.
            ShapeError: files whose rows do not pair up.
        """
        if options.x:
            x, target = rt.paired(options.x, options.target or options.x)
            origin = f"{options.x}, {options.target or 'itself'}"
        else:
            x, target = rt.paired(*rt.sample.load()[:2])
            origin = "the package's sample"
        rows = len(x) - options.held_out
        if min(rows, options.held_out) < 1:
            want = f"from 1 to {len(x) - 1}, of {len(x)} rows"
            raise OptionError("--held-out", want, options.held_out)
        (x, held_x), (target, held_target) = (_scaled(data, rows) for data in (x, target))
        asked = sizes["D"], sizes["K"], options.steps, sizes["B"], options.seed
        return cls(x, target, (held_x, held_target), *asked, origin)

    @property
    def sizes(self) -> dict[str, int]:
        """Of what is trained, on how much."""
        return {
            "B": self.batch_size,
            "I": self.x.shape[1],
            "D": self.dict_size,
            "O": self.target.shape[1],
            "K": self.top_k,
            "steps": self.steps,
            "rows": len(self.x),
            "held out": len(self.held_out[0]),
        }

    @property
    def autoencodes(self) -> bool:
        """Whether the target is x itself."""
        return np.array_equal(self.x, self.target)

    def batches(self) -> Batches:
        """The rows of each step, in the order in which ``rt.fit`` takes them."""
        pair = Activations(self.x, "x"), Activations(self.target, "target")
        seed = seed_sequence(self.seed)
        return Batches(*pair, Scaling(1.0, 1.0), self.batch_size, seed, "float32")

    def measure(self) -> Measure:
        """On the held-out rows, against the mean of the others."""
        pair = Activations(self.x, "x"), Activations(self.target, "target")
        held_out = tuple(Activations(data, "held out") for data in self.held_out)
        return Measure(pair, held_out, Moments.of(*pair).target, "kernels")


def _scaled(data: Activations, rows: int) -> list[np.ndarray]:
    """The first ``rows`` of ``data`` and the others, divided by the root mean square of those."""
    whole = np.asarray(data.rows(np.arange(len(data))), np.float32)
    scale = np.sqrt(np.mean(np.square(whole[:rows], dtype=np.float64))) or 1.0
    return np.split((whole / scale).astype(np.float32), [rows])


class Point(NamedTuple):
    """What was learnt after so many steps, on the held-out rows."""

    step: int
    seconds: float
    fvu: float
    l0: float
    dead: int  # features that are active in none of them


class Learning(NamedTuple):
    """What came of it: the first trainer is ours."""

    contest: str
    curves: dict[str, list[Point]]

    def ratio(self, name: str) -> float:
        """Our seconds over those of trainer ``name``, for all steps: below 1, ours is faster."""
        ours = next(iter(self.curves.values()))
        return ours[-1].seconds / self.curves[name][-1].seconds


class Turns:
    """A trainer that stops before each step of ``stops``, in a thread of its own.

    It calls the function that ``train`` is given before every step, with the number of the step.
    """

    def __init__(self, train: Callable[[Callable[[int], None]], None], stops: set[int]) -> None:
        self._train, self._stops = train, stops
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take(self) -> float:
        """Let it go on up to its next stop, or its end; return the seconds.

        What it prints is not shown.  Raises whatever it raises.
        """
        silent = io.StringIO()
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            start = time.perf_counter()
            if self._thread.ident is None:
                self._thread.start()
            else:
                self._go.release()
            self._stopped.acquire()
            seconds = time.perf_counter() - start
        if self._error is not None:
            raise self._error
        return seconds

    def _run(self) -> None:
        try:
            self._train(self._begin)
        except BaseException as error:
            self._error = error
        self._stopped.release()

    def _begin(self, step: int) -> None:
        if step in self._stops:
            self._stopped.release()
            self._go.acquire()


class _Entrant:
    """A trainer at work."""

    def __init__(self, trainer, stops: set[int]) -> None:
        self.name, self.trainer = trainer.name, trainer
        self.turns = Turns(trainer.train, stops)
        self.points: list[Point] = []
        self.seconds = 0.0

    def go_on(self) -> None:
        """Take a turn."""
        self.seconds += self.turns.take()

    def mistake(self, task: Task) -> str | None:
        """What is wrong in what it makes of a few rows itself, if anything is."""
        x, target = (data[: races.VERIFIED_ROWS] for data in task.held_out)
        made = {"reconstruction": self.trainer.reconstruct(x)}
        report = rt.audit(made, self.trainer.transcoder(), x, target)
        return None if report.passed else f"{self.name}: {report.sentence()}"

    def measured(self, step: int, measure: Measure) -> Point:
        """Where it is now."""
        found = measure.all(self.trainer.transcoder())
        return Point(step, self.seconds, found.fvu, found.l0, len(found.dead_features))


def hold(
    task: Task,
    wrong: list[str],
    absent: list[str],
    rest: Callable[[float], None] = time.sleep,
) -> Learning:
    """Train them all; who is wrong goes to ``wrong``, who is not here to ``absent``."""
    marks = sorted({max(1, task.steps * n // TURNS) for n in range(1, TURNS + 1)})
    stops = {1, *(mark + 1 for mark in marks[:-1])}
    measure = task.measure()
    trainers = races.entrants(task, absent, PEERS, "TRAINERS")
    ours, *others = [_Entrant(trainer, stops) for trainer in trainers]
    here = [ours, *others]
    for mark in (0, *marks):
        for entrant in list(here):
            try:
                entrant.go_on()
                mistake = entrant.mistake(task) if mark in (0, task.steps) else None
                if mark and not mistake:
                    entrant.points.append(entrant.measured(mark, measure))
            except Exception as error:
                if entrant is ours:
                    raise
                mistake = None
                absent.append(f"{entrant.name}, training: {contest.reason(error)}")
                here.remove(entrant)
            if mistake:
                wrong.append(mistake)
                here.remove(entrant)
            if entrant.trainer.calls_blas:
                rest(contest.BLAS_REST)
        if ours not in here:  # nothing is left to compare with
            return Learning("training", {})
    return Learning("training", {entrant.name: entrant.points for entrant in here})
