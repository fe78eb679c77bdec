"""The activations beside top-k and ReLU, as users meet them: methods, files, training, refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import (
    DTypeError,
    FileError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from reftranscoder.kernels import encode as kernels_encode

B, I, D, O, K = 9, 6, 24, 5, 4
VARIANTS = ("batchtopk", "groupmax", "abstopk", "jumprelu")
each_variant = pytest.mark.parametrize("activation", VARIANTS)


def made(activation, dtype="float64", **changes) -> rt.Transcoder:
    rng = np.random.default_rng(1)
    arrays = {
        "W_enc": rng.standard_normal((D, I)),
        "b_enc": rng.standard_normal(D),
        "W_dec": rng.standard_normal((D, O)),
        "b_dec": rng.standard_normal(O),
    }
    own = rt.JumpReLU(rng.uniform(-0.5, 2, D), **changes) if activation == "jumprelu" else None
    options = {"top_k": K, "activation": activation, "own": own}
    return rt.Transcoder.from_arrays(**arrays, **options).astype(dtype)


def data():
    rng = np.random.default_rng(2)
    return rng.standard_normal((B, I)), rng.standard_normal((B, O))


@pytest.mark.kernels
@each_variant
def test_both_backends_agree_in_every_method(activation):
    tc, (x, target) = made(activation), data()
    stages, kernels = tc.stages(x, target), tc.stages(x, target, backend="kernels")
    assert list(stages) == list(kernels)
    hidden = stages["hidden"].toarray()
    assert np.array_equal(kernels["hidden"].toarray() != 0, hidden != 0)
    assert np.array_equal(tc.encode(x).toarray(), kernels["hidden"].toarray())
    assert np.array_equal(tc.forward(x).hidden.toarray(), kernels["hidden"].toarray())
    # Each is a sum of at most 24 terms of size 1, in float64, a few of them in a row.
    for name, want in stages.items():
        got = kernels[name]
        if name in ("hidden", "d_hidden", "d_pre"):
            want = np.where(hidden != 0, want.toarray() if name == "hidden" else want, 0)
            got = got.toarray()
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13, err_msg=name)
    loss, grads = tc.value_and_grad(x, target)
    assert loss == kernels["loss"]
    assert (grads.own is None) == (tc.params.own is None)
    if grads.own is not None:
        assert np.array_equal(grads.own.theta, np.zeros(D))


def test_what_each_selects():
    """Counted from the pre-activations, without a word of `reference`."""
    x, _ = data()
    for activation in VARIANTS:
        tc = made(activation)
        pre = x @ tc.params.W_enc.T + tc.params.b_enc
        kept = tc.encode(x).toarray() != 0
        if activation == "batchtopk":
            assert kept.sum() == B * K
            assert pre[kept].min() > np.where(kept, -np.inf, pre).max()
        elif activation == "groupmax":
            groups = pre.reshape(B, K, D // K)
            assert np.array_equal(kept.reshape(groups.shape).any(axis=2), groups.max(axis=2) > 0)
        elif activation == "abstopk":
            size = np.abs(pre)
            assert np.array_equal(kept, size >= np.sort(size)[:, [-K]])
            assert (tc.encode(x).data < 0).any()
        else:
            assert np.array_equal(kept, pre > np.maximum(tc.params.own.theta, 0))
            assert (tc.params.own.theta < 0).any()


def test_at_a_threshold_a_feature_is_inactive():
    """Whole numbers, on which every sum is exact."""
    tc = rt.Transcoder.from_arrays(
        W_enc=np.eye(4), b_enc=np.zeros(4), W_dec=np.eye(4), b_dec=np.zeros(4),
        activation="jumprelu", own=rt.JumpReLU([1.0, 2.0, 0.0, -1.0]),
    )  # fmt: skip
    x = np.array([[1, 2, 0, 0], [2, 3, 1, 1], [1 + 2**-20, 2, -1, -0.5]], dtype=np.float32)
    want = [[0, 0, 0, 0], [2, 3, 1, 1], [1 + 2**-20, 0, 0, 0]]
    for backend in ("kernels", "reference"):
        assert np.array_equal(tc.encode(x, backend=backend).toarray(), want)


@pytest.mark.parametrize("ties", ["lowest_index", "keep_all"])
def test_a_batch_that_is_encoded_in_blocks_is_one_batch(monkeypatch, ties):
    rng = np.random.default_rng(3)
    x, W, b = (rng.integers(-2, 3, s).astype(float) for s in ((B, I), (D, I), D))  # with ties
    options = {"top_k": 2, "activation": "batchtopk", "ties": ties}
    whole = rt.kernels.encode_forward(x, W, b, **options)
    blocks = [slice(0, 2), slice(2, 7), slice(7, B)]
    monkeypatch.setattr(kernels_encode, "row_blocks", lambda *sizes: iter(blocks))
    parts = rt.kernels.encode_forward(x, W, b, **options)
    assert all(np.array_equal(*pair) for pair in zip(whole[:3], parts[:3]))
    assert len(whole.values) == 2 * B or ties == "keep_all"


@each_variant
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_give_back_what_was_saved(tmp_path, activation, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="the format needs it")
    changes = {"bandwidth": 0.25, "through": "theta_and_input"} if activation == "jumprelu" else {}
    tc, (x, _) = made(activation, "float32", **changes), data()
    tc.save(tmp_path / f"model{suffix}")
    again = rt.load(tmp_path / f"model{suffix}")
    assert again.config == tc.config
    assert np.array_equal(again(x), tc(x))
    copied = pickle.loads(pickle.dumps(tc))
    assert np.array_equal(copied(x), tc(x))
    if activation == "jumprelu":
        for other in (again.params.own, copied.params.own):
            assert np.array_equal(other.theta, tc.params.own.theta)
            assert (other.bandwidth, other.through) == (0.25, "theta_and_input")


def test_a_file_that_lacks_half_of_a_threshold_is_refused(tmp_path):
    made("jumprelu").save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        entries = dict(file)
    meta = str(entries.pop("meta"))
    theta = entries.pop("theta")
    without = meta[: meta.index(', "own"')] + "}"
    for number, (held, text, match) in enumerate(
        [
            (entries, meta, "it takes theta, own; it holds own"),
            (entries | {"theta": theta}, without, "it takes theta, own; it holds theta"),
            (entries, without, "it takes theta, own; it holds nothing"),
            (entries | {"theta": theta}, meta.replace("jumprelu", "relu"), "it takes nothing more"),
            (entries | {"b_mag": theta}, meta, "it holds b_mag, own"),
            (entries | {"theta": theta}, meta.replace('"jumprelu"', "[]"), "it takes nothing more"),
            (entries | {"theta": theta[:-1]}, meta, "theta must have shape"),
            (entries | {"theta": theta}, meta.replace('"through"', '"by"'), "bandwidth, through"),
        ]
    ):
        np.savez(tmp_path / f"{number}.npz", meta=np.array(text), **held)
        with pytest.raises(FileError, match=match):
            rt.load(tmp_path / f"{number}.npz")


def test_straight_through_gradients_are_the_formula():
    """Entry by entry, as the sources write it; and by the reference alone."""
    x, target = data()
    for through in ("theta", "theta_and_input"):
        tc = made("jumprelu", bandwidth=0.75, through=through)
        stages = tc.stages(x, target)
        theta, d_hidden, pre = tc.params.own.theta, stages["d_hidden"], stages["pre"]
        dtheta, d_pre = np.zeros(D), np.zeros((B, D))
        for b in range(B):
            for d in range(D):
                inside = -0.5 < (pre[b, d] - theta[d]) / 0.75 < 0.5
                slope = theta[d] / 0.75 * d_hidden[b, d] if inside else 0
                dtheta[d] -= slope
                d_pre[b, d] = d_hidden[b, d] if stages["hidden"][b, d] else 0
                d_pre[b, d] += slope if through == "theta_and_input" else 0
        assert np.count_nonzero(dtheta) > 3
        # Sums of at most 9 terms of size 1 in float64.
        np.testing.assert_allclose(stages["dtheta"], dtheta, rtol=0, atol=1e-13)
        np.testing.assert_allclose(stages["d_pre"], d_pre, rtol=0, atol=1e-13)
        _, grads = tc.value_and_grad(x, target, backend="reference")
        assert np.array_equal(grads.own.theta, stages["dtheta"])
        with pytest.raises(OptionError, match="backend must be 'reference'"):
            tc.value_and_grad(x, target)


def test_a_threshold_in_place_of_the_batch():
    tc, (x, _) = made("batchtopk"), data()
    hidden = tc.encode(x)
    below = np.nextafter(hidden.data.min(), 0)
    inference = tc.with_threshold(below)
    assert inference.config.activation == "jumprelu"
    assert inference.params.W_enc is not None and inference.params.own.theta.shape == (D,)
    assert np.array_equal(inference.encode(x).toarray(), hidden.toarray())
    alone = [inference.encode(row[None]).toarray() for row in x]
    assert np.array_equal(np.concatenate(alone), hidden.toarray())
    assert tc.with_threshold(np.full(D, below)).encode(x).nnz == hidden.nnz


REFUSED = [
    ({"theta": [[1.0]]}, ShapeError, r"theta must have shape"),
    ({"theta": []}, ShapeError, r"theta must have shape"),
    ({"theta": 1j}, DTypeError, "theta must hold real"),
    ({"theta": [np.nan]}, NonFiniteError, "theta"),
    ({"theta": [1.0], "bandwidth": 0}, OptionError, "bandwidth must be above 0, or None"),
    ({"theta": [1.0], "bandwidth": -1}, OptionError, "bandwidth must be a finite number"),
    ({"theta": [1.0], "through": "input"}, OptionError, "through must be one of"),
]


@pytest.mark.parametrize(("options", "error", "match"), REFUSED)
def test_what_cannot_be_a_threshold_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        rt.JumpReLU(**options)


def test_an_activation_and_what_it_takes_go_together():
    arrays = made("topk").params.arrays()
    with pytest.raises(OptionError, match="own must be a JumpReLU with its thresholds"):
        rt.Transcoder.from_arrays(**arrays, activation="jumprelu")
    with pytest.raises(OptionError, match="own must be None, for topk"):
        rt.Transcoder.from_arrays(**arrays, top_k=K, own=rt.JumpReLU(np.ones(D)))
    with pytest.raises(ShapeError, match=r"theta must have shape \(D,\) = \(24,\)"):
        rt.Transcoder.from_arrays(**arrays, activation="jumprelu", own=rt.JumpReLU(np.ones(3)))
    with pytest.raises(OptionError, match="own must be a JumpReLU"):
        rt.Params(**arrays, own=np.ones(D))
    with pytest.raises(OptionError, match="top_k must be a divisor of dict_size = 24"):
        rt.Transcoder.from_arrays(**arrays, activation="groupmax", top_k=5)


@pytest.mark.parametrize("activation", ["batchtopk", "groupmax", "abstopk"])
def test_training_gives_the_same_bits_again_and_lowers_the_loss(activation):
    x, target, *_ = rt.sample.load()
    x, target = x[:300, :24], target[:300, :12]
    options = {"dict_size": 32, "top_k": 4, "steps": 12, "batch_size": 64, "log_every": 6}
    first, second = (rt.fit(x, target, activation=activation, **options) for _ in range(2))
    assert np.array_equal(first.transcoder(x), second.transcoder(x))
    entries = first.history.entries
    assert entries[-1].fvu < entries[0].fvu
    # What a batch keeps is kept by a threshold once it is trained.
    kept = {"batchtopk": "jumprelu"}.get(activation, activation)
    assert first.transcoder.config.activation == kept


def test_what_is_not_there_yet_is_refused_in_one_line():
    tc, (x, target) = made("jumprelu"), data()
    with pytest.raises(OptionError, match="for check_gradient"):
        rt.check_gradient(lambda *given: (0, {}), tc.config, tc.params, x, target)
