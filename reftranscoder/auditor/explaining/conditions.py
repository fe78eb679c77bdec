"""In which problems a hypothesis makes sense."""

from __future__ import annotations

from collections.abc import Callable

from ..task.problem import Problem

Condition = Callable[[Problem], bool]


def always(problem: Problem) -> bool:
    """In every problem."""
    return True


def selects(problem: Problem) -> bool:
    """Only so many features are kept."""
    return problem.definition.activation == "topk"


def breaks_ties(problem: Problem) -> bool:
    """Exactly so many."""
    return selects(problem) and problem.definition.ties != "keep_all"


def keeps_ties(problem: Problem) -> bool:
    """And those that equal the last of these."""
    return selects(problem) and problem.definition.ties == "keep_all"


def has_thresholds(problem: Problem) -> bool:
    """Features are active above thresholds of their own."""
    return problem.definition.activation == "jumprelu"


def has_gates(problem: Problem) -> bool:
    """Features are active behind gates, by magnitudes of their own."""
    return problem.definition.activation == "gated"


def encodes_square(problem: Problem) -> bool:
    """W_enc may be transposed and nobody notice."""
    return problem.sizes.D == problem.sizes.I


def decodes_square(problem: Problem) -> bool:
    """W_dec may be."""
    return problem.sizes.D == problem.sizes.O


def skips(problem: Problem) -> bool:
    """There is a skip connection."""
    return problem.params.W_skip is not None


def reads_what_it_writes(problem: Problem) -> bool:
    """x and the target may be taken for each other."""
    return problem.sizes.I == problem.sizes.O


def skips_square(problem: Problem) -> bool:
    """W_skip may be transposed."""
    return skips(problem) and reads_what_it_writes(problem)


def subtracts_b_dec(problem: Problem) -> bool:
    """The encoder reads x - b_dec, by declaration."""
    return problem.definition.input == "x - b_dec"


def skip_subtracts_b_dec(problem: Problem) -> bool:
    """The skip connection does."""
    return skips(problem) and problem.definition.skip_input == "x - b_dec"


def scales_features(problem: Problem) -> bool:
    """Features are scaled by |W_dec[j]|, by declaration."""
    return problem.definition.norms == "pre"


def wraps(bits: int) -> Condition:
    """A feature's number may have more than so many bits."""
    return lambda problem: problem.sizes.D > 1 << bits
