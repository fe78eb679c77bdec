"""How good a transcoder is: FVU, L0, firing rates and dead features.

Several definitions go by these names.  Here:

**FVU**, the fraction of variance unexplained, is ``sum((y - y_hat)**2) / sum((y - mean)**2)`` over
all rows and all columns at once, with ``mean`` (O,) that of each column over all rows; ``1 - FVU``
is R^2.  SAELens (evals.py, "explained_variance") has the same.  sparsify divides by the variance
within a batch; dictionary_learning averages the ratios of batches and takes the variance of the
error, so that a constant error costs nothing; older SAELens and SAEBench average ratios of rows;
others clip the result or average ratios of columns.  Those numbers are not comparable with this
one.

**L0** is the mean number of active features of a row, where active means a value above zero.

**A dead feature** is one that is active in no row of the data given.  dictionary_learning and
sparsify also count a feature that was selected with value zero as having fired, OpenAI's code only
one above 0.001, and Edifice wants a running mean of the firing rate above 0.001.

``definitions.py`` has what others publish by these names, ``comparison.py`` two models side by
side, ``cross_layer.py`` several layers; ``features.py`` counts, ``evaluation.py`` takes rows a
block at a time, and so does ``firings.py``: where features fire.

>>> rt.metrics.fvu([[0, 0], [2, 4]], [[0, 0], [2, 3]])  # 1 / (1 + 4 + 1 + 4)
0.1
>>> rt.metrics.l0([[0, 2, 1], [0, 0, 1]])
1.5
>>> rt.metrics.dead_features([[0, 2, 1], [0, 0, 1]])
array([0])
"""

from .comparison import decoder_shift, firing_shift, mean_max_cosine, nearest_neighbours
from .cross_layer import LayersMetrics
from .definitions import DEFINITIONS, Definition, Sums, sums_of
from .evaluation import Evaluation, Metrics, fvu
from .features import (
    dead_features,
    dense_features,
    density_histogram,
    firing_rates,
    l0,
)
from .firings import FeatureFirings, Firings

__all__ = [
    "DEFINITIONS",
    "Definition",
    "Evaluation",
    "FeatureFirings",
    "Firings",
    "LayersMetrics",
    "Metrics",
    "Sums",
    "dead_features",
    "decoder_shift",
    "dense_features",
    "density_histogram",
    "firing_rates",
    "firing_shift",
    "fvu",
    "l0",
    "mean_max_cosine",
    "nearest_neighbours",
    "sums_of",
]
