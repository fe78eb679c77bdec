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

# The first call of a kernel compiles it: a deadline would fail on that.  Examples are the same in
# every run; `pytest --hypothesis-profile=search` looks for new ones.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile("same")


def pytest_report_header():
    return f"reftranscoder {reftranscoder.__version__} from {PACKAGE}"


def pytest_configure():
    if os.environ.get("CI") and PACKAGE.is_relative_to(ROOT / "reftranscoder"):
        raise pytest.UsageError(
            f"reftranscoder must be the installed one; got the source tree, {PACKAGE}. "
            "Run `pytest`, not `python -m pytest`, and unset PYTHONPATH."
        )


@pytest.fixture
def rng():
    """The same random numbers in every run."""
    return np.random.default_rng(20240617)
