"""Real activations to try things on: one MLP of a small language model, reading the Jargon File.

`load` returns them.  What they are, where they come from, under which licences, and what the eight
bits they are stored in cost, is written in PROVENANCE.rst next to this file.

>>> sample = rt.sample.load()
>>> sample.x.shape, sample.target.shape, sample.tokens.shape
((8192, 576), (8192, 576), (64, 128))
>>> "".join(sample.tokens[0, 2:9])
' A derogatory term for web designers'
"""

from __future__ import annotations

import codecs
import hashlib
from importlib import resources
from typing import NamedTuple

import numpy as np

SOURCE = "jargon"
FILE = "smollm2_layer15_mlp.npz"


class Sample(NamedTuple):
    """Rows of paired activations, and the text they were recorded on.

    Row ``r`` belongs to ``tokens[r // length, r % length]``, with ``length = tokens.shape[1]``.
    The first token of a sequence is an outlier, as in most language models: ``position > 0`` leaves
    it out.
    """

    x: np.ndarray  # (8192, 576) float32, what the MLP reads
    target: np.ndarray  # (8192, 576) float32, what it writes
    tokens: np.ndarray  # (64, 128) str: the text that each token completes
    position: np.ndarray  # (8192,) int, place of each row in its sequence


def load() -> Sample:
    """Return the packaged sample: 64 sequences of 128 tokens, 8,192 rows, in the text's order."""
    with (resources.files(__name__) / FILE).open("rb") as file, np.load(file) as arrays:
        places = arrays["tokens"]
        pieces = [piece_bytes(piece) for piece in arrays["vocabulary"]]
        return Sample(
            x=dequantize(arrays["x_codes"], arrays["x_scales"]),
            target=dequantize(arrays["target_codes"], arrays["target_scales"]),
            tokens=np.array([texts([pieces[i] for i in sequence]) for sequence in places]),
            position=np.tile(np.arange(places.shape[1]), places.shape[0]),
        )


def dequantize(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return rows (B, width) in float32, from their int8 codes and the scale (B,) of each row."""
    rows: np.ndarray = codes.astype(np.float32) * scales[:, None]
    return rows


def piece_bytes(piece: str) -> bytes:
    """Return the bytes that a byte-level BPE string stands for: ``b" the"`` for ``"Ġthe"``.

    Source: bytes_to_unicode of the GPT-2 tokenizer (Radford et al. 2019, section 2.2).
    """
    return bytes(_BYTES[character] for character in piece)


def texts(pieces: list[bytes]) -> list[str]:
    """Return the text that each of ``pieces`` completes: joined, they are the text of all of them.

    A character whose bytes are spread over several tokens appears whole, at the last of them.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(piece) for piece in pieces]


def checksum(array: np.ndarray) -> str:
    """Return the SHA-256 of ``array``, little-endian, in C order (PROVENANCE.rst lists them)."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level BPE string stands for.

    A byte that prints in Latin-1 stands for itself; the others are given the characters from 256
    on, in their order.
    """
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    alphabet = {chr(byte): byte for byte in printing}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_alphabet()
