"""For tests: a comparison whose failure is a bug report, and arguments made to be awkward.

With a decoder of one's own, here ``hidden @ W_dec + b_dec``:

>>> twin = rt.twins.find("decode_forward")
>>> arguments = rt.testing.Probe(seed=0, values="ties").arguments(twin)
>>> want = twin.run_reference(arguments)["reconstruction"]
>>> bound = twin.bounds(arguments, {"reconstruction": want})["reconstruction"]
>>> got = arguments["hidden"] @ arguments["W_dec"] + arguments["b_dec"]
>>> rt.testing.assert_same(got, want, bound, seed=0)  # raises AssertionError if it is not
"""

from .probe import VALUES, Probe
from .same import assert_same, layouts

__all__ = ["Probe", "VALUES", "assert_same", "layouts"]
