"""Published faults of the selection: how many features are kept."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..fault import fault
from ..stages import FORWARD, Small, Stages, reference, small_case, stages

_EXACTLY_K = "hidden[b] keeps the K largest entries of pre_acts[b], and no other"
_BY_ROW = "what hidden[b] keeps depends on row b of pre_acts alone"
_TIES = "among equal entries of pre_acts[b], those of lower index are kept"


@fault(
    "hidden",
    "blasphemetheus/edifice:lib/edifice/interpretability/sparse_autoencoder.ex",
    equation=_TIES,
    says="keep_all",
    kind="convention",
    case=partial(small_case, tied=True, K=3),
)
def threshold_keeps_ties(case: Small) -> Stages:
    """Everything that is at least the K-th largest value is kept: where values tie for the K-th
    place, more than K."""
    acts = stages(case)["pre_acts"]
    kth = np.sort(acts, axis=1)[:, -case.config.top_k, None]
    return stages(case, *FORWARD, hidden=np.where(acts >= kth, acts, 0))


@fault(
    "hidden",
    "saprmarks/dictionary_learning:dictionary_learning/trainers/batch_top_k.py",
    equation=_EXACTLY_K,
    says="features are kept, not 4",
)
def threshold_excludes_its_own_feature(case: Small) -> Stages:
    """For inference, a threshold takes the place of the selection and features strictly above it
    are kept.  The smallest value that was ever selected is not above itself."""
    acts = stages(case)["pre_acts"]
    threshold = np.sort(acts, axis=1)[:, -case.config.top_k, None]
    return stages(case, *FORWARD, hidden=acts * (acts > threshold))


@fault(
    "hidden",
    "EleutherAI/sparsify#87",
    "EleutherAI/sparsify@1cdb4a5",
    fixed="eai-sparsify 0.0.1",
    equation=_EXACTLY_K,
    says="of each column are kept",
)
def k_of_each_column(case: Small) -> Stages:
    """top-k ran over dimension 1, where a batch of sequences has its positions: each feature was
    kept in K rows, in place of K features in each row."""
    acts = stages(case)["pre_acts"]
    return stages(case, *FORWARD, hidden=reference.topk_forward(acts.T, case.config.top_k).T)


@fault(
    "hidden",
    "bartbussmann/BatchTopK#5",
    "bartbussmann/BatchTopK:sae.py",
    equation=_BY_ROW,
    says="BatchTopK",
)
def k_a_row_on_average(case: Small) -> Stages:
    """BatchTopK keeps the K B largest of the whole batch, some rows more and some fewer than K: a
    definition of its own, and one that an encoder for single rows cannot have."""
    acts = stages(case)["pre_acts"]
    least = np.sort(acts.ravel())[-case.config.top_k * len(acts)]
    return stages(case, *FORWARD, hidden=np.where(acts >= least, acts, 0))


@fault(
    "hidden",
    "decoderesearch/SAELens#570",
    fixed="sae-lens 6.16.2",
    equation=_BY_ROW,
    says="Fault at hidden",
)
def rows_counted_on_the_first_axis(case: Small) -> Stages:
    """BatchTopK took the first axis for the number of rows.  Of activations of shape (sequences,
    positions, D) it kept K for each sequence, not for each position."""
    acts = stages(case)["pre_acts"]
    sequences = len(acts) // 4  # of 4 positions
    least = np.sort(acts.ravel())[-case.config.top_k * sequences]
    return stages(case, *FORWARD, hidden=np.where(acts >= least, acts, 0))


@fault(
    "hidden",
    "OpenMOSS/Language-Model-SAEs@9c719a51",
    fixed="2025-11-10",
    equation=_EXACTLY_K,
    says="Fault at hidden",
)
def every_process_keeps_k_for_all(case: Small) -> Stages:
    """In data parallel training every process kept K times the rows of the global batch among its
    own rows, and not K times its own."""
    acts, B = stages(case)["pre_acts"], len(case.x)
    hidden = np.zeros_like(acts)
    for own in (slice(0, B // 2), slice(B // 2, B)):
        least = np.sort(acts[own].ravel())[-case.config.top_k * B]
        hidden[own] = np.where(acts[own] >= least, acts[own], 0)
    return stages(case, *FORWARD, hidden=hidden)


@fault(
    "hidden",
    "decoderesearch/SAELens#608",
    fixed="sae-lens 6.26.2",
    equation=_EXACTLY_K,
    says="nothing is selected",
)
def threshold_dropped_on_loading(case: Small) -> Stages:
    """BatchTopK autoencoders of dictionary_learning were loaded as plain ReLU ones, without their
    threshold."""
    acts = stages(case)["pre_acts"]
    return stages(case, *FORWARD, hidden=acts)


@fault(
    "hidden",
    "decoderesearch/SAELens#554",
    fixed="sae-lens 6.12.3",
    equation=_EXACTLY_K,
    says="nothing is selected",
)
def k_dropped_on_loading(case: Small) -> Stages:
    """The activation and its K of older TopK files were not read: these were run with ReLU."""
    acts = stages(case)["pre_acts"]
    return stages(case, "pre_acts", "hidden", hidden=acts)


@fault(
    "hidden",
    "jbloomAus/SAEDashboard#33",
    equation=_EXACTLY_K,
    says="features are selected, and top_k is 4",
)
def k_of_each_block_of_features(case: Small) -> Stages:
    """Features were encoded block by block, and the K largest of each block kept, not those of the
    whole dictionary."""
    blocks = np.split(stages(case)["pre_acts"], 2, axis=1)
    kept = [reference.topk_forward(block, case.config.top_k) for block in blocks]
    return stages(case, *FORWARD, hidden=np.concatenate(kept, axis=1))


@fault(
    "hidden",
    "pytorch/pytorch#78915",
    "pytorch/pytorch#79677",
    "pytorch/pytorch#94639",
    fixed="an error first, and then support for larger k",
    equation=_EXACTLY_K,
    says="Fault at hidden",
    case=partial(small_case, D=64, K=20),
)
def no_more_than_sixteen(case: Small) -> Stages:
    """On MPS, topk with k above 16 gave zeros for values and indices from the seventeenth on.
    Scattered, they also erase feature 0."""
    acts = stages(case)["pre_acts"]
    indices = np.argsort(-acts, axis=1)[:, : case.config.top_k]
    values = np.take_along_axis(acts, indices, axis=1)
    indices[:, 16:], values[:, 16:] = 0, 0
    hidden = np.zeros_like(acts)
    np.put_along_axis(hidden, indices, values, axis=1)
    return stages(case, *FORWARD, hidden=hidden)


@fault(
    "hidden",
    "EleutherAI/sparsify#23",
    equation=_EXACTLY_K,
    says="16 features are kept, not 4",
    case=partial(small_case, D=64),
)
def four_times_k(case: Small) -> Stages:
    """Multi-TopK: a second loss is computed from the 4 K largest.  Their codes in place of the
    first ones are those of another autoencoder."""
    acts = stages(case)["pre_acts"]
    return stages(case, *FORWARD, hidden=reference.topk_forward(acts, 4 * case.config.top_k))


@fault(
    "hidden",
    "decoderesearch/SAELens#432",
    fixed="sae-lens 5.6.1",
    equation=_EXACTLY_K,
    says="12 features are kept, not 4",
)
def auxiliary_k_from_the_dictionary(case: Small) -> Stages:
    """The auxiliary loss selects K = I / 2 of the dead features; the code took half of the size of
    the dictionary."""
    acts = stages(case)["pre_acts"]
    return stages(case, *FORWARD, hidden=reference.topk_forward(acts, acts.shape[1] // 2))


FAULTS = (
    threshold_keeps_ties,
    threshold_excludes_its_own_feature,
    k_of_each_column,
    k_a_row_on_average,
    rows_counted_on_the_first_axis,
    every_process_keeps_k_for_all,
    threshold_dropped_on_loading,
    k_dropped_on_loading,
    k_of_each_block_of_features,
    no_more_than_sixteen,
    four_times_k,
    auxiliary_k_from_the_dictionary,
)
