"""What is computed, where libraries differ: the definition under which a candidate is judged.

The default is the one of `reftranscoder.reference`.  ``conventions`` lists the others that the field
documents; ``faults`` uses the same fields for mistakes that have a name.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Definition:
    """One field for each way in which definitions differ; the defaults are the reference's."""

    top_k: int
    activation: str = "topk"
    ties: str = "lowest_index"
    rectified: bool = True  # ReLU before selection
    input: str = "x"  # or "x - b_dec": what the encoder reads
    norms: str = "none"  # or "scaled": pre times |W_dec[j]|, undone by the decoder
    skip: str = "W_skip"  # or "none", "transposed", "x - b_dec"
    decoder: str = "W_dec"  # or "transposed"
    mse: float = 1.0  # times the mean over B O: O for a sum over columns, 0.5 for a half
    l1: str = "mean"  # over B D; or "sum" (over D, mean over B), "kept" (over B K), "weighted"
    target_gradient: float = 1.0  # times d_reconstruction
    mask: bool = True  # the gradient passes through selected features alone
    l1_gradient: bool = True
