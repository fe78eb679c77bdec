"""`fit_cross_layer`, for several layers at once, made of what `fit` is made of.

Layer l is a transcoder whose L - l outputs stand side by side, with a `State` of its own:
``start.py`` has where they begin and how they are taken back to the units of the data, ``step.py``
a step of all of them, ``fitting.py`` the run.
"""

from .fitting import CrossLayerFit, fit_cross_layer

__all__ = ["CrossLayerFit", "fit_cross_layer"]
