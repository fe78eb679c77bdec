"""`TranscoderRegressor` is what scikit-learn takes it for."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import reftranscoder as rt

#: What scikit-learn asks for that it does not do, and why.
EXCEPTIONS: dict[str, str] = {}
OPTIONS = {"dict_size": 24, "top_k": 6, "batch_size": 64, "lr": 2e-2, "backend": "reference"}


@pytest.fixture(scope="module")
def regressor():
    reason = "scikit-learn is an extra: reftranscoder[sklearn]"
    pytest.importorskip("sklearn", reason=reason)
    return rt.TranscoderRegressor(**OPTIONS, steps=60, random_state=0)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((120, 5))
    return x, np.maximum(x @ rng.standard_normal((5, 4)), 0)


def test_scikit_learns_own_checks_pass(regressor):
    from sklearn.utils.estimator_checks import check_estimator

    found = check_estimator(
        regressor, expected_failed_checks=EXCEPTIONS, on_skip=None, on_fail=None
    )
    failed = {r["check_name"]: r["exception"] for r in found if r["status"] == "failed"}
    assert failed == {}
    assert len(found) > 40


def test_it_is_fit_in_other_words(regressor, data):
    from sklearn.base import clone

    model = clone(regressor).fit(*data)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    options = OPTIONS | {"steps": 60, "seed": seed}
    want = rt.fit(*data, **options).transcoder
    assert np.array_equal(model.predict(data[0]), want(data[0], backend="reference"))
    hidden = model.transform(data[0])
    assert hidden.format == "csr" and hidden.shape == (120, 24)
    assert (hidden != want.encode(data[0], backend="reference")).nnz == 0
    names = model.get_feature_names_out()
    assert names[[0, 23]].tolist() == ["transcoderregressor0", "transcoderregressor23"]
    y_hat = model.predict(data[0])
    sums = rt.metrics.sums_of(data[1], y_hat)
    macro = rt.metrics.DEFINITIONS["fvu_macro"](sums)
    assert model.score(*data) == pytest.approx(1 - macro, rel=1e-12)  # 4 sums of 120 terms
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(data[0]), y_hat)


def test_partial_fit_learns_and_goes_on_after_a_pickle(regressor, data):
    from sklearn.base import clone

    one, other = clone(regressor), clone(regressor)
    first = one.partial_fit(*data).score(*data)
    other.partial_fit(*data)
    for _ in range(30):
        one.partial_fit(*data)
        other = pickle.loads(pickle.dumps(other)).partial_fit(*data)
    assert one.n_steps_ == other.n_steps_ == 31
    assert one.score(*data) > first
    assert np.array_equal(one.predict(data[0]), other.predict(data[0]))
    with pytest.raises(ValueError, match="y must be 4 columns wide"):
        one.partial_fit(data[0], data[1][:, :2])
    assert one.fit(*data).n_steps_ == 60
    assert one.partial_fit(*data).n_steps_ == 1  # begins anew


CONVENTIONS = rt.Conventions(normalize_activations="layer_norm")


@pytest.mark.parametrize(
    "options",
    [
        {"average": 0.9, "aux_k": 4, "dead_after": 2, "clip_norm": 0.1, "unit_norm_decoder": True},
        {"reconstruction_loss": "mse_sum", "sparsity_loss": "l1_decoder_weighted"},
        {"validation": 0.25, "patience": 2, "log_every": 3, "warmup": 0.5, "accumulate": 3},
        {"conventions": CONVENTIONS, "dtype": "float64"},
        {"activation": "jumprelu", "sparsity_loss": "l0_step", "theta_start": 0.1},
        {"activation": "gated", "gate_l1_coeff": 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_options_are_those_of_fit(regressor, data, options):
    from sklearn.base import clone

    others = {name: value for name, value in options.items() if name != "activation"}
    parameters = {n: options[n] for n in ("activation",) if n in options} | {"options": others}
    model = clone(regressor).set_params(steps=12, **parameters).fit(*data)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    want = rt.fit(*data, **OPTIONS | {"steps": 12, "seed": seed} | options)
    assert model.n_steps_ == want.steps and len(model.history_) == len(want.history)
    arrays = want.transcoder.params.all_arrays()
    for name, array in model.transcoder_.params.all_arrays().items():
        assert array.tobytes() == arrays[name].tobytes(), name
    assert model.transcoder_.config == want.transcoder.config
    # partial_fit begins where fit does: a step on all rows is that of a fit without a schedule.  It
    # divides y in float64, fit in float32: the same where rows are of float32 (a quotient that is
    # rounded to 53 bits and then to 24 is the one that is rounded to 24).
    data = tuple(part.astype(np.float32) for part in data)
    rows = {"steps": 1, "batch_size": 120, "warmup": 0, "decay": 0}
    heeded = {n: v for n, v in options.items() if n not in ("validation", "patience", "accumulate")}
    want = rt.fit(*data, **OPTIONS | heeded | rows | {"seed": seed}).transcoder.params.all_arrays()
    for name, array in model.partial_fit(*data).transcoder_.params.all_arrays().items():
        assert array.tobytes() == want[name].tobytes(), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["average"], "options must be a mapping from options of fit to values, or None; got"),
        ({"lr": 0.1}, "options must be without lr, a parameter of TranscoderRegressor itself"),
        ({"seed": 1}, "options must be of names of options of reftranscoder.fit, and not of"),
        ({"x": 1}, "options must be of names of options of reftranscoder.fit, and not of"),
        ({3: 1}, "options must be of names of options of reftranscoder.fit"),
        ({"average": 2}, "average must be"),
        ({"sparsity_loss": "l0_step"}, "sparsity_loss must be another, for topk"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_options_that_make_no_sense_are_refused_in_one_line(regressor, data, method, options, said):
    from sklearn.base import clone

    model = clone(regressor).set_params(options=options)
    with pytest.raises(ValueError) as error:
        getattr(model, method)(*data)
    text = str(error.value)
    assert text.startswith(said) and "\n" not in text and len(text) <= 300


def test_without_scikit_learn_it_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None\n"
        "import reftranscoder as rt\n"
        "from reftranscoder import *\n"
        "try:\n    rt.TranscoderRegressor\nexcept ImportError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "reftranscoder[sklearn]"' in run.stdout and run.stdout.count("\n") == 1
