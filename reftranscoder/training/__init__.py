"""Training: `fit`, what it returns, and what it tells while it is under way; of several layers
`fit_cross_layer`."""

from .cross_layer import CrossLayerFit, fit_cross_layer
from .fitting import Fit, fit
from .history import Entry, History
from .progress import Progress

__all__ = [
    "CrossLayerFit",
    "Entry",
    "Fit",
    "History",
    "Progress",
    "fit",
    "fit_cross_layer",
]
