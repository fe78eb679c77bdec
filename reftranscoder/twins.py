"""The one table of what exists twice: a reference to believe and a kernel to use.

Tests, benchmarks and the command line read `TWINS` and no other list.  Down the bounds one reads
what the library promises: how far apart the two may be, and why no further.

Names are strings, so that reading the table loads neither room; Numba comes with the first kernel
that is looked up.

>>> twin = rt.twins.find("topk_forward")
>>> twin.why
'Exact: selection moves values and computes none.'
>>> float(twin.compare(rt.testing.Probe(seed=0).arguments(twin))["hidden"].error)
0.0
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .bounds import Worst, precision, worst
from .options import one_of
from .sparse import Sparse

#: Dense (B, D) arrays to the reference, `Sparse` to the kernels.
SPARSE = ("hidden", "d_hidden", "d_pre")
#: What a kernel overwrites with its result.
IN_PLACE = ("p", "m", "v", "v_rows", "average")


class Twin(NamedTuple):
    """One operation, in both rooms."""

    name: str
    outputs: tuple[str, ...]  # what it returns, by name
    reference: str  # where it stands, below `reftranscoder`
    kernel: str | None  # the same, or None: ``why`` then says why there is none
    bound: str | None  # a function of `reftranscoder.twin_bounds`, or None without a kernel
    why: str  # why the two are no further apart

    def function(self, room: str) -> Callable[..., Any]:
        """Return the function itself; ``room`` is "reference", "kernel" or "bound"."""
        module, _, name = getattr(self, room).rpartition(".")
        found: Callable[..., Any]
        found = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return found

    def run_reference(self, arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the outputs of the reference by name, called in float64.

        A kernel makes d_hidden only where hidden has an entry: elsewhere it is set to zero here.
        """
        wide = {name: _to_float64(value) for name, value in arguments.items()}
        outputs = self.named(self.function("reference")(**wide))
        if "d_hidden" in outputs:
            hidden = wide["forward"].hidden if "forward" in wide else wide.get("hidden")
            outputs["d_hidden"] = np.where(hidden != 0, outputs["d_hidden"], 0)
        return outputs

    def run_kernel(self, arguments: Mapping[str, Any]) -> dict[str, np.ndarray | Sparse]:
        """Return the outputs of the kernel by name, called with the arguments of the reference."""
        given = {name: to_kernel(name, value) for name, value in arguments.items()}
        return self.named(self.function("kernel")(**given))

    def bounds(
        self, arguments: Mapping[str, Any], want: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return how far the kernel may be from ``want``, what `run_reference` returns, by name."""
        to = precision(dtype_of(arguments))
        wide = {name: _to_float64(value) for name, value in arguments.items()}
        bounds: dict[str, np.ndarray] = self.function("bound")(to, want, **wide)
        return bounds

    def compare(self, arguments: Mapping[str, Any]) -> dict[str, Worst]:
        """Return for each output of the kernel, by name, the entry that uses most of its bound."""
        want = self.run_reference(arguments)
        bound = self.bounds(arguments, want)
        got = self.run_kernel(arguments)
        return {
            name: worst(to_dense(value), want[name], bound[name]) for name, value in got.items()
        }

    def named(self, result: Any) -> dict[str, Any]:
        """Return the parts of ``result``, of either function, by name, without what is None; of
        d_own each array."""
        values = result if len(self.outputs) > 1 else (result,)
        named = {name: v for name, v in zip(self.outputs, values, strict=True) if v is not None}
        d_own = named.pop("d_own")._asdict() if "d_own" in named else {}
        return named | {f"d{n}": a for n, a in d_own.items() if isinstance(a, np.ndarray)}


def find(name: str) -> Twin:
    """Return the row called ``name``.  Raises `OptionError` if there is none."""
    rows = {twin.name: twin for twin in TWINS}
    return rows[one_of("name", name, rows)]


def to_kernel(name: str, value: Any) -> Any:
    """Return what a kernel takes where the reference takes ``value`` for its argument ``name``."""
    if name == "forward":
        hidden = Sparse.from_dense(value.hidden)
        return value._replace(pre=None, pre_acts=None, hidden=hidden)
    if name in SPARSE:
        return Sparse.from_dense(value)
    return value.copy() if name in IN_PLACE else value


def to_dense(value: Any) -> Any:
    """Return what the reference returns where a kernel returns ``value``."""
    return value.dense() if isinstance(value, Sparse) else value


def dtype_of(arguments: Mapping[str, Any]) -> np.dtype:
    """Return the dtype of the arrays among ``arguments``."""
    arrays = (np.asarray(a) for a in arguments.values() if isinstance(a, np.ndarray))
    return next(arrays).dtype


def _to_float64(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype(np.float64)
    if hasattr(value, "_fields"):
        return type(value)(*map(_to_float64, value))
    return value


def _twin(name: str, outputs: str, why: str, bound: str | None = None) -> Twin:
    """A row whose function bears the same name in every room."""
    names = f"reference.{name}", f"kernels.{name}", f"twin_bounds.{bound or name}"
    return Twin(name, tuple(outputs.split()), *names, why)


def _alone(name: str, outputs: str, why: str) -> Twin:
    return Twin(name, tuple(outputs.split()), f"reference.{name}", None, None, why)


_ALONE = "kernels/conventional.py has it by other names, on sparse arrays."
#: Of L layers: name -> what it returns, of each a tuple.
_CROSS_LAYER = {
    "cross_layer_forward": "pre pre_acts hidden reconstruction",
    "cross_layer_decode": "reconstruction",
    "cross_layer_loss": "loss",
    "cross_layer_backward": "d_reconstruction d_hidden d_pre d_own dW_dec db_dec dW_skip "
    "dpost_enc dW_enc db_enc dx",
    "post_enc_forward": "written",
    "post_enc_backward": "dpost_enc",
}
_LAYER_BY_LAYER = "kernels/cross_layer.py has it layer by layer, from the kernels of one layer."
#: What stands before the encoder and after the decoder: name -> what it returns.
_CONVENTIONAL = {
    "input_forward": "encoder_input gain shift",
    "constant_scale_forward": "u gain",
    "constant_scale_backward": "dx",
    "constant_norm_forward": "u gain",
    "constant_norm_backward": "dx",
    "layer_norm_forward": "u gain shift",
    "layer_norm_backward": "dx",
    "rescale_forward": "reconstruction",
    "rescale_backward": "d_decoded d_gain d_shift",
    "input_bias_forward": "encoder_input",
    "input_bias_backward": "d_u db_dec",
    "decoder_norms": "n",
    "decoder_norm_forward": "pre",
    "decoder_norm_inverse": "written",
    "decoder_norm_backward": "d_affine dW_dec",
    "conventional_forward": "encoder_input gain shift affine pre pre_acts hidden written decoded "
    "reconstruction",
    "conventional_decode": "written decoded reconstruction",
    "conventional_backward": "d_reconstruction d_decoded d_hidden d_pre d_own dW_dec db_dec "
    "dW_skip dW_enc db_enc d_encoder_input dx",
}

TWINS = (
    _twin(
        "affine_forward",
        "pre",
        "Both sum in float64, in another order.",
    ),
    _twin(
        "affine_relu_forward",
        "pre_acts",
        "As affine_forward: ReLU takes no two numbers further apart.",
    ),
    _twin(
        "affine_backward",
        "dx dW db",
        "Sums in the kernel's dtype: as many terms as d_pre has entries in the row, or the column.",
    ),
    _alone(
        "relu_forward",
        "pre_acts",
        "Fused into affine_relu_forward and encode_forward, where it acts on registers.",
    ),
    _alone(
        "relu_backward",
        "d_pre",
        "The identity at stored entries, which are positive.",
    ),
    _twin(
        "topk_forward",
        "hidden",
        "Exact: selection moves values and computes none.",
        bound="exact",
    ),
    _twin(
        "batchtopk_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    _twin(
        "groupmax_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    _twin(
        "abstopk_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    _twin(
        "jumprelu_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    _alone(
        "jumprelu_backward",
        "d_pre d_theta",
        "The identity at stored entries, and zero.  Straight-through gradients are not made there.",
    ),
    _twin(
        "gated_magnitude",
        "magnitude",
        "Both in float64: a product, an addition and an exponential.",
    ),
    _twin(
        "gated_forward",
        "hidden",
        "As gated_magnitude, rounded once.  One and the same sum decides which gates are open.",
    ),
    _twin(
        "gated_backward",
        "d_pre db_mag dr_mag",
        "Products and sums in float64, rounded once.",
    ),
    _alone(
        "gated_auxiliary_forward",
        "auxiliary",
        "Training has it in the reference alone.",
    ),
    _alone(
        "gated_auxiliary_backward",
        "d_gate",
        "As gated_auxiliary_forward.",
    ),
    _alone(
        "topk_backward",
        "d_pre_acts",
        "The identity at stored entries, which are those selected.",
    ),
    _twin(
        "encode_forward",
        "hidden",
        "Float64 sums, rounded once.  Where two are too close to rank, either may be selected.",
    ),
    _twin(
        "decode_forward",
        "reconstruction",
        "A sum in the kernel's dtype: as many terms as hidden has entries in the row, and b_dec.",
    ),
    _twin(
        "decode_backward",
        "d_hidden dW_dec db_dec",
        "d_hidden is a float64 sum, rounded once; the others are sums in the kernel's dtype.",
    ),
    _twin(
        "skip_forward",
        "skip",
        "A float64 sum, rounded once.",
    ),
    _twin(
        "skip_backward",
        "dx dW_skip",
        "Sums in the kernel's dtype, of O terms and of B.",
    ),
    _twin(
        "mse_forward",
        "mse",
        "Both sum in float64, where nothing cancels.",
    ),
    _twin(
        "mse_backward",
        "d_reconstruction",
        "Computed in float64, rounded once.",
    ),
    _twin(
        "l1_forward",
        "l1",
        "Both sum in float64, where nothing cancels.",
    ),
    _twin(
        "l1_backward",
        "d_hidden",
        "Computed in float64, rounded once.",
    ),
    _twin(
        "adam_step",
        "p m v",
        "The same operations, each rounded to the kernel's dtype.",
    ),
    _twin(
        "adam_row_step",
        "p m v_rows",
        "As adam_step, with a mean that is summed in float64 and rounded once.",
    ),
    _twin(
        "average_step",
        "average",
        "The same operations, each rounded to the kernel's dtype.",
    ),
    _alone(
        "unit_rows_forward",
        "unit",
        "Fused into the step: a row is divided by its norm where Adam has just moved it.",
    ),
    _alone(
        "unit_rows_backward",
        "dW",
        "Fused into the step, as unit_rows_forward.",
    ),
    _twin(
        "transcoder_forward",
        "pre pre_acts hidden reconstruction",
        "encode_forward, then decode_forward of what that made, and skip_forward.",
    ),
    _twin(
        "transcoder_loss",
        "loss",
        "mse_forward and l1_forward, neither of them negative.",
    ),
    _twin(
        "transcoder_backward",
        "d_reconstruction d_hidden d_pre d_own dW_dec db_dec dW_skip dW_enc db_enc dx",
        "The backward functions in a row, each with what the one before it was off by.",
    ),
    _twin(
        "aux_k_forward",
        "hidden reconstruction",
        "encode_forward of the dead features, then decode_forward of what that made.",
    ),
    _twin(
        "aux_k_loss",
        "aux",
        "mse_forward, times a number.",
    ),
    _twin(
        "aux_k_backward",
        "d_reconstruction d_hidden d_pre dW_dec dW_enc db_enc dx",
        "The backward functions in a row, as in transcoder_backward.",
    ),
    *(_alone(name, outputs, _ALONE) for name, outputs in _CONVENTIONAL.items()),
    *(_alone(name, outputs, _LAYER_BY_LAYER) for name, outputs in _CROSS_LAYER.items()),
)
