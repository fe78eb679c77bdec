"""Published faults of the field, each with a function that makes it, and what the audit says of it.

- ``stages.py``: what a reproduction starts from, a small case and the reference's stages of it.
- ``fault.py``: a row: where it was reported, the equation it breaks, the stage that is blamed.
- ``published/``: the rows.
- ``page.py``: all of them on one page.

A row may be no fault but another definition: one that is documented, whose name the audit gives, or
a difference that it allows.
"""

from .fault import Fault, address_of, blamed
from .published import FAULTS

__all__ = ["FAULTS", "Fault", "address_of", "blamed"]
