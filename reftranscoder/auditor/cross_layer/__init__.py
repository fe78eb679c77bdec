"""The audit of a cross-layer transcoder, by the judges of one: nothing is defined again.

By (L1) to (L8) of ``reference/cross_layer.py`` every stage of one layer is that of a transcoder:
what reads its features, and all their gradients, that of one with L - l outputs side by side; what
is decoded for it that of one with the features of all layers up to it side by side.

- ``views.py``: these transcoders, two for each layer.
- ``layers_candidate.py``: what was given, layer by layer, as each of them reads it.
- ``layers_judge.py``: each judged on what the candidate itself fed to it.
- ``mistakes.py``: what is wrong, if another layer's arrays explain it.
- ``layers_coverage.py``: what the data did not show.
- ``layers_report.py``: the report, in which ``reconstruction[2]`` is that of layer 2.
- ``layers_audit.py``: from one to the next.
"""

from .layers_audit import audit_layers
from .layers_report import LayersReport

__all__ = ["LayersReport", "audit_layers"]
