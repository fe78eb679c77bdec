"""`fit` trains every activation and loss, and under conventions; runs go on to the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import OptionError
from reftranscoder.training import inference

OPTIONS = {"dict_size": 24, "top_k": 3, "steps": 12, "batch_size": 16, "lr": 1e-2, "log_every": 3}
OPTIONS |= {"backend": "reference"}
NORMALIZED = rt.Conventions(apply_b_dec_to_input=True, normalize_activations="layer_norm")
VARIANTS = [
    {"activation": "jumprelu", "sparsity_loss": "l0_step"},
    {"activation": "jumprelu", "sparsity_loss": "l0_tanh", "through": "theta_and_input"},
    {"activation": "gated", "gate_l1_coeff": 0.1},
    {"reconstruction_loss": "mse_sum", "sparsity_loss": "l1_decoder_weighted"},
    {"reconstruction_loss": "fvu", "activation": "batchtopk"},
    {"conventions": NORMALIZED},
    {"conventions": rt.Conventions(rescale_acts_by_decoder_norm=True), "skip": True},
]


@pytest.fixture
def data(rng):
    x = rng.standard_normal((80, 6)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((6, 6)), 0) + 1


def arrays(fit):
    return fit.transcoder.params.all_arrays()


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_a_stopped_run_goes_on_to_the_same_bits(data, tmp_path, change):
    whole = rt.fit(*data, **OPTIONS | change)

    def stop(told):
        if told.step == 5:
            raise KeyboardInterrupt

    options = OPTIONS | change | {"checkpoint": tmp_path / "run.npz"}
    assert rt.fit(*data, **options, progress=stop).interrupted
    again = rt.fit(*data, **options)
    assert again.history.entries == whole.history.entries
    assert not again.transcoder.config.conventions.chosen or "conventions" in change
    for name, array in arrays(whole).items():
        assert array.tobytes() == arrays(again)[name].tobytes(), name
    losses = whole.history.column("loss")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("activation", ["jumprelu", "gated"])
def test_what_the_activation_takes_is_trained(data, activation):
    own = rt.fit(*data, **OPTIONS, activation=activation, bandwidth=1.0).transcoder.params.own
    assert own.options() == type(own)(*own.arrays().values()).options()  # for inference
    for array in own.arrays().values():
        assert len(np.unique(array)) > 1


@pytest.mark.parametrize("most", [32, 2])
@pytest.mark.parametrize(
    "change", [{}, {"average": 0.5}, {"patience": 1, "validation": 0.25}], ids=str
)
def test_batchtopk_ends_with_a_threshold(data, change, most, monkeypatch):
    monkeypatch.setattr(inference, "BATCHES", most)
    x, target = data
    options = OPTIONS | {"activation": "batchtopk", "seed": 5, "unit_norm_decoder": True} | change
    fit = rt.fit(x, target, **options)
    tc = fit.transcoder
    assert tc.config.activation == "jumprelu"
    trained = rt.Transcoder.from_arrays(**tc.params.arrays(), activation="batchtopk", top_k=3)
    rows = len(x) - round(change.get("validation", 0) * len(x))
    batches, least = min(most, -(-rows // 16)), []  # of an epoch, the last with rows of the next
    seen = []
    for t in range(1, batches + 1):
        seen.append(order(5, rows, t))
        pre_acts = trained.stages(x[seen[-1]])["pre_acts"]
        least.append(np.sort(pre_acts, axis=None)[-3 * 16 :].min())
    assert most == 2 or set(np.concatenate(seen)) == set(range(rows))
    assert min(least) > 0
    theta = np.float32(np.mean(np.float64(least)))
    np.testing.assert_array_equal(tc.params.own.theta, np.full(24, theta))
    if fit.metrics:  # are those of what is returned
        hidden = tc.encode(x[rows:], backend="reference")
        assert fit.metrics.l0 == hidden.nnz / len(x[rows:])
    alone = tc.encode(x[:1], backend="reference")
    assert (alone != tc.encode(x, backend="reference")[:1]).nnz == 0


def order(seed, rows, t):
    """The rows of step t, by the definition in training/batches.py."""
    whole = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0x66697401, e)))
        for e in range(2)
    ]
    both = np.concatenate([shuffled(rng, rows) for rng in whole])
    return np.sort(both[(t - 1) * 16 : t * 16])


def shuffled(rng, rows):
    found = np.arange(rows, dtype=np.int32)
    rng.shuffle(found)
    return found


def test_a_threshold_where_nothing_is_active(data):
    x = np.zeros((80, 6))
    fit = rt.fit(x, x, **OPTIONS | {"steps": 1}, activation="batchtopk")
    assert (fit.transcoder.params.own.theta == 0).all()


def test_what_trains_nothing_is_refused(data):
    with pytest.raises(OptionError, match="sparsity_loss must be another, for topk"):
        rt.fit(*data, **OPTIONS, sparsity_loss="l0_step")
    with pytest.raises(OptionError, match="aux_k must be 0"):
        rt.fit(*data, **OPTIONS, conventions=NORMALIZED, aux_k=2)
