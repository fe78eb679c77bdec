"""Published faults of the encoder: pre and pre_acts."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..fault import fault
from ..stages import FORWARD, Small, Stages, reference, rounded, small_case, stages

_PRE = "pre = x @ W_enc.T + b_enc"
_RELU = "pre_acts = relu(pre)"


@fault(
    "pre",
    "EleutherAI/sparsify#49",
    fixed="2025-02-12",
    equation=_PRE,
    says="x - b_dec",
    kind="convention",
)
def input_of_a_transcoder_minus_b_dec(case: Small) -> Stages:
    """Transcoders subtracted the decoder's bias from their input, as autoencoders do: what they
    read is not what they write."""
    p = case.params
    pre = (case.x - p.b_dec) @ p.W_enc.T + p.b_enc
    return stages(case, *FORWARD, pre=pre)


@fault(
    "hidden",
    "decoderesearch/SAELens#516",
    fixed="sae-lens 6.5.3",
    equation=_PRE,
    says="x - b_dec",
    kind="convention",
)
def gemma_scope_loaded_with_b_dec(case: Small) -> Stages:
    """Gemma Scope transcoders were loaded with the default of autoencoders, which subtracts b_dec
    from the input.  Nobody saw it in pre: the codes and what they decode to were used."""
    p = case.params
    pre = (case.x - p.b_dec) @ p.W_enc.T + p.b_enc
    return stages(case, "hidden", "reconstruction", pre=pre)


@fault(
    "pre",
    "OpenMOSS/Language-Model-SAEs@9acd54bc",
    fixed="2025-03-14",
    equation=_PRE,
    says="Fault at pre",
)
def bias_subtracted_again_in_each_pass(case: Small) -> Stages:
    """In a loop over modalities, each pass subtracted its bias from what the pass before had left,
    and not from x."""
    p = case.params
    read = case.x
    for _ in range(2):
        read = read - p.b_dec
    return stages(case, *FORWARD, pre=reference.affine_forward(read, p.W_enc, p.b_enc))


@fault(
    "pre",
    "decoderesearch/SAELens#645",
    fixed="sae-lens 6.37.1",
    equation=_PRE,
    says="x @ W_enc.T is 1.768 times",
)
def scale_of_the_input_left_out(case: Small) -> Stages:
    """Llama Scope's encoders read activations scaled to a norm of sqrt(I); the loader did not fold
    that factor into the weights, which met activations of another size."""
    p = case.params
    scale = np.sqrt(case.x.shape[1]) / np.float32(5.0)  # of a mean norm of 5
    W_enc = p.W_enc / scale  # as in the file
    return stages(case, *FORWARD, pre=reference.affine_forward(case.x, W_enc, p.b_enc))


@fault(
    "pre",
    "decoderesearch/SAELens#467",
    fixed="sae-lens 5.9.2",
    equation=_PRE,
    says="x @ W_enc.T is 1.05 times",
)
def scale_estimated_on_one_row(case: Small) -> Stages:
    """The factor that brings the mean norm of the activations to sqrt(I) was estimated on the first
    row of each batch, by an index that was meant for the layer."""
    p = case.params
    norms = np.linalg.norm(case.x, axis=1)
    wrong = norms.mean() / norms[0]
    return stages(case, *FORWARD, pre=reference.affine_forward(wrong * case.x, p.W_enc, p.b_enc))


@fault(
    "pre",
    "openai/sparse_autoencoder#19",
    equation=_PRE,
    says="Fault at pre",
)
def rows_standardised_for_inference_alone(case: Small) -> Stages:
    """The model for inference standardises each row of x where the activation is TopK; the training
    script of the same repository only subtracts a bias."""
    p, x = case.params, case.x
    x = x - x.mean(axis=1, keepdims=True)
    x = x / (x.std(axis=1, ddof=1, keepdims=True) + np.float32(1e-5))
    return stages(case, *FORWARD, pre=reference.affine_forward(x, p.W_enc, p.b_enc))


@fault(
    "pre",
    "decoderesearch/SAELens#624",
    fixed="sae-lens 6.30.1",
    equation=_PRE,
    says="Fault at pre",
)
def activations_of_another_hook(case: Small) -> Stages:
    """The hook listed for Gemma Scope 2's transcoders was another point of the model: before the
    norm's learned weight, say, where every column has another scale."""
    p = case.params
    gain = np.linspace(0.5, 2.0, case.x.shape[1], dtype=np.float32)
    return stages(case, *FORWARD, pre=reference.affine_forward(case.x / gain, p.W_enc, p.b_enc))


@fault(
    "pre",
    "saprmarks/dictionary_learning@70acd85",
    fixed="2024-04-26",
    equation=_PRE,
    says="W_enc is transposed",
    case=partial(small_case, I=16, D=16),
)
def encoder_initialised_transposed(case: Small) -> Stages:
    """The encoder's weight was set to a matrix of shape (I, D) where a linear layer holds (D, I).
    With as many features as inputs nothing complains."""
    p = case.params
    return stages(case, *FORWARD, pre=reference.affine_forward(case.x, p.W_enc.T, p.b_enc))


@fault(
    "pre",
    "pytorch/pytorch#162779",
    "pytorch/pytorch#162730",
    equation=_PRE,
    says="Fault at pre",
)
def strided_weight_read_as_contiguous(case: Small) -> Stages:
    """On MPS, F.linear read a weight that is a transposed view as if its numbers lay in the order
    of its shape."""
    p = case.params
    memory = np.ascontiguousarray(p.W_enc.T).ravel()
    return stages(
        case, *FORWARD, pre=reference.affine_forward(case.x, memory.reshape(p.W_enc.shape), p.b_enc)
    )


@fault(
    "pre",
    "pytorch/pytorch#189495",
    equation=_PRE,
    says="Fault at pre",
)
def row_number_wraps_around(case: Small) -> Stages:
    """On MPS, F.linear with a bias counted the rows of a batch in 16 bits: beyond 65536 of them it
    gave those of the beginning.  Here, beyond 8."""
    p = case.params
    rows = np.arange(len(case.x)) % 8
    return stages(case, *FORWARD, pre=reference.affine_forward(case.x[rows], p.W_enc, p.b_enc))


@fault(
    "pre",
    "pytorch/pytorch#67384",
    "pytorch/pytorch#53635",
    "pytorch/pytorch#61890",
    fixed="torch 1.12, where it is no longer the default",
    equation=_PRE,
    says="Fault at pre",
    case=partial(small_case, B=24, D=64, I=16),
)
def products_in_tf32(case: Small) -> Stages:
    """On GPUs since Ampere, products of float32 matrices read the first 10 bits of each mantissa
    only, by default and without a word."""
    p = case.params
    x, W_enc = rounded(case.x, 11), rounded(p.W_enc, 11)
    return stages(case, "pre", pre=reference.affine_forward(x, W_enc, p.b_enc))


@fault(
    "pre",
    "jax-ml/jax#9973",
    "jax-ml/jax#1856",
    "jax-ml/jax#7010",
    equation=_PRE,
    says="Fault at pre",
    case=partial(small_case, B=24, D=64, I=16),
)
def products_in_bfloat16(case: Small) -> Stages:
    """On TPUs, JAX multiplies float32 matrices in bfloat16, and adds in float32, unless another
    precision is asked for."""
    p = case.params
    x, W_enc = rounded(case.x, 8), rounded(p.W_enc, 8)
    return stages(case, "pre", pre=reference.affine_forward(x, W_enc, p.b_enc))


@fault(
    "pre_acts",
    "OpenMOSS/Language-Model-SAEs@b76ffac0",
    fixed="2026-04-06",
    equation=_RELU,
    says="Fault at pre_acts",
)
def relu_returns_its_mask(case: Small) -> Stages:
    """The activation called relu returned where pre is positive, as ones and zeros, and not pre
    itself."""
    pre = stages(case)["pre"]
    return stages(case, *FORWARD, pre_acts=(pre > 0).astype(np.float32))


@fault(
    "pre_acts",
    "OpenMOSS/Language-Model-SAEs@b95e1ccd",
    fixed="2025-10-15",
    equation=_RELU,
    says="Fault at pre_acts",
)
def activation_times_preactivation(case: Small) -> Stages:
    """A crosscoder multiplied pre by its activation, which was a mask once and had become the
    activation itself: large values were squared."""
    pre = stages(case)["pre"]
    return stages(case, *FORWARD, pre_acts=pre * np.maximum(pre, 0))


@fault(
    "pre_acts",
    "safety-research/circuit-tracer:circuit_tracer/transcoder/activation_functions.py",
    equation=_RELU,
    says="not rectified",
    case=partial(small_case, b_enc=-2.0),
)
def topk_without_relu(case: Small) -> Stages:
    """TopK gates pre itself: a row with fewer than K positive features keeps negative ones."""
    pre = stages(case)["pre"]
    return stages(case, *FORWARD, pre_acts=pre)


@fault(
    "pre_acts",
    "EleutherAI/sparsify#4",
    fixed="2024-08-15, where the option went",
    equation=_RELU,
    says="AbsTopK",
)
def signed_latents(case: Small) -> Stages:
    """With the option ``signed``, there is no ReLU, and the K of the largest absolute value are
    kept with their signs."""
    pre = stages(case)["pre"]
    hidden = np.zeros_like(pre)
    largest = np.argsort(-np.abs(pre), axis=1)[:, : case.config.top_k]
    np.put_along_axis(hidden, largest, np.take_along_axis(pre, largest, axis=1), axis=1)
    return stages(case, *FORWARD, pre_acts=pre, hidden=hidden)


FAULTS = (
    input_of_a_transcoder_minus_b_dec,
    gemma_scope_loaded_with_b_dec,
    bias_subtracted_again_in_each_pass,
    scale_of_the_input_left_out,
    scale_estimated_on_one_row,
    rows_standardised_for_inference_alone,
    activations_of_another_hook,
    encoder_initialised_transposed,
    strided_weight_read_as_contiguous,
    row_number_wraps_around,
    products_in_tf32,
    products_in_bfloat16,
    relu_returns_its_mask,
    activation_times_preactivation,
    topk_without_relu,
    signed_latents,
)
