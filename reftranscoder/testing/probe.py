"""Arguments for every operation: ordinary ones, awkward ones, and some whose sums are all exact."""

from __future__ import annotations

import inspect
import math
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import OptionError
from ..options import one_of
from ..params import KEEPING_ALL
from ..reference import Forward, Gated, JumpReLU, Losses
from ..twins import Twin

#: What the arrays of a `Probe` hold.
VALUES = {
    "normal": "standard normal numbers",
    "real": "as in language models: some columns far larger, and not centred",
    "wild": "many orders of magnitude beside each other",
    "tiny": "products that are subnormal in float32",
    "subnormal": "numbers that are subnormal in float32",
    "integers": "small integers, of which every sum is exact",
    "ties": "nothing but ones: everything is equal",
    "zeros": "zeros of either sign, and a few ones",
    "negative": "small integers of which every pre-activation is negative",
}


class Probe:
    """Every argument that an operation in `reftranscoder.twins` takes, made when it is asked for.

    Attributes have the names and the shapes that arguments have everywhere, in the form that the
    reference takes: hidden and its gradients are dense.  Each depends on the seed and its own name.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        B: int = 8,
        I: int = 21,  # noqa: E741
        D: int = 32,
        O: int = 16,  # noqa: E741
        K: int = 4,
        dtype: np.typing.DTypeLike = np.float32,
        values: str = "normal",
        activation: str = "topk",
        ties: str = "lowest_index",
        skip: bool = True,
    ):
        one_of("values", values, VALUES)
        self.B, self.I, self.D, self.O, self.top_k = B, I, D, O, K
        self.dtype, self.values = np.dtype(dtype), values
        self.activation, self.ties, self.skip = activation, ties, skip
        self.seed = seed
        #: Whether every sum is exact, for B, D and O powers of two.
        self.exact = values in ("integers", "ties", "zeros", "negative")

    def arguments(self, twin: Twin) -> dict[str, Any]:
        """Return the arguments of ``twin.reference``, by name."""
        names = inspect.signature(twin.function("reference")).parameters
        for name in names:
            if not hasattr(self, name):
                raise OptionError("name", "an attribute of Probe", name, "Add a recipe for it.")
        made = {name: getattr(self, name) for name in names}
        if "groupmax" in (twin.name.partition("_")[0], made.get("activation")) and "top_k" in made:
            made["top_k"] = math.gcd(self.top_k, self.D)  # groups are of one size
        return made

    @cached_property
    def x(self) -> np.ndarray:
        x = self._numbers("x", self.B, self.I)
        return abs(x) if self._negative else x

    @cached_property
    def W_enc(self) -> np.ndarray:
        return self._twice(self._numbers("W_enc", self.D, self.I))

    @cached_property
    def b_enc(self) -> np.ndarray:
        b_enc = self._twice(self._numbers("b_enc", self.D))
        return b_enc - 1 if self._negative else b_enc

    @property
    def W(self) -> np.ndarray:
        return self.W_enc

    @property
    def b(self) -> np.ndarray:
        return self.b_enc

    @cached_property
    def W_dec(self) -> np.ndarray:
        return self._numbers("W_dec", self.D, self.O)

    @cached_property
    def b_dec(self) -> np.ndarray:
        return self._numbers("b_dec", self.O)

    @cached_property
    def W_skip(self) -> np.ndarray | None:
        return self._numbers("W_skip", self.O, self.I) if self.skip else None

    @cached_property
    def pre_acts(self) -> np.ndarray:
        return self._numbers("pre_acts", self.B, self.D)

    @cached_property
    def hidden(self) -> np.ndarray:
        """From none to K entries in a row; any number where all that are active are kept."""
        rng = self._rng("entries")
        most = self.D if self.activation in KEEPING_ALL else self.top_k
        count = rng.integers(0, most + 1, (self.B, 1))
        rank = np.argsort(rng.random((self.B, self.D)), axis=1)
        numbers: np.ndarray = self._numbers("hidden", self.B, self.D) * (rank < count)
        if self.activation == "abstopk":
            return numbers
        hidden: np.ndarray = np.abs(numbers)
        return hidden * (hidden > self.theta) if self.activation == "jumprelu" else hidden

    @cached_property
    def d_pre(self) -> np.ndarray:
        d_pre: np.ndarray = self._numbers("d_pre", self.B, self.D) * (self.hidden != 0)
        return d_pre

    @cached_property
    def d_hidden(self) -> np.ndarray:
        """An entry, not zero, wherever ``hidden`` has one."""
        d_hidden = self._numbers("d_hidden", self.B, self.D)
        d_hidden[d_hidden == 0] = 1
        d_hidden *= self.hidden != 0
        return d_hidden

    @cached_property
    def d_reconstruction(self) -> np.ndarray:
        return self._numbers("d_reconstruction", self.B, self.O)

    @cached_property
    def target(self) -> np.ndarray:
        return self._numbers("target", self.B, self.O)

    @cached_property
    def reconstruction(self) -> np.ndarray:
        return self._numbers("reconstruction", self.B, self.O)

    @cached_property
    def forward(self) -> Forward:
        """Stages that fit ``hidden``: what is cut off, where something is, may be positive."""
        cut_off = self.activation not in KEEPING_ALL
        others = np.abs(self._numbers("forward", self.B, self.D)) * cut_off
        pre = np.where(self.hidden != 0, self.hidden, others)
        return Forward(pre, pre, self.hidden, self.reconstruction)

    @property
    def pre(self) -> np.ndarray:
        return self.pre_acts

    @cached_property
    def theta(self) -> np.ndarray:
        """Thresholds: of small numbers, some equal to an entry, and some below zero."""
        return self._numbers("theta", self.D) / 2

    @cached_property
    def b_gate(self) -> np.ndarray:
        return self._numbers("b_gate", self.D)

    @cached_property
    def b_mag(self) -> np.ndarray:
        return self._numbers("b_mag", self.D)

    @cached_property
    def r_mag(self) -> np.ndarray:
        """Logarithms: of 1, where it shall be exact."""
        r_mag: np.ndarray = np.clip(self._numbers("r_mag", self.D), -3, 3)
        return np.zeros_like(r_mag) if self.exact else r_mag

    @property
    def own(self) -> JumpReLU | Gated | None:
        if self.activation == "gated":
            return Gated(self.b_gate, self.b_mag, self.r_mag)
        return JumpReLU(self.theta) if self.activation == "jumprelu" else None

    @property
    def l1_coeff(self) -> float:
        return 0.5 if self.exact else 1e-3

    @property
    def losses(self) -> Losses:
        """The two that are means over everything or, for an odd seed, the two that are not."""
        return Losses("mse_sum", "l1_sum") if self.seed % 2 else Losses()

    # AuxK.

    @cached_property
    def dead(self) -> np.ndarray:
        """Most features, so that with any K some are left out, and in some probes all or none."""
        dead: np.ndarray = self._rng("dead").random(self.D) < 0.7
        return dead

    @property
    def aux_k(self) -> int:
        return self.top_k

    @property
    def aux_coeff(self) -> float:
        return 1 / 32

    @cached_property
    def residual(self) -> np.ndarray:
        return self._numbers("residual", self.B, self.O)

    # Adam.  Where it shall be exact, g^2 + v is a square s^2, and s + eps a power of two.

    @cached_property
    def p(self) -> np.ndarray:
        return self._numbers("p", self.D, self.O)

    @cached_property
    def m(self) -> np.ndarray:
        return self._numbers("m", self.D, self.O)

    @cached_property
    def g(self) -> np.ndarray:
        if not self.exact:
            return self._numbers("g", self.D, self.O)
        root = self._root
        g: np.ndarray = np.fmin(root, np.fmax(-root, 3 * self._numbers("g", self.D, self.O)))
        return g

    @cached_property
    def v(self) -> np.ndarray:
        return self._root**2 - self.g**2 if self.exact else self._numbers("v", self.D, self.O) ** 2

    @cached_property
    def v_rows(self) -> np.ndarray:
        mean = np.mean(self.g.astype(np.float64) ** 2, axis=1, keepdims=True)
        numbers = 49 - mean if self.exact else self._numbers("v_rows", self.D, 1) ** 2
        return np.asarray(numbers, self.dtype)

    @cached_property
    def _root(self) -> np.ndarray:
        return self._rng("root").choice([0, 1, 3, 7], (self.D, self.O)).astype(self.dtype)

    @property
    def t(self) -> int:
        return 1 if self.exact else 3

    @property
    def lr(self) -> float:
        return 0.125 if self.exact else 1e-3

    @property
    def beta1(self) -> float:
        return 0.5 if self.exact else 0.9

    @property
    def beta2(self) -> float:
        return 0.5 if self.exact else 0.999

    @property
    def average(self) -> np.ndarray:
        return self.m

    @property
    def decay(self) -> float:
        return self.beta1

    @property
    def eps(self) -> float:
        return 1.0 if self.exact else 1e-8

    @property
    def _negative(self) -> bool:
        return self.values == "negative"

    def _twice(self, features: np.ndarray) -> np.ndarray:
        """A quarter of the features occur twice, so that their pre-activations tie.

        Not so in ordinary numbers: where rounding decides between two, a bound allows either.
        """
        if self.exact or self.values == "wild":
            quarter = self.D // 4
            features[2 * quarter : 3 * quarter] = features[:quarter]
        return features

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name.encode()])

    def _numbers(self, name: str, *shape: int) -> np.ndarray:
        rng = self._rng(name)
        numbers = rng.standard_normal(shape)
        if self.values == "real":
            columns = np.exp(0.5 * rng.standard_normal(shape[-1]))
            columns[:: max(shape[-1] // 3, 1)] *= 12
            numbers = columns * (numbers + rng.standard_normal(shape[-1]))
        elif self.values == "wild":
            numbers *= 2.0 ** rng.integers(-12, 13, shape)
        elif self.values == "tiny":
            numbers *= 2.0**-70
        elif self.values == "subnormal":
            numbers *= 2.0**-145
        elif self.values == "integers":
            numbers = np.clip(np.rint(1.5 * numbers), -3, 3)
        elif self.values == "ties":
            numbers = np.ones(shape)
        elif self.values == "zeros":
            numbers = np.copysign(rng.random(shape) < 0.1, numbers)
        elif self._negative:
            numbers = -np.clip(np.abs(np.rint(1.5 * numbers)), 0, 3)
        return numbers.astype(self.dtype)
