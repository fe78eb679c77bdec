"""`fit` trains every activation and loss, and under conventions; runs go on to the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import OptionError

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


def test_what_trains_nothing_is_refused(data):
    with pytest.raises(OptionError, match="sparsity_loss must be another, for topk"):
        rt.fit(*data, **OPTIONS, sparsity_loss="l0_step")
    with pytest.raises(OptionError, match="aux_k must be 0"):
        rt.fit(*data, **OPTIONS, conventions=NORMALIZED, aux_k=2)
