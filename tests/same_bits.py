"""Digests of what the package computes: equal before and after a change that is to change nothing.

    python tests/same_bits.py > before      # and, with the change:
    python tests/same_bits.py | diff before -

One line per result: its digest, and what it is of.  The reference's sums are BLAS's, so that lines
can be compared on one machine only.  ``--only kernels``, ``fit`` or ``audits`` prints a part.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import reftranscoder as rt


def digest(*values: Any) -> str:
    """Of arrays, sparse or dense, of words and of numbers, by their bytes."""
    state = hashlib.sha256()
    for value in values:
        if hasattr(value, "indptr"):
            state.update(digest(value.indptr, value.indices, value.data).encode())
        elif isinstance(value, np.ndarray | np.generic):
            array = np.ascontiguousarray(value)
            state.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
        else:
            state.update(repr(value).encode())
    return state.hexdigest()[:16]


def hostile(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Inputs on which an order of summation, a tie or a scale would show."""
    x = rng.standard_normal(shape)
    if kind == "integers":  # ties in plenty
        x = np.rint(x)
    elif kind == "wide":
        x *= 2.0 ** rng.integers(-30, 30, shape)
    elif kind == "shifted":
        x += 50 * rng.standard_normal(shape[1])
    elif kind == "sparse":
        x *= rng.random(shape) < 0.1
        x[::3] = 0
    return x


KINDS = ("normal", "integers", "wide", "shifted", "sparse")


def transcoder(rng, I, D, O, dtype, kind="normal", skip=False, **options) -> rt.Transcoder:
    """One whose weights are of the same kind as the inputs."""
    arrays = {
        "W_enc": hostile(rng, (D, I), kind),
        "b_enc": 0.1 * hostile(rng, (1, D), kind)[0],
        "W_dec": hostile(rng, (D, O), kind),
        "b_dec": hostile(rng, (1, O), kind)[0],
    }
    if skip:
        arrays["W_skip"] = hostile(rng, (O, I), kind)
    return rt.Transcoder.from_arrays(**{n: a.astype(dtype) for n, a in arrays.items()}, **options)


def kernels() -> Iterator[tuple[str, str]]:
    """Encode, forward and gradients, in either backend, at sizes on either side of every screen."""
    sizes = [(1, 7, 33, 5), (3, 64, 256, 16), (40, 48, 1000, 24), (300, 96, 4096, 40)]
    options = [
        {"top_k": 5},
        {"top_k": 5, "ties": "keep_all"},
        {"top_k": 16},
        {"activation": "relu"},
    ]
    every = itertools.product(enumerate(sizes), KINDS, ("float32", "float64"), enumerate(options))
    for (s, (B, I, D, O)), kind, dtype, (o, option) in every:
        rng = np.random.default_rng([s, o, KINDS.index(kind)])
        tc = transcoder(rng, I, D, O, dtype, kind, skip=bool(o % 2), **option)
        x, target = hostile(rng, (B, I), kind), hostile(rng, (B, O), kind)
        name = f"{B}x{I}x{D}x{O} {kind} {dtype} {option}"
        yield f"encode {name}", digest(tc.encode(x))
        yield f"predict {name}", digest(tc(x))
        loss, grads = tc.value_and_grad(x, target)
        yield f"value_and_grad {name}", digest(loss, *grads.arrays().values())
        if B <= 40:
            yield f"forward {name}", digest(*tc.forward(x))
            stages = tc.stages(x, target, backend="reference")
            yield f"reference {name}", digest(*itertools.chain.from_iterable(stages.items()))
    rng = np.random.default_rng(9)
    tc = transcoder(rng, 768, 16384, 64, "float32", top_k=32)
    x = rng.standard_normal((512, 768))
    yield "encode 512 x 768 x 16384", digest(tc.encode(x))
    yield "encode one of them", digest(tc.encode(x[7:8]))


def fits() -> Iterator[tuple[str, str]]:
    """Training runs: 600 steps of the default, and short ones of the options."""
    x, target, *_ = rt.sample.load()
    x, target = np.asarray(x), np.asarray(target)
    runs = {
        "600 steps": {"dict_size": 1024, "steps": 600, "batch_size": 256, "validation": 0.1},
        "relu": {"dict_size": 128, "steps": 20, "activation": "relu", "l1_coeff": 0.1},
        "skip, unit norm": {"steps": 20, "skip": True, "unit_norm_decoder": True, "seed": 3},
        "float64, reference": {"steps": 5, "dtype": "float64", "backend": "reference"},
    }
    for name, options in runs.items():
        fit = rt.fit(x, target, **{"dict_size": 256, "top_k": 16, **options})
        entries = [(e.step, e.lr, e.loss, e.fvu, e.l0, e.dead) for e in fit.history]
        yield f"fit {name}", digest(*fit.transcoder.params.arrays().values(), entries)


def faults(stages: dict[str, np.ndarray], tc: rt.Transcoder) -> Iterator[tuple[str, dict]]:
    """What candidates make of a batch: right, wrong in one stage, and by other definitions."""
    yield "right", stages
    yield "no gradients", {n: a for n, a in stages.items() if not n.startswith("d")}
    yield "reconstruction alone", {"reconstruction": stages["reconstruction"]}
    pairs = stages["hidden"]
    order = np.argsort(-pairs, axis=1, kind="stable")[:, : tc.config.top_k]
    values = np.take_along_axis(pairs, order, axis=1)
    rest = {n: a for n, a in stages.items() if n != "hidden"}
    yield "indices and values", {**rest, "indices": order, "values": values}
    for name, array in stages.items():
        yield f"{name} twice", {**stages, name: 2 * array}
        if array.ndim:
            spoiled = array.copy()
            place = np.unravel_index(np.argmax(np.abs(array)), array.shape)
            spoiled[place] *= 1.01
            yield f"{name} off at one entry", {**stages, name: spoiled}
            yield f"{name} in half precision", {**stages, name: array.astype("f2").astype("f4")}
            spoiled = np.where(array == array.max(), np.nan, array)
            yield f"{name} not a number", {**stages, name: spoiled}
    yield "loss halved", {**stages, "loss": stages["loss"] / 2}


def audits() -> Iterator[tuple[str, str]]:
    """Reports of some two hundred audits: arrays, a function on the probe set, and files."""
    regimes = {
        "topk": {"top_k": 4},
        "keep_all": {"top_k": 4, "ties": "keep_all"},
        "relu": {"activation": "relu"},
        "skip": {"top_k": 4, "skip": True},
    }
    for number, (regime, options) in enumerate(regimes.items()):
        rng = np.random.default_rng(number)
        tc = transcoder(rng, 12, 40, 10, "float32", "normal", **options)
        x, target = (rng.standard_normal((24, n)).astype("f4") for n in (12, 10))
        stages = dense(tc.stages(x, target))
        for fault, results in faults(stages, tc):
            report = rt.audit(results, tc, x, target)
            yield f"audit {regime}, {fault}", _of_report(report)
        yield (
            f"audit {regime}, other arithmetic",
            _of_report(rt.audit(stages, tc, x, target, arithmetic="bfloat16-inputs")),
        )
    yield from _audits_of_functions()


def dense(stages: dict[str, Any]) -> dict[str, np.ndarray]:
    """The same with dense arrays only."""
    return {n: np.asarray(s.toarray() if hasattr(s, "tocsr") else s) for n, s in stages.items()}


def _of_report(report: Any) -> str:
    facts = json.dumps(report.to_dict(), sort_keys=True, default=str)
    return digest(str(report), facts, report.passed, report.blame, report.convention)


def _audits_of_functions() -> Iterator[tuple[str, str]]:
    tc = transcoder(np.random.default_rng(5), 16, 64, 12, "float32", top_k=4)

    def candidate(change):
        def run(params, x, target):
            own = rt.Transcoder.from_arrays(**params.arrays(), top_k=4)
            return change(dense(own.stages(x, target, check_finite=False)))

        return run

    changes = {
        "right": lambda s: s,
        "mse_sum": lambda s: {"reconstruction": s["reconstruction"], "loss": 12 * s["loss"]},
        "W_dec's gradient lost": lambda s: {**s, "dW_dec": 0 * s["dW_dec"]},
        "reconstruction alone": lambda s: {"reconstruction": 1.001 * s["reconstruction"]},
    }
    for name, change in changes.items():
        yield f"audit of a function, {name}", _of_report(rt.audit(candidate(change), tc))
    rng = np.random.default_rng(6)
    x, target = (rng.standard_normal((9, n)).astype("f4") for n in (16, 12))
    for name, change in changes.items():
        results = change(candidate(lambda s: s)(tc.params, x, target))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case.npz"
            held = {**tc.params.arrays(), "x": x, "target": target, "top_k": 4, "l1_coeff": 1e-3}
            np.savez(path, **held, **{f"result.{n}": a for n, a in results.items()})
            yield f"audit of a file, {name}", _of_report(rt.audit(path))


PARTS = {"kernels": kernels, "fit": fits, "audits": audits}


def main() -> None:
    """Print the digests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    for part in [only] if only else PARTS:
        for name, found in PARTS[part]():
            print(found, name, flush=True)


if __name__ == "__main__":
    main()
