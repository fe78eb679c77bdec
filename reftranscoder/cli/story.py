"""What the demo says."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from ..bounds import Worst
from ..metrics import Metrics
from ..training import Fit
from .exact_case import Slope
from .printing import plural
from .reading import Feature, context, strongest_words

FIRINGS = 5  # shown of each feature
BEFORE = 26  # characters of the text before a firing

GRADIENTS = "1  Are the gradients right?\n"
TRAINING = "\n2  Training on real activations\n"
KERNELS = "\n3  Do the kernels do what the formulas say?\n"
FEATURES = "\n4  What are the features about?\n"


def proof(slopes: list[Slope]) -> str:
    """What `exact_case.prove` found."""
    names = ", ".join(slope.moved for slope in slopes)
    text = _paragraph(
        "A small random case in exact fractions, with a skip connection and an L1 penalty. Five "
        "values of the loss on a line give its slope, without error. It must equal the gradient "
        f"derived by hand, digit for digit, along {names}:"
    )
    equal = sum(slope.equal for slope in slopes)
    last = slopes[-1].difference
    return f"{text}\n     {equal} of {len(slopes)} equal; the last is {last}"


def plan(tokens: np.ndarray, held_out: int, dict_size: int, top_k: int) -> str:
    """What is about to be trained, with the last passages ``held_out``."""
    return _paragraph(
        f"What the MLP of layer 15 of SmolLM2-135M read and wrote on {tokens.size:,} tokens of the "
        f"Jargon File, through {dict_size:,} features of which {top_k} are active at a time. The "
        f"last {held_out} of {len(tokens)} passages are held out."
    )


def outcome(result: Fit, metrics: Metrics, batch_size: int, dead: int, seconds: float) -> str:
    """How training went, and how many features never fire."""
    return (
        f"     {plural(result.steps, 'step')} of {batch_size:,} rows in {seconds:.0f} s\n"
        f"     held out: FVU {metrics.fvu:.3f} (0 is perfect, 1 no better than the mean), "
        f"L0 {metrics.l0:.1f}\n"
        f"     dead: {dead} of {result.transcoder.config.dict_size:,} features, active on no token"
    )


def agreement(stages: dict[str, Worst], same: int, rows: int) -> str:
    """How far apart the rooms are, and in how many of the rows they select the same features."""
    text = _paragraph(
        f"On the {rows:,} rows held out, the float32 kernels and the float64 reference select the "
        f"same features in {same:,}. The largest error of each stage, over the most that rounding "
        "can do (more than 1 is a fault):"
    )
    cells = [f"{name} {worst.ratio:.3f}" for name, worst in stages.items()]
    width = max(map(len, cells)) + 2
    lines = [
        "     " + "".join(cell.ljust(width) for cell in cells[i : i + 3]).rstrip()
        for i in range(0, len(cells), 3)
    ]
    return "\n".join([text, *lines])


def readings(tokens: np.ndarray, features: list[Feature]) -> str:
    """The tokens on which each feature fires most, in five tokens of context."""
    return "\n".join(_reading(tokens, feature) for feature in features)


def ending(model: Path, picture: Path | None, checks: dict[str, bool], seconds: float) -> str:
    """What was written, and how the checks went."""
    lines = ["", f"{model}: the transcoder, which rt.load reads"]
    if picture:
        lines.append(f"{picture}: all of this in a picture")
    else:
        lines.append("no picture: that needs matplotlib (pip install 'reftranscoder[cli]')")
    lines += [f"FAILED: {name}" for name, passed in checks.items() if not passed]
    if all(checks.values()):
        lines.append(f"All {len(checks)} checks passed, in {seconds:.0f} s.")
    return "\n".join(lines)


def _reading(tokens: np.ndarray, feature: Feature) -> str:
    words = ", ".join(strongest_words(tokens, feature))
    lines = [f"   feature {feature.index}, on {feature.rate:.1%} of the tokens: {words}"]
    for firing in feature.firings[:FIRINGS]:
        before, token, after = context(tokens, firing)
        blank = token[: len(token) - len(token.lstrip())]
        left = (before + blank)[-BEFORE:]
        lines.append(f"     {firing.value:5.1f} {left:>{BEFORE}}»{token.strip()}«{after}")
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 79, initial_indent="   ", subsequent_indent="   ")
