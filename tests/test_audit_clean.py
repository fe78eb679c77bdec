"""No false alarm: clean candidates of a thousand shapes, scales, arithmetics and orders pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from simulated_transcoder import ORDERS, Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor.audit import audit

ARITHMETICS = ("float32", "bfloat16", "bfloat16-inputs", "float16")
SIMULATED, BY_LIBRARY = 800, 200  # candidates


def scaled(case, machine, rng, widest: int):
    """``case`` with x, weights and target times powers of two, up to 2**widest either way."""
    factors = {name: 2.0 ** rng.integers(-widest, widest + 1) for name in ("x", "W_enc", "W_dec")}
    found = {name: machine.store(getattr(case, name) * f) for name, f in factors.items()}
    pre_scale, out_scale = factors["x"] * factors["W_enc"], np.prod(list(factors.values()))
    found["b_enc"] = machine.store(case.b_enc * pre_scale)
    found |= {name: machine.store(getattr(case, name) * out_scale) for name in ("b_dec", "target")}
    return dataclasses.replace(case, **found)


def drawn(rng, machine, widest: int):
    """A case of random sizes and options; one in four has ties, zero rows and equal features."""
    sizes = {name: int(rng.integers(1, most)) for name, most in (("B", 12), ("I", 40), ("O", 12))}
    D = int(rng.integers(1, 40))
    case = random_case(
        int(rng.integers(1 << 30)),
        machine,
        D=D,
        K=int(rng.integers(1, D + 1)),
        few=bool(rng.integers(2)),
        skip=bool(rng.integers(2)),
        l1_coeff=float(rng.choice([0.0, 2.0**-10, 1e-3, 0.5])),
        activation=str(rng.choice(["topk", "topk", "relu"])),
        ties=str(rng.choice(["lowest_index", "lowest_index", "keep_all"])),
        **sizes,
    )
    case = scaled(case, machine, rng, widest)
    if rng.random() < 0.25:
        x, W_enc, b_enc = case.x.copy(), case.W_enc.copy(), case.b_enc.copy()
        x[0] = 0
        W_enc[-1], b_enc[-1] = W_enc[0], b_enc[0]
        W_enc[D // 2] = 0
        case = dataclasses.replace(case, x=x, W_enc=W_enc, b_enc=b_enc)
    return case


def assert_clean(case, results, arithmetic, label):
    tc = rt.Transcoder.from_arrays(
        **case.params(), top_k=case.top_k, activation=case.activation, ties=case.ties
    )
    report = audit(results, tc, case.x, case.target, l1_coeff=case.l1_coeff, arithmetic=arithmetic)
    wrong = {n: r for n, r in report.stages.items() if r.verdict in ("fault", "convention")}
    assert not wrong and report.convention is None, (label, wrong)


@pytest.mark.parametrize("part", range(8))
def test_simulated_candidates_are_never_at_fault(part):
    rng = np.random.default_rng([1, part])
    for number in range(SIMULATED // 8):
        arithmetic = str(rng.choice(ARITHMETICS))
        order = str(rng.choice(sorted(set(ORDERS) - {"truncated"})))
        machine = Machine(arithmetic, order)
        # float16 reaches from 2**-24 to 2**16, and a loss squares what it sums.
        case = drawn(rng, machine, widest=1 if arithmetic == "float16" else 6)
        how = {"unfused": bool(rng.integers(2))}
        if case.activation == "topk" and case.ties == "lowest_index" and rng.integers(2):
            how["prefers_last"] = True
        results = simulate(case, machine, **how)
        keep = rng.random(len(results)) < rng.choice([1.0, 0.5])
        results = {name: results[name] for name, kept in zip(list(results), keep) if kept}
        assert_clean(case, results, arithmetic, (part, number, arithmetic, order, how))


@pytest.mark.parametrize("part", range(2))
def test_our_own_kernels_and_reference_are_never_at_fault(part):
    rng = np.random.default_rng([2, part])
    backend = ("kernels", "reference")[part]
    for number in range(BY_LIBRARY // 2):
        case = drawn(rng, Machine("float32"), widest=20)
        arrays = {name: a.astype(np.float32) for name, a in case.params().items()}
        tc = rt.Transcoder.from_arrays(
            **arrays, top_k=case.top_k, activation=case.activation, ties=case.ties
        )
        x, target = case.x.astype(np.float32), case.target.astype(np.float32)
        results = tc.stages(x, target, case.l1_coeff, backend=backend)
        assert_clean(case, dict(results), "float32", (part, number))


def test_results_rounded_to_be_handed_over_hide_no_fault_and_make_none():
    """Computed in float64, handed over in float32: each stage read what was not yet rounded."""
    case = random_case(4, Machine("float32"))
    exact = simulate(case, Machine("float64"))
    handed = {name: np.asarray(a, np.float32) for name, a in exact.items()}
    assert_clean(case, handed, "float32", "handed over")
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k)
    for name in ("d_reconstruction", "dW_enc"):
        wrong = handed | {name: handed[name] * np.float32(1.01)}
        report = audit(wrong, tc, case.x, case.target, l1_coeff=case.l1_coeff)
        assert report.faults[:1] == (name,), str(report)


def test_of_equal_features_any_may_be_the_one_that_is_penalised():
    """Where hidden is not given, either may have been kept, and its penalty with it."""
    machine = Machine("float32")
    case = random_case(4, machine, K=5)
    W_enc, b_enc = np.repeat(case.W_enc[::2], 2, axis=0), np.repeat(case.b_enc[::2], 2)
    case = dataclasses.replace(case, W_enc=W_enc, b_enc=b_enc, l1_coeff=4.0)
    for last in (False, True):
        results = simulate(case, machine, prefers_last=last)
        for kept in (("d_hidden",), ("pre", "d_reconstruction", "d_hidden", "d_pre", "dx")):
            assert_clean(case, {n: results[n] for n in kept}, "float32", (last, kept))


def autocast(torch, case, large_bias: bool):
    """Every stage by nn.Linear under autocast, and the case with its parameters."""
    with torch.no_grad():
        encoder = torch.nn.Linear(*case.W_enc.shape[::-1])
        decoder = torch.nn.Linear(*case.W_dec.shape)
        for layer in (encoder, decoder) if large_bias else ():
            layer.bias.normal_()
    x = torch.tensor(case.x, dtype=torch.float32, requires_grad=True)
    target = torch.tensor(case.target, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pre = encoder(x)
        acts = torch.relu(pre)
        best = acts.topk(case.top_k, dim=1)
        hidden = torch.zeros_like(acts).scatter(1, best.indices, best.values)
        out = decoder(hidden)
        penalty = case.l1_coeff * hidden.abs().mean()
        loss = torch.nn.functional.mse_loss(out, target) + penalty
    for stage in (pre, acts, hidden, out):
        stage.retain_grad()
    loss.backward()
    results = {"pre": pre, "pre_acts": acts, "hidden": hidden, "reconstruction": out, "loss": loss}
    results |= {"d_reconstruction": out.grad, "d_hidden": hidden.grad, "d_pre": pre.grad}
    results |= {"dW_enc": encoder.weight.grad, "db_enc": encoder.bias.grad, "dx": x.grad}
    results |= {"dW_dec": decoder.weight.grad.T, "db_dec": decoder.bias.grad}
    arrays = {"W_enc": encoder.weight, "b_enc": encoder.bias}
    arrays |= {"W_dec": decoder.weight.T, "b_dec": decoder.bias}
    arrays = {n: a.detach().numpy().astype(np.float64) for n, a in arrays.items()}
    return dataclasses.replace(case, W_skip=None, **arrays), results


def test_autocast_is_never_at_fault_and_its_faults_are_seen():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    for number in range(120):
        sizes = {n: int(rng.integers(2, 40)) for n in ("B", "I", "O")}
        case = random_case(number, Machine("float32"), skip=False, l1_coeff=10.0, **sizes)
        case = dataclasses.replace(case, x=case.x * 10.0 ** -rng.integers(0, 3))
        case = dataclasses.replace(case, x=case.x.astype(np.float32).astype(np.float64))
        case, results = autocast(torch, case, large_bias=bool(number % 2))
        keep = rng.random(len(results)) < rng.choice([1.0, 0.5])
        kept = {name: a for (name, a), kept in zip(results.items(), keep) if kept}
        assert_clean(case, kept, "bfloat16-autocast", number)
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k)
    for name in results:
        wrong = results | {name: results[name] * 1.25}
        report = audit(
            wrong,
            tc,
            case.x,
            case.target,
            l1_coeff=case.l1_coeff,
            arithmetic="bfloat16-autocast",
        )
        assert report.blame == name or report.convention, str(report)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_torch_is_never_at_fault(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    kind = getattr(torch, dtype)
    for number in range(60):
        case = drawn(rng, Machine(dtype), widest=1 if dtype == "float16" else 6)
        if case.ties == "keep_all":
            continue
        params = {n: torch.tensor(a, dtype=kind) for n, a in case.params().items()}
        x = torch.tensor(case.x, dtype=kind, requires_grad=True)
        target = torch.tensor(case.target, dtype=kind)
        for p in params.values():
            p.requires_grad_()
        pre = x @ params["W_enc"].T + params["b_enc"]
        if number % 2:
            pre = torch.nn.functional.linear(x, params["W_enc"], params["b_enc"])
        acts = torch.relu(pre)
        hidden = acts
        if case.activation == "topk":
            best = acts.topk(case.top_k, dim=1)
            hidden = torch.zeros_like(acts).scatter(1, best.indices, best.values)
        out = hidden @ params["W_dec"] + params["b_dec"]
        if "W_skip" in params:
            out = out + x @ params["W_skip"].T
        loss = ((target - out) ** 2).mean() + case.l1_coeff * hidden.abs().mean()
        for stage in (pre, acts, hidden, out):
            stage.retain_grad()
        loss.backward()
        results = {"pre": pre, "pre_acts": acts, "hidden": hidden, "reconstruction": out}
        results |= {"loss": loss, "d_reconstruction": out.grad, "dx": x.grad}
        results |= {f"d{name}": p.grad for name, p in params.items()}
        assert_clean(case, results, dtype, (dtype, number))
