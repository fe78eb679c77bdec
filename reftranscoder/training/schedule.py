"""The learning rate of each step: up, level, down.

With T steps, of which the first w warm up and the last d decay, step t = 1 ... T takes::

    lr(t)  =  lr min(1,  t / (w + 1),  (T + 1 - t) / (d + 1))                             (L1)

The rate rises by equal amounts to lr and falls by equal amounts to lr / (d + 1): no step is without
effect.  It depends on t alone, so that a resumed run needs nothing but the number of its step.

Source: the shape of Zhai et al. (2022), "Scaling Vision Transformers": warm-up, constant, linear
cooldown.
"""

from __future__ import annotations

import dataclasses

from ..declaring import option
from ..errors import OptionError
from ..options import finite_number, positive_integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many steps, how large and how fast: ``schedule(t)`` is the rate of step t = 1, 2, ...

    ``warmup`` and ``decay`` are fractions of ``steps``, from 0 to 1, rounded to whole steps.  Where
    the two overlap the lower rate holds.  What ``batch_size`` may be is for `fit` to say, which
    knows how many rows there are.

    Raises:
        OptionError: a fraction outside 0 to 1, no step, an ``lr`` that is not positive and finite.
    """

    steps: int = option(600, "of Adam")
    batch_size: int = option(1024, "rows in a step", "up to all there are, or 1,048,576")
    lr: float = option(1e-3, "the highest learning rate")
    warmup: float = option(
        0.05, "fraction of the steps in which it rises", "linearly (``training/schedule.py``)"
    )
    decay: float = option(1.0, "fraction of the steps in which it falls", "linearly, at the end")

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", positive_integer("steps", self.steps))
        object.__setattr__(self, "lr", positive_number("lr", self.lr))
        for name in ("warmup", "decay"):
            object.__setattr__(self, name, fraction(name, getattr(self, name)))

    def __call__(self, t: int) -> float:
        """The learning rate of step ``t``, counted from 1."""
        w, d = round(self.warmup * self.steps), round(self.decay * self.steps)
        return self.lr * min(1.0, t / (w + 1), (self.steps + 1 - t) / (d + 1))  # (L1)


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
