"""This library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from reftranscoder.training.adam import Recipe, State
from reftranscoder.training.fitting import fit_in
from reftranscoder.training.options import FitOptions
from reftranscoder.training.start import folded
from reftranscoder.training.step import training_step
from reftranscoder.training.steps import Here, Steps

from ..work import Work

_FIRST_RESULT = """
import numpy as np, reftranscoder as rt
arrays = {"W_enc": (4096, 768), "b_enc": 4096, "W_dec": (4096, 768), "b_dec": 768}
tc = rt.Transcoder.from_arrays(**{n: np.ones(s, "f4") for n, s in arrays.items()}, top_k=32)
tc.encode(np.ones((1, 768), "f4"))
"""


class Ours:
    """Every race."""

    name = "reftranscoder"
    calls_blas = False
    l1_coeff = 1e-3

    def __init__(self, work: Work) -> None:
        self.tc = work.tc
        arrays = {name: array.copy() for name, array in work.tc.params.arrays().items()}
        # As the others' Adam has it.
        self.recipe = Recipe(l1_coeff=self.l1_coeff, second_moment="entry")
        self.state = State.start(work.tc.config, arrays, self.recipe)

    def own(self, array: np.ndarray) -> np.ndarray:
        return array

    def encode(self, x):
        return self.tc.encode(x)

    def predict(self, x):
        return self.tc(x)

    row = encode

    def step(self, x, target):
        return training_step(self.state, self.recipe, 1e-3, x, target, "kernels")

    def start(self):
        subprocess.run([sys.executable, "-c", _FIRST_RESULT], check=True)

    def results(self, x, target):
        stages = self.tc.stages(x, target, l1_coeff=self.l1_coeff, backend="kernels")
        return stages | {"hidden": self.tc.encode(x)}


class Variants:
    """Every variant."""

    name, calls_blas, is_limit = "reftranscoder", False, False

    def __init__(self, work: Work) -> None:
        pass

    def variant(self, name, tc):
        return tc.encode


class Fit:
    """``rt.fit`` with its defaults."""

    name = "reftranscoder"
    calls_blas = False

    def __init__(self, task) -> None:
        self.task, self.place = task, None
        self._fit(steps=2, begin=lambda t: None)  # kernels compile

    def train(self, begin):
        self._fit(self.task.steps, begin)

    def transcoder(self):
        plan = self.place.plan
        return folded(plan.state.config, plan.scaling, plan.state.measured)

    def reconstruct(self, x):
        return self.transcoder()(x)

    def _fit(self, steps, begin):
        task, self.place = self.task, _Place(begin)
        sizes = {"dict_size": task.dict_size, "top_k": task.top_k, "batch_size": task.batch_size}
        # What it has learnt is measured here, for all alike.
        options = {"steps": steps, "seed": task.seed, "log_every": steps}
        fit_in(self.place, FitOptions(task.x, task.target, **sizes, **options))


class _Place(Here):
    """Where a run is seen from outside between its steps."""

    def __init__(self, begin) -> None:
        self.begin, self.plan = begin, None

    def steps(self, plan):
        self.plan = plan
        return _Begun(plan, self.begin)


class _Begun(Steps):
    def __init__(self, plan, begin) -> None:
        super().__init__(plan)
        self._begin = begin

    def make(self, t):
        self._begin(t)
        return super().make(t)


ENTRANTS = [Ours]
TRAINERS = [Fit]
VARIANTS = [Variants]
