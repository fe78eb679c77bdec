"""The picture that the demo draws: learning, the dictionary, the judgement, and three features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..bounds import Worst
from ..files.atomic import atomic_write
from ..training import History
from ..transcoder import Transcoder
from .reading import Feature, Firing, one_line, strongest_words

INK, FAINT, PAPER = "#22303c", "#9aa7b2", "#fcfbf8"
COLOURS = ("#c8443f", "#1f7a8c", "#b7791f")
LINES, REACH = 7, 22  # firings of a feature; characters shown on either side of each


def draw(
    path: Any,
    tc: Transcoder,
    tokens: np.ndarray,
    hidden: Any,
    features: list[Feature],
    history: History,
    losses: list[float],
    stages: dict[str, Worst],
) -> None:
    """Write the picture to ``path``, a PNG.  Needs matplotlib.

    Raises:
        FileError: it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.facecolor": PAPER,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlepad": 10,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a box in place of a rare character
        figure = Figure(figsize=(14, 8.6), facecolor=PAPER)
        FigureCanvasAgg(figure)
        upper = figure.add_gridspec(
            1, 3, left=0.045, right=0.985, top=0.85, bottom=0.51, wspace=0.24
        )
        lower = figure.add_gridspec(
            1, max(1, len(features)), left=0.02, right=0.985, top=0.41, bottom=0.02, wspace=0.05
        )
        _title(figure, tc, tokens)
        _learning(figure.add_subplot(upper[0]), history, losses)
        _dictionary(figure.add_subplot(upper[1]), tc, hidden, features)
        _judgement(figure.add_subplot(upper[2]), stages)
        for column, (feature, colour) in enumerate(zip(features, COLOURS)):
            _feature(figure.add_subplot(lower[column]), tokens, feature, colour)
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=130)


def _title(figure: Any, tc: Transcoder, tokens: np.ndarray) -> None:
    config = tc.config
    figure.text(
        0.02, 0.953, "What one layer writes, in features one can read", fontsize=17, weight="bold"
    )
    figure.text(
        0.02,
        0.922,
        f"MLP of layer 15 of SmolLM2-135M on {tokens.size:,} tokens of the Jargon File, "
        f"through {config.dict_size:,} features, {config.top_k} of them active at a time",
        color=INK,
        alpha=0.75,
        fontsize=10.5,
    )
    figure.text(0.02, 0.415, "Where some of them fire most", fontsize=11, weight="bold")


def _learning(axes: Any, history: History, losses: list[float]) -> None:
    axes.set_title("Learning")
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=FAINT, lw=1)
    held, fvu = history.column("step"), history.column("fvu")
    axes.plot(held, fvu, "o-", color=INK, lw=1.8, ms=4)
    axes.set_ylim(0, max(1.05, max(fvu) + 0.05))
    axes.set_xlim(0, len(losses) * 1.02)
    axes.axhline(1, color=FAINT, lw=0.8, ls=(0, (4, 4)))
    axes.text(len(losses), 1.01, "no better than the mean", ha="right", va="bottom", color=FAINT)
    axes.annotate(
        f"held out: {fvu[-1]:.3f}",
        (held[-1], fvu[-1]),
        (0, 9),
        textcoords="offset points",
        ha="right",
        weight="bold",
    )
    axes.annotate(
        "loss of each batch",
        (steps[-1], np.mean(losses[-5:])),
        (0, -6),
        textcoords="offset points",
        ha="right",
        va="top",
        color=FAINT,
    )
    axes.set_xlabel("training step")
    axes.set_ylabel("part left unexplained")


def _dictionary(axes: Any, tc: Transcoder, hidden: Any, features: list[Feature]) -> None:
    from matplotlib.patheffects import withStroke

    axes.set_title("The dictionary")
    by_feature = hidden.tocsc()
    counts = np.diff(by_feature.indptr)
    alive = counts > 0
    means = np.divide(by_feature.sum(axis=0), np.maximum(counts, 1))
    strength = means * np.linalg.norm(tc.params.W_dec, axis=1)
    rate = 100 * counts / hidden.shape[0]
    axes.scatter(rate[alive], strength[alive], s=7, color=INK, alpha=0.3, lw=0)
    # Each label on a side of its own, should the three be close together.
    sides = ((-8, 4, "right"), (8, 4, "left"), (0, -14, "center"))
    for feature, colour, (right, up, ha) in zip(features, COLOURS, sides):
        at = rate[feature.index], strength[feature.index]
        axes.scatter(*at, s=60, color=colour, edgecolor=PAPER, lw=1.2, zorder=3)
        label = axes.annotate(str(feature.index), at, (right, up), textcoords="offset points")
        label.set(color=colour, weight="bold", ha=ha, zorder=4)
        label.set_path_effects([withStroke(linewidth=3, foreground=PAPER)])
    axes.set_xscale("log")
    axes.set_ylim(0)
    axes.set_xlabel("how often a feature fires, % of tokens")
    axes.set_ylabel("how much it writes when it does")
    dead = np.count_nonzero(~alive)
    axes.text(
        0.98,
        0.03,
        f"{dead} of {len(counts):,} never fire",
        transform=axes.transAxes,
        ha="right",
        color=FAINT,
    )


def _judgement(axes: Any, stages: dict[str, Worst]) -> None:
    axes.set_title("The kernels, judged")
    names = list(stages)
    least = 1e-6
    ratios = np.array([max(stages[name].ratio, least) for name in names])
    places = np.arange(len(names))[::-1]
    axes.axvspan(1, 10, color=COLOURS[0], alpha=0.12, lw=0)
    axes.axvline(1, color=COLOURS[0], lw=1)
    axes.hlines(places, least, ratios, color=FAINT, lw=1.2)
    fine = ratios <= 1
    axes.scatter(ratios[fine], places[fine], s=26, color=INK, zorder=3)
    axes.scatter(np.minimum(ratios[~fine], 9), places[~fine], s=40, color=COLOURS[0], zorder=3)
    axes.text(3.1, len(names) - 0.55, "fault", ha="center", va="bottom", color=COLOURS[0])
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xscale("log")
    axes.set_xlim(least, 10)
    axes.set_ylim(-0.7, len(names) + 0.2)
    axes.set_xlabel("largest error, over the most that rounding can do")


def _feature(axes: Any, tokens: np.ndarray, feature: Feature, colour: str) -> None:
    """Lines of text with the firing token in the middle, each token shaded by how strongly the
    feature fires on it."""
    width = 2 * REACH + 12
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(LINES + 0.2, -1.6)
    words = ", ".join(strongest_words(tokens, feature))
    number = axes.text(0, -0.8, f"{feature.index} ", color=colour, weight="bold", fontsize=11)
    axes.annotate(
        words, (1, 0), xycoords=number, va="bottom", color=INK, fontsize=11, style="italic"
    )
    for line, firing in enumerate(feature.firings[:LINES]):
        _line(axes, line + 0.2, tokens, feature, firing, colour)


def _line(
    axes: Any, y: float, tokens: np.ndarray, feature: Feature, firing: Firing, colour: str
) -> None:
    from matplotlib.patches import Rectangle

    passage = [one_line(token) for token in tokens[firing.passage]]
    lengths = np.array([len(token) for token in passage])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # Shift the passage so that the firing token begins in column REACH.
    shift = REACH - starts[firing.position]
    last = 2 * REACH + 12
    strongest = feature.firings[0].value
    for at, token in enumerate(passage):
        left, right = int(starts[at] + shift), int(ends[at] + shift)
        if right <= 0 or left >= last:
            continue
        text = token[max(0, -left) : len(token) - max(0, right - last)]
        value = feature.values[firing.passage, at]
        column = max(0, left)
        if value > 0 and text.strip():
            blank = len(text) - len(text.lstrip())
            box = (column + blank - 0.15, y - 0.4), len(text) - blank + 0.3, 0.8
            alpha = 0.12 + 0.6 * value / strongest
            axes.add_patch(Rectangle(*box, color=colour, alpha=alpha, lw=0))
        for place, character in enumerate(text):
            axes.text(
                column + place + 0.5,
                y,
                character,
                family="DejaVu Sans Mono",
                fontsize=7.6,
                ha="center",
                va="center",
                weight="bold" if at == firing.position else "normal",
                alpha=1 if at == firing.position else 0.8,
            )
