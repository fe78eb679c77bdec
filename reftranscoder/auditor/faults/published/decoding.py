"""Published faults of the decoder: reconstruction."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..fault import fault
from ..stages import FORWARD, Small, Stages, small_case, stages

_DECODED = "reconstruction = hidden @ W_dec + b_dec"
_SKIPPED = "reconstruction = hidden @ W_dec + b_dec + x @ W_skip.T"
_WITH_SKIP = partial(small_case, skip=True)


@fault(
    "reconstruction",
    "EleutherAI/sparsify#132",
    "EleutherAI/sparsify#134",
    "decoderesearch/SAELens#644",
    "bartbussmann/BatchTopK@7f56273",
    "saprmarks/dictionary_learning@9531fe5",
    fixed="eai-sparsify 1.3.3, sae-lens 6.36.2",
    equation=_DECODED,
    says="b_dec enters twice",
)
def bias_added_by_both_decoders(case: Small) -> Stages:
    """The dead features decode what the live ones left over, and both passes went through a decoder
    that adds b_dec: together they added it twice."""
    p, hidden = case.params, stages(case)["hidden"]
    dead = np.arange(hidden.shape[1]) % 3 == 0
    by_live = np.where(dead, 0, hidden) @ p.W_dec + p.b_dec
    by_dead = np.where(dead, hidden, 0) @ p.W_dec + p.b_dec
    return stages(case, *FORWARD, reconstruction=by_live + by_dead)


@fault(
    "reconstruction",
    "OpenMOSS/Language-Model-SAEs@92ff5483",
    fixed="2026-03-15",
    equation=_DECODED,
    says="b_dec enters 4 times",
)
def bias_added_before_the_sum_over_processes(case: Small) -> Stages:
    """Each process holds a part of the dictionary and all of b_dec, and added it to its part before
    the parts were summed: it counted as many times as there are processes."""
    p, hidden = case.params, stages(case)["hidden"]
    processes = np.split(np.arange(hidden.shape[1]), 4)
    parts = [hidden[:, own] @ p.W_dec[own] + p.b_dec for own in processes]
    return stages(case, *FORWARD, reconstruction=sum(parts))


@fault(
    "reconstruction",
    "OpenMOSS/Language-Model-SAEs@63b40203",
    fixed="2025-08-05",
    equation=_DECODED,
    says="Fault at reconstruction",
)
def parts_never_summed(case: Small) -> Stages:
    """The parts of the reconstruction that the processes made of their features were wrapped as one
    tensor without a sum: each went on with its own."""
    p, hidden = case.params, stages(case)["hidden"]
    own = slice(0, hidden.shape[1] // 2)
    return stages(case, *FORWARD, reconstruction=hidden[:, own] @ p.W_dec[own] + p.b_dec)


@fault(
    "reconstruction",
    "decoderesearch/SAELens#354",
    "decoderesearch/SAELens#355",
    fixed="sae-lens 4.0.10",
    equation=_DECODED,
    says="b_dec enters 2.5 times",
)
def scale_not_folded_into_b_dec(case: Small) -> Stages:
    """Trained on activations that are s times as large, an autoencoder is folded by s W_enc,
    W_dec / s and b_dec / s: the last was forgotten."""
    p, scale = case.params, np.float32(2.5)
    W_dec, b_dec = scale * p.W_dec, scale * p.b_dec  # as trained
    decoded = stages(case)["hidden"] @ (W_dec / scale) + b_dec
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "reconstruction",
    "decoderesearch/SAELens#212",
    fixed="sae-lens 3.10.0",
    equation=_DECODED,
    says="reconstruction is 2.5 times",
)
def scale_not_folded_into_W_dec(case: Small) -> Stages:
    """The same factor was folded into the encoder alone: what came out was s times what it should
    have been."""
    p, scale = case.params, np.float32(2.5)
    W_dec, b_dec = scale * p.W_dec, scale * p.b_dec  # as trained
    decoded = stages(case)["hidden"] @ W_dec + b_dec
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "reconstruction",
    "saprmarks/dictionary_learning@70acd85",
    fixed="2024-04-26",
    equation=_DECODED,
    says="W_dec is transposed",
    case=partial(small_case, D=16, O=16),
)
def decoder_initialised_transposed(case: Small) -> Stages:
    """The decoder's weight was set to a matrix of shape (D, O) where a linear layer holds (O, D).
    With as many features as outputs nothing complains."""
    p = case.params
    decoded = stages(case)["hidden"] @ p.W_dec.T + p.b_dec
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "reconstruction",
    "saprmarks/dictionary_learning@5383603",
    fixed="2025-01-01",
    equation=_DECODED,
    says="Fault at reconstruction",
)
def columns_normalised_for_rows(case: Small) -> Stages:
    """What each feature writes was to have norm one; the norms were taken over all features, for
    each output."""
    p = case.params
    W_dec = p.W_dec / np.linalg.norm(p.W_dec, axis=0, keepdims=True)
    decoded = stages(case)["hidden"] @ W_dec + p.b_dec
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "reconstruction",
    "decoderesearch/circuit-tracer#76",
    "decoderesearch/circuit-tracer#74",
    fixed="2026-01",
    equation=_SKIPPED,
    says="the skip connection is missing",
    case=_WITH_SKIP,
)
def error_without_the_skip(case: Small) -> Stages:
    """The errors of a skip transcoder, what the layer wrote less its reconstruction, were computed
    without the skip connection, and came out too large."""
    p = case.params
    decoded = stages(case)["hidden"] @ p.W_dec + p.b_dec
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "reconstruction",
    "decoderesearch/SAELens:sae_lens/loading/pretrained_sae_loaders.py",
    fixed="sae-lens 6.54.12, or before",
    equation=_SKIPPED,
    says="W_skip is transposed",
    case=_WITH_SKIP,
)
def skip_weights_of_the_other_orientation(case: Small) -> Stages:
    """Gemma Scope 2 stores its skip weights as (I, O) and multiplies x by them; they were loaded as
    they are into a class that holds (O, I) and transposes."""
    p = case.params
    decoded = stages(case)["hidden"] @ p.W_dec + p.b_dec + case.x @ p.arrays()["W_skip"]
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "reconstruction",
    "curt-tigges/crosslayer-coding@c9fabf9",
    fixed="2025-07-03",
    equation=_SKIPPED,
    says="Fault at reconstruction",
    case=_WITH_SKIP,
)
def skip_from_every_source_layer(case: Small) -> Stages:
    """The skip connection of a layer ran once for each layer below it too, on their inputs, where
    it has to read that layer's own input alone."""
    p = case.params
    own, below = case.x, np.roll(case.x, 1, axis=1)  # what the layer below reads
    decoded = stages(case)["hidden"] @ p.W_dec + p.b_dec
    for source in (below, own):
        decoded = decoded + source @ p.arrays()["W_skip"].T
    return stages(case, *FORWARD, reconstruction=decoded)


@fault(
    "hidden",
    "EleutherAI/sparsify:sparsify/sparse_coder.py",
    equation="hidden reads x - b_dec, and the skip connection reads x",
    says="x - b_dec",
    kind="convention",
    case=_WITH_SKIP,
)
def skip_reads_what_the_encoder_does_not(case: Small) -> Stages:
    """An autoencoder with a skip connection subtracts b_dec for the encoder alone.  Known here from
    the codes and the reconstruction."""
    p = case.params
    pre = (case.x - p.b_dec) @ p.W_enc.T + p.b_enc
    return stages(case, "hidden", "reconstruction", pre=pre)


FAULTS = (
    bias_added_by_both_decoders,
    bias_added_before_the_sum_over_processes,
    parts_never_summed,
    scale_not_folded_into_b_dec,
    scale_not_folded_into_W_dec,
    decoder_initialised_transposed,
    columns_normalised_for_rows,
    error_without_the_skip,
    skip_weights_of_the_other_orientation,
    skip_from_every_source_layer,
    skip_reads_what_the_encoder_does_not,
)
