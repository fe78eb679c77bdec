"""What every test run does first: it says which reftranscoder it tests, and settles hypothesis."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import reftranscoder

ROOT = Path(__file__).parent.parent
PACKAGE = Path(reftranscoder.__file__).parent
IN_CI = bool(os.environ.get("CI"))

# The first call of a kernel compiles it: a deadline would fail on that.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "here")


def pytest_report_header():
    return f"reftranscoder {reftranscoder.__version__} from {PACKAGE}"


def pytest_configure():
    if IN_CI and PACKAGE.is_relative_to(ROOT / "reftranscoder"):
        raise pytest.UsageError(
            f"reftranscoder must be the installed one; got the source tree, {PACKAGE}. "
            "Run `pytest`, not `python -m pytest`, and unset PYTHONPATH."
        )


@pytest.fixture
def rng():
    """The same random numbers in every run."""
    return np.random.default_rng(20240617)
