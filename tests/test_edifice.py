"""The contract of the module this library started from, to the letter."""

import inspect

import numpy as np
import pytest
import scipy.sparse

import reftranscoder as rt
from reftranscoder.errors import DTypeError, OptionError, ShapeError

SIZES = {"input_size": 12, "output_size": 5, "dict_size": 40, "top_k": 3}


def test_the_defaults_are_the_seeds():
    config = rt.build(input_size=2, output_size=3).config
    assert (config.dict_size, config.top_k, config.ties) == (4096, 32, "lowest_index")
    assert inspect.signature(rt.loss).parameters["l1_coeff"].default == 1e-3


@pytest.mark.parametrize("missing", ["input_size", "output_size"])
def test_build_without_a_size_names_it(missing):
    with pytest.raises(TypeError, match=missing):
        rt.build(**{name: size for name, size in SIZES.items() if name != missing})


def test_output_size_takes_every_option_of_build_and_needs_its_own():
    options = {n: p.default for n, p in inspect.signature(rt.build).parameters.items()} | SIZES
    assert rt.output_size(**options) == 5
    assert rt.output_size(output_size=7) == 7
    with pytest.raises(TypeError, match="output_size"):
        rt.output_size(input_size=7)
    assert set(inspect.signature(rt.output_size).parameters) == set(options)


@pytest.mark.parametrize("size", [0, -3, True, 2.0, "2"])
def test_a_size_is_a_positive_integer(size):
    for name in ("input_size", "output_size", "dict_size", "top_k"):
        with pytest.raises(OptionError, match=f"^{name} must be"):
            rt.build(**SIZES | {name: size})
    with pytest.raises(OptionError, match="^output_size must be"):
        rt.output_size(output_size=size)


def test_weights_are_glorot_uniform_and_biases_zero():
    p = rt.build(**SIZES | {"dict_size": 3000}, skip=True).params
    assert not p.b_enc.any() and not p.b_dec.any()
    for W in (p.W_enc, p.W_dec, p.W_skip):
        limit = np.sqrt(6 / sum(W.shape))
        assert np.abs(W).max() <= np.float32(limit)
        # n uniform draws all stay below (1 - 20/n) of the limit with probability below e^-20.
        assert np.abs(W).max() > limit * (1 - 20 / W.size)
        # The mean of n draws has the standard deviation limit / sqrt(3 n): six of them.
        assert abs(W.mean()) < 6 * limit / np.sqrt(3 * W.size)


def test_the_same_seed_gives_the_same_bits():
    def bits(seed, **options):
        return [
            a.tobytes() for a in rt.build(**SIZES, seed=seed, **options).params.arrays().values()
        ]

    assert bits(1) == bits(1) == bits(np.random.default_rng(1)) == bits(np.random.SeedSequence(1))
    assert bits(1) != bits(2)
    narrow = rt.build(**SIZES, seed=1).params
    wide = rt.build(**SIZES, seed=1, dtype="float64").params
    assert np.array_equal(wide.astype("float32").W_dec, narrow.W_dec)
    with pytest.raises(OptionError, match="^seed must be"):
        rt.build(**SIZES, seed="one")


@pytest.fixture
def losses(rng):
    target, reconstruction = rng.standard_normal((2, 4, 5))
    hidden = np.maximum(rng.standard_normal((4, 40)) - 1, 0)
    return target, reconstruction, hidden


@pytest.mark.parametrize("backend", ["kernels", "reference"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_loss_is_the_formula_in_the_arguments_type(losses, backend, dtype):
    target, reconstruction, hidden = (a.astype(dtype) for a in losses)
    exact = [a.astype(np.float64) for a in (target, reconstruction, hidden)]
    want = np.mean((exact[0] - exact[1]) ** 2) + 0.25 * np.mean(np.abs(exact[2]))
    forms = [hidden]
    if dtype != "float16":  # SciPy has no sparse float16
        forms.append(scipy.sparse.csr_array(hidden))
    for acts in forms:
        got = rt.loss(target, reconstruction, acts, 0.25, backend=backend)
        assert got.dtype == dtype and np.ndim(got) == 0
        # float64 sums of 160 squares, then one rounding; float32 kernels also round each difference
        # once, which moves a square by 2 units: 2 + 1 of them, doubled for the second order.
        assert abs(np.float64(got) - want) <= 6 * np.finfo(dtype).eps * want


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (((4, 5), (4, 1), (4, 40)), "reconstruction"),
        (((4, 5), (1, 5), (4, 40)), "reconstruction"),
        (((4, 5), (4, 5), (1, 40)), "hidden_acts"),
        (((5,), (5,), (1, 40)), "target"),
    ],
)
def test_shapes_that_numpy_would_broadcast_are_refused(shapes, name):
    with pytest.raises(ShapeError, match=f"^{name} must have shape"):
        rt.loss(*(np.ones(shape) for shape in shapes))


def test_fractions_are_sent_to_the_reference(losses):
    with pytest.raises(DTypeError, match="reftranscoder.reference"):
        rt.loss(*(a.astype(object) for a in losses))


def test_forward_is_the_seeds_container(losses):
    out = rt.build(**SIZES).forward(np.ones((2, 12)))
    assert out._fields == ("reconstruction", "hidden", "pre_acts")


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_keep_all_is_the_threshold_rule(backend):
    # Four features read x[0] alike, so that all four tie at the second place.
    W_enc = np.array([[3.0], [2.0], [2.0], [2.0], [2.0], [-1.0]])
    arrays = {"W_enc": W_enc, "b_enc": [0.0] * 6, "W_dec": np.ones((6, 1)), "b_dec": [0.0]}
    for ties, want in (("lowest_index", [0, 1]), ("keep_all", [0, 1, 2, 3, 4])):
        tc = rt.Transcoder.from_arrays(**arrays, top_k=2, ties=ties)
        assert tc.encode([[1.0]], backend=backend).indices.tolist() == want
