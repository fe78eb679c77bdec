"""Published faults of the gradients by parameters, and by x."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..fault import fault
from ..stages import Small, Stages, small_case, stages

_W_DEC = "dW_dec = hidden.T @ d_reconstruction"
_B_DEC = "db_dec = sum over rows of d_reconstruction"
_W_SKIP = "dW_skip = d_reconstruction.T @ x"
_W_ENC = "dW_enc = d_pre.T @ x"
_B_ENC = "db_enc = sum over rows of d_pre"
_X = "dx = d_pre @ W_enc"
_OF_W_DEC = ("hidden", "d_reconstruction", "dW_dec")


@fault(
    "dW_dec",
    "pytorch/pytorch#3844",
    "pymc-devs/pytensor#2242",
    equation=_W_DEC,
    says="dW_dec counts the last alone",
)
def repeated_features_counted_once(case: Small) -> Stages:
    """``grad[indices] += contributions`` adds once where an index repeats, in NumPy as in PyTorch:
    of all rows in which a feature is active, the last one counted.  np.add.at adds them all."""
    right = stages(case)
    rows, features = np.nonzero(right["hidden"])
    values = right["hidden"][rows, features, None]
    dW_dec = np.zeros_like(case.params.W_dec)
    dW_dec[features] += values * right["d_reconstruction"][rows]
    return stages(case, *_OF_W_DEC, dW_dec=dW_dec)


@fault(
    "dW_dec",
    "OpenMOSS/Language-Model-SAEs@d6d6f6a8",
    fixed="2025-10-16",
    equation=_W_DEC,
    says="Fault at dW_dec",
)
def gradient_of_one_process(case: Small) -> Stages:
    """In data parallel training, each process's gradient of the weights was taken for that of all
    rows, where it is a part of a sum over processes."""
    right, own = stages(case), slice(0, len(case.x) // 2)
    dW_dec = right["hidden"][own].T @ right["d_reconstruction"][own]
    return stages(case, *_OF_W_DEC, dW_dec=dW_dec)


@fault(
    "dW_dec",
    "pytorch/pytorch#37359",
    equation=_W_DEC,
    says="averaged over 3 parts of the batch",
)
def averaged_over_processes(case: Small) -> Stages:
    """DistributedDataParallel averages gradients over its processes.  Of a loss that is a sum, the
    gradient is a sum too: it comes out divided by their number."""
    right, processes = stages(case), 3
    parts = zip(
        np.split(right["hidden"], processes), np.split(right["d_reconstruction"], processes)
    )
    dW_dec = np.mean([hidden.T @ G for hidden, G in parts], axis=0)
    return stages(case, *_OF_W_DEC, dW_dec=dW_dec)


@fault(
    "dW_dec",
    "bartbussmann/BatchTopK:sae.py",
    "ApolloResearch/e2e_sae#44",
    equation=_W_DEC,
    says="tangent_dW_dec",
    kind="convention",
)
def gradient_along_the_sphere(case: Small) -> Stages:
    """Where the rows of the decoder are kept at norm one, the part of the gradient along them is
    taken out before the optimiser sees it.  A step of training, and not the derivative."""
    right, W_dec = stages(case), case.params.W_dec
    unit = W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True)
    along = np.sum(right["dW_dec"] * unit, axis=1, keepdims=True)
    return stages(case, *_OF_W_DEC, dW_dec=right["dW_dec"] - along * unit)


@fault(
    "dW_dec",
    "ray-project/ray#4965",
    "verl-project/verl#2282",
    equation=_W_DEC,
    says="and together of norm 0.25",
)
def clipped_before_it_is_read(case: Small) -> Stages:
    """clip_grad_norm_ scales the gradients where they lie, and returns the norm from before: what
    is read afterwards is not the gradient, and the norm that is logged not its norm."""
    right = stages(case)
    names = ("dW_dec", "db_dec", "dW_enc", "db_enc")
    total = np.sqrt(sum(np.sum(right[name] ** 2) for name in names))
    clipped = {name: right[name] * min(1.0, 0.25 / (total + 1e-6)) for name in names}
    return stages(case, "hidden", "d_reconstruction", "d_pre", *names, **clipped)


@fault(
    "db_dec",
    "pytorch/pytorch#2391",
    equation=_B_DEC,
    says="Fault at db_dec",
)
def sums_over_rows_in_float16(case: Small) -> Stages:
    """The sum over a dimension of a float16 tensor was also added up in float16, where the sum over
    everything was added up in float32."""
    G = stages(case)["d_reconstruction"]
    db_dec = np.zeros(G.shape[1], np.float16)
    for row in G.astype(np.float16):
        db_dec = db_dec + row
    return stages(case, "d_reconstruction", "db_dec", db_dec=db_dec.astype(np.float32))


@fault(
    "db_dec",
    "apache/systemds#2330",
    equation=_B_DEC,
    says="Fault at db_dec",
)
def bias_in_place_of_its_gradient(case: Small) -> Stages:
    """The momentum updates of an autoencoder's biases read the biases themselves where their
    gradients were meant: arrays of the same shape."""
    db_dec = case.params.b_dec
    return stages(case, "d_reconstruction", "db_dec", db_dec=db_dec)


@fault(
    "dW_skip",
    "curt-tigges/crosslayer-coding@c9fabf9",
    fixed="2025-07-03",
    equation=_W_SKIP,
    says="Fault at dW_skip",
    case=partial(small_case, skip=True),
)
def skip_trained_on_every_source(case: Small) -> Stages:
    """One skip matrix read the inputs of its own layer and of every layer below: its gradient is a
    sum over all of them."""
    G, below = stages(case)["d_reconstruction"], np.roll(case.x, 1, axis=1)
    return stages(case, "d_reconstruction", "dW_skip", dW_skip=G.T @ case.x + G.T @ below)


@fault(
    "dW_enc",
    "curt-tigges/crosslayer-coding@bd5975f",
    fixed="2025-04-25",
    equation=_W_ENC,
    says="d_pre is zero",
)
def gathered_into_new_memory(case: Small) -> Stages:
    """The activations of all processes were gathered into new tensors, a process's own too, and
    these are not connected with what it had computed: no gradient reached the encoder."""
    d_pre = np.zeros_like(stages(case)["pre"])
    return stages(case, "hidden", "d_hidden", "dW_enc", "db_enc", d_pre=d_pre)


@fault(
    "dW_enc",
    "verl-project/verl-SpeCo#29",
    fixed="2026-07-17",
    equation=_W_ENC,
    says="averaged over 3 parts of the batch",
)
def divided_once_by_all_tokens_and_once_by_processes(case: Small) -> Stages:
    """Each process's loss was divided by the tokens of all processes, and its gradients then
    averaged over these: W processes learnt at 1 / W of the rate."""
    right, processes = stages(case), 3
    parts = zip(np.split(right["d_pre"], processes), np.split(case.x, processes))
    dW_enc = np.mean([d_pre.T @ x for d_pre, x in parts], axis=0)
    return stages(case, "hidden", "d_pre", "dW_enc", dW_enc=dW_enc)


@fault(
    "db_enc",
    "curt-tigges/crosslayer-coding@be1bedc",
    fixed="2025-05-11",
    equation=_B_ENC,
    says="Fault at db_enc",
)
def biases_of_different_features_averaged(case: Small) -> Stages:
    """Every gradient of one dimension was averaged over processes, as is right for parameters that
    all of them hold; the encoder's biases are of different features in each."""
    db_enc = stages(case)["db_enc"]
    average = np.mean(np.split(db_enc, 2), axis=0)
    return stages(case, "hidden", "d_pre", "db_enc", db_enc=np.tile(average, 2))


@fault(
    "dx",
    "pytorch/pytorch#189565",
    equation=_X,
    says="Fault at dx",
)
def gradient_of_the_input_ends_early(case: Small) -> Stages:
    """On MPS, the gradient by the input of a linear layer was zero beyond the first page of memory,
    where the gradient it read was not contiguous."""
    dx = stages(case)["dx"].copy()
    dx.ravel()[64:] = 0  # a small page
    return stages(case, "hidden", "d_pre", "dx", dx=dx)


@fault(
    "dx",
    "pytorch/pytorch#51713",
    equation=_X,
    says="Fault at dx",
)
def gradient_through_strided_weights(case: Small) -> Stages:
    """The backward pass of mkldnn_linear took a weight that is not contiguous for one that is."""
    W_enc, d_pre = case.params.W_enc, stages(case)["d_pre"]
    read = np.ascontiguousarray(W_enc.T).reshape(W_enc.shape)
    return stages(case, "hidden", "d_pre", "dx", dx=d_pre @ read)


FAULTS = (
    repeated_features_counted_once,
    gradient_of_one_process,
    averaged_over_processes,
    gradient_along_the_sphere,
    clipped_before_it_is_read,
    sums_over_rows_in_float16,
    bias_in_place_of_its_gradient,
    skip_trained_on_every_source,
    gathered_into_new_memory,
    divided_once_by_all_tokens_and_once_by_processes,
    biases_of_different_features_averaged,
    gradient_of_the_input_ends_early,
    gradient_through_strided_weights,
)
