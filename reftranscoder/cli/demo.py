"""train on real activations that come with the package, and see the kernels judged

Proves the gradients on a small exact case, trains a transcoder on what one MLP of a small
language model read and wrote, compares the kernels with the reference on passages that were held
out, and shows the words on which some features fire.  Writes the model and a picture into a
folder.  Takes less than two minutes on two cores, and exits with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import sample
from ..bounds import Worst
from ..errors import FileError
from ..files.atomic import check_replaceable
from ..metrics import Metrics
from ..reference import Forward
from ..training import Fit, fit
from ..transcoder import Transcoder
from ..twins import TWINS
from . import status, story
from .arguments import add_json
from .exact_case import prove
from .fit import teller
from .printing import print_report
from .progress import Progress
from .reading import Feature, choose, context, strongest_words
from .streams import complain, tell

MODEL, PICTURE = "model.npz", "picture.png"
HELD_OUT = 8  # passages, the last ones
DICT_SIZE, TOP_K, STEPS, BATCH_SIZE, L1_COEFF = 4096, 32, 150, 1024, 1e-3
WORST_FVU = 0.65  # after all steps
SHOWN = 3  # features
#: The rows of `TWINS` that hold every stage of the transcoder, and what each adds.
STAGES = {
    "affine_relu_forward": "pre_acts",
    "transcoder_forward": "hidden reconstruction",
    "transcoder_loss": "loss",
    "transcoder_backward": "d_reconstruction d_hidden dW_dec db_dec dW_enc db_enc dx",
}


class Trained(NamedTuple):
    """What training came to."""

    fit: Fit
    losses: list[float]  # of each step
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[--out DIR]."""
    parser.add_argument("--out", metavar="DIR", default="demo", help="a folder (default: demo)")
    parser.add_argument(
        "--steps", metavar="N", type=int, default=STEPS, help=f"of training (default: {STEPS})"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--force", action="store_true", help="replace what DIR holds of another run"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Tell the story, or with ``--json`` report it at the end."""

    def say(text: str) -> None:
        if not options.json:
            tell(text)

    began = time.monotonic()
    folder = _prepare(options)

    say(story.GRADIENTS)
    slopes = prove(options.seed)
    say(story.proof(slopes))

    say(story.TRAINING)
    data = sample.load()
    training, held_out = _split(data)
    say(story.plan(data.tokens, HELD_OUT, DICT_SIZE, TOP_K))
    trained = _train(training, held_out, options)
    if trained.fit.signal is not None:
        complain("reftranscoder demo: interrupted")
        return status.of_signal(trained.fit.signal)
    metrics = trained.fit.metrics
    assert metrics is not None  # passages were held out
    tc = trained.fit.transcoder
    hidden = tc.encode(data.x)
    dead = DICT_SIZE - len(np.unique(hidden.indices))
    say(story.outcome(trained.fit, metrics, BATCH_SIZE, dead, trained.seconds))

    say(story.KERNELS)
    stages, same = _compare(tc, *held_out)
    say(story.agreement(stages, same, len(held_out[0])))

    say(story.FEATURES)
    features = choose(hidden, data.tokens, SHOWN)
    say(story.readings(data.tokens, features))

    tc.save(folder / MODEL)
    drawn = _draw(folder / PICTURE, tc, data.tokens, hidden, features, trained, stages)
    checks = {
        "every gradient equals its difference": all(slope.equal for slope in slopes),
        "every stage is within its bound": all(worst.holds for worst in stages.values()),
    }
    if options.steps >= STEPS:
        checks[f"held-out FVU is at most {WORST_FVU}"] = metrics.fvu <= WORST_FVU
    seconds = time.monotonic() - began
    ending = story.ending(folder / MODEL, folder / PICTURE if drawn else None, checks, seconds)
    report = {
        "gradients": [slope._asdict() | {"equal": slope.equal} for slope in slopes],
        "training": _training_report(trained, metrics, dead),
        "kernels": _kernels_report(len(held_out[0]), same, stages),
        "features": [_feature_report(data.tokens, feature) for feature in features],
        "model": folder / MODEL,
        "picture": folder / PICTURE if drawn else None,
        "checks": checks,
        "seconds": round(seconds, 1),
    }
    print_report(options, report, ending, made=folder / MODEL)
    return status.OK if all(checks.values()) else status.FAILED


def _prepare(options: argparse.Namespace) -> Path:
    """The folder, made if need be.  What cannot be written is found out now, not at the end."""
    folder = Path(options.out)
    if folder.exists() and not folder.is_dir():
        raise FileError(folder, "is not a folder", "Choose another with --out.")
    os.makedirs(folder, exist_ok=True)
    for name in (MODEL, PICTURE):
        check_replaceable(folder / name, force=options.force)
    return folder


def _split(data: sample.Sample) -> list[tuple[np.ndarray, np.ndarray]]:
    """x and target of the training rows, and of those held out: the last passages.

    The first token of each passage, an outlier, is left out.
    """
    passage = np.arange(len(data.x)) // data.tokens.shape[1]
    is_held_out = passage >= len(data.tokens) - HELD_OUT
    inner = data.position > 0
    return [(data.x[r], data.target[r]) for r in (inner & ~is_held_out, inner & is_held_out)]


def _train(training: Any, held_out: Any, options: argparse.Namespace) -> Trained:
    began = time.monotonic()
    losses: list[float] = []
    with Progress(options.steps, "steps") as progress:
        tell = teller(progress)

        def record(told: Any) -> None:
            losses.append(told.loss)
            tell(told)

        result = fit(
            *training,
            dict_size=DICT_SIZE,
            top_k=TOP_K,
            steps=options.steps,
            batch_size=BATCH_SIZE,
            l1_coeff=L1_COEFF,
            validation=held_out,
            seed=options.seed,
            log_every=max(1, options.steps // 10),
            progress=record,
        )
    return Trained(result, losses, time.monotonic() - began)


def _compare(tc: Transcoder, x: np.ndarray, target: np.ndarray) -> tuple[dict[str, Worst], int]:
    """For each stage, the entry that uses most of its bound; and in how many rows the kernels and
    the reference select the same features."""
    params = tc.params.arrays()
    made = tc.stages(x, backend="kernels")
    hidden = made["hidden"]
    forward = Forward(made["pre"], made["pre_acts"], hidden.toarray(), made["reconstruction"])
    pair = {"x": x, "target": target}
    weights = {name: params[name] for name in ("W_enc", "W_dec")}
    arguments: dict[str, dict[str, Any]] = {
        "affine_relu_forward": {"x": x, "W": params["W_enc"], "b": params["b_enc"]},
        "transcoder_forward": {"x": x, **params, "top_k": TOP_K},
        "transcoder_loss": {
            "target": target,
            "reconstruction": forward.reconstruction,
            "hidden": forward.hidden,
            "l1_coeff": L1_COEFF,
        },
        "transcoder_backward": {**pair, "forward": forward, **weights, "l1_coeff": L1_COEFF},
    }
    twins = {twin.name: twin for twin in TWINS}
    stages: dict[str, Worst] = {}
    for name, outputs in STAGES.items():
        compared = twins[name].compare(arguments[name])
        stages |= {output: compared[output] for output in outputs.split()}
    differs = ((hidden > 0) != (tc.encode(x, backend="reference") > 0)).tocsr()
    return stages, int(np.count_nonzero(np.diff(differs.indptr) == 0))


def _draw(
    path: Path,
    tc: Transcoder,
    tokens: np.ndarray,
    hidden: Any,
    features: list[Feature],
    trained: Trained,
    stages: dict[str, Worst],
) -> bool:
    """Draw the picture; without matplotlib there is none."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    from .picture import draw

    draw(path, tc, tokens, hidden, features, trained.fit.history, trained.losses, stages)
    return True


def _training_report(trained: Trained, metrics: Metrics, dead: int) -> dict[str, Any]:
    return {
        "steps": trained.fit.steps,
        "seconds": round(trained.seconds, 1),
        "held_out": {"rows": metrics.rows, "fvu": metrics.fvu, "l0": metrics.l0},
        "dict_size": DICT_SIZE,
        "dead": dead,
    }


def _kernels_report(rows: int, same: int, stages: dict[str, Worst]) -> dict[str, Any]:
    return {
        "rows": rows,
        "rows_with_the_same_selection": same,
        "stages": {name: worst._asdict() for name, worst in stages.items()},
    }


def _feature_report(tokens: np.ndarray, feature: Feature) -> dict[str, Any]:
    return {
        "feature": feature.index,
        "rate": feature.rate,
        "share": feature.share,
        "words": strongest_words(tokens, feature),
        "firings": [
            {"value": firing.value, "text": context(tokens, firing)}
            for firing in feature.firings[: story.FIRINGS]
        ],
    }
