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


def test_without_scikit_learn_it_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None\n"
        "import reftranscoder as rt\n"
        "from reftranscoder import *\n"
        "try:\n    rt.TranscoderRegressor\nexcept ImportError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "reftranscoder[sklearn]"' in run.stdout and run.stdout.count("\n") == 1
