"""Encoding under the activations beside top-k, as sparse as top-k would be, and half of it active.

One threshold, above which so many entries of the batch are that the mean row has K, is made into
biases of relu, into theta, into biases of gates; batchtopk has K.  What a peer makes of a few rows
is judged by ``rt.audit`` before anything is timed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import reftranscoder as rt

from .contest import Contestant, Result, hold, reason
from .races import VERIFIED_ROWS, entrants
from .work import Work

#: Modules of `peers` that take part, by their ``VARIANTS``; ours comes first.
PEERS = ("ours", "limits", "pytorch")


def transcoders(work: Work) -> dict[str, rt.Transcoder]:
    """The variants of the transcoder of ``work``, by name, on its rows."""
    arrays, K = dict(work.tc.params.arrays()), work.tc.config.top_k
    b_enc, D = arrays["b_enc"], len(arrays["b_enc"])
    pre = (work.x @ arrays["W_enc"].T + b_enc).ravel()
    kept = min(K * len(work.x), len(pre))
    level = np.float32(max(np.partition(pre, len(pre) - kept)[len(pre) - kept], 0))
    lower, ones = b_enc - level, np.ones(D, np.float32)

    def made(activation: str, b_enc: np.ndarray = b_enc, **options: object) -> rt.Transcoder:
        return rt.Transcoder.from_arrays(
            **arrays | {"b_enc": b_enc}, top_k=K, activation=activation, **options
        )

    return {
        "relu": made("relu", lower),
        "jumprelu": made("jumprelu", own=rt.JumpReLU(level * ones)),
        "batchtopk": made("batchtopk"),
        "gated": made("gated", own=rt.Gated(-level * ones, 0 * ones, 0 * ones)),
        "relu, half": made("relu"),
    }


def hold_all(work: Work, rounds: int, wrong: list[str], absent: list[str]) -> Iterator[Result]:
    """Yield a result for each variant."""
    peers = list(entrants(work, absent, PEERS, "VARIANTS"))
    for name, tc in transcoders(work).items():
        able = []
        for peer in peers:
            try:
                encode = peer.variant(name, tc)
                problem = _judged(peer, encode, tc, work)
            except Exception as error:
                absent.append(f"{peer.name}, {name}: {reason(error)}")
                continue
            if problem:
                wrong.append(f"{peer.name}, {name}: {problem}")
            else:
                able.append(Contestant(peer.name, lambda run=encode: run(work.x), peer.calls_blas))
        yield hold(f"encode, {name}", able, rounds, absent)


def _judged(peer, encode, tc: rt.Transcoder, work: Work) -> str:
    """What is wrong with what a peer makes of a few rows; a limit makes nothing."""
    if peer.is_limit:
        return ""
    x = work.x[:VERIFIED_ROWS]
    report = rt.audit({"hidden": encode(x)}, tc, x)
    return "" if report.passed else report.sentence()
