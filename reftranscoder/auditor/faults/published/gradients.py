"""Published faults of the backward pass: d_reconstruction, d_hidden and d_pre."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from ....params import Params
from ..fault import fault
from ..stages import Small, Stages, small_case, stages

_BY_RECONSTRUCTION = "d_reconstruction = 2 (reconstruction - target) / (B O)"
_BY_HIDDEN = "d_hidden = d_reconstruction @ W_dec.T + l1_coeff / (B D) sign(hidden)"
_BY_PRE = "d_pre = d_hidden where hidden != 0, else 0"
_FROM_RECONSTRUCTION = ("reconstruction", "d_reconstruction")
_FROM_HIDDEN = ("hidden", "d_reconstruction", "d_hidden")
_FROM_PRE = ("pre", "hidden", "d_hidden", "d_pre")


@fault(
    "d_reconstruction",
    "EleutherAI/sparsify#47",
    "EleutherAI/sparsify@cb27fa9",
    fixed="2025-02-12",
    equation=_BY_RECONSTRUCTION,
    says="wrong sign",
)
def residual_of_the_wrong_sign(case: Small) -> Stages:
    """The dead features were trained to predict the reconstruction less the target, in place of the
    target less the reconstruction: against the error."""
    reconstruction = stages(case)["reconstruction"]
    G = 2 * (case.target - reconstruction) / reconstruction.size
    return stages(case, *_FROM_RECONSTRUCTION, d_reconstruction=G)


@fault(
    "d_reconstruction",
    "saprmarks/dictionary_learning@db2b564",
    "decoderesearch/SAELens#432",
    "EleutherAI/sparsify#57",
    fixed="sae-lens 5.6.1; dictionary_learning, 2025-01-13",
    equation=_BY_RECONSTRUCTION,
    says="Fault at d_reconstruction",
)
def residual_not_detached(case: Small) -> Stages:
    """The auxiliary loss reads the error of the live features, and its gradient went back through
    that error too: it pulled them towards the dead ones."""
    p, right = case.params, stages(case)
    dead = np.where(right["hidden"] == 0, right["pre_acts"], 0) @ p.W_dec
    e = right["reconstruction"] - case.target
    G = 2 * e / e.size + 2 * (e + dead) / e.size / 32  # of an auxiliary loss of weight 1/32
    return stages(case, *_FROM_RECONSTRUCTION, d_reconstruction=G)


@fault(
    "d_reconstruction",
    "fastai/fastai#3023",
    equation=_BY_RECONSTRUCTION,
    says="twice what it should be",
)
def parts_of_a_batch_added(case: Small) -> Stages:
    """A batch is run in two parts whose gradients add up, and the loss of each is a mean over its
    own rows: together they are twice the gradient of the mean over all."""
    e = stages(case)["reconstruction"] - case.target
    parts = [2 * part / part.size for part in np.split(e, 2)]
    return stages(case, *_FROM_RECONSTRUCTION, d_reconstruction=np.concatenate(parts))


@fault(
    "d_reconstruction",
    "curt-tigges/crosslayer-coding@ed0480a",
    "curt-tigges/crosslayer-coding@b23f2c1",
    fixed="2025-04-25",
    equation=_BY_RECONSTRUCTION,
    says="averaged over 4 parts of the batch",
)
def loss_divided_by_the_number_of_processes(case: Small) -> Stages:
    """Where processes hold parts of the dictionary and the same rows, the loss was divided by their
    number before the backward pass, though nothing adds it up over them."""
    G, processes = stages(case)["d_reconstruction"], 4
    return stages(case, *_FROM_RECONSTRUCTION, d_reconstruction=G / processes)


@fault(
    "d_hidden",
    "meta-pytorch/torchrec#4602",
    equation=_BY_HIDDEN,
    says="d_reconstruction @ W_dec.T is left out",
)
def weights_of_a_bag_have_no_gradient(case: Small) -> Stages:
    """A decoder by embedding bag takes the activations for weights of its samples.  A Triton kernel
    used them and returned no gradient for them: what reached hidden was the penalty's alone."""
    hidden = stages(case)["hidden"]
    d_hidden = case.l1_coeff / hidden.size * np.sign(hidden)
    return stages(case, *_FROM_HIDDEN, d_hidden=d_hidden)


@fault(
    "d_hidden",
    "blasphemetheus/edifice:lib/edifice/interpretability/matryoshka_sae.ex",
    equation=_BY_HIDDEN,
    says="Fault at d_hidden",
)
def penalty_that_grows_with_the_index(case: Small) -> Stages:
    """The gradient of an L1 penalty weighted from 0.5 for the first feature to 2 for the last:
    later features are pushed down four times as hard."""
    p, right = case.params, stages(case)
    weights = np.linspace(0.5, 2.0, right["hidden"].shape[1])
    penalty = case.l1_coeff * weights * np.sign(right["hidden"]) / right["hidden"].size
    return stages(case, *_FROM_HIDDEN, d_hidden=right["d_reconstruction"] @ p.W_dec.T + penalty)


@fault(
    "d_pre",
    "OpenMOSS/Language-Model-SAEs@ed2ade46",
    fixed="2026-02-01",
    equation=_BY_PRE,
    says="d_pre is zero",
)
def selection_without_a_gradient(case: Small) -> Stages:
    """The whole of topk ran under no_grad, values and all: the encoder was never trained."""
    d_pre = np.zeros_like(stages(case)["pre"])
    return stages(case, *_FROM_PRE, d_pre=d_pre)


@fault(
    "d_pre",
    "ml-explore/mlx#1428",
    equation=_BY_PRE,
    says="Fault at d_pre",
)
def gradient_at_places_of_the_partition(case: Small) -> Stages:
    """The gradient of mlx.core.topk went to the last K places of the row, where partitioning had
    put the largest values, and not to where these came from."""
    right = stages(case)
    d_pre = np.zeros_like(right["pre"])
    for b, row in enumerate(right["hidden"]):
        selected = np.flatnonzero(row)
        d_pre[b, -len(selected) :] = right["d_hidden"][b, selected]
    return stages(case, *_FROM_PRE, d_pre=d_pre)


def _rows_of_zeros() -> Small:
    """Three rows in which every pre-activation is zero."""
    case = small_case()
    x = case.x.copy()
    x[:3] = 0
    arrays: dict[str, Any] = case.params.arrays()
    params = Params(**arrays | {"b_enc": 0 * arrays["b_enc"]})
    return dataclasses.replace(case, x=x, params=params)


@fault(
    "d_pre",
    "jax-ml/jax#2342",
    "jax-ml/jax#37821",
    fixed="for jax.nn.relu, 2020-03",
    equation="ReLU'(0) = 0",
    says="Fault at d_pre",
    case=_rows_of_zeros,
)
def half_a_gradient_at_zero(case: Small) -> Stages:
    """jnp.maximum(x, 0) has a derivative of one half where x is 0, as either argument is the
    larger; jax.nn.relu has 0, as everywhere else."""
    right = stages(case)
    slope = np.where(right["pre"] > 0, 1.0, np.where(right["pre"] == 0, 0.5, 0.0))
    selected = (right["hidden"] != 0) | (right["pre"] == 0)
    return stages(case, *_FROM_PRE, d_pre=np.where(selected, slope * right["d_hidden"], 0))


@fault(
    "d_pre",
    "EleutherAI/sparsify#71",
    "EleutherAI/sparsify:sparsify/fused_encoder.py",
    equation="ReLU'(pre) = 0 where pre <= 0",
    says="that are inactive",
    case=partial(small_case, b_enc=-2.0),
)
def fused_encoder_forgets_relu(case: Small) -> Stages:
    """The fused backward pass of linear, ReLU and top-k gives every selected feature its gradient.
    In a row with fewer than K active features, others are selected with a value of zero."""
    right, K = stages(case), case.config.top_k
    indices = np.argsort(-right["pre_acts"], axis=1, kind="stable")[:, :K]
    d_pre = np.zeros_like(right["pre"])
    passed = np.take_along_axis(right["d_hidden"], indices, axis=1)
    np.put_along_axis(d_pre, indices, passed, axis=1)
    values = np.take_along_axis(right["pre_acts"], indices, axis=1)
    given = stages(case, "pre", "d_hidden", d_pre=d_pre)
    return given | {"indices": indices, "values": values, "d_pre": d_pre}


FAULTS = (
    residual_of_the_wrong_sign,
    residual_not_detached,
    parts_of_a_batch_added,
    loss_divided_by_the_number_of_processes,
    weights_of_a_bag_have_no_gradient,
    penalty_that_grows_with_the_index,
    selection_without_a_gradient,
    gradient_at_places_of_the_partition,
    half_a_gradient_at_zero,
    fused_encoder_forgets_relu,
)
