"""Judging somebody else's results: `audit` and what it is made of."""

from .arithmetic import ARITHMETICS, STAGES, Arithmetic
from .auditing import audit
from .report import AuditFailure, Report
from .reports import Reports
from .verdict import StageResult

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
