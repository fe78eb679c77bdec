"""The rows of the catalogue, a file a stage or two.

Each is a function of a case that returns stages with one fault in them, and what is known of it.  A
row was read where it says that it was reported; words and code are our own.
"""

from ...task.stage_graph import STAGES
from ..fault import Fault
from . import (
    decoding,
    encoding,
    gradients,
    loss,
    loss_terms,
    parameter_gradients,
    selection,
    selection_size,
)

_FILES = (
    encoding,
    selection_size,
    selection,
    decoding,
    loss,
    loss_terms,
    gradients,
    parameter_gradients,
)

#: All of them, in the order of the stages that the audit blames.
FAULTS: tuple[Fault, ...] = tuple(
    sorted((f for file in _FILES for f in file.FAULTS), key=lambda f: STAGES.index(f.stage))
)

__all__ = ["FAULTS"]
