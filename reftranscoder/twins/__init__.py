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

from ..options import one_of
from .twin import IN_PLACE, SPARSE, Twin, alone, dtype_of, paired, to_dense, to_kernel

__all__ = ["IN_PLACE", "SPARSE", "TWINS", "Twin", "dtype_of", "find", "to_dense", "to_kernel"]


def find(name: str) -> Twin:
    """Return the row called ``name``.  Raises `OptionError` if there is none."""
    rows = {twin.name: twin for twin in TWINS}
    return rows[one_of("name", name, rows)]


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

#: Losses that few minimize: name -> what it returns.
_LOSSES = {
    "mse_over_norm_forward": "mse_over_norm",
    "mse_over_norm_backward": "d_reconstruction",
    "nmse_forward": "nmse",
    "nmse_backward": "d_reconstruction",
    "fvu_forward": "fvu",
    "fvu_backward": "d_reconstruction",
    "l1_decoder_weighted_forward": "l1_decoder_weighted",
    "l1_decoder_weighted_backward": "d_hidden dW_dec",
    "l0_step_forward": "l0_step",
    "l0_step_backward": "d_active",
    "l0_quadratic_forward": "l0_quadratic",
    "l0_quadratic_backward": "d_active",
    "l0_target_forward": "l0_target",
    "l0_target_backward": "d_active",
    "l0_tanh_forward": "l0_tanh",
    "l0_tanh_backward": "d_hidden dW_dec",
}
_BY_NAME = "kernels/losses.py has it by name, in float64, from sums of mse_forward and l1_forward."

TWINS = (
    paired(
        "affine_forward",
        "pre",
        "Both sum in float64, in another order.",
    ),
    paired(
        "affine_relu_forward",
        "pre_acts",
        "As affine_forward: ReLU takes no two numbers further apart.",
    ),
    paired(
        "affine_backward",
        "dx dW db",
        "Sums in the kernel's dtype: as many terms as d_pre has entries in the row, or the column.",
    ),
    alone(
        "relu_forward",
        "pre_acts",
        "Fused into affine_relu_forward and encode_forward, where it acts on registers.",
    ),
    alone(
        "relu_backward",
        "d_pre",
        "The identity at stored entries, which are positive.",
    ),
    paired(
        "topk_forward",
        "hidden",
        "Exact: selection moves values and computes none.",
        bound="exact",
    ),
    paired(
        "batchtopk_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    paired(
        "groupmax_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    paired(
        "abstopk_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    paired(
        "jumprelu_forward",
        "hidden",
        "Exact, as topk_forward.",
        bound="exact",
    ),
    alone(
        "jumprelu_backward",
        "d_pre d_theta",
        "The identity at stored entries, and zero.  Straight-through gradients are not made there.",
    ),
    paired(
        "gated_magnitude",
        "magnitude",
        "Both in float64: a product, an addition and an exponential.",
    ),
    paired(
        "gated_forward",
        "hidden",
        "As gated_magnitude, rounded once.  One and the same sum decides which gates are open.",
    ),
    paired(
        "gated_backward",
        "d_pre db_mag dr_mag",
        "Products and sums in float64, rounded once.",
    ),
    alone(
        "gated_auxiliary_forward",
        "auxiliary",
        "Training has it in the reference alone.",
    ),
    alone(
        "gated_auxiliary_backward",
        "d_gate",
        "As gated_auxiliary_forward.",
    ),
    alone(
        "topk_backward",
        "d_pre_acts",
        "The identity at stored entries, which are those selected.",
    ),
    paired(
        "encode_forward",
        "hidden",
        "Float64 sums, rounded once.  Where two are too close to rank, either may be selected.",
    ),
    paired(
        "decode_forward",
        "reconstruction",
        "A sum in the kernel's dtype: as many terms as hidden has entries in the row, and b_dec.",
    ),
    paired(
        "decode_backward",
        "d_hidden dW_dec db_dec",
        "d_hidden is a float64 sum, rounded once; the others are sums in the kernel's dtype.",
    ),
    paired(
        "skip_forward",
        "skip",
        "A float64 sum, rounded once.",
    ),
    paired(
        "skip_backward",
        "dx dW_skip",
        "Sums in the kernel's dtype, of O terms and of B.",
    ),
    paired(
        "mse_forward",
        "mse",
        "Both sum in float64, where nothing cancels.",
    ),
    paired(
        "mse_backward",
        "d_reconstruction",
        "Computed in float64, rounded once.",
    ),
    paired(
        "l1_forward",
        "l1",
        "Both sum in float64, where nothing cancels.",
    ),
    paired(
        "l1_backward",
        "d_hidden",
        "Computed in float64, rounded once.",
    ),
    paired(
        "mse_sum_forward",
        "mse_sum",
        "As mse_forward.",
        bound="mse_forward",
    ),
    paired(
        "mse_sum_backward",
        "d_reconstruction",
        "As mse_backward.",
        bound="mse_backward",
    ),
    paired(
        "l1_sum_forward",
        "l1_sum",
        "As l1_forward.",
        bound="l1_forward",
    ),
    paired(
        "l1_sum_backward",
        "d_hidden",
        "As l1_backward.",
        bound="l1_backward",
    ),
    *(alone(name, outputs, _BY_NAME) for name, outputs in _LOSSES.items()),
    paired(
        "adam_step",
        "p m v",
        "The same operations, each rounded to the kernel's dtype.",
    ),
    paired(
        "adam_row_step",
        "p m v_rows",
        "As adam_step, with a mean that is summed in float64 and rounded once.",
    ),
    paired(
        "average_step",
        "average",
        "The same operations, each rounded to the kernel's dtype.",
    ),
    alone(
        "unit_rows_forward",
        "unit",
        "Fused into the step: a row is divided by its norm where Adam has just moved it.",
    ),
    alone(
        "unit_rows_backward",
        "dW",
        "Fused into the step, as unit_rows_forward.",
    ),
    paired(
        "transcoder_forward",
        "pre pre_acts hidden reconstruction",
        "encode_forward, then decode_forward of what that made, and skip_forward.",
    ),
    paired(
        "transcoder_loss",
        "loss",
        "mse_forward and l1_forward, neither of them negative.",
    ),
    paired(
        "transcoder_backward",
        "d_reconstruction d_hidden d_pre d_own dW_dec db_dec dW_skip dW_enc db_enc dx",
        "The backward functions in a row, each with what the one before it was off by.",
    ),
    paired(
        "aux_k_forward",
        "hidden reconstruction",
        "encode_forward of the dead features, then decode_forward of what that made.",
    ),
    paired(
        "aux_k_loss",
        "aux",
        "mse_forward, times a number.",
    ),
    paired(
        "aux_k_backward",
        "d_reconstruction d_hidden d_pre dW_dec dW_enc db_enc dx",
        "The backward functions in a row, as in transcoder_backward.",
    ),
    *(alone(name, outputs, _ALONE) for name, outputs in _CONVENTIONAL.items()),
    *(alone(name, outputs, _LAYER_BY_LAYER) for name, outputs in _CROSS_LAYER.items()),
)
