"""Activations on disk or in memory, read a block at a time: what a transcoder is trained on.

In reading order: ``rows.py``, what users hold; ``selection.py``, which rows of it;
``row_store.py``, where they lie: in memory, in one file (``npy_map.py``, ``tensor_map.py``), in a
folder of them (``shards.py``), in a Dask array (``dask_rows.py``); ``pair.py``, inputs and targets
together; and ``writer.py`` with ``index.py``, which fill a folder batch by batch.
"""

from .pair import paired
from .rows import Activations
from .writer import ActivationWriter

__all__ = ["ActivationWriter", "Activations", "paired"]
