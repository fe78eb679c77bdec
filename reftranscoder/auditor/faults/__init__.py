"""Published faults of the field, each with a function that makes it and what the audit says."""

from __future__ import annotations
