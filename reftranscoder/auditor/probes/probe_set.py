"""The probe set: small cases on which a transcoder shows what it does.

Random data hide most mistakes.  Where every row has more than K positive activations, a missing
ReLU does not show, and where none has, a missing selection does not; ties need equal numbers, and a
lost NaN needs a NaN.  So each kind of case here aims at one of these, and each is made for every
variant of the transcoder.  What only some activations take, a threshold for instance, has kinds of
its own.  Nothing is read from a file: the same numbers are drawn every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...bounds import PRECISIONS
from ...params import KEEPING_ALL, Own, Params, TranscoderConfig
from ...transcoder import Transcoder
from ..task.arithmetic import Arithmetic
from ..task.case import Case
from ..task.definition import JUDGED
from .every_feature import every_feature
from .numbers import Numbers, Sizes
from .probe_kinds import OWN_KINDS, PROBE_KINDS, ProbeKind, repeat_rows
from .thresholds import MAKERS

#: The activations that the probe set is for, unless others are named.
USUAL = ("topk", "relu")

_MOST_WEIGHTS = (
    1 << 20
)  # numbers in W_enc and W_dec, above which a probe of a transcoder is its own
_OWN = "The parameters are the transcoder's own."


def variants_of(*activations: str) -> dict[str, dict[str, Any]]:
    """The variants of the transcoder with these: name -> options of `TranscoderConfig`."""
    found: dict[str, dict[str, Any]] = {}
    for activation in activations:
        kinds: dict[str, dict[str, Any]] = {activation: {"activation": activation}}
        if activation not in KEEPING_ALL:
            kinds[activation]["ties"] = "lowest_index"
            kinds[f"{activation}-keep-all"] = {"activation": activation, "ties": "keep_all"}
        for name, options in kinds.items():
            found |= {f"{name}{'-skip' * skip}": options | {"skip": skip} for skip in (False, True)}
    return found


VARIANTS = variants_of(*USUAL)


def probes(*activations: str) -> list[Case]:
    """The probe set, the same at every call: a case of every kind for every variant of these
    ``activations``, by default the `USUAL` ones."""
    places = {variant: place for place, variant in enumerate(variants_of(*JUDGED))}
    return [
        _case(f"{variant}-{name}", kind, kind.sizes, options, [places[variant], k])
        for variant, options in variants_of(*(activations or USUAL)).items()
        for k, name, kind in _kinds_for(options["activation"])
    ]


def _kinds_for(activation: str) -> list[tuple[int, str, ProbeKind]]:
    """The place, the name and the probe of every kind that an activation can show something in."""
    kinds = PROBE_KINDS | (OWN_KINDS if activation in MAKERS else {})
    left_out = []
    if activation in KEEPING_ALL:
        left_out.append("all-kept")  # without a selection, all are kept in every case
    if activation == "batchtopk":
        left_out.append("non-finite")  # rows are not judged by themselves
    return [(k, n, kind) for k, (n, kind) in enumerate(kinds.items()) if n not in left_out]


def probes_of(tc: Transcoder, arithmetic: dict[str, Arithmetic], l1_coeff: float) -> list[Case]:
    """Cases for an implementation of ``tc``, in its sizes, with its options and this l1_coeff.

    The first have the parameters of ``tc`` itself, rounded to what the ``arithmetic`` stores.
    Cases with parameters of their own follow: those in which every feature is active, and if
    ``tc`` is not too large, one of every other kind.
    """
    config = tc.config
    store = max((a.store for a in arithmetic.values()), key=lambda store: store.unit)
    rng = np.random.default_rng(0)
    cases = [
        Case(f"own-{name}", purpose, config, params, x, target, l1_coeff, decisive).rounded_to(
            store
        )
        for name, purpose, params, x, target, decisive in _own(rng, tc)
    ]
    cases += every_feature_cases(config, l1_coeff)
    if config.dict_size * (config.input_size + config.output_size) > _MOST_WEIGHTS:
        return cases
    sizes = Sizes(16, config.input_size, config.dict_size, config.output_size, config.top_k)
    names = ("activation", "ties", "skip", "conventions")
    options = {name: getattr(config, name) for name in names}
    for k, name, kind in _kinds_for(config.activation):
        if name in ("square", "all-kept", "smallest", "every-feature"):
            continue  # a matter of sizes, or among the cases by now
        if name == "subnormal" and l1_coeff:
            continue  # beside its gradients, a penalty that is not tiny as well is all that shows
        case = _case(name, kind, sizes, options, [99, k])
        x, target = (np.asarray(a, config.dtype) for a in (case.x, case.target))
        params = case.params.astype(config.dtype)
        given = config, params, x, target, l1_coeff, case.decisive
        cases.append(Case(case.name, case.purpose, *given))
    return cases


def _case(
    name: str, kind: ProbeKind, sizes: Sizes, options: dict[str, Any], seed: list[int]
) -> Case:
    activation, rng = options["activation"], np.random.default_rng(seed)
    if activation == "groupmax":
        fitting = max(k for k in range(1, sizes.K + 1) if sizes.D % k == 0)
        sizes = sizes._replace(K=fitting)
    if kind is PROBE_KINDS["every-feature"]:
        numbers = next(every_feature(rng, sizes, activation))
    else:
        numbers = kind.make(rng, sizes)
    params = _params_of(numbers, options["skip"], _own_of(numbers, kind, activation))
    x, target = (a.astype(np.float32) for a in (numbers.x, numbers.target))
    _, I, D, O, K = sizes
    config = TranscoderConfig(input_size=I, output_size=O, dict_size=D, top_k=K, **options)
    purpose = kind.purpose
    if activation not in KEEPING_ALL and kind.selecting:
        purpose += f" {kind.selecting}"
    return Case(name, purpose, config, params, x, target, numbers.l1_coeff, decisive=kind.decisive)


def _own_of(numbers: Numbers, kind: ProbeKind, activation: str) -> Own | None:
    """What an activation takes beside the ``numbers``, of this kind."""
    if activation not in MAKERS:
        return None
    at, below = MAKERS[activation]
    if kind is PROBE_KINDS["every-feature"]:
        return below(numbers.W_enc)
    return at(numbers, PRECISIONS["float32"] if kind in OWN_KINDS.values() else None)


def _params_of(numbers: Numbers, skip: bool, own: Own | None) -> Params:
    """The parameters among ``numbers``, in float32."""
    names = ("W_enc", "b_enc", "W_dec", "b_dec", *(("W_skip",) if skip else ()))
    arrays = {n: getattr(numbers, n).astype(np.float32, copy=False) for n in names}
    return Params.taking(own, **arrays)


def every_feature_cases(config: TranscoderConfig, l1_coeff: float) -> Iterator[Case]:
    """Cases in these sizes in which every feature is active."""
    kind = PROBE_KINDS["every-feature"]
    I, D, O = config.input_size, config.dict_size, config.output_size
    sizes = Sizes(0, I, D, O, config.top_k)
    batches = every_feature(np.random.default_rng(1), sizes, config.activation)
    b_enc = None
    for number, numbers in enumerate(batches, 1):
        if numbers.b_enc is not b_enc:  # the first of those that share their parameters
            own = _own_of(numbers, kind, config.activation)
            params = _params_of(numbers, config.skip, own).astype(config.dtype)
            b_enc = numbers.b_enc
        name = "every-feature" if number == 1 else f"every-feature-{number}"
        x, target = (a.astype(config.dtype) for a in (numbers.x, numbers.target))
        yield Case(name, kind.purpose, config, params, x, target, l1_coeff)


_Own = tuple[str, str, Params, np.ndarray, np.ndarray, bool]


def _own(rng: np.random.Generator, tc: Transcoder) -> Iterator[_Own]:
    """For the parameters that a transcoder has: name, purpose, params, x, target, decisive."""
    I, D, O = tc.config.input_size, tc.config.dict_size, tc.config.output_size
    large = D * (I + O) > _MOST_WEIGHTS
    B = 16 if large else 64
    W_enc = tc.params.W_enc.astype(np.float64)

    def case(
        name: str,
        purpose: str,
        x: np.ndarray,
        params: Params = tc.params,
        decisive: bool = True,
    ) -> _Own:
        target = rng.standard_normal((len(x), O))
        x, target = (a.astype(tc.config.dtype) for a in (x, target))
        return name, f"{purpose} {_OWN}", params, x, target, decisive

    x = rng.standard_normal((B, I)) * 2.0 ** (np.arange(B) % 7 - 3)[:, None]
    x[0] = 0
    yield case("random", "Random rows of many sizes, and one of zeros.", x)
    norms = np.maximum(np.linalg.norm(W_enc, axis=1, keepdims=True), 1e-30)
    rows = rng.integers(0, D, B)
    aimed = 4 * W_enc[rows] / norms[rows] + 0.1 * rng.standard_normal((B, I))
    aimed[B // 2 :] *= -1
    yield case("aimed", "Rows along features, and against them.", aimed)
    if large:  # else there are cases of these kinds
        own = tc.params.own
        arrays: dict[str, Any] = {name: a.copy() for name, a in tc.params.arrays().items()}
        for name in ("W_enc", "b_enc"):
            repeat_rows(arrays[name], tc.config.top_k)
        params = Params(**arrays, own=own)
        yield case("ties", "Features repeated, so that they tie.", x[: B // 2], params)
        x = x[: B // 2].copy()
        x[1, 0], x[-1] = np.nan, np.inf
        yield case("non-finite", "Rows that are not finite.", x, decisive=False)
