"""For tests: a comparison whose failure is a bug report, and arguments made to be awkward.

::

    from reftranscoder import testing, twins

    twin = twins.find("decode_forward")
    arguments = testing.Probe(seed=0, values="ties").arguments(twin)
    want = twin.run_reference(arguments)
    bound = twin.bounds(arguments, want)
    got = my_decoder(**arguments)
    testing.assert_same(got, want["reconstruction"], bound["reconstruction"], seed=0)
"""

from .probe import VALUES, Probe
from .same import assert_same, layouts

__all__ = ["Probe", "VALUES", "assert_same", "layouts"]
