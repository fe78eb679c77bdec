"""Cases in folders and files: what is written, what may be handed back, what is refused."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from simulated_transcoder import Case, Machine, simulate

import reftranscoder as rt
from reftranscoder.auditor import STAGES, Reports
from reftranscoder.auditor.probes.case_folder import expectation_of, inputs_of, write_cases
from reftranscoder.auditor.probes.instructions import MEANINGS
from reftranscoder.auditor.probes.probe_set import probes
from reftranscoder.auditor.task.arithmetic import ARITHMETICS, MIXED
from reftranscoder.errors import DTypeError, FileError, OptionError, ShapeError

CASES = {case.name: case for case in probes()}
FEW = ("topk-ordinary", "topk-skip-integers", "relu-non-finite")


@pytest.fixture
def few(monkeypatch):
    """Only a few of the cases are written: quickly."""
    chosen = [CASES[name] for name in FEW]
    monkeypatch.setattr("reftranscoder.auditor.probes.case_folder.probes", lambda: chosen)


@pytest.fixture
def folder(few, tmp_path):
    write_cases(tmp_path / "cases")
    return tmp_path / "cases"


def results_of(case, **changes):
    tc = case.transcoder
    found = tc.stages(case.x, case.target, case.l1_coeff, check_finite=False)
    return {n: a.toarray() if hasattr(a, "tocsr") else a for n, a in found.items()} | changes


def whole_file(case, results, **others):
    words = {"top_k": np.array(case.config.top_k), "l1_coeff": np.array(case.l1_coeff)}
    results = {f"result.{name}": np.asarray(a) for name, a in results.items()}
    return inputs_of(case) | words | results | others


# Writing.


def test_the_whole_set_is_written(tmp_path):
    names = write_cases(tmp_path / "new")
    assert names == list(CASES)
    index = json.loads((tmp_path / "new" / "cases.json").read_text())
    assert index["cases"] == names
    text = (tmp_path / "new" / "README.txt").read_text()
    for name in (*names, *MEANINGS, *STAGES):
        assert f"{name} " in text
    for name in (*ARITHMETICS, *MIXED):
        assert re.search(rf"^    (.*, )?{name}[, ]", text, re.M), name
    assert max(len(line) for line in text.splitlines()) <= 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]
    report = rt.audit(tmp_path / "new")
    assert not report.passed and set(report.skipped.values()) == {"no results"}


def test_a_case_says_all_that_an_implementer_needs(folder):
    case = CASES["topk-skip-integers"]
    about = json.loads((folder / case.name / "case.json").read_text())
    assert (about["B"], about["I"], about["D"], about["O"]) == (16, 8, 32, 8)
    assert (about["top_k"], about["activation"], about["ties"]) == (5, "topk", "lowest_index")
    assert about["skip"] is True and about["l1_coeff"] == 4.0
    for suffix, read in ((".npz", np.load), (".safetensors", safetensors.numpy.load_file)):
        for file, arrays in (("input", inputs_of(case)), ("expected", expectation_of(case))):
            held = dict(read(folder / case.name / f"{file}{suffix}"))
            assert held.keys() == arrays.keys() == about[file].keys()
            for name, array in held.items():
                assert np.array_equal(array, arrays[name])
                assert about[file][name]["shape"] == list(array.shape)
                assert about[file][name]["dtype"] == array.dtype.name
                assert array.dtype == (np.float32 if file == "input" else arrays[name].dtype)


def test_without_a_selection_nothing_is_said_of_one():
    purposes = {name: case.purpose for name, case in CASES.items()}
    assert "K" in purposes["topk-ordinary"] and "K" in purposes["topk-keep-all-near-ties"]
    assert not [n for n, text in purposes.items() if n.startswith("relu") and "K-th" in text]
    assert not [n for n, text in purposes.items() if n.startswith("relu") and " K " in text]


def test_a_copy_of_what_is_expected_is_no_result(folder):
    path = folder / FEW[0]
    shutil.copy(path / "expected.npz", path / "results.npz")
    with pytest.raises(OptionError, match=f"^{FEW[0]}: .*hidden"):
        rt.audit(folder)


def test_what_is_expected_is_right():
    """By the formulas, for a case whose sums are exact."""
    case = CASES["topk-skip-integers"]
    p, x = {n: a.astype(float) for n, a in case.params.arrays().items()}, case.x.astype(float)
    got = expectation_of(case)
    B, D, O = len(x), len(p["b_enc"]), len(p["b_dec"])
    pre = x @ p["W_enc"].T + p["b_enc"]
    hidden = np.zeros_like(pre)
    for row, values in zip(hidden, np.maximum(pre, 0)):
        best = sorted(range(D), key=lambda j: (-values[j], j))[:5]
        row[best] = values[best]
    y = hidden @ p["W_dec"] + p["b_dec"] + x @ p["W_skip"].T
    G = 2 * (y - case.target) / (B * O)
    d_pre = (G @ p["W_dec"].T + 4 / (B * D)) * (hidden > 0)
    want = {"pre": pre, "hidden": hidden, "reconstruction": y, "d_reconstruction": G}
    want["loss"] = np.mean((y - case.target) ** 2) + 4 * np.mean(hidden)
    want |= {"d_pre": d_pre, "dW_dec": hidden.T @ G, "db_dec": G.sum(0), "dW_skip": G.T @ x}
    want |= {"dW_enc": d_pre.T @ x, "db_enc": d_pre.sum(0), "dx": d_pre @ p["W_enc"]}
    want["dx"] += G @ p["W_skip"]
    for name, array in want.items():
        assert np.array_equal(got[name], array), name
    pairs = np.zeros_like(pre)
    rows, places = np.nonzero(got["indices"] >= 0)
    pairs[rows, got["indices"][rows, places]] = got["values"][rows, places]
    assert np.array_equal(pairs, hidden)


def test_rows_that_are_not_finite_are_expected_to_be_nan_and_the_others_not():
    case = CASES["topk-skip-non-finite"]
    expected = expectation_of(case)
    bad = np.isin(np.arange(len(case.x)), case.non_finite)
    for name in ("pre", "reconstruction", "dx"):
        assert np.isnan(expected[name][bad]).all() and np.isfinite(expected[name][~bad]).all()
    assert np.isnan(expected["loss"])


def test_without_safetensors_there_is_npz_and_the_readme_says_so(few, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    write_cases(tmp_path / "new")
    assert not list((tmp_path / "new").rglob("*.safetensors"))
    assert len(list((tmp_path / "new").rglob("input.npz"))) == len(FEW)
    assert "was not installed" in (tmp_path / "new" / "README.txt").read_text()
    (tmp_path / "new" / FEW[0] / "results.safetensors").write_bytes(
        (2).to_bytes(8, "little") + b"{}"
    )
    with pytest.raises(FileError, match="needs the package safetensors"):
        rt.audit(tmp_path / "new")


def test_another_folder_is_left_alone(few, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileError, match="not empty"):
        write_cases(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(FileError, match="folder"):
        write_cases(tmp_path / "thesis.tex")
    with pytest.raises(FileError, match="does not exist"):
        write_cases(tmp_path / "no" / "such")


def test_an_empty_folder_will_do(few, tmp_path):
    (tmp_path / "empty").mkdir()
    assert write_cases(tmp_path / "empty") == list(FEW)


def test_rewriting_leaves_results_alone(folder):
    for name in FEW:
        (folder / name / "results.npz").write_bytes(name.encode())
    (folder / FEW[0] / "input.npz").unlink()
    write_cases(folder)
    for name in FEW:
        assert (folder / name / "results.npz").read_bytes() == name.encode()
        assert (folder / name / "input.npz").exists()


def test_results_of_another_input_are_not_judged_with_this_one(folder):
    case = CASES[FEW[0]]
    np.savez(folder / FEW[0] / "input.npz", **inputs_of(case) | {"x": case.x + 1})
    write_cases(folder)
    np.savez(folder / FEW[0] / "input.npz", **inputs_of(case) | {"x": case.x + 1})
    np.savez(folder / FEW[0] / "results.npz", **results_of(case))
    with pytest.raises(FileError, match="results of a case that is another one"):
        write_cases(folder)


def test_a_full_disk_leaves_nothing_behind(few, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(FileError, match="cannot be written") as caught:
            write_cases(tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


# What may be handed back.


def save(path, results):
    if path.suffix == ".npz":
        np.savez(path, **results)
    else:
        arrays = {n: np.ascontiguousarray(a) for n, a in results.items()}
        safetensors.numpy.save_file(arrays, path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_results_in_either_format_are_judged(folder, suffix):
    for name in FEW:
        save(folder / name / f"results{suffix}", results_of(CASES[name]))
    report = rt.audit(folder)
    assert isinstance(report, Reports) and report.passed and report.conclusive
    assert list(report.cases) == list(FEW) and not report.skipped
    wrong = results_of(CASES[FEW[0]])
    save(folder / FEW[0] / f"results{suffix}", wrong | {"loss": 2 * wrong["loss"]})
    report = rt.audit(folder)
    assert report.failed == (FEW[0],) and report.blame == "loss"


def test_one_case_of_a_folder(folder):
    name = "topk-skip-integers"
    assert rt.audit(folder / name).sentence().startswith("Nothing was judged")
    results = results_of(CASES[name])
    save(folder / name / "results.npz", results)
    report = rt.audit(folder / name)
    assert report.passed and not isinstance(report, Reports)
    results["pre"][0, 0] += 2.0**-20
    save(folder / name / "results.npz", results)
    assert rt.audit(folder / name).blame == "pre"


@pytest.mark.parametrize("form", ["bfloat16", "float32"])
def test_bfloat16_comes_as_it_is_or_as_float32(folder, form):
    case = CASES["topk-ordinary"]
    given = {n: a.astype(np.float64) for n, a in inputs_of(case).items()}
    simulated = Case(**given, W_skip=None, top_k=case.config.top_k, l1_coeff=case.l1_coeff)
    results = simulate(simulated, Machine("bfloat16"))
    held = {n: np.asarray(a).astype(ml_dtypes.bfloat16) for n, a in results.items()}
    path = folder / case.name / "results.safetensors"
    save(path, {n: a.astype(form) for n, a in held.items()})
    assert rt.audit(path.parent, arithmetic="bfloat16").passed
    report = rt.audit(path.parent, arithmetic="float32")
    assert report.blame == "pre" and "bfloat16" in report.sentence()


def test_bfloat16_in_an_npz_is_refused_with_what_to_do(folder):
    case = CASES["topk-ordinary"]
    results = {"pre": results_of(case)["pre"].astype(ml_dtypes.bfloat16)}
    save(folder / case.name / "results.npz", results)
    with pytest.raises(FileError, match="astype"):
        rt.audit(folder)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    "name", ["topk-ordinary", "relu-skip-integers", "topk-keep-all-skip-uneven"]
)
def test_everything_in_one_file(tmp_path, name, suffix):
    case = CASES[name]
    words = {"activation": case.config.activation, "ties": case.config.ties}
    path = tmp_path / f"case{suffix}"
    held = whole_file(case, results_of(case))
    if suffix == ".npz":
        save(path, held | {"meta": np.array(json.dumps(words))})
    else:
        safetensors.numpy.save_file(held, path, metadata={"meta": json.dumps(words)})
    for given in (path, str(path)):
        report = rt.audit(given)
        assert report.passed and set(report.judged) == set(results_of(case))
    held["result.dx"] = -held["result.dx"]
    safetensors.numpy.save_file(held, tmp_path / "w.safetensors", {"meta": json.dumps(words)})
    report = rt.audit(tmp_path / "w.safetensors")
    assert report.blame == "dx" and "wrong sign" in report.sentence()


def test_words_may_be_arrays_and_defaults_hold(tmp_path):
    case = CASES["relu-ordinary"]
    held = whole_file(case, {"hidden": results_of(case)["hidden"]})
    del held["top_k"], held["target"], held["l1_coeff"]
    save(tmp_path / "case.npz", held | {"activation": np.array("relu")})
    assert rt.audit(tmp_path / "case.npz").judged == ("hidden",)
    save(tmp_path / "case.npz", held)
    with pytest.raises(FileError, match="lacks top_k"):
        rt.audit(tmp_path / "case.npz")


# Malformed: one line, and no verdict.


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"result.pre": np.ones((3, 2))}, ShapeError, "pre must have shape"),
        ({"result.indices": np.full((24, 1), 99), "result.values": np.ones((24, 1))}, OptionError,
         "99 at row 0"),
        ({"result.indices": np.full((24, 2), 9), "result.values": np.ones((24, 2))}, OptionError,
         "9 twice in row 0"),
        ({"result.prae": np.ones(3)}, OptionError, "prae"),
        ({"result.pre": np.ones((24, 72), complex)}, DTypeError, "complex"),
        ({"result.refused": np.array([3])}, OptionError, "refused"),
        ({"pre": np.ones(3)}, FileError, "no case has: pre. What was computed is called result"),
        ({"W_enc": np.ones((2, 72))}, FileError, "W_enc|W_dec|x must have shape"),
        ({"W_enc": np.full((72, 20), np.nan)}, FileError, "must be finite"),
        ({"x": np.ones((24, 3))}, FileError, "x must have shape"),
        ({"target": np.ones((23, 12))}, ShapeError, "Rows must pair up"),
        ({"top_k": np.array(0)}, FileError, "top_k must be a positive integer"),
        ({"meta": np.array("{")}, FileError, "JSON object"),
        ({"meta": np.array('{"k": 3}')}, FileError, "JSON object"),
        ({"meta": np.array('{"config": {}}')}, FileError, "this is a transcoder, not a case"),
        ({"x": np.array([None])}, FileError, "pickled"),
    ],
)  # fmt: skip
def test_a_malformed_file_gets_a_line_and_no_verdict(tmp_path, changes, error, words):
    save(tmp_path / "case.npz", whole_file(CASES["topk-ordinary"], {}) | changes)
    with pytest.raises(error, match=words) as caught:
        rt.audit(tmp_path / "case.npz")
    assert "\n" not in str(caught.value) and "case.npz: " in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"GIF89a" * 9, "unknown format"),
        (b"PK\x03\x04 and so on", "truncated or damaged"),
        (b"\x40\0\0\0\0\0\0\0{", "damaged"),
        (b"\x80\x04K\x01.", "pickle.*numpy.savez"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, words):
    (tmp_path / "case.npz").write_bytes(content)
    with pytest.raises(FileError, match=words) as caught:
        rt.audit(tmp_path / "case.npz")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileError, match="no such file"):
        rt.audit(tmp_path / "no.npz")
    with pytest.raises(FileError, match="neither"):
        rt.audit(tmp_path)


def test_a_folder_that_contradicts_itself(folder):
    case = CASES[FEW[0]]
    for suffix in (".npz", ".safetensors"):
        save(folder / FEW[0] / f"results{suffix}", results_of(case))
    with pytest.raises(FileError, match=r"results.npz and results.safetensors"):
        rt.audit(folder)
    (folder / FEW[0] / "results.npz").unlink()
    with pytest.raises(OptionError, match="a file has its own"):
        rt.audit(folder, case.transcoder)


@pytest.mark.parametrize(
    ("broken", "content", "words"),
    [
        ("case.json", b"[]", "case.json: is damaged"),
        ("case.json", b"{}", "case.json: does not describe a case"),
        ("case.json", None, "case.json: there is no such file"),
        ("input.npz", b"PK", "unknown format"),
        ("input.npz", None, "input.npz: there is no such file"),
        ("", None, f"{FEW[0]}: is in cases.json, and there is no such folder"),
    ],
)
def test_what_is_lost_of_a_case_is_written_again(folder, broken, content, words):
    for name in FEW:
        save(folder / name / "results.npz", results_of(CASES[name]))
    for path in (folder / FEW[0]).glob("*.safetensors"):
        path.unlink()
    path = folder / FEW[0] / broken
    if content is not None:
        path.write_bytes(content)
    elif broken:
        path.unlink()
    else:
        shutil.rmtree(path)
    with pytest.raises(FileError, match=words) as caught:
        rt.audit(folder)
    assert broken == "input.npz" or "cases again" in str(caught.value)
    write_cases(folder)
    report = rt.audit(folder)
    assert report.passed and len(report.cases) == 3 - (not broken)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"format": "reftranscoder cases", "version": 99}', "is of version 99"),
        (b'{"format": "reftranscoder cases", "version": 1, "cases": [".."]}', "no list of names"),
        (b'{"format": "reftran', "no JSON object"),
        (b"\xff", "no JSON object"),
    ],
)
def test_a_folder_whose_index_cannot_be_read_is_neither_judged_nor_replaced(folder, content, words):
    (folder / "cases.json").write_bytes(content)
    for doing in rt.audit, write_cases:
        # Advice that both follow: another folder.
        with pytest.raises(FileError, match=f"cases.json: .*{words}.* a new folder, ") as caught:
            doing(folder)
        assert "\n" not in str(caught.value)
    assert (folder / "cases.json").read_bytes() == content


def test_a_malformed_case_is_named(folder):
    save(folder / FEW[1] / "results.npz", {"pre": np.ones(3)})
    for path in folder, folder / FEW[1]:
        with pytest.raises(ShapeError, match=f"^{FEW[1]}: pre must have shape"):
            rt.audit(path)


def test_a_case_may_be_refused_as_a_whole(folder):
    name = "relu-non-finite"
    save(folder / name / "results.npz", {"refused": CASES[name].non_finite})
    report = rt.audit(folder)
    assert report.passed and report.cases[name].refused == tuple(CASES[name].non_finite)
