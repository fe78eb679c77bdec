"""One training step of a cross-layer transcoder: the gradient of its loss, then Adam by layer.

As ``training/step.py``, whose order it keeps: the gradient; clipping by its norm, over all layers;
without what is parallel to the rows of W_dec, if these have norm 1, each with all that it writes;
Adam; the average of the weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...arrays import spread_non_finite
from ...backends.cross_layer import cross_layer_backend
from ...params import Own
from ...params.cross_layer import CrossLayerConfig, CrossLayerParams, side_by_side
from ..adam import Recipe, State
from ..batches import Batches
from ..schedule import Schedule
from ..step import clip, count_step, move


@dataclasses.dataclass
class LayersState:
    """A cross-layer transcoder in training: a `State` for each layer, after as many steps."""

    config: CrossLayerConfig
    layers: tuple[State, ...]

    @classmethod
    def start(
        cls,
        config: CrossLayerConfig,
        arrays: list[dict[str, np.ndarray]],
        recipe: Recipe,
        best: bool,
        own: Own | None,
    ) -> LayersState:
        """Before the first step, at ``arrays``, which from now on belong to the state."""
        layers = (
            State.start(config.layer(l), of_layer, recipe, best, own)
            for l, of_layer in enumerate(arrays)
        )
        return cls(config, tuple(layers))

    @property
    def t(self) -> int:
        """The steps made."""
        return self.layers[0].t

    @property
    def dict_size(self) -> int:
        """How many features there are, of all layers."""
        return self.config.layers * self.config.dict_size

    @property
    def measured(self) -> dict[str, np.ndarray]:
        """The arrays that are measured, by name and layer."""
        return self._by_layer("measured")

    @property
    def best(self) -> dict[str, np.ndarray]:
        """What measured best so far, or none."""
        return self._by_layer("best")

    def named(self) -> dict[str, np.ndarray]:
        """Every array, by the name that it has in a checkpoint."""
        return {
            f"{name}.{l}": array
            for l, layer in enumerate(self.layers)
            for name, array in layer.named().items()
        }

    def go_on_from(self, t: int) -> None:
        """Say that ``t`` steps led to these arrays."""
        for layer in self.layers:
            layer.go_on_from(t)

    def _by_layer(self, which: str) -> dict[str, np.ndarray]:
        return {
            f"{name}.{l}": array
            for l, layer in enumerate(self.layers)
            for name, array in getattr(layer, which).items()
        }


@dataclasses.dataclass(frozen=True, eq=False)
class LayersSteps:
    """Makes the steps of ``state``, which they change, on the same rows of every layer."""

    state: LayersState
    schedule: Schedule
    recipe: Recipe
    batches: tuple[Batches, ...]
    backend: str

    def make(self, t: int) -> float:
        """Make step ``t``, the next of the state; return the loss before it."""
        state, recipe = self.state, self.recipe
        batch = [batches(t) for batches in self.batches]
        x = [spread_non_finite(rows) for rows, _ in batch]
        target = [rows for _, rows in batch]
        options = t, self.schedule(t), recipe.beta1, recipe.beta2, recipe.eps
        top_k = self.schedule.top_k(t, state.config.top_k)
        config = state.config
        if top_k != config.top_k:
            config = dataclasses.replace(config, top_k=top_k)
        active = np.zeros((config.layers, config.dict_size), bool)
        fused = self.backend == "kernels" and state.layers[0].own is None and not recipe.clip_norm
        step = self._fused if fused else self._by_stages
        loss = step(config, options, x, target, active)
        for layer, of_layer in zip(state.layers, active):
            count_step(layer, recipe, of_layer, self.backend)
        return loss

    def fetch(self) -> None:
        """The arrays of the state are here."""

    def _fused(
        self,
        config: CrossLayerConfig,
        options: tuple[float, ...],
        x: list[np.ndarray],
        target: list[np.ndarray],
        active: np.ndarray,
    ) -> float:
        from ...kernels.cross_layer_step import Layer, cross_layer_step_in_place
        from ...kernels.screened_encoder import Encoder

        layers = []
        for state, of_layer in zip(self.state.layers, active):
            if state.encoder is None:
                state.encoder = Encoder(state.arrays["W_enc"], state.arrays["b_enc"])
            layers.append(Layer(state.arrays, state.m, state.v, state.encoder, of_layer))
        loss = cross_layer_step_in_place(
            layers,
            x,
            target,
            options,
            l1_coeff=self.recipe.l1_coeff,
            selection={name: getattr(config, name) for name in ("top_k", "activation", "ties")},
            unit_norm_decoder=self.recipe.unit_norm_decoder,
        )
        return float(np.dtype(config.dtype).type(loss))  # as `value_and_grad` returns it

    def _by_stages(
        self,
        config: CrossLayerConfig,
        options: tuple[float, ...],
        x: list[np.ndarray],
        target: list[np.ndarray],
        active: np.ndarray,
    ) -> float:
        """The step of whatever can be differentiated, with the gradients in memory."""
        recipe, layers = self.recipe, self.state.layers
        # New parameters for each step: no others may be used once their arrays are written to.
        params = CrossLayerParams(tuple(layer.params() for layer in layers))
        own = layers[0].own
        backend = "reference" if own is not None and own.of_the_reference else self.backend
        run = cross_layer_backend(backend, config, params)
        stages = run.stages(np.stack(x), np.stack(target), recipe.l1_coeff)
        gradients = {
            f"{name}.{l}": _gradient(stages, name, l, array.shape)
            for l, layer in enumerate(layers)
            for name, array in layer.arrays.items()
        }
        if recipe.clip_norm:
            clip(gradients, recipe.clip_norm)
        for l, layer in enumerate(layers):
            active[l, stages["hidden"][l].indices] = True
            of_layer = {name: gradients[f"{name}.{l}"] for name in layer.arrays}
            move(layer, recipe, options, of_layer, self.backend)
        return float(stages["loss"])


def _gradient(stages: dict[str, Any], name: str, l: int, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient by an array of layer ``l``, its outputs side by side as in the array."""
    gradient: np.ndarray = stages[f"d{name}"][l]
    if name == "b_dec":
        return side_by_side(gradient, shape[0] // len(gradient))
    return gradient.reshape(shape)
