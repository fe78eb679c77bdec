"""Published faults of the selection: hidden."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...reference import topk_forward
from ..task.case import Case
from .fault import fault
from .stages import FORWARD, Stages, small_case, stages

_EXACTLY_K = "hidden[b] keeps the K largest entries of pre_acts[b], and no other"
_OF_EACH_ROW = "hidden[b] keeps the K largest of row b, whatever the other rows hold"
_VALUES = "hidden[b, d] = pre_acts[b, d] where d is selected"


@fault(
    "hidden",
    "pytorch/pytorch#88227",
    "pytorch/pytorch#27542",
    equation="among equal values, those of lower index are kept",
    says="too near to tell apart",
    kind="ambiguous",
    case=partial(small_case, D=48),
)
def ties_in_another_order(case: Case) -> Stages:
    """torch.topk promises no order among equal values: the indices it keeps differ between calls,
    devices and values of k.  The audit allows every choice among equals."""
    pre = np.round(stages(case)["pre"] * 2) / 2  # which makes ties
    pre = stages(case)["pre"] if case.config.top_k == 0 else pre
    acts = np.maximum(pre, 0)
    hidden = topk_forward(acts[:, ::-1], case.config.top_k)[:, ::-1]  # the last of equals
    return {"pre_acts": acts, "hidden": hidden}
