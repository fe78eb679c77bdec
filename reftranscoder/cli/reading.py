"""Features read by the text on which they fire.

A feature is judged by its ten strongest firings.  It is eligible if at most one of these is not on
a word, the first five are on three different words or more, five or more are at least half as
strong as the strongest, and all together are from five passages or more: it is neither the name of
one token, nor a memory of one passage, nor a single spike.  Of the eligible features those are
shown whose ten strongest firings hold the largest share of all their firing (sums of squares): they
fire on little else.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

STRONGEST = 10
MOST_NOT_WORDS = 1
FEWEST_WORDS = 3  # among the first five
FEWEST_PASSAGES = 5
FEWEST_HALFWAY = 5


class Firing(NamedTuple):
    """One token on which a feature fires, and how strongly."""

    passage: int
    position: int
    value: float


class Feature(NamedTuple):
    """A feature and what it does on all tokens."""

    index: int  # type: ignore[assignment]  # rather than the method of a tuple
    values: np.ndarray  # (passages, length), its activation on every token
    firings: list[Firing]  # the strongest of each passage, in descending order
    share: float  # of the ten strongest in all its firing

    @property
    def rate(self) -> float:
        """The fraction of the tokens on which it fires."""
        return np.count_nonzero(self.values) / self.values.size


def choose(hidden: Any, tokens: np.ndarray, count: int) -> list[Feature]:
    """The ``count`` features to show, by the rule above; fewer if fewer are eligible.

    ``hidden`` (B, D) is sparse; its row r is ``tokens[r // length, r % length]``.  The first token
    of a passage, an outlier, does not count.  No two features share their strongest word.
    """
    passages, length = tokens.shape
    words = np.array([_word(token) for token in tokens.ravel()])
    by_feature = hidden.tocsc()
    eligible = []
    for j, (start, end) in enumerate(zip(by_feature.indptr, by_feature.indptr[1:])):
        rows, values = by_feature.indices[start:end], by_feature.data[start:end].astype(float)
        inner = rows % length > 0
        order = np.argsort(-values[inner], kind="stable")
        rows, values = rows[inner][order], values[inner][order]
        if _is_eligible(words[rows[:STRONGEST]], rows // length, values):
            share = np.square(values[:STRONGEST]).sum() / np.square(values).sum()
            eligible.append((-share, j, rows, values))
    chosen: dict[str, Feature] = {}
    for share, j, rows, values in sorted(eligible, key=lambda feature: feature[:2]):
        if len(chosen) < count and words[rows[0]] not in chosen:
            everywhere = np.zeros(tokens.size)
            everywhere[rows] = values
            grid = everywhere.reshape(passages, length)
            _, first = np.unique(rows // length, return_index=True)
            firings = [
                Firing(int(rows[n] // length), int(rows[n] % length), float(values[n]))
                for n in np.sort(first)
            ]
            chosen[words[rows[0]]] = Feature(j, grid, firings, float(-share))
    return list(chosen.values())


def context(tokens: np.ndarray, firing: Firing, reach: int = 2) -> tuple[str, str, str]:
    """The text before a firing, its token, and the text after it, ``reach`` tokens each way."""
    passage, at = tokens[firing.passage], firing.position
    before = "".join(passage[max(0, at - reach) : at])
    after = "".join(passage[at + 1 : at + 1 + reach])
    return one_line(before), one_line(passage[at]), one_line(after)


def strongest_words(tokens: np.ndarray, feature: Feature, count: int = 4) -> list[str]:
    """The first few different words on which ``feature`` fires most, in lower case."""
    words = (_word(tokens[firing.passage, firing.position]) for firing in feature.firings)
    return list(dict.fromkeys(word for word in words if word))[:count]


def one_line(text: str) -> str:
    """``text`` with a sign in place of each line break."""
    return text.replace("\n", "⏎")


def _is_eligible(words: np.ndarray, passages: np.ndarray, values: np.ndarray) -> bool:
    """By the words of the strongest firings, and passage and value of all, strongest first."""
    return bool(
        len(words) == STRONGEST
        and np.count_nonzero(words == "") <= MOST_NOT_WORDS
        and words[0] != ""
        and len(set(words[: STRONGEST // 2]) - {""}) >= FEWEST_WORDS
        and len(set(passages[:STRONGEST])) >= FEWEST_PASSAGES
        and np.count_nonzero(values >= values[0] / 2) >= FEWEST_HALFWAY
    )


def _word(token: str) -> str:
    """The token in lower case if it begins a word and has three letters or more, else nothing."""
    begins = re.fullmatch(r"\s[A-Za-z]{3,}|[A-Z][a-z]{2,}", token)
    return token.strip().lower() if begins else ""
