"""Every published definition is its formula, in exact fractions; and a reported number is traced
to the definition and the rows that give it."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import cli
from reftranscoder.errors import OptionError, ShapeError
from reftranscoder.evaluating import matches
from reftranscoder.metrics import (
    DEFINITIONS,
    decoder_shift,
    dense_features,
    density_histogram,
    firing_shift,
    mean_max_cosine,
    nearest_neighbours,
    sums_of,
)

N, D = 8, 4  # powers of two: the means below are exact
U = 2.0**-53


@pytest.fixture
def data(rng):
    """Whole numbers, multiples of N so that their means are whole: every sum is exact."""
    y, error, x = (N * rng.integers(-9, 10, (N, D)) for _ in range(3))
    return y.astype(float), (y - error // N).astype(float), x.astype(float)


def exact(y, y_hat, x):
    """Every definition by its formula, a term at a time, in fractions (and square roots)."""
    y, y_hat, x = ([[Fraction(v) for v in row] for row in a.tolist()] for a in (y, y_hat, x))
    rows, columns = range(len(y)), range(len(y[0]))
    n, d = len(y), len(y[0])
    c = [sum(y[i][j] for i in rows) / n for j in columns]
    e = [[y[i][j] - y_hat[i][j] for j in columns] for i in rows]
    mean_e = [sum(e[i][j] for i in rows) / n for j in columns]

    def norm2(row):
        return sum(v * v for v in row)

    errors = sum(map(norm2, e))
    squares = sum(norm2([y[i][j] - c[j] for j in columns]) for i in rows)
    spread = sum(norm2([e[i][j] - mean_e[j] for j in columns]) for i in rows)
    S = sum(map(norm2, y)) / n
    macro = [
        sum(e[i][j] ** 2 for i in rows) / sum((y[i][j] - c[j]) ** 2 for i in rows) for j in columns
    ]
    legacy = [1 - norm2(e[i]) / norm2([y[i][j] - c[j] for j in columns]) for i in rows]
    dots = [sum(a * b for a, b in zip(y[i], y_hat[i])) for i in rows]
    cosines = [
        float(dots[i]) / math.sqrt(float(norm2(y[i])) * float(norm2(y_hat[i]))) for i in rows
    ]
    return {
        "fvu": errors / squares,
        "fvu_batch": errors / squares,
        "fvu_macro": sum(macro) / d,
        "ev_batch_mean": 1 - spread / squares,
        "ev_clipped": min(max(1 - spread / squares, Fraction(0)), Fraction(1)),
        "ev_legacy": sum(legacy) / n,
        "ev_wrong": 1 - errors / n / (S - (S / d) ** 2),
        "ev_against_input": sum(
            1 - norm2([y_hat[i][j] - x[i][j] for j in columns]) / norm2(x[i]) for i in rows
        )
        / n,
        "nmse_uncentred": sum(norm2(e[i]) / norm2(y[i]) for i in rows) / n,
        "mse_mean": errors / (n * d),
        "mse_sum": errors / n,
        "mse_over_norm": sum(float(norm2(e[i])) / math.sqrt(float(norm2(y[i]))) for i in rows)
        / (n * d),
        "cosine": sum(cosines) / n,
    }


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_is_its_formula(data, name):
    y, y_hat, x = data
    want = float(exact(*data)[name])
    got = DEFINITIONS[name](sums_of(y, y_hat, None, x))
    # What enters is exact.  A value is a quotient, or the sum of at most N of them, less 1 or not:
    # fewer than 4 N roundings, each of a number no larger than 1 + |value| + the largest quotient.
    largest = max(1.0, *(abs(float(v)) for v in exact(*data).values()))
    assert abs(got - want) <= 4 * N * U * (1 + largest)
    assert want != 0 or name == "ev_clipped"


def test_sums_add_up_about_one_mean(data):
    y, y_hat, x = data
    mean = y.mean(axis=0)
    parts = [sums_of(y[r], y_hat[r], mean, x[r]) for r in (slice(0, 3), slice(3, 4), slice(4, 8))]
    joined = parts[0].plus(parts[1]).plus(parts[2])
    whole = sums_of(y, y_hat, None, x)
    for name in ("rows", "errors", "error", "squares", "uncentred"):  # exact
        assert np.array_equal(getattr(joined, name), getattr(whole, name))


def test_what_each_definition_does_not_see(data):
    """The properties that make the numbers differ, as the guide states them."""
    y, y_hat, x = data
    value = {n: row(sums_of(y, y_hat)) for n, row in DEFINITIONS.items()}
    shifted = {n: row(sums_of(y, y_hat + 8)) for n, row in DEFINITIONS.items()}
    assert shifted["ev_batch_mean"] == pytest.approx(value["ev_batch_mean"], abs=64 * U)
    assert shifted["fvu"] > value["fvu"]  # a constant error costs
    scaled = {n: row(sums_of(2 * y, 2 * y_hat)) for n, row in DEFINITIONS.items()}
    same = {n for n in value if scaled[n] == value[n]}
    assert same == set(DEFINITIONS) - {
        *("ev_wrong", "mse_mean", "mse_sum", "mse_over_norm", "ev_against_input")
    }
    assert math.isnan(value["ev_against_input"])  # no x was given


@pytest.mark.parametrize(
    ("y", "y_hat"), [(np.ones((2, 3)), np.ones((2, 2))), (np.ones((0, 3)), np.ones((0, 3)))]
)
def test_shapes_that_do_not_fit(y, y_hat):
    with pytest.raises(ShapeError):
        sums_of(y, y_hat)


# Features.


def test_dense_features_and_how_rates_spread():
    hidden = np.zeros((100, 4))
    hidden[:10, 0] = hidden[:11, 1] = hidden[:, 2] = 1
    assert dense_features(hidden).tolist() == [1, 2]
    assert dense_features(hidden, above=0.5).tolist() == [2]
    counts, edges = density_histogram([0, 0, 0.001, 0.01, 0.011, 1.0], bins=3)
    assert counts.tolist() == [1, 2, 1]
    assert edges.tolist() == [-3, -2, -1, 0]
    assert density_histogram([0.0, 0.0])[0].sum() == 0
    for bad in ([2.0], [-0.1], [np.nan]):
        with pytest.raises(OptionError):
            density_histogram(bad)


# Two models.


def test_neighbours_are_those_of_every_pair(rng, monkeypatch):
    a, b = rng.standard_normal((9, 5)), rng.standard_normal((7, 5))
    b[3] = 0
    # Three rows at a time, so that blocks end in the middle.
    monkeypatch.setattr("reftranscoder.metrics.comparison._BLOCK_BYTES", 3 * 8 * 7)

    def cosine(u, v):
        norm = math.sqrt(math.fsum(u * u) * math.fsum(v * v))
        return math.fsum(u * v) / norm if norm else 0.0

    want = [[cosine(u, v) for v in b] for u in a]
    indices, cosines = nearest_neighbours(a, b)
    assert indices.tolist() == [int(np.argmax(row)) for row in want]
    # Two unit rows of 5 entries, each within 4 u, and a sum of 5 products: (5 + 8) u.
    assert np.abs(cosines - np.max(want, axis=1)).max() <= 13 * U
    assert mean_max_cosine(a, b) == cosines.mean()
    own, _ = nearest_neighbours(a)
    others = [[cosine(u, v) if i != j else -2 for j, v in enumerate(a)] for i, u in enumerate(a)]
    assert own.tolist() == np.argmax(others, axis=1).tolist()


def test_shifts_of_two_transcoders(rng):
    before = rt.build(input_size=3, output_size=4, dict_size=5, top_k=2, seed=0)
    arrays = {name: array.copy() for name, array in before.params.arrays().items()}
    arrays["W_dec"][2] *= -3
    after = rt.Transcoder(before.config, rt.Params(**arrays))
    assert np.round(decoder_shift(before, after), 6).tolist() == [1, 1, -1, 1, 1]
    assert firing_shift(np.eye(2), np.ones((3, 2))).tolist() == [0.5, 0.5]
    for bad in (np.ones((5, 3)), np.ones((4, 4))):
        with pytest.raises(ShapeError):
            decoder_shift(before, bad)
    with pytest.raises(ShapeError):
        firing_shift(np.eye(2), np.eye(3))
    with pytest.raises(ShapeError):
        nearest_neighbours(np.eye(2), np.eye(3))
    with pytest.raises(ShapeError, match="another row"):
        nearest_neighbours(np.ones((1, 2)))


# On data.


@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((96, 6)).astype(np.float32)
    x[::8] *= 30  # the first of every sequence of eight is an outlier
    y = np.maximum(x @ rng.standard_normal((6, 6)), 0).astype(np.float32) + 3
    options = {"dict_size": 20, "top_k": 3, "steps": 30, "batch_size": 32, "lr": 0.02}
    return rt.fit(x, y, **options, backend="reference").transcoder, x, y


def test_on_data_of_any_size_it_is_the_same_as_on_arrays(measured):
    tc, x, y = measured
    got = rt.evaluate(tc, x, y, batch_rows=40, backend="reference")
    hidden = tc.encode(x, backend="reference")
    y_hat = tc.decode(hidden, x, backend="reference")
    blocks = [slice(0, 40), slice(40, 80), slice(80, 96)]
    whole = sums_of(y, y_hat, y.mean(axis=0, dtype=np.float64), x)
    for name, row in DEFINITIONS.items():
        # 96 rows of positive terms, summed in two orders.
        assert got.whole[name] == pytest.approx(row(whole), rel=200 * U, abs=200 * U)
        values = [row(sums_of(y[b], y_hat[b], None, x[b])) for b in blocks]
        weights = [40 / 96, 40 / 96, 16 / 96] if row.published_on == "rows" else [1 / 3] * 3
        want = sum(w * v for w, v in zip(weights, values))
        assert got.batches[name] == pytest.approx(want, rel=200 * U, abs=200 * U)
    assert got.published["fvu_batch"] == got.batches["fvu_batch"] != got.whole["fvu_batch"]
    assert (got.rows, got.metrics.l0) == (96, hidden.nnz / 96)


def test_what_was_reported_is_found(measured, tmp_path, capsys):
    tc, x, y = measured
    files = [str(tmp_path / name) for name in ("tc.npz", "x.npy", "y.npy")]
    tc.save(files[0])
    np.save(files[1], x)
    np.save(files[2], y)
    kept = np.arange(96) % 8 != 0
    dropped = rt.evaluate(tc, x[kept], y[kept], batch_rows=32, backend="reference")
    options = ["--batch-rows", "32", "--sequence-length", "8", "--backend", "reference"]
    for name, number in (
        ("fvu", dropped.whole["fvu"]),
        ("fvu_batch", dropped.batches["fvu_batch"]),
        ("1 - ev_legacy", 1 - dropped.batches["ev_legacy"]),
    ):
        reported = f"{number:.5f}"
        assert cli.main(["evaluate", *files, *options, "--reported", reported, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["rows"] == 96
        first = report["reported"]["matches"][0]
        assert (first["rows"], first["name"], first["published"]) == (
            *("rows without position 0", name, True),
        )
        assert abs(first["value"] - float(reported)) <= 0.5e-5
    assert cli.main(["evaluate", *files, *options, "--reported", "-123.25"]) == 0
    assert "none of the definitions gives it, on all rows and" in capsys.readouterr().out


def test_a_number_is_read_as_it_is_written(measured):
    found = {"all rows": rt.evaluate(*measured, backend="reference")}
    value = found["all rows"].whole["fvu"]

    def names(reported):
        return {match.name for match in matches(reported, found)}

    assert "fvu" in names(f"{value:.2f}") & names(f"{100 * value:.1f}%") & names(f"{value:.3e}")
    assert "fvu" not in names(f"{value + 0.0002:.4f}")
    for bad in ("", "a third", "nan", "inf", "1e999999", "0x1p3"):
        with pytest.raises(OptionError, match="^reported must be a number"):
            matches(bad, found)


def test_the_command_refuses_in_one_line(measured, tmp_path, capsys):
    tc, x, y = measured
    tc.save(tmp_path / "tc.npz")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "narrow.npy", y[:, :3])
    paths = [str(tmp_path / name) for name in ("tc.npz", "x.npy", "narrow.npy")]
    for arguments in (
        paths,
        paths[:2],
        [paths[0], paths[1], paths[1], "--sequence-length", "8"],
        [paths[0], paths[1], paths[1], "--batch-rows", "0"],
        [paths[0], paths[1], paths[1], "--reported", "much", "--backend", "reference"],
    ):
        assert cli.main(["evaluate", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("reftranscoder evaluate: ") and error.count("\n") == 1
