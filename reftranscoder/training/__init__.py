"""Training: `fit`, what it returns, and what it tells while it is under way."""

from .fitting import Fit, fit
from .history import Entry, History
from .progress import Progress

__all__ = ["Entry", "Fit", "History", "Progress", "fit"]
