"""A transcoder measured on data of any size, a batch at a time, in float64.

``published.py``: by every published definition, and which of them gives a number that somebody
reported; ``batches.py`` measures a batch, wherever its rows are, and merges them in order.
``describing.py``: the whole of it, and some of its features by where they fire (``description.py``
has what it returns), ``in_context.py``: in the text that ``tokens.py`` reads.
"""

from .batches import Evaluated, LayersEvaluated
from .describing import FEATURES, describe, open_rows
from .description import Decoder, Description, Feature, Firing
from .published import BATCH_ROWS, Match, evaluate, matches
from .tokens import Tokens

__all__ = [
    "BATCH_ROWS",
    "Decoder",
    "Description",
    "Evaluated",
    "FEATURES",
    "Feature",
    "Firing",
    "LayersEvaluated",
    "Match",
    "Tokens",
    "describe",
    "evaluate",
    "matches",
    "open_rows",
]
