"""`describe`: every number against the dense arrays, and each firing against its text."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import Error, FileError, OptionError, RowError, ShapeError
from reftranscoder.evaluating import Tokens, describe
from reftranscoder.evaluating.tokens import read_tokens
from reftranscoder.metrics import Firings

ROWS, LENGTH, I, D, O, K = 256, 32, 6, 24, 5, 3
REFERENCE = {"backend": "reference"}
U = 2.0**-53


def words(rows, length):
    return np.array([f" w{r}" for r in range(rows)]).reshape(-1, length)


@pytest.fixture(scope="module")
def case():
    """A transcoder, rows, and its dense activations and reconstruction.

    All numbers are whole, or eighths, and there are 256 rows: every sum, and every mean, is exact
    in float64 in whatever order it is taken.
    """
    rng = np.random.default_rng(5)
    arrays = {
        "W_enc": rng.integers(-3, 4, (D, I)),
        "b_enc": rng.integers(-6, 3, D),
        "W_dec": rng.integers(-9, 10, (D, O)) / 8,
        "b_dec": rng.integers(-2, 3, O),
    }
    arrays["b_enc"][7] = -999  # dead
    arrays["b_enc"][8] = 30  # dense
    tc = rt.Transcoder.from_arrays(
        **{n: a.astype(np.float32) for n, a in arrays.items()}, top_k=K, activation="topk"
    )
    x = rng.integers(-4, 5, (ROWS, I)).astype(np.float32)
    y = rng.integers(-20, 21, (ROWS, O)).astype(np.float32)
    y[:, 3] = 7  # a column that does not vary
    hidden = tc.encode(x, **REFERENCE).toarray().astype(np.float64)
    y_hat = hidden @ arrays["W_dec"] + arrays["b_dec"]
    return tc, x, y, hidden, y_hat


def test_all_rows_and_features(case):
    tc, x, y, hidden, y_hat = case
    found = describe(tc, x, y, batch_rows=48, **REFERENCE)
    active = hidden > 0
    np.testing.assert_array_equal(found.metrics.firing_rates, active.mean(axis=0))
    np.testing.assert_array_equal(found.metrics.l0_counts, np.bincount(active.sum(axis=1)))
    np.testing.assert_array_equal(found.dead_features, np.flatnonzero(~active.any(axis=0)))
    np.testing.assert_array_equal(found.dense_features, np.flatnonzero(active.mean(axis=0) > 0.1))
    assert 7 in found.dead_features and 8 in found.dense_features
    wide = y.astype(np.float64)
    errors = ((wide - y_hat) ** 2).sum(axis=0)
    squares = ((wide - wide.mean(axis=0)) ** 2).sum(axis=0)
    want = np.divide(errors, squares, where=squares > 0, out=np.full(O, np.inf))
    np.testing.assert_array_equal(found.evaluated.fvu_by_column, want)
    assert squares[3] == 0 < errors[3] and found.to_dict()["fvu_by_column"][3] is None


def test_the_decoder(case):
    tc, *_ = case
    W = tc.params.W_dec.astype(np.float64)
    norms, nearest, cosines = describe(tc).decoder
    squares = (W * W).sum(axis=1)  # exact
    np.testing.assert_array_equal(norms, np.sqrt(squares))
    table = W @ W.T / np.sqrt(np.outer(squares, squares))
    np.fill_diagonal(table, -np.inf)
    # Of unit vectors: each entry is off by 1.5 u of rounding, O products and O - 1 sums by u each,
    # and the sum of the absolute products is at most 1; the table itself by 3 u.
    bound = (2 * O + 6) * U
    assert (np.abs(cosines - table.max(axis=1)) <= bound).all()
    assert (table[np.arange(D), nearest] >= table.max(axis=1) - 2 * bound).all()
    one = rt.build(input_size=2, output_size=2, dict_size=1, top_k=1)
    assert describe(one).decoder.cosines is None


def test_where_a_feature_fires(case):
    tc, x, y, hidden, _ = case
    text = words(ROWS, LENGTH)
    chosen = [8, 3, 7]
    found = describe(tc, x, y, tokens=text, features=chosen, strongest=5, **REFERENCE)
    assert [feature.firings.feature for feature in found.features] == chosen
    for feature in found.features[:2]:
        of, column = feature.firings, hidden[:, feature.firings.feature]
        positive = np.sort(column[column > 0])
        assert of.count == len(positive) and of.exact and of.rate == len(positive) / ROWS
        for q in (0, 0.25, 0.5, 0.9, 1):
            assert of.value_at(q) == np.quantile(positive, q)
        assert [f.value for f in feature.strongest] == positive[::-1][:5].tolist()
        for firing in feature.strongest + feature.others:
            assert column[firing.row] == firing.value > 0
            assert firing.quantile == (positive <= firing.value).mean()
            context = firing.context
            first = firing.row - context.at
            around = range(first, first + len(context.tokens))
            assert context.tokens == text.ravel()[around].tolist()
            assert {r // LENGTH for r in around} == {context.sequence}
            assert (context.sequence, context.position) == divmod(firing.row, LENGTH)
            assert list(firing.values) == column[around].tolist()
        near = [np.quantile(positive, q, method="nearest") for q in (0.9, 0.75, 0.5, 0.25)]
        assert [f.value for f in feature.others] == near
    dead = found.features[2]
    assert (dead.firings.count, dead.strongest, dead.others) == (0, (), ())


def test_the_same_by_batches_of_any_size(case):
    tc, x, y, *_ = case
    pages = [
        describe(tc, x, y, tokens=words(ROWS, LENGTH), batch_rows=n, **REFERENCE).to_dict()
        for n in (ROWS, 7)
    ]
    for page in pages:
        json.dumps(page, allow_nan=False)
        del page["seconds"], page["published"]  # by batches
    assert pages[0] == pages[1]


def test_features_are_chosen_from_often_to_seldom(case):
    tc, x, *_, hidden, _ = case
    found = describe(tc, x, features=4, **REFERENCE)
    rates = (hidden > 0).mean(axis=0)
    got = [feature.firings.rate for feature in found.features]
    alive = np.sort(rates[rates > 0])[::-1]
    assert got == sorted(got, reverse=True)
    assert got == [alive[(2 * n + 1) * len(alive) // 8] for n in range(4)]
    everything = describe(tc, x, features=D, **REFERENCE).features
    assert {feature.firings.feature for feature in everything} == set(np.flatnonzero(rates))


def test_rows_left_out_keep_their_text(case):
    tc, x, y, *_ = case
    text = words(ROWS, LENGTH)
    pair = rt.paired(x, y, rows="32:256", sequence_length=LENGTH, drop_position=0)
    found = describe(tc, *pair, tokens=text, features=[8], strongest=200, **REFERENCE)
    firings = found.features[0].strongest
    assert {f.row // LENGTH for f in firings} <= set(range(1, 8))
    assert all(f.context.tokens[f.context.at] == f" w{f.row}" for f in firings)
    starts = [f.context.position - f.context.at for f in firings]
    assert 0 in starts and max(starts) > 0
    for f, start in zip(firings, starts):  # of the first token of a sequence nothing is known
        assert np.isnan(f.values[0]) == (start == 0) and not np.isnan(f.values[1:]).any()


def test_neighbours_have_no_value_where_rows_compete(case):
    tc, x, y, *_ = case
    arrays = tc.params.arrays()
    competing = rt.Transcoder.from_arrays(**arrays, top_k=K, activation="batchtopk")
    found = describe(competing, x, y, tokens=words(ROWS, LENGTH), features=[8], **REFERENCE)
    for firing in found.features[0].strongest:
        known = np.flatnonzero(~np.isnan(firing.values))
        assert known.tolist() == [firing.context.at]
        assert firing.values[firing.context.at] == firing.value


def test_without_a_target_and_without_data(case, tmp_path):
    tc, x, y, *_ = case
    whole = describe(tc, x, y, features=2, **REFERENCE)
    some = describe(tc, x, features=2, **REFERENCE)
    assert some.evaluated is None and some.target is None
    for name in ("firing_rates", "l0_rows", "density"):
        assert some.to_dict()[name] == whole.to_dict()[name]
    alone = describe(tc)
    assert (alone.x, alone.metrics, alone.features) == (None, None, ())
    assert alone.dead_features is None and "features" not in alone.to_dict()
    np.save(tmp_path / "x.npy", x)
    from_file = describe(tc, tmp_path / "x.npy", features=2, **REFERENCE)
    assert from_file.to_dict()["features"] == some.to_dict()["features"]
    with rt.ActivationWriter(tmp_path / "acts", dtype="float32") as writer:
        writer.add(x, y)
    both = describe(tc, tmp_path / "acts", features=2, **REFERENCE)
    assert both.evaluated.whole["fvu"] == whole.evaluated.whole["fvu"]


@pytest.mark.parametrize("look", [rt.evaluate, describe])
def test_memory_does_not_grow_with_the_data(tmp_path, look):
    """The peak over 12 shards is that over 3, but for less than the rows of one."""
    rows, width, rng = 1024, 64, np.random.default_rng(4)
    for shards in (3, 12):
        with rt.ActivationWriter(tmp_path / f"{shards}", dtype="float32") as writer:
            for _ in range(shards):
                writer.add(*rng.standard_normal((2, rows, width), np.float32))
    sizes = {"input_size": width, "output_size": width, "dict_size": 64}
    tc = rt.build(**sizes, top_k=4, seed=0)
    options = {"batch_rows": rows} | REFERENCE
    options |= {"features": [5]} if look is describe else {}
    look(tc, *rt.paired(tmp_path / "3"), **options)  # what is imported is imported now
    peaks = {}
    for shards in (3, 12):
        tracemalloc.start()
        try:
            look(tc, *rt.paired(tmp_path / f"{shards}"), **options)
            peaks[shards] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    of_a_shard = 2 * rows * width * 4
    assert peaks[3] > of_a_shard  # what is seen of a batch is counted
    assert peaks[12] - peaks[3] < of_a_shard, peaks


def test_what_cannot_be_described(case):
    tc, x, y, *_ = case
    for wrong, kind, said in (
        ({"features": [D]}, OptionError, f"0 to {D - 1}"),
        ({"features": -1}, OptionError, "features"),
        ({"features": "all"}, OptionError, "features"),
        ({"tokens": words(ROWS - LENGTH, LENGTH)}, RowError, "none for row 255"),
        ({"tokens": [["a"], ["b", "c"]]}, OptionError, "sequences of one length"),
        ({"tokens": np.zeros((8, 32), int)}, OptionError, "vocabulary"),
        ({"tokens": np.zeros((8, 32))}, OptionError, "strings"),
        ({"target": y[:9]}, ShapeError, "pair up"),
        ({"x": x[:, 1:]}, ShapeError, f"(any, {I})"),
        ({"x": None}, OptionError, "x must be given"),
        ({"strongest": 0}, OptionError, "strongest"),
        ({"advance": 3}, OptionError, "advance"),
    ):
        with pytest.raises(kind) as error:
            describe(**{"tc": tc, "x": x, "target": y} | REFERENCE | wrong)
        assert said in str(error.value)


# Firings


def test_a_sample_does_not_depend_on_the_blocks():
    rng = np.random.default_rng(3)
    hidden = np.maximum(rng.standard_normal((20_000, 2)), 0)
    results = []
    for block in (20_000, 999):
        firings = Firings([1], strongest=4, sample=1000)
        for start in range(0, len(hidden), block):
            firings.add(hidden[start : start + block])
        results.append(firings.result()[0])
    one, other = results
    for name in ("strongest_rows", "strongest_values", "sample_rows", "sample_values"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    positive = hidden[hidden[:, 1] > 0, 1]
    assert (one.count, len(one.sample_rows), one.exact) == (len(positive), 1000, False)
    np.testing.assert_array_equal(hidden[one.sample_rows, 1], one.sample_values)
    assert len(np.unique(one.sample_rows)) == 1000
    for q in (0.1, 0.5, 0.9):
        rank = (positive <= one.value_at(q)).mean()
        assert abs(rank - q) <= 5 * np.sqrt(q * (1 - q) / 1000)  # five standard deviations
    # Known whatever the sample: the ranks of the strongest.
    top = np.sort(positive)[::-1]
    assert [one.quantile_of(v) for v in top[:4]] == [1 - n / len(positive) for n in range(4)]
    assert one.value_at(1) == top[0]


def test_firings_that_do_not_fit():
    with pytest.raises(OptionError, match="below the number of features, 2"):
        Firings([2]).add(np.ones((3, 2)))
    with pytest.raises(ShapeError):
        Firings([0]).result()
    assert Firings([]).add(np.ones((3, 2))) is None


# Tokens


def test_pieces_become_text_across_tokens(tmp_path):
    pieces = ["Ġna", "Ã", "¯", "ve", "Ċ", "<|end|>"]  # "na", the two bytes of "ï", "ve", a break
    ids = np.array([[0, 1, 2, 3, 4, 5]])
    want = [" na", "", "ï", "ve", "\n", "<|end|>"]
    vocabularies = {
        "list": pieces,
        "pieces to numbers": {piece: n for n, piece in enumerate(pieces)},
        "numbers to pieces": {str(n): piece for n, piece in enumerate(pieces)},
        "tokenizer": {
            "model": {"vocab": {piece: n for n, piece in enumerate(pieces[:5])}},
            "added_tokens": [{"content": "<|end|>", "id": 5}],
        },
        "unigram": {"model": {"vocab": [[piece, -1.0] for piece in pieces]}},
    }
    np.save(tmp_path / "ids.npy", ids)
    for name, vocabulary in vocabularies.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(vocabulary))
        tokens = read_tokens(tmp_path / "ids.npy", tmp_path / f"{name}.json")
        assert tokens.around(2, reach=9).tokens == want, name
    assert Tokens(ids[0], dict(enumerate(pieces))).around(0, 3).tokens == want[:4]
    assert Tokens(np.array([0, 1]), ["▁the", "s"]).around(0).tokens == [" the", "s"]


def test_the_edges_of_a_sequence():
    tokens = Tokens([f"{r}" for r in range(10)], sequence_length=4)
    assert tokens.around(4, 2) == (["4", "5", "6"], 0, 0, 1)
    assert tokens.around(7, 2) == (["5", "6", "7"], 2, 3, 1)
    assert tokens.around(9, 2) == (["8", "9"], 1, 1, 2)  # the last one is short
    with pytest.raises(RowError):
        tokens.around(10)
    with pytest.raises(OptionError, match="5, as in tokens"):
        Tokens(np.full((2, 5), "a"), sequence_length=4)


def test_tokens_in_json(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps([["a", "b"], ["c", "d"]]))
    assert read_tokens(tmp_path / "t.json").around(3).tokens == ["c", "d"]
    (tmp_path / "t.json").write_text(json.dumps(["a", "b", "c", "d"]))
    assert read_tokens(tmp_path / "t.json", sequence_length=2).around(3).tokens == ["c", "d"]


BAD = {
    "t.json": [b"", b"{", b"[" * 100_000, b'{"a": 1}', b"[1.5]", b"[]", b'[["a"], "b"]', b"\xff"],
    "t.npy": [b"", b"GIF89a", b"\x93NUMPY\x01\x00\x10\x00"],
}


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, some in BAD.items() for c in some])
def test_files_that_hold_no_tokens(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Error) as error:
        read_tokens(tmp_path / name)
    assert name in str(error.value) and str(error.value).isprintable()


def test_arrays_that_hold_no_tokens(tmp_path):
    path = tmp_path / "t.npy"
    by_column = np.asfortranarray([["a", "b"]] * 2)
    for bad in (np.zeros((2, 3)), np.array(["a", None], object), by_column, np.zeros((0, 3), int)):
        np.save(path, bad, allow_pickle=True)
        with pytest.raises(FileError, match="no tokens|pickled"):
            read_tokens(path)
    np.save(path, np.array(["ab", "cd"]))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="not as long"):
        read_tokens(path)
    with pytest.raises(FileError, match="no such file"):
        read_tokens(tmp_path / "missing.npy")
    with pytest.raises(FileError, match="cannot be read"):
        read_tokens(tmp_path / "missing.json")


def test_vocabularies_that_do_not_fit(tmp_path):
    np.save(tmp_path / "ids.npy", [3, 1])
    for content, said in (
        ("[]", "1 too"),
        ('{"a": 1}', "3 too"),
        ('{"1": 2.5}', "1 too"),
        ('{"a": "b"}', "not a vocabulary"),
        ("7", "not a vocabulary"),
        ('{"model": {"vocab": null}}', "not a vocabulary"),
        ('{"model": {"vocab": {"a": 1}}, "added_tokens": 7}', "3 too"),
    ):
        (tmp_path / "v.json").write_text(content)
        with pytest.raises(Error, match=said):
            read_tokens(tmp_path / "ids.npy", tmp_path / "v.json")
