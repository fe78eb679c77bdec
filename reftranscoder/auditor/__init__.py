"""Judging somebody else's results: `audit` and what it is made of."""

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
