"""Past one machine."""

from .fitting import fit

__all__ = ["fit"]
