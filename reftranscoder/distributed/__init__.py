"""Past one machine."""

from .evaluation import evaluate
from .fitting import fit
from .mapping import encode, predict

__all__ = ["encode", "evaluate", "fit", "predict"]
