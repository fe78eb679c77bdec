"""Where the steps of a run are made: here, in this process, or by what has the same three methods.

`rt.distributed` makes them on a cluster, to the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..activations import Activations
from ..params import TranscoderConfig
from .adam import Recipe, State
from .batches import Batches
from .scaling import Moments, Scaling
from .schedule import Schedule
from .step import step_on_parts

Pair = tuple[Activations, Activations]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the steps of a run are made from, and ``state``, which they change."""

    state: State
    schedule: Schedule
    recipe: Recipe
    batches: Batches
    training: Pair
    scaling: Scaling
    accumulate: int
    backend: str


class Steps:
    """Makes them in this process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def make(self, t: int) -> float:
        """Make step ``t``, the next of the state; return the loss before it."""
        plan = self.plan
        lr, top_k = plan.schedule(t), plan.schedule.top_k(t, plan.state.config.top_k)
        parts, rows = plan.batches.parts(t, plan.accumulate), plan.schedule.batch_size
        return step_on_parts(plan.state, plan.recipe, lr, parts, rows, plan.backend, top_k)

    def fetch(self) -> None:
        """Bring the arrays of the state up to the last step, if they are elsewhere."""


class Here:
    """The place where `fit` trains."""

    def check(self, config: TranscoderConfig, recipe: Recipe, backend: str) -> None:
        """Refuse what cannot be done in this place."""

    def opened(self, pair: Pair) -> Pair:
        """The rows as they are read in this place."""
        return pair

    def moments(self, training: Pair, digests: Mapping[str, Any]) -> Moments:
        """As `Moments.of`."""
        return Moments.of(*training, digests)

    def steps(self, plan: Plan) -> Steps:
        """What makes the steps of a run."""
        return Steps(plan)
