"""Every stage in float64, with a bound on how far off a correct result may be.  In this order:

- ``interval.py``: numbers with bounds, in three tiers.
- ``sparse_interval.py``: hidden, and gradients at its entries.
- ``products.py``: products of matrices, the model of every stage that sums.
- ``gates.py``: the two paths of gated.
- ``normalizations.py``: what is done to x before the encoder.
- ``forward.py``: the forward stages.
- ``jumps.py``: jumprelu's straight-through gradient.
- ``backward.py``: the backward stages of each row.
- ``parameter_gradients.py``: the gradients that sum over rows.
- ``loss.py``: the loss.
"""
