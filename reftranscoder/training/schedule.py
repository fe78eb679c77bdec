"""The learning rate of each step, up, level, down; and how many features are kept in it.

With T steps, of which the first w warm up and the last d decay, step t = 1 ... T takes::

    lr(t)  =  lr min(1,  t / (w + 1),  (T + 1 - t) / (d + 1))                             (L1)

The rate rises by equal amounts to lr and falls by equal amounts to lr / (d + 1): no step is without
effect.

Of K = top_k and K0 = top_k_start, and f the steps in which it falls, step t keeps::

    K(t)   =  K + ceil((K0 - K) max(0,  1 - (t - 1) / f))                                 (L2)

Both depend on t alone, so that a resumed run needs nothing but the number of its step.

Source: the shape of Zhai et al. (2022), "Scaling Vision Transformers": warm-up, constant, linear
cooldown.
"""

from __future__ import annotations

import dataclasses
import math

from ..declaring import option
from ..errors import OptionError
from ..options import LARGEST_SIZE, finite_number, integer_in, positive_integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many steps, how large and how fast: ``schedule(t)`` is the rate of step t = 1, 2, ...

    ``warmup``, ``decay`` and ``top_k_fall`` are fractions of ``steps``, from 0 to 1, rounded to
    whole steps.  Where the first two overlap the lower rate holds.  What ``batch_size`` and
    ``top_k_start`` may be is for `fit` to say, which knows how many rows and features there are.

    Raises:
        OptionError: a fraction outside 0 to 1, no step, an ``lr`` that is not positive and finite.
    """

    steps: int = option(600, "of Adam")
    batch_size: int = option(1024, "rows in a step", "up to all there are, or 1,048,576")
    lr: float = option(1.5e-3, "the highest learning rate")
    warmup: float = option(
        0.2, "fraction of the steps in which it rises", "linearly (``training/schedule.py``)"
    )
    decay: float = option(1.0, "fraction of the steps in which it falls", "linearly, at the end")
    top_k_start: int = option(
        0, "top_k of the first step", "from which it falls linearly; 0: top_k in all steps"
    )
    top_k_fall: float = option(0.5, "fraction of the steps in which top_k falls", "at the start")

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", positive_integer("steps", self.steps))
        object.__setattr__(self, "lr", positive_number("lr", self.lr))
        start = integer_in("top_k_start", self.top_k_start, 0, LARGEST_SIZE)
        object.__setattr__(self, "top_k_start", start)
        for name in ("warmup", "decay", "top_k_fall"):
            object.__setattr__(self, name, fraction(name, getattr(self, name)))

    def __call__(self, t: int) -> float:
        """The learning rate of step ``t``, counted from 1."""
        w, d = round(self.warmup * self.steps), round(self.decay * self.steps)
        return self.lr * min(1.0, t / (w + 1), (self.steps + 1 - t) / (d + 1))  # (L1)

    def top_k(self, t: int, last: int) -> int:
        """How many features step ``t`` keeps, where ``last`` is the number at the end."""
        f = round(self.top_k_fall * self.steps)
        left = max(0, f + 1 - t)  # of f steps
        return last + math.ceil(max(0, self.top_k_start - last) * left / f) if f else last  # (L2)


def positive_number(name: str, value: object) -> float:
    """Return ``value`` as a float.  Raise `OptionError` unless it is finite and above 0."""
    if not (number := finite_number(name, value)):
        raise OptionError(name, "a finite number above 0", value)
    return number


def fraction(name: str, value: object) -> float:
    """Return ``value`` as a float.  Raise `OptionError` unless it is from 0 to 1."""
    try:
        number = finite_number(name, value)
    except OptionError:
        number = -1.0
    if not 0 <= number <= 1:
        raise OptionError(name, "a fraction, from 0 to 1", value)
    return number
