"""Published faults of the selection: which features are kept, and with what values."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from ..fault import fault
from ..stages import FORWARD, Small, Stages, reference, small_case, stages

_EXACTLY_K = "hidden[b] keeps the K largest entries of pre_acts[b], and no other"
_BY_ROW = "what hidden[b] keeps depends on row b of pre_acts alone"
_VALUES = "hidden[b, d] = pre_acts[b, d] where d is selected, else 0"
_TIES = "among equal entries of pre_acts[b], those of lower index are kept"


def _one_row_of_nan() -> Small:
    case = small_case()
    x = case.x.copy()
    x[3, 0] = np.nan
    return dataclasses.replace(case, x=x)


@fault(
    "hidden",
    "pytorch/pytorch#88227",
    "pytorch/pytorch#27542",
    equation=_TIES,
    says="too near to tell apart",
    kind="ambiguous",
    case=partial(small_case, tied=True, K=3),
)
def ties_in_another_order(case: Small) -> Stages:
    """torch.topk promises no order among equal values: which of them it keeps differs between
    devices, calls and values of k.  No fault: the audit allows every choice among equals."""
    acts = stages(case)["pre_acts"]
    last_of_equals = reference.topk_forward(acts[:, ::-1], case.config.top_k)[:, ::-1]
    return stages(case, *FORWARD, hidden=last_of_equals)


@fault(
    "hidden",
    "pytorch/pytorch#88096",
    "pytorch/pytorch#31776",
    equation=_VALUES,
    says="Fault at hidden",
    case=partial(small_case, b_enc=-1.0),
)
def padding_overwrites_a_feature(case: Small) -> Stages:
    """Where indices repeat, scatter keeps one of the values, and which one is not defined.  A list
    of active features that is padded with index 0 and value 0 may erase feature 0."""
    acts = stages(case)["hidden"]
    hidden = np.zeros_like(acts)
    for b, row in enumerate(acts):
        active = np.flatnonzero(row)
        padding = np.zeros(case.config.top_k - len(active), int)
        hidden[b, active] = row[active]
        hidden[b, padding] = 0
    return stages(case, *FORWARD, hidden=hidden)


@fault(
    "hidden",
    "AI-Hypercomputer/maxtext#4243",
    equation=_EXACTLY_K,
    says="is left out",
)
def largest_of_buckets(case: Small) -> Stages:
    """jax.lax.approx_max_k keeps the largest of each bucket and the K largest of these: one of two
    large features in the same bucket is lost, as its recall of 0.95 allows.  Here, 6 buckets."""
    acts = stages(case)["pre_acts"]
    buckets = acts.reshape(len(acts), 6, -1)
    best = np.where(buckets == buckets.max(axis=2, keepdims=True), buckets, 0)
    hidden = reference.topk_forward(best.reshape(acts.shape), case.config.top_k)
    return stages(case, *FORWARD, hidden=hidden)


@fault(
    "hidden",
    "EleutherAI/sparsify#49",
    "EleutherAI/sparsify@b5e29a0",
    equation=_EXACTLY_K,
    says="GroupMax",
)
def largest_of_each_group(case: Small) -> Stages:
    """GroupMax: the dictionary is cut into K groups, and the largest of each is kept.  Another
    definition, of files with ``"activation": "groupmax"``."""
    acts = stages(case)["pre_acts"]
    groups = acts.reshape(len(acts), case.config.top_k, -1)
    hidden = np.where(groups == groups.max(axis=2, keepdims=True), groups, 0)
    return stages(case, *FORWARD, hidden=hidden.reshape(acts.shape))


@fault(
    "hidden",
    "bartbussmann/BatchTopK@7f56273",
    fixed="2024-07-19",
    equation=_EXACTLY_K,
    says="is positive and left out",
)
def auxiliary_selection_of_what_was_selected(case: Small) -> Stages:
    """The auxiliary loss was given the codes after selection, and looked there for the dead
    features that had not been selected: it found zeros."""
    acts, selected = stages(case)["pre_acts"], stages(case)["hidden"]
    dead = ~selected.any(axis=0)
    hidden = reference.topk_forward(np.where(dead, selected, 0), case.config.top_k)
    return stages(case, *FORWARD, pre_acts=acts, hidden=hidden)


@fault(
    "hidden",
    "OpenMOSS/Language-Model-SAEs@685a2cf8",
    "OpenMOSS/Language-Model-SAEs@b76ffac0",
    fixed="2026-04-06",
    equation=_EXACTLY_K,
    says="the negative ones dropped",
)
def largest_magnitudes_then_relu(case: Small) -> Stages:
    """The K largest absolute values were selected, and the negative ones among them removed
    afterwards: fewer than K are left, and positive features passed over."""
    pre = stages(case)["pre"]
    selected = reference.topk_forward(np.abs(pre), case.config.top_k) != 0
    return stages(case, *FORWARD, hidden=np.where(selected & (pre > 0), pre, 0))


@fault(
    "hidden",
    "decoderesearch/SAELens#571",
    fixed="sae-lens 6.16.3",
    equation=_EXACTLY_K,
    says="Fault at hidden",
)
def selection_repeated_for_each_prefix(case: Small) -> Stages:
    """Matryoshka: every prefix of the dictionary made a selection of its own, in place of the part
    of the one selection that lies in it.  Here, the codes of the first half."""
    acts = stages(case)["pre_acts"]
    prefix = acts.copy()
    prefix[:, acts.shape[1] // 2 :] = 0
    return stages(case, *FORWARD, hidden=reference.topk_forward(prefix, case.config.top_k))


@fault(
    "hidden",
    "decoderesearch/circuit-tracer#76",
    equation=_BY_ROW,
    says="is positive and left out",
)
def first_positions_are_silent(case: Small) -> Stages:
    """The first positions of a sequence, on which a transcoder was not trained, are set to
    zero: one or four, by model.  Another definition, and one that a row alone does not tell."""
    hidden = stages(case)["hidden"].copy()
    hidden[:4] = 0
    return stages(case, *FORWARD, hidden=hidden)


@fault(
    "hidden",
    "saprmarks/dictionary_learning@f628c0e",
    equation=_VALUES,
    says="Fault at hidden",
)
def norms_applied_twice(case: Small) -> Stages:
    """encode multiplied the activations by the norms of the decoder, and forward did so again
    before it returned them; the reconstruction was right."""
    right, norms = stages(case), np.linalg.norm(case.params.W_dec, axis=1)
    hidden = right["hidden"] * norms * norms
    return stages(case, *FORWARD, hidden=hidden, reconstruction=right["reconstruction"])


@fault(
    "pre",
    "decoderesearch/SAELens#565",
    equation="pre_acts = relu(pre), ranked as they are",
    says="rescale_acts_by_decoder_norm",
    kind="convention",
)
def ranked_by_what_they_write(case: Small) -> Stages:
    """Activations are multiplied by the norms of their decoder rows before the selection, and
    divided by them before decoding: features are ranked by the size of what they write."""
    norms = np.linalg.norm(case.params.W_dec, axis=1)
    pre = stages(case)["pre"] * norms
    hidden = reference.topk_forward(np.maximum(pre, 0), case.config.top_k)
    decoded = hidden / norms @ case.params.W_dec + case.params.b_dec
    return stages(case, *FORWARD, pre=pre, hidden=hidden, reconstruction=decoded)


@fault(
    "hidden",
    "pytorch/pytorch#1810",
    "pytorch/pytorch#16762",
    equation="a row that holds NaN has no finite activation but zeros",
    says="not finite",
    case=_one_row_of_nan,
)
def nan_passed_over(case: Small) -> Stages:
    """topk passed over NaN on the CPU, and returned it on a GPU.  Passed over, a row of NaN has
    codes of zero, and nothing after them tells that anything was wrong."""
    acts = stages(case)["pre_acts"]
    hidden = reference.topk_forward(np.nan_to_num(acts), case.config.top_k)
    return stages(case, *FORWARD, pre_acts=acts, hidden=hidden)


FAULTS = (
    ties_in_another_order,
    padding_overwrites_a_feature,
    largest_of_buckets,
    largest_of_each_group,
    auxiliary_selection_of_what_was_selected,
    largest_magnitudes_then_relu,
    selection_repeated_for_each_prefix,
    first_positions_are_silent,
    norms_applied_twice,
    ranked_by_what_they_write,
    nan_passed_over,
)
