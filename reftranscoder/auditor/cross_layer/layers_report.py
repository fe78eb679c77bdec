"""The report on a cross-layer transcoder: a `Report` whose stages are those of every layer."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..judging.verdict import StageResult
from ..reporting.exercised import missing_sentences
from ..reporting.report import Report, listed
from ..task.stage_graph import ALL_STAGES, AXES, OF_OWN, PARENTS
from .views import DECODED

#: What the indices of gradients of what writes to several layers are called.
_WRITTEN = {
    "dW_dec": ("feature", "layer written to", "output column"),
    "dW_skip": ("layer written to", "output column", "input column"),
}


class Place(NamedTuple):
    """A stage of a layer; the loss is of none."""

    stage: str
    layer: int | None = None

    @property
    def key(self) -> str:
        """By which a report has its result."""
        return self.stage if self.layer is None else f"{self.stage}[{self.layer}]"


def place_of(key: str) -> Place:
    """The `Place` that a report has by ``key``."""
    found = re.fullmatch(r"(\w+)\[(\d+)\]", key)
    return Place(key) if found is None else Place(found[1], int(found[2]))


@dataclasses.dataclass(frozen=True)
class LayersReport(Report):
    """The judgement of a cross-layer candidate.

    A `Report`, whose ``stages``, ``blame``, ``faults`` and so on have ``"reconstruction[2]"`` for
    the reconstruction of layer 2, but ``"loss"``, which is of all layers.
    """

    layers: int = 1

    def layer(self, l: int) -> dict[str, StageResult]:
        """The results of layer ``l`` by the names of its stages, with those of stages that were not
        given."""
        keys = {name: Place(name, l).key for name in ALL_STAGES}
        return {name: self.stages[key] for name, key in keys.items() if key in self.stages}

    @property
    def not_exercised(self) -> tuple[str, ...]:
        """The sentences of a `Report` on the features and columns of each layer."""
        found = []
        for l in range(self.layers):
            places = ((place_of(one.stage), one) for one in self.exercised)
            ours = [one._replace(stage=place.stage) for place, one in places if place.layer == l]
            found += [f"layer {l}: {sentence}" for sentence in missing_sentences(ours)]
        return tuple(found)

    def _axes(self, name: str) -> tuple[str, ...]:
        stage = place_of(name).stage
        return _WRITTEN.get(stage, AXES[stage])

    def _place(self, name: str) -> str:
        place = place_of(name)
        return name if place.layer is None else f"{place.stage} of layer {place.layer}"

    def _words(self, names: Iterable[str], last: str = " and") -> str:
        """Stage by stage: of one layer, of some, or of all."""
        found: dict[str, list[int | None]] = {}
        for stage, layer in map(place_of, names):
            found.setdefault(stage, []).append(layer)
        return listed((self._of_layers(*item) for item in found.items()), last)

    def _of_layers(self, stage: str, layers: list[int | None]) -> str:
        if layers == [None] or len(layers) == self.layers > 1:
            return stage
        s = "" if len(layers) == 1 else "s"
        return f"{stage} of layer{s} {listed(map(str, layers))}"


def by_key(results: Mapping[Place, StageResult], layers: int) -> dict[str, StageResult]:
    """Every stage of every layer, in the order in which they are computed: stage by stage."""
    found = {}
    for stage in ALL_STAGES:
        places = [Place(stage)] if stage == "loss" else [Place(stage, l) for l in range(layers)]
        for place in places:
            result = results.get(place, StageResult(stage, "not given"))
            if stage not in OF_OWN or result.verdict != "not given":
                found[place.key] = dataclasses.replace(result, stage=place.key)
    return found


def suspects_of(stages: Mapping[str, StageResult], layers: int) -> tuple[str, ...]:
    """The first stage at fault, and the stages upstream of it that nobody has seen."""
    first = next((key for key, result in stages.items() if result.verdict == "fault"), None)
    if first is None:
        return ()
    found, waiting = {first}, _read_by(place_of(first), layers)
    while waiting:
        place = waiting.pop()
        if stages[place.key].verdict == "not given" and place.key not in found:
            found.add(place.key)
            waiting += _read_by(place, layers)
    return tuple(key for key in stages if key in found)


def _read_by(place: Place, layers: int) -> list[Place]:
    """What a stage reads."""
    stage, l = place
    if l is None:
        return [Place(p, k) for p, k in itertools.product(PARENTS[stage], range(layers))]
    found = []
    for parent in PARENTS[stage]:
        if stage in DECODED and parent == "hidden":
            found += [Place(parent, k) for k in range(l + 1)]
        elif stage not in DECODED and parent == "d_reconstruction":
            found += [Place(parent, k) for k in range(l, layers)]
        else:
            found.append(Place(parent, l))
    return found
