"""Checking a gradient against its loss, by differences that know where the kinks are.

Within a cell, where neither the selected features nor a sign changes, the loss is quadratic in each
array by itself, x among them, and of degree four along a line in all parameters.  A difference of
enough points then has no truncation error, at any step::

    L'(0)  =  (L(1) - L(-1)) / 2                               for degree two                 (G1)
    L'(0)  =  (8 (L(1) - L(-1)) - (L(2) - L(-2))) / 12         for degree four                (G2)

with L(s) the loss at the point plus s times the step.  What is left is the rounding of the losses,
divided by the step: so the step should be, and is, as large as the cell allows.  And as rounding
has bounds, the tolerance is derived, not chosen.  ``kinks`` knows the cell, ``rounding`` the
bounds, ``point`` makes a step, and ``check`` is the check.
"""

from .check import GradientCheck, check_gradient
from .kinks import kink_free_radius
from .point import Slope

__all__ = ["GradientCheck", "Slope", "check_gradient", "kink_free_radius"]
