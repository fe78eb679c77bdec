"""The audit: results are read, judged and, where wrong, compared with what has a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import OptionError
from ..transcoder import Transcoder
from .cross_checks.exact_sums import require_exact
from .explaining.conventions import checked_names
from .many_cases import answer_of, judge_case, judge_cases
from .one_case import conclude, judge_batch
from .probes.case_folder import answers_in
from .probes.probe_set import probes_of
from .reporting.report import Report
from .task.arithmetic import Arithmetic, by_stage
from .task.case import Case


def audit(
    candidate: Mapping[str, Any] | Callable | str | os.PathLike,
    tc: Transcoder | None = None,
    x: Any = None,
    target: Any = None,
    *,
    l1_coeff: float = 1e-3,
    arithmetic: str | Arithmetic | Mapping[str, str | Arithmetic] = "float32",
    conventions: tuple[str, ...] | list[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Judge somebody else's results stage by stage.

    Args:
        candidate: a mapping from stage names to arrays, whatever subset exists (``indices`` and
            ``values`` may stand for ``hidden``); or a function ``f(params, x, target)`` that
            returns one; or the path of a case, which holds everything by itself: a file ``.npz``
            or ``.safetensors``, or a folder that ``reftranscoder cases`` made.
        tc: the transcoder whose results these ought to be.
        x: (B, I) what it was given.  Without it, a function is run on the probe set: it is called
            with cases that have the sizes and options of ``tc``, some with its parameters and some
            with others.
        target: (B, O); without it, only the forward stages are judged.
        l1_coeff: of the loss; a file has its own.
        arithmetic: the one declared: a name in ``ARITHMETICS``, an `Arithmetic`, or a mapping from
            stages to either.
        conventions: the names of documented conventions under which the candidate may differ.
        progress: called with the number of rows done, after each block, and with 0 now and then
            while a name is sought for what is wrong.

    Returns:
        A `Report`; of several cases a `Reports`, which is one and holds each case's own.

    Rows of ``x`` that hold NaN or infinity may be refused, by their numbers in
    ``candidate["refused"]``, or by an exception of the function; otherwise their results must not
    be finite.

    Raises:
        ShapeError, OptionError, DTypeError, FileError: malformed input, which gets no verdict.
    """
    stages, declared = by_stage(arithmetic), name_of(arithmetic)
    accepted = checked_names(conventions)
    if isinstance(candidate, str | os.PathLike):
        if tc is not None or x is not None or target is not None:
            raise OptionError("tc, x and target", "None: a file has its own", "others")
        answers = answers_in(candidate)
        if answers.several:
            return judge_cases(answers.read(), stages, declared, accepted, progress)
        ((case, answer),) = answers.read()
        return judge_case(case, answer, stages, declared, accepted, progress)
    if not isinstance(tc, Transcoder):
        raise OptionError("tc", "the Transcoder to compare with", type(tc).__name__)
    if x is None:
        if not callable(candidate):
            raise OptionError("x", "what the candidate was given, (B, I)", None)
        cases = probes_of(tc, stages, l1_coeff)
        answers = ((case, answer_of(candidate, case)) for case in cases)
        return judge_cases(answers, stages, declared, accepted, progress)
    if callable(candidate):
        candidate = candidate(tc.params, x, target)
    judged = judge_batch(candidate, tc, x, target, l1_coeff, stages, progress)
    report = conclude(judged, declared, accepted, progress=progress)
    if judged.whole is not None:  # some rows are not finite
        return report
    problem = judged.problem
    given = tc.config, tc.params, problem.x, problem.target, problem.l1_coeff
    return require_exact(report, Case("", "", *given), stages)


def name_of(arithmetic: str | Arithmetic | Mapping) -> str:
    """What a report calls an arithmetic."""
    if isinstance(arithmetic, Mapping):
        return "mixed arithmetic"
    return arithmetic if isinstance(arithmetic, str) else arithmetic.name
