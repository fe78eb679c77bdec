"""Makes the packaged sample out of recorded activations::

    python -m reftranscoder.sample.make IN.npy OUT.npy IDS.npy TOKENS.json -o SAMPLE.npz

``IN`` and ``OUT`` (rows, width) are the input and the output of one MLP for every token of ``IDS``
(sequences, length), one sequence after another; ``TOKENS`` holds the byte-level BPE string of each
token id under ``vocabulary`` and the text that each sequence comes from under ``sources``.  The
first 64 sequences of the Jargon File are kept whole and in their order.  Prints the relative error
that the 8 bits cost, and the checksums that PROVENANCE.rst quotes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import SOURCE, checksum, dequantize

SEQUENCES = 64


def quantize(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row (B, width) as int8 codes times one float32 scale (B,), rounded to nearest.

    The scale sends the largest magnitude of the row to 127.  A row of zeros gets the scale 0.
    """
    rows = rows.astype(np.float64)
    scales = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
    divisors = np.where(scales > 0, scales, 1).astype(np.float64)
    codes = np.rint(rows / divisors[:, None]).clip(-127, 127)
    return codes.astype(np.int8), scales


def relative_error(rows: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> float:
    """Norm of what quantisation changed in ``rows`` (B, width), over the norm of ``rows``."""
    rows = rows.astype(np.float64)
    return float(np.linalg.norm(dequantize(codes, scales) - rows) / np.linalg.norm(rows))


def make(
    x: np.ndarray, target: np.ndarray, token_ids: np.ndarray, vocabulary: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The arrays of the sample by name.

    ``x`` and ``target`` are (rows, width), ``token_ids`` (sequences, length), and ``vocabulary`` is
    the byte-level BPE string of each id, written in decimal.
    """
    x_codes, x_scales = quantize(x)
    target_codes, target_scales = quantize(target)
    ids, places = np.unique(token_ids, return_inverse=True)
    return {
        "x_codes": x_codes,  # (rows, width) int8
        "x_scales": x_scales,  # (rows,) float32
        "target_codes": target_codes,  # (rows, width) int8
        "target_scales": target_scales,  # (rows,) float32
        "tokens": places.reshape(token_ids.shape).astype(np.uint16),  # places in the two below
        "token_ids": ids.astype(np.int32),  # (V,) ids in the vocabulary of the model
        "vocabulary": np.array([vocabulary[str(i)] for i in ids]),  # (V,) str
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the packaged sample.")
    for name in ("x", "target", "token_ids", "tokens"):
        parser.add_argument(name)
    parser.add_argument("-o", "--output", required=True)
    paths = parser.parse_args()

    x, target, token_ids = map(np.load, (paths.x, paths.target, paths.token_ids))
    with open(paths.tokens, encoding="utf-8") as file:
        tokens = json.load(file)
    kept = [i for i, source in enumerate(tokens["sources"]) if source == SOURCE][:SEQUENCES]
    if len(kept) < SEQUENCES:
        raise SystemExit(f"{paths.tokens}: {len(kept)} of {SEQUENCES} sequences are {SOURCE!r}")
    length = token_ids.shape[1]
    rows = (np.array(kept)[:, None] * length + np.arange(length)).ravel()

    arrays: dict[str, Any] = make(x[rows], target[rows], token_ids[kept], tokens["vocabulary"])
    np.savez_compressed(paths.output, **arrays)
    for name, whole in (("x", x[rows]), ("target", target[rows])):
        error = relative_error(whole, arrays[f"{name}_codes"], arrays[f"{name}_scales"])
        print(f"relative error of {name}: {error:.4f}")
    for name, array in arrays.items():
        print(f"{checksum(array)}  {name} {array.dtype} {array.shape}")


if __name__ == "__main__":
    main()
