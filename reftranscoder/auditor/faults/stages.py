"""What a reproduction starts from: a small case, and the reference's stages of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import reference as untyped
from ...params import Params, TranscoderConfig
from ..task.case import Case
from ..task.stage_graph import STAGES

reference: Any = untyped  # as its functions are: they take any numbers

#: What a candidate returns: arrays by the names of the stages.
Stages = dict[str, Any]

FORWARD = ("pre", "pre_acts", "hidden", "reconstruction")
LOSS = ("hidden", "reconstruction", "loss")


@dataclasses.dataclass(frozen=True, eq=False)
class Small(Case):
    """A `Case` with a target, as all are here."""

    target: np.ndarray


def small_case(
    *,
    B: int = 12,
    I: int = 8,  # noqa: E741
    D: int = 24,
    O: int = 8,  # noqa: E741
    K: int = 4,
    skip: bool = False,
    tied: bool = False,
    b_enc: float = 0.0,
    l1_coeff: float = 0.5,
) -> Small:
    """A transcoder with random parameters in float32, and a batch for it; the same every time.

    ``b_enc`` is added to every bias of the encoder: -2 leaves few features active.  ``tied``: the
    encoder has every feature twice.
    """
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    W_enc = normal(D, I, scale=I**-0.5)
    bias = normal(D, scale=0.3) + np.float32(b_enc)
    if tied:
        W_enc[D // 2 :], bias[D // 2 :] = W_enc[: D // 2], bias[: D // 2]
    params = Params(
        W_enc=W_enc,
        b_enc=bias,
        W_dec=normal(D, O, scale=O**-0.5),
        b_dec=normal(O),
        W_skip=normal(O, I, scale=I**-0.5) if skip else None,
    )
    config = TranscoderConfig(input_size=I, dict_size=D, output_size=O, top_k=K, skip=skip)
    return Small("", "", config, params, normal(B, I), 1 + normal(B, O), l1_coeff)


def stages(case: Small, *names: str, **own: Any) -> Stages:
    """The stages of a case with these ``names``, or all, by the reference.

    Those in ``own`` are taken as they are, and what reads one of them reads that.
    """
    p, x, target = case.params, case.x, case.target
    found = dict(own)

    def make(name: str, value: Any) -> Any:
        return found.setdefault(name, value)

    pre = make("pre", reference.affine_forward(x, p.W_enc, p.b_enc))
    pre_acts = make("pre_acts", reference.relu_forward(pre))
    hidden = make("hidden", reference.topk_forward(pre_acts, case.config.top_k))
    decoded = reference.decode_forward(hidden, p.W_dec, p.b_dec)
    if p.W_skip is not None:
        decoded = decoded + reference.skip_forward(x, p.W_skip)
    reconstruction = make("reconstruction", decoded)
    make("loss", reference.transcoder_loss(target, reconstruction, hidden, case.l1_coeff))

    G = make("d_reconstruction", reference.mse_backward(target, reconstruction))
    d_hidden, dW_dec, db_dec = reference.decode_backward(G, hidden, p.W_dec)
    d_hidden = make("d_hidden", d_hidden + reference.l1_backward(hidden, case.l1_coeff))
    d_pre = make("d_pre", reference.relu_backward(reference.topk_backward(d_hidden, hidden), pre))
    dx, dW_enc, db_enc = reference.affine_backward(d_pre, x, p.W_enc)
    if p.W_skip is not None:
        dx_skip, dW_skip = reference.skip_backward(G, x, p.W_skip)
        make("dW_skip", dW_skip)
        dx = dx + dx_skip
    gradients = {"dW_dec": dW_dec, "db_dec": db_dec, "dW_enc": dW_enc, "db_enc": db_enc, "dx": dx}
    found = gradients | found
    return {name: found[name] for name in names or STAGES if name in found}


def rounded(a: Any, bits: int) -> np.ndarray:
    """``a`` in float32, each number rounded to so many significant bits."""
    _, exponent = np.frexp(a)
    whole = np.rint(np.ldexp(a, bits - exponent))
    found: np.ndarray = np.ldexp(whole, exponent - bits).astype(np.float32, copy=False)
    return found
