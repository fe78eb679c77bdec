"""What a step is made with, and what it changes: the options of loss and Adam, and the state.

What Adam does stands in ``reference/adam.py``; the step itself in ``step.py``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..declaring import option
from ..errors import OptionError
from ..options import finite_number, integer_in, one_of, positive_integer, truth
from ..ownership import aligned, aligned_copy
from ..params import NAMES, Losses, Own, Params, TranscoderConfig
from ..params.jumprelu import THROUGH
from .schedule import positive_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Losses):
    """What every step is made with.

    Raises:
        OptionError: a negative ``l1_coeff``, ``aux_coeff``, ``clip_norm``, ``aux_k`` or coefficient
            of gates, a beta outside 0 to below 1, an ``average`` outside 0 to 1, an ``eps`` or a
            ``bandwidth`` of 0, no step in ``dead_after``, another ``second_moment`` or ``through``;
            or as `Losses`.
    """

    l1_coeff: float = option(1e-3, "of the sparsity loss", "in training units")
    theta_start: float = option(
        0.01, "of jumprelu: thresholds before the first step", "in training units"
    )
    bandwidth: float = option(
        0.05,
        "of jumprelu: how far from its threshold a feature trains it",
        "in training units (``reference/jumprelu.py``)",
    )
    through: str = option(
        "theta", "of jumprelu: what straight-through gradients reach", choices=THROUGH
    )
    gate_l1_coeff: float = option(1e-3, "of gated: of the rectified gates in the auxiliary loss")
    auxiliary_coeff: float = option(
        1.0, "of gated: of the error that they make", "(``reference/gated.py``)"
    )
    unit_norm_decoder: bool = option(
        False,
        "keep the rows of W_dec at norm 1",
        "what is parallel to a row is removed from its gradient, and each is divided by its norm "
        "after every step (``reference/unit_norm.py``)",
    )
    aux_k: int = option(
        0,
        "dead features that learn from the residual, in a row",
        "those of the largest activations (AuxK, ``reference/aux_k.py``); 0: none",
    )
    aux_coeff: float = option(1 / 32, "of AuxK's loss")
    dead_after: int = option(
        100, "steps without a positive activation after which AuxK takes a feature for dead"
    )
    clip_norm: float = option(
        0.0, "the largest norm of the gradient", "of all arrays together; 0: any"
    )
    average: float = option(
        1.0,
        "decay of the average of the weights",
        "which is what is measured and returned (``reference/average.py``): of every step up to "
        "the 64th, then of every eighth.  1: the mean of all; 0: no average",
    )
    second_moment: str = option(
        "row",
        "what Adam has one second moment for",
        "each row of W_enc and of W_dec, or each of their entries (``reference/adam.py``)",
        choices=("row", "entry"),
    )
    beta1: float = option(0.9, "of Adam (``reference/adam.py``)")
    beta2: float = option(0.95, "of Adam")
    eps: float = option(1e-8, "of Adam")

    def __post_init__(self) -> None:
        self.check_losses()
        of_gates = "gate_l1_coeff", "auxiliary_coeff"
        checked: dict[str, Any] = {
            name: finite_number(name, getattr(self, name))
            for name in ("l1_coeff", "aux_coeff", "clip_norm", "theta_start", *of_gates)
        }
        for name in ("eps", "bandwidth"):
            checked[name] = positive_number(name, getattr(self, name))
        one_of("through", self.through, THROUGH)
        for name in ("average", "beta1", "beta2"):
            checked[name] = finite_number(name, getattr(self, name))
            if checked[name] > 1 or (name != "average" and checked[name] == 1):
                want = "from 0 to 1" if name == "average" else "from 0 to below 1"
                raise OptionError(name, want, getattr(self, name))
        checked["unit_norm_decoder"] = truth("unit_norm_decoder", self.unit_norm_decoder)
        checked["second_moment"] = one_of("second_moment", self.second_moment, ("row", "entry"))
        checked["aux_k"] = integer_in("aux_k", self.aux_k, 0, 1 << 31)
        checked["dead_after"] = positive_integer("dead_after", self.dead_after)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclasses.dataclass
class State:
    """A transcoder in training: its arrays, Adam's two means of each, and the steps made so far.

    The arrays belong to this object, and each step overwrites them.
    """

    config: TranscoderConfig  # in training units
    arrays: dict[str, np.ndarray]  # by their names in `Params` and in its own
    m: dict[str, np.ndarray]  # the mean gradient
    v: dict[str, np.ndarray]  # the mean squared gradient, (D, 1) of what has one a row
    average: dict[str, np.ndarray]  # of the arrays over the steps, or none
    best: dict[str, np.ndarray]  # what measured best so far, or none
    silent: np.ndarray  # (D,) int64, steps since each feature was last active
    t: int
    own: Own | None = None  # the options of what the activation takes, beside arrays of the start
    encoder: Any = dataclasses.field(default=None, repr=False)  # what the kernels know of W_enc

    @classmethod
    def start(
        cls,
        config: TranscoderConfig,
        arrays: dict[str, np.ndarray],
        recipe: Recipe,
        best: bool = False,
        own: Own | None = None,
    ) -> State:
        """Before the first step, at ``arrays``, which from now on belong to the state."""
        for name in arrays:  # one at a time: whoever began may have no room for two of all
            arrays[name] = aligned_copy(arrays[name])
        arrays |= {} if own is None else _copies(own.arrays())
        m, v = _zeros(arrays), _zeros(arrays)
        if recipe.second_moment == "row":
            v |= _zeros({name: arrays[name][:, :1] for name in ("W_enc", "W_dec")})
        average = _copies(arrays) if recipe.average else {}
        silent = np.zeros(config.dict_size, np.int64)
        best_arrays = _copies(arrays) if best else {}
        return cls(config, arrays, m, v, average, best_arrays, silent, 0, own)

    def params(self) -> Params:
        """The arrays as `Params`, over the same memory: nobody may use these after a step."""
        arrays: dict[str, Any] = {name: a for name, a in self.arrays.items() if name in NAMES}
        own = self.own and self.own.gradient({f"d{name}": a for name, a in self.arrays.items()})
        return Params.adopt(**arrays, own=own)

    @property
    def dict_size(self) -> int:
        """How many features there are."""
        return self.config.dict_size

    def go_on_from(self, t: int) -> None:
        """Say that ``t`` steps led to these arrays."""
        self.t = t

    @property
    def measured(self) -> dict[str, np.ndarray]:
        """The arrays that are measured: the averages, if there are any."""
        return self.average or self.arrays

    def named(self) -> dict[str, np.ndarray]:
        """Every array of the state, by the name that it has in a checkpoint."""
        groups = ("arrays", "m", "v", "average", "best")
        arrays = {f"{g}.{name}": a for g in groups for name, a in getattr(self, g).items()}
        return arrays | {"silent": self.silent}


def _zeros(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: aligned(a.shape, a.dtype, np.zeros) for name, a in arrays.items()}


def _copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: aligned_copy(array) for name, array in arrays.items()}
