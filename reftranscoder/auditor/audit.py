"""The audit: results are read, judged and, where wrong, compared with what has a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import OptionError
from ..options import finite_number
from ..transcoder import Transcoder
from ..transcoder.cross_layer import CrossLayerTranscoder
from .cross_layer import audit_layers
from .explaining.conventions import checked_names
from .judged_batch import checked_batch, judge_batch
from .many_cases import answer_of, judge_cases
from .one_case import judge_case, report_of
from .probes.case_folder import answers_in
from .probes.probe_set import probes_of
from .reporting.report import Report
from .task.arithmetic import Arithmetic, by_stage
from .task.case import Case
from .task.definition import definition_of


def audit(
    candidate: Mapping[str, Any] | Callable[..., Any] | str | os.PathLike[str],
    tc: Transcoder | CrossLayerTranscoder | None = None,
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
        tc: the transcoder whose results these ought to be; or a `CrossLayerTranscoder`, and they
            are as its ``stages`` returns them, of ``x`` (L, B, I) and ``target`` (L, B, O).
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
        A `Report`; of several cases a `Reports`, which is one and holds each case's own; of several
        layers one in which ``"reconstruction[2]"`` is that of layer 2.

    Rows of ``x`` that hold NaN or infinity may be refused, by their numbers in
    ``candidate["refused"]``, or by an exception of the function; otherwise their results must not
    be finite.

    Raises:
        ShapeError, OptionError, DTypeError, FileError: malformed input, which gets no verdict.

    >>> tc = rt.build(input_size=6, output_size=4, dict_size=16, top_k=3)
    >>> x = np.random.default_rng(0).normal(size=(8, 6))
    >>> theirs = tc.stages(x)
    >>> theirs["reconstruction"][5, 1] += 1
    >>> report = rt.audit(theirs, tc, x)
    >>> report.verdict(), report.blame
    ('FAILED', 'reconstruction')
    """
    if progress is not None and not callable(progress):
        raise OptionError("progress", "a function of one argument, or None", progress)
    given = by_stage(arithmetic), name_of(arithmetic), checked_names(conventions)
    if isinstance(candidate, str | os.PathLike):
        if tc is not None or x is not None or target is not None:
            raise OptionError("tc, x and target", "None: a file has its own", "others")
        return _audit_of_files(candidate, *given, progress)
    if isinstance(tc, CrossLayerTranscoder):
        return audit_layers(candidate, tc, x, target, l1_coeff, given, progress)
    return _audit_of_results(candidate, tc, x, target, l1_coeff, given, progress)


def _audit_of_results(
    candidate: Mapping[str, Any] | Callable[..., Any],
    tc: Transcoder | None,
    x: Any,
    target: Any,
    l1_coeff: float,
    given: tuple[dict[str, Arithmetic], str, tuple[str, ...]],
    progress: Callable[[int], None] | None,
) -> Report:
    """Of arrays, or of a function that returns them."""
    if not isinstance(tc, Transcoder):
        raise OptionError("tc", "the Transcoder to compare with", type(tc).__name__)
    definition_of(tc.config, tc.params.own)  # or it is refused
    tc.params.check_in_memory("an audit")
    if x is None:
        if not callable(candidate):
            raise OptionError("x", "what the candidate was given, (B, I)", None)
        cases = probes_of(tc, given[0], l1_coeff)
        return judge_cases(((c, answer_of(candidate, c)) for c in cases), *given, progress)
    results = candidate(tc.params, x, target) if callable(candidate) else candidate
    x, target = checked_batch(tc.config, x, target)
    l1_coeff = finite_number("l1_coeff", l1_coeff)
    case = Case("", "", tc.config, tc.params, x, target, l1_coeff)
    return report_of(judge_batch(results, case, *given, progress))


def _audit_of_files(
    path: str | os.PathLike[str],
    arithmetic: dict[str, Arithmetic],
    declared: str,
    accepted: tuple[str, ...],
    progress: Callable[[int], None] | None,
) -> Report:
    """Of a case on disk, or of a folder of them."""
    answers = answers_in(path)
    if answers.several:
        return judge_cases(answers.read(), arithmetic, declared, accepted, progress)
    ((case, answer),) = answers.read()
    return judge_case(case, answer, arithmetic, declared, accepted, progress)


def name_of(arithmetic: str | Arithmetic | Mapping[str, str | Arithmetic]) -> str:
    """What a report calls an arithmetic."""
    if isinstance(arithmetic, Mapping):
        return "mixed arithmetic"
    return arithmetic if isinstance(arithmetic, str) else arithmetic.name
