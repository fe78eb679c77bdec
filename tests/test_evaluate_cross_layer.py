"""`evaluate` of a cross-layer transcoder: every layer by every definition, as `evaluate` of one."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder.errors import OptionError, ShapeError

L, N, I, D, O = 3, 50, 6, 12, 5


@pytest.fixture(scope="module")
def clt():
    rng = np.random.default_rng(1)
    b_enc = rng.standard_normal((L, D))
    b_enc[1, 4] = -100  # dead
    return rt.CrossLayerTranscoder.from_arrays(
        W_enc=rng.standard_normal((L, D, I)),
        b_enc=b_enc,
        W_dec=[rng.standard_normal((D, L - l, O)) for l in range(L)],
        b_dec=rng.standard_normal((L, O)),
        top_k=3,
    )


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    return rng.standard_normal((L, N, I)), rng.standard_normal((L, N, O)) + 4


@pytest.mark.kernels
@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_a_layer_is_measured_by_what_it_reads_and_all_that_is_written_to_it(clt, rows, backend):
    """As the dense arrays have it: within n u of sums of terms of one sign, both ways, for the n
    entries of all rows, and no term passes more roundings."""
    x, target = rows
    found = rt.evaluate(clt, x, list(target), batch_rows=16, backend=backend)
    assert found.rows == found.metrics.rows == N
    reconstruction, within = clt(x, backend=backend), 8 * N * O * 2.0**-53
    for l, hidden in enumerate(clt.encode(x, backend=backend)):
        layer, active = found.layers[l], hidden.toarray() > 0
        assert found.metrics.layers[l] is not None and layer.metrics.l0 == active.sum() / N
        np.testing.assert_array_equal(layer.metrics.firing_rates, active.mean(axis=0))
        np.testing.assert_array_equal(
            layer.metrics.dead_features, np.flatnonzero(~active.any(axis=0))
        )
        errors = np.square(target[l] - reconstruction[l]).sum()
        fvu = errors / np.square(target[l] - target[l].mean(axis=0)).sum()
        assert math.isclose(layer.metrics.fvu, fvu, rel_tol=within)
        assert math.isclose(layer.whole["mse_sum"], errors / N, rel_tol=within)
        macro = np.mean(
            np.square(target[l] - reconstruction[l]).sum(axis=0)
            / np.square(target[l] - target[l].mean(axis=0)).sum(axis=0)
        )
        assert math.isclose(layer.whole["fvu_macro"], macro, rel_tol=within)
        alone = rt.metrics.fvu(target[l], reconstruction[l])
        assert math.isclose(layer.metrics.fvu, alone, rel_tol=within)
    assert 4 in found.metrics.dead_features[1]
    assert found.metrics.dead == sum(len(d) for d in found.metrics.dead_features)
    assert found.metrics.l0 == np.mean([layer.metrics.l0 for layer in found.layers])


@pytest.mark.kernels
def test_one_layer_is_measured_as_a_transcoder_to_the_bit(rows):
    rng = np.random.default_rng(3)
    W_enc, b_enc, W_dec = rng.standard_normal((D, I)), np.zeros(D), rng.standard_normal((D, O))
    given = {"top_k": 3, "activation": "relu"}
    tc = rt.Transcoder.from_arrays(W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=np.ones(O), **given)
    clt = rt.CrossLayerTranscoder.from_arrays(
        W_enc=[W_enc], b_enc=[b_enc], W_dec=[W_dec[:, None]], b_dec=[np.ones(O)], **given
    )
    x, target = (a[:1] for a in rows)
    done = []
    (layer,) = rt.evaluate(clt, x, target, batch_rows=16, advance=done.append).layers
    alone = rt.evaluate(tc, x[0], target[0], batch_rows=16)
    assert layer.whole == pytest.approx(alone.whole, rel=0, abs=0, nan_ok=True)
    assert layer.batches == pytest.approx(alone.batches, rel=0, abs=0, nan_ok=True)
    assert done == [16, 16, 16, 2]


def test_what_does_not_fit_is_refused_in_one_line(clt, rows):
    x, target = rows
    with pytest.raises(ShapeError, match="of 3 layers; got 2 layers"):
        rt.evaluate(clt, x[:2], target[:2])
    with pytest.raises(ShapeError, match="Is it of another layer or model"):
        rt.evaluate(clt, target, target)
    with pytest.raises(
        OptionError, match="x must be a list with an array or a path for each layer"
    ):
        rt.evaluate(clt, x[0], target)
    with pytest.raises(OptionError, match="tc must be a"):
        rt.evaluate("clt", x, target)
