"""What a race is run on: a transcoder, and the rows it reads and ought to write."""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

import reftranscoder as rt
from reftranscoder.errors import ShapeError

#: New rows for every step of training: on the same ones again and again features grow alike.
BATCHES = 16


class Work(NamedTuple):
    """The same for every contestant, in float32."""

    tc: rt.Transcoder
    x: np.ndarray  # (B, I)
    target: np.ndarray  # (B, O)
    batches: list[tuple[np.ndarray, np.ndarray]]  # of rows to train on, like x and target
    origin: str

    @classmethod
    def draw(cls, sizes: dict[str, int], seed: int) -> Work:
        """Standard normal rows, a dictionary of random directions, and small biases."""
        rng = np.random.default_rng(seed)
        B, I, D, O, K = (sizes[letter] for letter in "BIDOK")

        def normal(*shape: int, scale: float = 1) -> np.ndarray:
            return np.float32(scale) * rng.standard_normal(shape, np.float32)

        tc = rt.Transcoder.from_arrays(
            W_enc=normal(D, I, scale=I**-0.5),
            b_enc=normal(D, scale=0.1),
            W_dec=normal(D, O, scale=O**-0.5),
            b_dec=normal(O, scale=0.1),
            top_k=K,
        )
        x, target = normal(B, I), normal(B, O)
        batches = [(normal(B, I), normal(B, O)) for _ in range(BATCHES)]
        return cls(tc, x, target, batches, f"random, seed {seed}")

    @classmethod
    def load(cls, options: argparse.Namespace, sizes: dict[str, int]) -> Work:
        """A saved transcoder, and B rows of two ``.npy`` files, evenly spaced.

        Raises:
            ShapeError: fewer than B rows.
        """
        tc = rt.load(options.model).astype("float32")
        arrays = []
        for name in (options.x, options.target):
            array = np.load(name, mmap_mode="r", allow_pickle=False)
            if len(array) < sizes["B"]:
                raise ShapeError(name, f"at least {sizes['B']} rows (-B)", array.shape)
            arrays.append(array)
        most = min(map(len, arrays))

        def rows(chosen: np.ndarray) -> tuple[np.ndarray, ...]:
            return tuple(np.ascontiguousarray(a[chosen], np.float32) for a in arrays)

        evenly = np.linspace(0, most - 1, sizes["B"]).astype(int)
        rng = np.random.default_rng(options.seed)
        batches = [rows(rng.choice(most, sizes["B"], replace=False)) for _ in range(BATCHES)]
        return cls(tc, *rows(evenly), batches, f"{options.model} on {options.x}")

    @property
    def sizes(self) -> dict[str, int]:
        """B, I, D, O and K."""
        config = self.tc.config
        named = (config.input_size, config.dict_size, config.output_size, config.top_k)
        return {"B": len(self.x)} | dict(zip("IDOK", named))
