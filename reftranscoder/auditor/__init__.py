"""Judging somebody else's results: `audit` and what it is made of."""

from .arithmetic import ARITHMETICS, STAGES, Arithmetic
from .auditing import audit
from .report import AuditFailure, Report
from .verdict import StageResult

__all__ = ["ARITHMETICS", "Arithmetic", "AuditFailure", "Report", "STAGES", "StageResult", "audit"]
