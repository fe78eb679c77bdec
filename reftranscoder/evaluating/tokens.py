"""The text behind the rows: which token each row belongs to, and those around it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError, OptionError, RowError, ShapeError, shown, words
from ..files.npy import read_header
from ..files.sniff import require
from ..options import path as as_path
from ..options import positive_integer
from ..sample import piece_bytes, texts

_SPACE = "Ġ"  # what byte-level BPE has for one
_SPACE_OF_PIECES = "▁"  # and SentencePiece


class Context(NamedTuple):
    """A token and those around it, of the same sequence."""

    tokens: list[str]
    at: int  # which of them it is
    position: int  # of the token in its sequence
    sequence: int


class Tokens:
    """The tokens of sequences, by row: row r is token ``r % length`` of sequence ``r // length``.

    Args:
        tokens: (sequences, length) or (rows,) of strings, or of whole numbers that stand for
            ``vocabulary[i]``.
        vocabulary: the piece of text of each number: a list, or a mapping from numbers.  Pieces of
            byte-level BPE ("Ġthe") become text.
        sequence_length: of what is given as (rows,); by default all are one sequence.

    Raises:
        ShapeError: neither one axis nor two.
        OptionError: what is neither text nor numbers with a vocabulary; sequences of another length
            than ``sequence_length``.

    >>> from reftranscoder.evaluating import Tokens
    >>> tokens = Tokens([["In", " the", " beginning"], ["And", " God", " said"]])
    >>> tokens.around(4, reach=1)
    Context(tokens=['And', ' God', ' said'], at=1, position=1, sequence=1)
    """

    def __init__(
        self, tokens: Any, vocabulary: Any = None, sequence_length: int | None = None
    ) -> None:
        try:
            grid = tokens if isinstance(tokens, np.ndarray) else np.asarray(tokens)
        except Exception:  # a ragged list, or somebody else's __array__
            raise OptionError("tokens", "sequences of one length", tokens) from None
        if grid.ndim not in (1, 2) or not grid.size:
            raise ShapeError("tokens", "(sequences, length) or (rows,)", grid.shape)
        if grid.dtype.kind not in "Uiu":
            raise OptionError("tokens", "strings, or whole numbers", tokens)
        if sequence_length is not None:
            sequence_length = positive_integer("sequence_length", sequence_length)
        if grid.ndim == 2 and sequence_length not in (None, grid.shape[1]):
            want = f"{grid.shape[1]}, as in tokens"
            raise OptionError("sequence_length", want, sequence_length)
        self.length = grid.shape[1] if grid.ndim == 2 else sequence_length or len(grid)
        self._flat = grid.reshape(-1)
        self._pieces = None if grid.dtype.kind == "U" else _pieces(vocabulary, self._flat)

    def __len__(self) -> int:
        return len(self._flat)

    def __repr__(self) -> str:
        return f"Tokens({len(self)} in sequences of {self.length})"

    def around(self, row: int, reach: int = 8) -> Context:
        """Return the `Context` of the token of ``row``, up to ``reach`` tokens either side.

        Raises:
            RowError: there is no such row.
        """
        if not 0 <= row < len(self):
            raise RowError("tokens", f"there is none for row {row}, of {len(self)}")
        sequence, position = divmod(row, self.length)
        start = row - min(reach, position)
        stop = min(row + reach + 1, (sequence + 1) * self.length, len(self))
        some = self._flat[start:stop].tolist()
        if self._pieces is not None:
            some = texts([self._pieces[i] for i in some])
        return Context(some, row - start, position, sequence)


def read_tokens(
    path: str | os.PathLike[str],
    vocabulary: str | os.PathLike[str] | None = None,
    sequence_length: int | None = None,
) -> Tokens:
    """Read `Tokens` from a file.

    Args:
        path: ``.npy`` or ``.json``: (sequences, length) or (rows,) of strings, or of the numbers of
            tokens.
        vocabulary: ``.json`` of what the numbers stand for: a list of pieces; an object from pieces
            to numbers, as in vocab.json, or from numbers to pieces; or a tokenizer.json with one
            of these as its model's vocab.
        sequence_length: as in `Tokens`.

    Raises:
        FileError: a file that cannot be read, or holds something else.
        OptionError: as `Tokens`.
    """
    path = as_path("tokens", path)
    grid = _json(path) if path.suffix.lower() == ".json" else _npy(path)
    known = None if vocabulary is None else _vocabulary(as_path("vocabulary", vocabulary))
    try:
        return Tokens(grid, known, sequence_length)
    except (OptionError, ShapeError) as error:
        error.say_where(str(path))
        raise


def _pieces(vocabulary: Any, ids: np.ndarray) -> dict[int, bytes]:
    """The bytes of each number that occurs in ``ids``."""
    if vocabulary is None:
        raise OptionError("vocabulary", "given, as tokens are numbers", None)
    found: dict[int, str] = {}
    for i in np.unique(ids).tolist():
        try:
            piece = vocabulary[i] if i >= 0 else None
        except Exception:  # KeyError, IndexError, or what somebody else's __getitem__ raises
            piece = None
        if not isinstance(piece, str):
            raise OptionError("vocabulary", f"a piece of text for every token, {i} too", vocabulary)
        found[i] = piece
    byte_level = any(_SPACE in piece for piece in found.values())
    return {i: _bytes_of(piece, byte_level) for i, piece in found.items()}


def _bytes_of(piece: str, byte_level: bool) -> bytes:
    if byte_level:
        try:
            return piece_bytes(piece)
        except KeyError:  # a token that is added to the vocabulary as it is
            pass
    return piece.replace(_SPACE_OF_PIECES, " ").encode("utf-8", "replace")


def _npy(path: Path) -> np.ndarray:
    require(path, "npy", {})
    try:
        with open(path, "rb") as file:
            header, start = read_header(file), file.tell()
        if header.dtype.kind not in "Uiu" or header.fortran or not header.nbytes:
            raise ValueError(f"it holds {header.dtype}, and not strings or whole numbers in rows")
        if start + header.nbytes != path.stat().st_size:
            raise ValueError("it is not as long as its header says")
        return np.asarray(np.memmap(path, header.dtype, "r", start, header.shape))
    except (OSError, ValueError) as error:
        raise FileError(path, f"holds no tokens: {words(error)}", "Make it again.") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(path, f"is not JSON: {words(error)}") from None
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror}") from None


def _vocabulary(path: Path) -> Any:
    """A list of pieces, or a mapping from numbers to them."""
    content = _json(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        added = content.get("added_tokens") or []
        content = content["model"].get("vocab")
        if isinstance(content, dict):
            try:
                content |= {token["content"]: token["id"] for token in added}
            except (TypeError, KeyError):
                pass
    if isinstance(content, list):
        return [row[0] if isinstance(row, list) and row else row for row in content]
    if isinstance(content, dict) and all(isinstance(i, int) for i in content.values()):
        return {i: piece for piece, i in content.items()}
    if isinstance(content, dict) and all(i.isdecimal() for i in content):
        return {int(i): piece for i, piece in content.items()}
    want = "a list of pieces, or an object from pieces to numbers or from numbers to pieces"
    raise FileError(path, f"is not a vocabulary: it must be {want}; it is {shown(content)}")
