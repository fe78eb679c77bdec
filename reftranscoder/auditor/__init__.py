"""Judging somebody else's results: `audit` and what it is made of.

A candidate goes through these rooms once, from the top of this list to its end.  A room imports
those before it alone; of probes and intervals, and of cross_checks, explaining and reporting,
neither imports the other.  A test proves it.

- ``task/``: what is audited: a candidate, and the problem that it ought to have solved.
- ``probes/``: cases to try an implementation on.
- ``intervals/``: every stage in float64, with a bound on how far off a correct result may be.
- ``judging/``: a verdict on each stage, given what it read.
- ``cross_checks/``: what these verdicts leave out.
- ``explaining/``: the names of what is wrong: documented conventions, known mistakes.
- ``reporting/``: the report, as text and as a page.

Above the rooms, and in this order: ``judged_batch.py`` checks a candidate and has it judged;
``one_case.py`` has the list of `STEPS` from there to a report; ``many_cases.py`` does the same for
many cases, which learn from each other; ``audit.py`` is what users call.  Above all of these stands
``faults/``, published faults of the field: what the rooms below make of each is in its table.
"""

from .audit import audit
from .judging.verdict import StageResult
from .reporting.merged_report import Reports
from .reporting.report import AuditFailure, Report
from .task.arithmetic import ARITHMETICS, Arithmetic
from .task.stage_graph import STAGES

__all__ = [
    "ARITHMETICS",
    "Arithmetic",
    "AuditFailure",
    "Report",
    "Reports",
    "STAGES",
    "StageResult",
    "audit",
]
