"""A transcoder measured on data of any size, a batch at a time, in float64.

``evaluate.py``: by every published definition, and which of them gives a number that somebody
reported; ``describe.py``: the whole of it, and some of its features by where they fire, on the text
that ``tokens.py`` reads.
"""

from .describe import Decoder, Description, Feature, describe
from .evaluate import BATCH_ROWS, Evaluated, Match, evaluate, matches
from .tokens import Tokens

__all__ = [
    "BATCH_ROWS",
    "Decoder",
    "Description",
    "Evaluated",
    "Feature",
    "Match",
    "Tokens",
    "describe",
    "evaluate",
    "matches",
]
