"""rt.audit from outside: real results, subsets, forms, functions and malformed input."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from simulated_transcoder import Machine, random_case, simulate

import reftranscoder as rt
from reftranscoder.auditor import ARITHMETICS, STAGES, AuditFailure
from reftranscoder.auditor.judging.selection import selection
from reftranscoder.auditor.judging.verdict import Tally
from reftranscoder.errors import DTypeError, OptionError, ShapeError
from reftranscoder.reference import topk_forward
from reftranscoder.sparse import Sparse

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")


@pytest.fixture(params=["topk_transcoder_f32", "relu_skip_transcoder_f32"])
def case(request):
    with np.load(GOLDEN / f"{request.param}.npz") as archive:
        held = dict(archive)
    activation = json.loads(str(held.pop("about")))["activation"]
    tc = rt.Transcoder.from_arrays(
        **{name: held.pop(name) for name in WEIGHTS if name in held},
        top_k=int(held.pop("top_k")),
        activation=activation,
    )
    options = {"l1_coeff": float(held.pop("l1_coeff"))}
    return held, (tc, held.pop("x"), held.pop("target")), options


def test_what_other_libraries_computed_is_rounding(case):
    results, problem, options = case
    report = rt.audit(results, *problem, **options)
    assert report.passed and report.conclusive and report.blame is None
    assert set(report.judged) == set(results)
    assert "rounding" in report.sentence() and "\n" not in report.sentence()
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True
    report.raise_if_failed()


@pytest.mark.parametrize("stage", ["pre", "reconstruction", "d_reconstruction", "dW_dec", "dx"])
def test_a_fault_is_blamed_where_it_was_made_and_nowhere_else(case, stage):
    results, problem, options = case
    results[stage] = results[stage].copy()
    results[stage][2, 3] += np.abs(results[stage]).max()
    report = rt.audit(results, *problem, **options)
    assert report.blame == stage and not report.passed
    assert report.stages[stage].index == (2, 3) and stage in report.sentence()
    with pytest.raises(AuditFailure, match=f"Fault at {stage}"):
        report.raise_if_failed()


def test_what_lies_between_and_was_not_given_is_suspected(case):
    results, problem, options = case
    report = rt.audit({"dW_enc": results["dW_enc"] * 1.5}, *problem, **options)
    assert report.blame == "dW_enc"
    assert {"pre", "hidden", "d_pre", "dW_enc"} <= set(report.suspects)


def test_hidden_may_be_dense_sparse_or_indices_with_values(case):
    results, problem, options = case
    hidden = results["hidden"]
    width = (hidden != 0).sum(axis=1).max()
    indices = np.argsort(hidden == 0, axis=1, kind="stable")[:, :width]
    forms = (
        {"hidden": hidden},
        {"hidden": scipy.sparse.csr_array(hidden)},
        {"indices": indices, "values": np.take_along_axis(hidden, indices, axis=1)},
    )
    for form in forms:
        assert rt.audit(form, *problem, **options).stages["hidden"].verdict == "rounding"


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_tensors_are_taken_as_they_are(case, dtype, layout):
    torch = pytest.importorskip("torch")
    results, problem, options = case
    dense = torch.tensor(results["hidden"]).to(getattr(torch, dtype))
    form = dense.to_sparse().requires_grad_() if layout == "coo" else dense.to_sparse_csr()
    stage = rt.audit({"hidden": form}, *problem, **options, arithmetic=dtype).stages["hidden"]
    same = rt.audit({"hidden": dense}, *problem, **options, arithmetic=dtype).stages["hidden"]
    assert stage == same and stage.verdict in ("rounding", "ambiguous")


@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support is in beta")
def test_other_forms_of_tensors_are_refused_in_one_line(case):
    torch = pytest.importorskip("torch")
    results, problem, options = case
    hidden, pre = torch.tensor(results["hidden"]), torch.tensor(results["pre"])
    refused = [({"hidden": hidden.to_sparse_csc()}, "sparse_csc")]
    refused.append(({"pre": pre.to_sparse()}, "Pass pre.to_dense"))
    refused.append(({"hidden": hidden.to_sparse(1)}, "whose entries are rows"))
    refused.append(({"hidden": hidden.to("meta")}, "on meta. Pass a CPU tensor"))
    for results, text in refused:
        with pytest.raises(DTypeError, match=text):
            rt.audit(results, *problem, **options)


def test_float16_is_taken_where_scipy_knows_none():
    """Some of its rows are looked at by themselves: SciPy's matrices are indexed."""
    machine = Machine("float16")
    case = random_case(1, machine, B=40)
    results = simulate(case, machine)
    hidden = results.pop("hidden").astype(np.float16)
    tc = rt.Transcoder.from_arrays(**case.params(), top_k=case.top_k)
    indices = np.argsort(hidden == 0, axis=1, kind="stable")[:, : case.top_k]
    given = {"indices": indices, "values": np.take_along_axis(hidden, indices, axis=1)}
    for form in (given, {"hidden": Sparse.from_dense(hidden)}):
        stages = {"arithmetic": "float16", "l1_coeff": case.l1_coeff}
        report = rt.audit(results | form, tc, case.x, case.target, **stages)
        assert report.passed and "hidden" in report.judged


def test_a_function_is_called_with_the_parameters(case):
    _, (tc, x, target), options = case

    def candidate(params, x, target):
        return {"pre": (x @ params.W_enc.T + params.b_enc).astype(np.float32)}

    assert rt.audit(candidate, tc, x, target, **options).stages["pre"].verdict == "rounding"


def test_nan_is_a_fault_where_it_appears_and_what_reads_it_is_not_judged(case):
    results, problem, options = case
    results["reconstruction"] = results["reconstruction"].copy()
    results["reconstruction"][4, 1] = np.nan
    report = rt.audit(results, *problem, **options)
    assert report.blame == "reconstruction" and report.faults == ("reconstruction",)
    assert report.stages["reconstruction"].index == (4, 1)
    assert report.stages["dx"].verdict == "not judged"


@pytest.mark.parametrize(
    ("results", "error", "text"),
    [
        ({"pre": np.ones((3, 2))}, ShapeError, "^pre must have shape"),
        ({"prae": np.ones((3, 2))}, OptionError, "prae"),
        ({"indices": [[0]] * 16}, OptionError, "indices and values"),
        ({"indices": [[999]] * 16, "values": [[1.0]] * 16}, OptionError, "999 at row 0, column 0"),
        ({"indices": [[1, 1]] * 16, "values": [[1.0] * 2] * 16}, OptionError, "1 twice in row 0"),
        ([1.0], OptionError, "^candidate must be"),
    ],
)
def test_malformed_results_get_one_line_and_no_verdict(case, results, error, text):
    _, problem, options = case
    with pytest.raises(error, match=text) as caught:
        rt.audit(results, *problem, **options)
    assert "\n" not in str(caught.value)


def test_nothing_given_is_nothing_judged(case):
    _, problem, options = case
    report = rt.audit({}, *problem, **options)
    assert not report.passed and report.sentence().startswith("Nothing was judged")


@pytest.mark.parametrize("sparse", [False, True])
def test_a_row_of_nan_hides_nothing_in_the_others(case, sparse):
    _, (tc, x, target), options = case
    results = tc.stages(x, target, **options)
    results["hidden"] = results["hidden"].toarray()
    x = x.copy()
    x[2] = np.nan
    by_row = ("pre", "pre_acts", "hidden", "reconstruction", "d_reconstruction", "d_hidden")
    results = {name: results[name].copy() for name in (*by_row, "d_pre", "dx")}
    for array in results.values():
        array[2] = np.nan
    if sparse:  # where hidden is zero, nothing is stored
        results["d_hidden"] = np.where(results["hidden"] != 0, results["d_hidden"], 0)
    form = scipy.sparse.csr_array if sparse else np.asarray
    for name in ("hidden", "d_hidden", "d_pre"):
        results[name] = form(results[name])
    report = rt.audit(results, tc, x, target, **options)
    assert report.passed and set(report.judged) == set(results), str(report)
    for name in ("d_hidden", "d_pre"):
        wrong = results[name].copy()
        row, column = np.argwhere(np.nan_to_num(form(wrong).toarray() if sparse else wrong))[0]
        wrong[row, column] *= 1.5
        report = rt.audit(results | {name: wrong}, tc, x, target, **options)
        assert report.blame == name, str(report)
        assert report.stages[name].index == (row, column)


def test_where_no_row_is_finite_nothing_is_judged_but_a_finite_result(case):
    results, (tc, x, target), options = case
    x = np.full_like(x, np.nan)
    assert rt.audit(results, tc, x, target, **options).blame == "pre"
    lost = {name: np.full_like(value, np.nan) for name, value in results.items()}
    report = rt.audit(lost, tc, x, target, **options)
    assert not report.judged and not report.passed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_never_compared_has_no_verdict(case, stage, monkeypatch):
    """It is a mistake of the audit, which must not look like a stage without any error."""
    results, problem, options = case
    if stage not in results:
        stage = "dx"
    add = Tally.add
    monkeypatch.setattr(
        Tally, "add", lambda self, *rest: None if self.stage == stage else add(self, *rest)
    )
    with pytest.raises(AssertionError, match=f"{stage} was given, and was not compared"):
        rt.audit(results, *problem, **options)


def test_progress_counts_every_row_once_and_goes_on_while_a_name_is_sought(case):
    results, problem, options = case
    called = []
    results["dW_dec"] = 2 * results["dW_dec"]
    rt.audit(results, *problem, **options, progress=called.append)
    assert sum(called) == len(problem[1]) and called.count(0) > 1 and called[-1] == 0


@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
def test_the_audit_selects_as_the_reference_does(ties, rng):
    for top_k in (1, 3, 7, 8):
        values = rng.integers(-3, 4, (200, 8)).astype(float)
        kept = topk_forward(values, top_k, ties) != 0
        np.testing.assert_array_equal(selection(values, top_k, ties), kept)


def test_an_arithmetic_of_ones_own_is_made_of_names():
    own = rt.Arithmetic("own", inputs="bfloat16", accumulator="float32", store="bfloat16")
    assert own == dataclasses.replace(ARITHMETICS["bfloat16"], name="own")
    with pytest.raises(OptionError, match="accumulator must be one of float16, .*; got 'fp8'"):
        rt.Arithmetic("own", "bfloat16", "fp8", "bfloat16")
