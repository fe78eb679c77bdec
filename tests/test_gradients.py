"""The hand-derived gradients, proved.

Over fractions there is no rounding, and where the loss is a polynomial a difference of enough
points has no truncation error: the difference must *equal* the derivative.  Within a cell, where
neither the selected features nor a sign changes, the loss is of degree four along a line in the
parameters, of degree two along a line in x, and of degree six along a line in both.

The proof has two parts.  With the selection and the signs frozen as they are at the start, equality
holds at step 1 for every input, ties and zeros included.  With nothing frozen it holds at a
step that stays in the cell; at a tie or a zero that could enter there is no such step.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from dual_numbers import Log
from hypothesis import HealthCheck, Phase, assume, given, settings
from scipy.optimize import check_grad

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.bounds import FLOAT64
from reftranscoder.gradcheck import check_gradient, kink_free_radius
from reftranscoder.gradcheck.rounding import Stages
from reftranscoder.params import KEEPING_ALL
from reftranscoder.reference.losses import Penalty

PARAMETERS = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")


class Case(NamedTuple):
    arrays: dict[str, Any]  # x and the parameters
    target: Any
    options: dict[str, Any]  # top_k, activation, ties, own
    l1_coeff: Any
    direction: dict[str, Any]  # of the shapes of `arrays`, no entry zero

    def parameters(self):
        return [name for name in PARAMETERS if name in self.arrays]

    def blocks(self):
        """Every array by itself, and all parameters together."""
        return [[name] for name in self.arrays] + [self.parameters()]

    def along(self, block, step):
        """The arrays, those of ``block`` moved by ``step`` times the direction."""
        moved = {name: self.arrays[name] + step * self.direction[name] for name in block}
        return self.arrays | moved

    def forward(self, arrays):
        return reference.transcoder_forward(**arrays, **self.options)

    def loss(self, arrays):
        """The loss as it is."""
        forward = self.forward(arrays)
        return reference.transcoder_loss(
            self.target, forward.reconstruction, forward.hidden, self.l1_coeff
        )

    def frozen_loss(self, arrays, hidden):
        """The loss with the selection and the signs of the start: a polynomial everywhere.

        ``hidden`` is that of the start.
        """
        pre = reference.affine_forward(arrays["x"], arrays["W_enc"], arrays["b_enc"])
        own, gated = self.options.get("own"), self.options["activation"] == "gated"
        values = reference.gated_magnitude(pre, own.b_mag, own.r_mag) if gated else pre
        frozen = np.where(hidden != 0, values, 0)
        reconstruction = reference.decode_forward(frozen, arrays["W_dec"], arrays["b_dec"])
        if "W_skip" in arrays:
            reconstruction = reconstruction + reference.skip_forward(arrays["x"], arrays["W_skip"])
        l1 = self.l1_coeff * np.mean(np.sign(hidden) * frozen)
        return reference.mse_forward(self.target, reconstruction) + l1

    def backward(self):
        x, W_enc, W_dec = (self.arrays[name] for name in ("x", "W_enc", "W_dec"))
        return reference.transcoder_backward(
            x,
            self.target,
            self.forward(self.arrays),
            W_enc,
            W_dec,
            self.arrays.get("W_skip"),
            l1_coeff=self.l1_coeff,
            activation=self.options["activation"],
            own=self.options.get("own"),
        )

    def derivative(self, block, gradients):
        """The hand-derived one along the direction, of what `backward` gives."""
        return sum(np.sum(getattr(gradients, f"d{n}") * self.direction[n]) for n in block)

    def size(self, block):
        """The root mean square of `derivative`, were the signs of the direction random."""
        gradients = self.backward()
        products = [getattr(gradients, f"d{n}") * self.direction[n] for n in block]
        return np.sqrt(sum(np.sum(p**2) for p in products))

    def radius(self, block):
        """How far the cell reaches along the direction of ``block``, of x or of parameters."""
        start, end = (self.forward(self.along(block, step)).pre for step in (0, 1))
        rate, ties, top_k = end - start, self.options["ties"], self.options["top_k"]
        B, D = start.shape
        own = self.options.get("own")
        if own is not None:  # positive is what is above the threshold
            if self.options["activation"] == "jumprelu":
                theta = np.maximum(own.theta, 0)
            else:
                theta = np.maximum(-own.b_gate, -own.b_mag / np.exp(own.r_mag))
            return kink_free_radius(start - theta, rate, D)
        # Selection over a batch and in groups is top-k of other rows.
        rows, kept = {"batchtopk": (1, B * top_k), "groupmax": (B * top_k, 1)}.get(
            self.options["activation"], (B, top_k)
        )
        return kink_free_radius(start.reshape(rows, -1), rate.reshape(rows, -1), kept, ties)

    def regimes(self) -> set[str]:
        pre = self.forward(self.arrays).pre
        top_k, ties = self.options["top_k"], self.options["ties"]
        found = {"skip" if "W_skip" in self.arrays else "no skip"}
        found.add("L1" if self.l1_coeff else "no L1")
        if self.options["activation"] != "topk":
            return found | {self.options["activation"]}
        found |= {f"topk, {ties}"} | ({"K = D"} if top_k == pre.shape[1] else {"K < D"})
        for p in pre:
            positives = np.count_nonzero(p > 0)
            found.add("more than K positives" if positives > top_k else "at most K positives")
            found |= {"fewer than K positives"} if positives < top_k else set()
            found |= {"a zero that could enter"} if positives < top_k and 0 in p else set()
            if positives > top_k and np.sort(p)[-top_k] == np.sort(p)[-top_k - 1]:
                found.add(f"a tie at the K-th place, {ties}")
        return found


PLAIN = ("topk", "topk", "topk", "relu")
VARIANTS = ("batchtopk", "groupmax", "abstopk", "jumprelu", "gated")
SMOOTH = {"skip", "no skip", "L1", "no L1", "relu", "K = D", "K < D"} | {
    "topk, lowest_index",
    "topk, keep_all",
    "more than K positives",
    "fewer than K positives",
}
KINKS = {
    "a tie at the K-th place, lowest_index",
    "a tie at the K-th place, keep_all",
    "a zero that could enter",
}


def halves(shape, low=-6, high=6):
    """Arrays of multiples of 1/2, of which float64 holds sums and products exactly."""
    elements = st.integers(low, high)
    integers = hnp.arrays(np.int64, shape, elements=elements, fill=st.nothing())
    return integers.map(lambda array: array.astype(object) * Fraction(1, 2))


@st.composite
def cases(draw, kinks: bool, activations=PLAIN):
    """Cases whose pre-activations are chosen first and whose encoder is made to give them.

    Each has a kept and an inactive feature in its first row and, where there can be one, a cut-off
    one.  Without ``kinks``, no row has a tie or a zero.
    """
    activation = draw(st.sampled_from(activations))
    top_k = draw(st.integers(1, 3))
    D = draw(st.sampled_from([top_k + 3, top_k + 2, max(top_k, 2)]))
    if activation == "groupmax":
        D = 2 * top_k
    elif activation in KEEPING_ALL or D < top_k + 2:
        top_k = D
    B, O, extra = draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 2))

    rows = []
    for b in range(B):
        tied = kinks and b > 0 and draw(st.sampled_from([True, False]))
        fewest = min(top_k + 1, D - (b == 0)) if b == 0 or tied else 0
        positives = draw(st.integers(fewest, D - 1 if b == 0 else D))
        if kinks:
            highest = 1 if tied else 3
            above = draw(st.lists(st.integers(1, highest), min_size=positives, max_size=positives))
            below = draw(st.lists(st.integers(-1, 0), min_size=D, max_size=D))[positives:]
            if b == 0:  # a lowest one, which is cut off whatever ties above it
                above = [v + 1 for v in above[1:]] + [1]
        else:
            above = draw(st.permutations(range(1, D + 1)))[:positives]
            below = draw(st.permutations(range(-D, 0)))[positives:]
        rows.append(draw(st.permutations(above + below)))
    pre = np.array(rows, dtype=object) * Fraction(1, 2)  # (B, D)

    # x = [diagonal | anything], so that the first B columns of W_enc can be solved for.
    I = B + extra
    x = draw(halves((B, I)))
    scale = draw(st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=B, max_size=B))
    x[:, :B] = np.diag(np.array(scale, dtype=object)) * Fraction(1)
    arrays = {"x": x, "W_enc": draw(halves((D, I))), "b_enc": draw(halves(D))}
    rest = pre - x[:, B:] @ arrays["W_enc"][:, B:].T - arrays["b_enc"]
    arrays["W_enc"][:, :B] = (rest / np.array(scale, dtype=object)[:, None]).T
    arrays |= {"W_dec": draw(halves((D, O))), "b_dec": draw(halves(O))}
    if draw(st.sampled_from([True, False])):
        arrays["W_skip"] = draw(halves((O, I)))

    ties = draw(st.sampled_from(["lowest_index", "keep_all"]))
    nonzero = st.sampled_from([-2, -1, 1, 2])
    own = reference.JumpReLU(draw(halves(D, -1, 3))) if activation == "jumprelu" else None
    if activation == "gated":
        strengths = draw(st.lists(st.sampled_from([Fraction(1, 3), 2, 1]), min_size=D, max_size=D))
        logarithms = np.array([Log(Fraction(strength)) for strength in strengths], dtype=object)
        own = reference.Gated(draw(halves(D, -2, 2)), draw(halves(D, -2, 2)), logarithms)
    case = Case(
        arrays,
        draw(halves((B, O))),
        {"top_k": top_k, "activation": activation, "ties": ties, "own": own},
        draw(st.sampled_from([Fraction(0), Fraction(1, 1000), Fraction(7, 3)])),
        {
            name: draw(hnp.arrays(np.int64, a.shape, elements=nonzero, fill=st.nothing()))
            for name, a in arrays.items()
        },
    )
    forward = case.forward(arrays)
    assert np.array_equal(forward.pre, pre)
    something_kept, something_cut_off = np.any(forward.hidden != 0), np.any(forward.hidden == 0)
    if activation in ("topk", "relu"):
        assert something_kept and np.any(pre <= 0)
        assert np.any((pre > 0) & (forward.hidden == 0)) or top_k == D
        return case
    assume(something_kept and something_cut_off)
    if not kinks and activation == "abstopk":
        assume(all(len(set(np.abs(p))) == D for p in pre))
    elif not kinks:
        assume(all(case.radius(block) > 0 for block in case.blocks()))
    return case


def five_points(f: Callable[[Any], Any], h: Any) -> Any:
    """f'(0) of a polynomial f of degree four."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def seven_points(f: Callable[[Any], Any], h: Any) -> Any:
    """f'(0) of a polynomial f of degree six."""
    odd = [f(s * h) - f(-s * h) for s in (1, 2, 3)]
    return (45 * odd[0] - 9 * odd[1] + odd[2]) / (60 * h)


def assert_exact(case: Case) -> None:
    """Every number of every stage is a Fraction or an int: not one decayed to a float."""
    for stages in (case.forward(case.arrays), case.backward()):
        for name, stage in stages._asdict().items():
            arrays = [stage] if name != "d_own" else stage and stage._asdict().values()
            for array in arrays or ():
                if isinstance(array, np.ndarray):
                    assert {type(v) for v in array.flat} <= {Fraction, int}, name
    assert type(case.loss(case.arrays)) is Fraction


def prove_frozen(case: Case) -> None:
    """The first part."""
    assert_exact(case)
    hidden, gradients = case.forward(case.arrays).hidden, case.backward()
    assert case.frozen_loss(case.arrays, hidden) == case.loss(case.arrays)
    for block in case.blocks():
        difference = five_points(lambda s, b=block: case.frozen_loss(case.along(b, s), hidden), 1)
        assert difference == case.derivative(block, gradients), block
    everything = list(case.arrays)
    difference = seven_points(lambda s: case.frozen_loss(case.along(everything, s), hidden), 1)
    assert difference == case.derivative(everything, gradients), everything


def prove_unfrozen(case: Case) -> None:
    """The second part."""
    selected, gradients = np.sign(case.forward(case.arrays).hidden), case.backward()
    for block in case.blocks():
        h = Fraction(1)
        # pre is linear in the step, so that what holds at both ends holds between them; of abstopk,
        # whose rivals' |pre| is convex, too, as long as no selected entry changes its sign.
        while any(
            not np.array_equal(np.sign(case.forward(case.along(block, end)).hidden), selected)
            for end in (-2 * h, 2 * h)
        ):
            h /= 2
        difference = five_points(lambda s, b=block: case.loss(case.along(b, s)), h)
        assert difference == case.derivative(block, gradients), block
        if case.options["activation"] == "abstopk":
            continue  # |pre| has a kink where pre has none: (G3) does not speak of it
        # The radius is where it had to stop.
        assert 2 * h <= case.radius(block) and (h == 1 or 4 * h >= case.radius(block))


def run(
    prove: Callable[[Case], None], kinks: bool, examples: int, activations=PLAIN, **options
) -> Counter:
    """Try ``prove`` on that many cases.  Returns how many of them each regime occurred in."""
    seen: Counter = Counter()

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), **options)
    @given(cases(kinks, activations))
    def proof(case):
        prove(case)
        seen.update(case.regimes())

    proof()
    return seen


def test_frozen_differences_equal_the_gradients():
    seen = run(prove_frozen, kinks=True, examples=150)
    assert {regime for regime in SMOOTH | KINKS if seen[regime] < 5} == set(), seen


def test_differences_within_the_cell_equal_the_gradients():
    seen = run(prove_unfrozen, kinks=False, examples=100)
    assert {regime for regime in SMOOTH if seen[regime] < 5} == set(), seen
    assert not KINKS & seen.keys()


@pytest.mark.parametrize("activation", VARIANTS)
@pytest.mark.parametrize("prove", [prove_frozen, prove_unfrozen])
def test_the_gradients_of_the_variants(activation, prove):
    seen = run(prove, kinks=prove is prove_frozen, examples=15, activations=(activation,))
    assert seen[activation] >= 15


def as_float64(case: Case):
    """The same case as arguments of `check_gradient`; no number is rounded."""
    arrays = {name: array.astype(np.float64) for name, array in case.arrays.items()}
    x = arrays.pop("x")
    D, I = arrays["W_enc"].shape
    options = {name: value for name, value in case.options.items() if name != "own"}
    config = rt.TranscoderConfig(
        input_size=I,
        output_size=len(arrays["b_dec"]),
        dict_size=D,
        skip="W_skip" in arrays,
        dtype="float64",
        **options,
    )
    return config, rt.Params(**arrays), x, case.target.astype(np.float64), float(case.l1_coeff)


def reference_fn(config, l1_coeff):
    """The reference as `check_gradient` wants a function."""

    def fn(params, x, target):
        arrays = {"x": x} | params.arrays()
        options = {name: getattr(config, name) for name in ("top_k", "activation", "ties")}
        case = Case(arrays, target, options, l1_coeff, {})
        return case.loss(arrays), case.backward()

    return fn


def test_at_a_kink_there_is_no_step_and_check_gradient_says_so():
    def prove(case):
        if not KINKS & case.regimes():
            return
        config, params, x, target, l1_coeff = as_float64(case)
        pre = case.forward(case.arrays).pre
        rate = np.broadcast_to(np.arange(1, pre.shape[1] + 1), pre.shape)  # all different
        assert kink_free_radius(pre, rate, config.top_k, config.ties) == 0
        with pytest.raises(rt.errors.KinkError, match="no derivative by W_enc here") as raised:
            fn = reference_fn(config, l1_coeff)
            check_gradient(fn, config, params, x, target, l1_coeff)
        assert raised.value.radius == 0

    seen = run(prove, kinks=True, examples=120)
    assert {regime for regime in KINKS if seen[regime] < 3} == set(), seen


# The tester, tested.  Each fault is planted alone, and each part of the proof must fall over it.


def backwards(function, change):
    """``function`` with its results changed."""
    return lambda *args: change(function(*args), *args)


def penalty(backward):
    """``backward`` of hidden alone as the table of sparsity losses has it."""
    return lambda hidden, W_dec, l1_coeff, losses: Penalty(backward(hidden, l1_coeff))


def plant(monkeypatch, name, change):
    """Change the results of ``name`` where it is used: in a table of losses, or in a module."""
    kind, _, way = name.partition("_")
    for table in (reference.RECONSTRUCTION_LOSSES, reference.SPARSITY_LOSSES):
        if kind in table:
            faulty = backwards(getattr(reference, name), change)
            if table is reference.SPARSITY_LOSSES:
                faulty = penalty(faulty)
            monkeypatch.setitem(table, kind, table[kind]._replace(**{way: faulty}))
            return
    is_mask = name in ("relu_backward", "topk_backward")
    module = "encode" if is_mask else "transcoder"
    place = f"reftranscoder.reference.{module}.{name}"
    monkeypatch.setattr(place, backwards(getattr(reference, name), change))


def flipped(W):
    """A transposed weight, where shapes allow it; elsewhere the nearest thing to one."""
    return W.T if W.shape[0] == W.shape[1] else W.T.reshape(W.shape)


def reversed_rows(A):
    return A[::-1]


FAULTS = {
    "a sign in d_reconstruction": ("mse_backward", lambda d, *_: -d),
    "a lost factor 2": ("mse_backward", lambda d, *_: d / 2),
    "a mean over O only": ("mse_backward", lambda d, *_: d * len(d)),
    "a target subtracted twice": ("mse_backward", lambda d, t, y: d - 2 * t / t.size),
    "a dropped top-k mask": ("topk_backward", lambda _, d, hidden: d),
    "a dropped ReLU mask": ("relu_backward", lambda _, d, pre: d),
    "a ReLU mask the wrong way": ("relu_backward", lambda _, d, pre: np.where(pre < 0, d, 0)),
    "values in place of a mask": ("topk_backward", lambda d, _, hidden: d * hidden),
    "a transposed W_dec": (
        "decode_backward",
        lambda r, G, hidden, W: (G @ flipped(W).T, *r[1:]),
    ),
    "dW_dec with its features reversed": (
        "decode_backward",
        lambda r, *_: (r[0], reversed_rows(r[1]), r[2]),
    ),
    "a lost db_dec": ("decode_backward", lambda r, *_: (*r[:2], 0 * r[2])),
    "a mean for a sum in db_dec": ("decode_backward", lambda r, G, *_: (*r[:2], r[2] / len(G))),
    "a lost L1 term": ("l1_backward", lambda d, *_: 0 * d),
    "a sign in the L1 term": ("l1_backward", lambda d, *_: -d),
    "L1 over B only": ("l1_backward", lambda d, hidden, _: d * hidden.shape[1]),
    "L1 of squares": ("l1_backward", lambda d, hidden, _: 2 * d * hidden),
    "a transposed W_enc": ("affine_backward", lambda r, d, x, W: (d @ flipped(W), *r[1:])),
    "a sign in dW_enc": ("affine_backward", lambda r, *_: (r[0], -r[1], r[2])),
    "a row left out of dW_enc": (
        "affine_backward",
        lambda r, d, x, W: (r[0], d[1:].T @ x[1:], r[2]),
    ),
    "a lost db_enc": ("affine_backward", lambda r, *_: (*r[:2], 0 * r[2])),
    "a lost encoder path in dx": ("affine_backward", lambda r, *_: (0 * r[0], *r[1:])),
    "a lost skip path in dx": ("skip_backward", lambda r, *_: (0 * r[0], r[1])),
    "a transposed W_skip": ("skip_backward", lambda r, G, x, W: (G @ flipped(W), r[1])),
    "a sign in dW_skip": ("skip_backward", lambda r, *_: (r[0], -r[1])),
    "a lost b_enc going forward": ("affine_forward", lambda pre, x, W, b: pre - b),
    "a lost b_dec going forward": ("decode_forward", lambda y, h, W, b: y - b),
    "a lost skip going forward": ("skip_forward", lambda y, *_: 0 * y),
    "1/2 of the loss": ("mse_forward", lambda mse, *_: mse / 2),
}


VARIANT_FAULTS = {
    "a dropped mask": lambda r, d, pre, hidden, own, *_: (d, r[1]),
    "a mask by sign": lambda r, d, pre, hidden, own, *_: (np.where(hidden > 0, d, 0), r[1]),
    "values in place of a mask": lambda r, d, pre, hidden, own, *_: (d * hidden, r[1]),
}


@pytest.mark.parametrize("prove", [prove_frozen, prove_unfrozen])
@pytest.mark.parametrize(
    ("activation", "fault"),
    # Of the others, hidden is not negative.
    [(a, f) for a in VARIANTS for f in VARIANT_FAULTS if f != "a mask by sign" or a == "abstopk"],
)
def test_each_fault_planted_in_a_variant_is_caught(activation, fault, prove, monkeypatch):
    row = reference.ACTIVATIONS[activation]
    faulty = row._replace(backward=backwards(row.backward, VARIANT_FAULTS[fault]))
    monkeypatch.setitem(reference.ACTIVATIONS, activation, faulty)
    options = {"phases": [Phase.generate], "database": None, "report_multiple_bugs": False}
    kinks = prove is prove_frozen
    with pytest.raises(AssertionError):
        run(prove, kinks, examples=100, activations=(activation,), **options)


@pytest.mark.parametrize("prove", [prove_frozen, prove_unfrozen])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_caught(fault, prove, monkeypatch):
    plant(monkeypatch, *FAULTS[fault])
    options = {"phases": [Phase.generate], "database": None, "report_multiple_bugs": False}
    with pytest.raises(AssertionError):
        run(prove, kinks=prove is prove_frozen, examples=100, **options)


# Other opinions, in floating point.

OPTIONS = [
    {"top_k": 3, "activation": "topk", "ties": "lowest_index"},
    {"top_k": 3, "activation": "topk", "ties": "keep_all"},
    {"top_k": 12, "activation": "topk", "ties": "lowest_index"},
    {"top_k": 12, "activation": "relu", "ties": "lowest_index"},
]
OF_VARIANTS = [
    {"top_k": 3, "activation": "batchtopk", "ties": "lowest_index"},
    {"top_k": 3, "activation": "groupmax", "ties": "lowest_index"},
    {"top_k": 3, "activation": "abstopk", "ties": "lowest_index"},
    {
        "top_k": 12,
        "activation": "jumprelu",
        "ties": "lowest_index",
        "own": reference.JumpReLU(np.linspace(-0.2, 1, 12)),
    },
    {
        "top_k": 12,
        "activation": "gated",
        "ties": "lowest_index",
        "own": reference.Gated(*np.linspace([-1, 1, -0.5], [1, 0, 0.5], 12).T),
    },
]


def random_case(rng, options, skip, l1_coeff=0.5) -> Case:
    B, I, D, O = 6, 5, 12, 4
    shapes = {"x": (B, I), "W_enc": (D, I), "b_enc": (D,), "W_dec": (D, O), "b_dec": (O,)}
    shapes |= {"W_skip": (O, I)} if skip else {}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    target = rng.standard_normal((B, O))
    direction = {name: rng.standard_normal(array.shape) for name, array in arrays.items()}
    return Case(arrays, target, options, l1_coeff, direction)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_float64_differences_agree_with_the_gradients(options, skip, rng):
    config, params, x, target, l1_coeff = as_float64(random_case(rng, options, skip))
    fn = reference_fn(config, l1_coeff)
    checked = check_gradient(fn, config, params, x, target, l1_coeff)
    blocks = {slope.block for slope in checked.slopes}
    assert blocks == {"x", "parameters", *params.arrays()}
    # Nothing hides: a fault of 1e-10 of any gradient would have been seen.
    assert max(slope.floor for slope in checked.slopes) < 1e-10


def complex_step(case, block):
    """The derivative along the direction: exact but for rounding, since nothing is subtracted."""
    step = 1e-30
    forward = case.forward(case.along(block, step * 1j))
    hidden = forward.hidden
    absolute = np.sign(hidden.real) * hidden  # np.abs would lose the step
    mse = reference.mse_forward(case.target, forward.reconstruction)
    return (mse + case.l1_coeff * np.mean(absolute)).imag / step


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("options", OPTIONS + OF_VARIANTS, ids=str)
def test_the_complex_step_agrees_with_the_gradients(options, skip, rng):
    case = random_case(rng, options, skip)
    own, gated = options.get("own"), options["activation"] == "gated"

    absolute = case._replace(
        arrays={name: np.abs(array) for name, array in case.arrays.items()},
        target=-np.abs(case.target),
        options=case.options
        | ({"own": reference.Gated(*map(np.abs, own[:3]))} if gated else {"activation": "relu"}),
        direction={name: np.abs(array) for name, array in case.direction.items()},
    )
    B, I = case.arrays["x"].shape
    D, O = case.arrays["W_dec"].shape
    gradients = case.backward()
    for block in case.blocks():
        # A term of the derivative is a product of numbers, each rounded on its way up to three
        # times for a complex product and once for a sum, along the square's two factors.  The sum
        # of the terms' absolute values is at most the derivative of the loss of absolute values,
        # with nothing selected away and the target added.  Twice: the derivative itself is rounded.
        # The magnitude of gated is a product, an addition and an exp within 4 units, 8 roundings.
        roundings = 4 * (2 * (2 * I + D + 4 + 10 * gated) + B * O + B * D)
        tolerance = 2 * roundings * FLOAT64.unit * complex_step(absolute, block)
        assert abs(complex_step(case, block) - case.derivative(block, gradients)) <= tolerance
        assert tolerance < 1e-9 * case.size(block)


def test_scipy_agrees_with_the_gradients(rng):
    """`scipy.optimize.check_grad`: a forward difference with one step for all."""
    case = random_case(rng, OPTIONS[0], skip=True)
    step = np.sqrt(np.finfo(np.float64).eps)  # its default
    shapes = {name: array.shape for name, array in case.arrays.items()}

    def unflatten(vector):
        parts = np.split(vector, np.cumsum([np.prod(s, dtype=int) for s in shapes.values()])[:-1])
        return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts)}

    start = np.concatenate([array.ravel() for array in case.arrays.values()])
    gradients = np.concatenate([getattr(case.backward(), f"d{n}").ravel() for n in case.arrays])
    distance = check_grad(lambda v: case.loss(unflatten(v)), lambda v: gradients, start)

    config, _, _, target, l1_coeff = as_float64(case)
    E = Stages(case.arrays, target, config, l1_coeff, FLOAT64).loss_error
    curvature, hidden = np.zeros(start.size), case.forward(case.arrays).hidden
    for i, unit in enumerate(np.eye(start.size)):
        ends = [case.frozen_loss(unflatten(start + s * unit), hidden) for s in (-1, 0, 1)]
        curvature[i] = ends[0] - 2 * ends[1] + ends[2]  # of a quadratic, exactly
    # Of each difference: half of the curvature times the step, and the rounding of two losses.
    assert distance <= np.linalg.norm(step / 2 * curvature + 2 * E / step)
    assert distance < 1e-6 * np.linalg.norm(gradients)
    wrong = gradients * (1 + 1e-5)
    assert check_grad(lambda v: case.loss(unflatten(v)), lambda v: wrong, start) > 2 * distance


# What keeps fractions exact: no number of the reference is a float that nobody chose.


def float_makers(source: str) -> list[str]:
    """The lines that would turn fractions into floats."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            found.append(f"line {node.lineno}: {node.value}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            makes_floats = node.func.attr in ("zeros", "ones", "empty", "full", "eye", "linspace")
            if makes_floats and "dtype" not in {keyword.arg for keyword in node.keywords}:
                found.append(f"line {node.lineno}: np.{node.func.attr} without dtype")
    return found


def test_the_reference_makes_no_floats():
    files = sorted(Path(reference.__file__).parent.glob("*.py"))
    assert len(files) > 8
    assert {file.name: float_makers(file.read_text()) for file in files} == {
        file.name: [] for file in files
    }


@pytest.mark.parametrize(
    "line", ["y = 0.5 * x", "y = np.zeros(3)", "np.where(a, 1j, b)", "np.ones((2, D))", "1e-3"]
)
def test_a_float_in_the_reference_is_found(line):
    assert len(float_makers(line)) == 1
