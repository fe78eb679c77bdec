"""The rounding of a loss and its gradients: computed in narrow formats, within its bounds."""

from __future__ import annotations

import numpy as np
import pytest

import reftranscoder as rt
from reftranscoder import reference
from reftranscoder.bounds import FLOAT64, PRECISIONS
from reftranscoder.gradcheck.kinks import slack
from reftranscoder.gradcheck.rounding import Stages

L1 = 0.25


class Plain(np.ndarray):
    """An array whose sums are plain loops in its own format: the worst order there is, where NumPy
    and BLAS have better ones.
    """

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        arrays = [np.asarray(array) if isinstance(array, Plain) else array for array in inputs]
        if ufunc is np.matmul:
            A, B = arrays
            result = np.add.accumulate(A[:, :, None] * B[None], axis=1)[:, -1]
        elif method == "reduce" and options.get("axis") == 0:
            result = ufunc.accumulate(arrays[0], axis=0)[-1]
        else:
            result = getattr(ufunc, method)(*arrays, **options)
        return result.view(Plain) if isinstance(result, np.ndarray) else result


def config(B, I, D, O, **options):
    return rt.TranscoderConfig(input_size=I, output_size=O, dict_size=D, dtype="float64", **options)


def random_arrays(seed, B, I, D, O):
    """x, the parameters and the target."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (B, I), "W_enc": (D, I), "b_enc": D, "W_dec": (D, O), "b_dec": O}
    shapes |= {"W_skip": (O, I), "target": (B, O)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def loss_and_gradients(arrays, target, config):
    options = {name: getattr(config, name) for name in ("top_k", "activation", "ties")}
    forward = reference.transcoder_forward(**arrays, **options)
    gradients = reference.transcoder_backward(
        arrays["x"],
        target,
        forward,
        arrays["W_enc"],
        arrays["W_dec"],
        arrays.get("W_skip"),
        l1_coeff=L1,
        activation=config.activation,
    )
    loss = reference.transcoder_loss(target, forward.reconstruction, forward.hidden, L1)
    return loss, {name: getattr(gradients, f"d{name}") for name in arrays}


def errors_over_bounds(arrays, config, dtype):
    """The largest of each, by name; None where another selection may be right as well."""
    narrow = {name: array.astype(dtype).view(Plain) for name, array in arrays.items()}
    wide = {name: array.astype(np.float64).view(np.ndarray) for name, array in narrow.items()}
    narrow_target, target = narrow.pop("target"), wide.pop("target")
    stages = Stages(wide, target, config, L1, PRECISIONS[dtype])
    if np.any(slack(stages.forward.pre, config.top_k, config.ties) < stages.pre_error):
        return None
    loss, gradients = loss_and_gradients(narrow, narrow_target, config)
    assert loss.dtype == dtype
    _, want = loss_and_gradients(wide, target, config)
    ratios = {"loss": abs(float(loss) - stages.loss) / stages.loss_error}
    for name, bound in stages.gradient_errors().items():
        error = np.abs(np.asarray(gradients[name], np.float64) - want[name])
        ratios[name] = np.max(error / bound)
    return ratios


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 4},
        {"top_k": 4, "ties": "keep_all"},
        {"top_k": 24},
        {"activation": "relu"},
    ],
    ids=str,
)
def test_random_models_stay_within_the_bounds(options, skip, dtype):
    sizes = (7, 5, 24, 4)
    tried = 0
    for seed in range(20):
        arrays = random_arrays(seed, *sizes)
        if not skip:
            del arrays["W_skip"]
        ratios = errors_over_bounds(arrays, config(*sizes, skip=skip, **options), dtype)
        if ratios is not None:
            tried += 1
            assert max(ratios.values()) <= 1, ratios
    assert tried >= 3


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "sizes", [(200, 1, 2, 1), (2, 200, 2, 1), (2, 1, 200, 1), (2, 1, 2, 200)], ids=str
)
def test_long_sums_of_equal_terms_stay_within_the_bounds(sizes, dtype):
    """Many additions in a row round the same way: little averages out, and the errors come so near
    to the bounds that no long sum can have been forgotten in them.
    """
    B, I, D, O = sizes
    worst = dict.fromkeys(["loss", "x", "W_enc", "b_enc", "W_dec", "b_dec", "W_skip"], 0.0)
    for value in np.linspace(0.05, 0.1, 20):
        arrays = {name: np.full_like(a, value) for name, a in random_arrays(0, *sizes).items()}
        arrays["target"] = -arrays["target"]
        ratios = errors_over_bounds(arrays, config(*sizes, skip=True, activation="relu"), dtype)
        assert max(ratios.values()) <= 1, ratios
        worst = {name: max(ratio, ratios[name]) for name, ratio in worst.items()}
    del worst["loss"]  # NumPy takes its means in a better order than the worst
    assert min(worst.values()) > 0.1, worst


def test_the_bounds_are_of_some_use():
    sizes = (7, 5, 24, 4)
    arrays = random_arrays(0, *sizes)
    target = arrays.pop("target")
    stages = Stages(arrays, target, config(*sizes, skip=True, top_k=4), L1, FLOAT64)
    # Some hundreds of roundings, for sums of 28, 10 and 6 terms in a row.
    assert stages.loss_error < 1000 * FLOAT64.unit * stages.loss
