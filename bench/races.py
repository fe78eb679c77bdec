"""Ours against what a user would pick instead, and against the machine's limits.

Who takes part stands in `peers`.  Before any of them is timed, ``rt.audit`` judges what it makes of
a few rows: all that is given has to be right to within rounding in float32.  A peer that raises
whatever it may, when it is imported, made, judged or timed, is absent, and its reason is given.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
from collections.abc import Iterable, Iterator

import numpy as np

import reftranscoder as rt

from .contest import Contestant, Result, hold, reason
from .work import Work

#: name -> what is timed.  The method of a peer that is named by the last word does it.
RACES = {
    "encode": "(B, I) to the K active features of each row",
    "predict": "(B, I) to the reconstruction (B, O)",
    "row": "as encode, of a single row, many times",
    "cold row": "as encode, of a single row, by threads that have been asleep",
    "step": "a training step: loss, gradients and Adam, on B new rows",
    "start": "a new process, from its first import to what it makes of a single row",
}

#: Modules of `peers`, in the order of the table; the first is what the others are compared with.
PEERS = ("ours", "limits", "plain_numpy", "pytorch", "sparsify", "jax_xla")

#: How often a single row is encoded in a turn.
ROWS_A_TURN = 30

#: Rows on which a peer is judged.
VERIFIED_ROWS = 32


def hold_all(
    names: Iterable[str], work: Work, rounds: int, wrong: list[str], absent: list[str]
) -> Iterator[Result]:
    """Yield the result of each of the races ``names``."""
    fair = [peer for peer in entrants(work, absent) if is_right(peer, work, wrong, absent)]
    for name in names:
        able = [peer for peer in fair if getattr(peer, method(name), None)]
        yield hold(name, [contestant(peer, name, work) for peer in able], rounds, absent)


def entrants(
    work: object, absent: list[str], modules: Iterable[str] | None = None, kind: str = "ENTRANTS"
) -> Iterator[object]:
    """Make every peer of ``modules``, or of `PEERS`, whose library is installed."""
    for name in PEERS if modules is None else modules:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a library says when it is imported
                made = getattr(importlib.import_module(f".peers.{name}", __package__), kind)
        except Exception as error:
            absent.append(f"{name}: {reason(error)}")
            continue
        for make in made:
            try:
                peer = make(work)
            except Exception as error:
                absent.append(f"{make.name}: {reason(error)}")
                continue
            yield peer


def is_right(peer, work: Work, wrong: list[str], absent: list[str]) -> bool:
    """Whether what ``peer`` makes of a few rows passes the audit; a limit makes nothing."""
    if not hasattr(peer, "results"):
        return True
    x, target = work.x[:VERIFIED_ROWS], work.target[:VERIFIED_ROWS]
    try:
        results = peer.results(x, target)
    except Exception as error:
        absent.append(f"{peer.name}: {reason(error)}")
        return False
    report = rt.audit(results, work.tc, x, target, l1_coeff=peer.l1_coeff)
    if not report.passed:
        wrong.append(f"{peer.name}: {report.sentence()}")
    return report.passed


def method(race: str) -> str:
    """The name of what a peer does in ``race``."""
    return race.split()[-1]


def contestant(peer, race: str, work: Work) -> Contestant:
    """What ``peer`` does in a race, with its arguments ready in its own form."""
    run = getattr(peer, method(race))
    if race == "start":
        return Contestant(peer.name, run, peer.calls_blas, awake=False)
    if race == "step":
        batches = itertools.cycle([tuple(map(peer.own, batch)) for batch in work.batches])
        return Contestant(peer.name, lambda: run(*next(batches)), peer.calls_blas)
    one = method(race) == "row"
    given = [peer.own(np.ascontiguousarray(work.x[:1] if one else work.x))]
    calls = ROWS_A_TURN if race == "row" else 1
    awake = race != "cold row"
    return Contestant(peer.name, lambda: run(*given), peer.calls_blas, calls, awake)
