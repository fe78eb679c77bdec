"""The truth: pure NumPy, a formula a line, on dense arrays of any number type.

Every operation is a file with a ``_forward`` and a ``_backward`` side by side; its docstring
derives them as numbered equations, which the lines of code cite.  The letters: B batch,
I input_size, D dict_size, O output_size, K top_k; ``d_name`` is the derivative of the loss by
``name`` and has its shape.  Any numbers do: float16 to longdouble, complex for a complex step, and
object arrays of `fractions.Fraction`, in which case every result is exact (pass ``l1_coeff`` as a
Fraction too).  Norms want a ``sqrt`` of the numbers, gated an ``exp``, which no Fraction has.

Nothing here checks its input, and nothing here imports Numba, SciPy or ``reftranscoder.kernels``:
the truth borrows nothing from what it judges.

>>> from fractions import Fraction
>>> third, half = np.array([[Fraction(1, 3)]]), np.array([[Fraction(1, 2)]])
>>> rt.reference.mse_forward(third, half)
Fraction(1, 36)
"""

from .abstopk import abstopk_forward
from .adam import adam_row_step, adam_step
from .affine import affine_backward, affine_forward, affine_relu_forward
from .aux_k import AuxBackward, AuxForward, aux_k_backward, aux_k_forward, aux_k_loss
from .average import average_step
from .batchtopk import batchtopk_forward
from .constant_norm import constant_norm_backward, constant_norm_forward
from .constant_scale import constant_scale_backward, constant_scale_forward
from .conventional import (
    ConventionalBackward,
    ConventionalForward,
    Read,
    conventional_backward,
    conventional_decode,
    conventional_forward,
    input_forward,
)
from .cross_layer import (
    CrossLayerBackward,
    CrossLayerForward,
    cross_layer_backward,
    cross_layer_decode,
    cross_layer_forward,
    cross_layer_loss,
)
from .decode import decode_backward, decode_forward
from .decoder_norm import (
    decoder_norm_backward,
    decoder_norm_forward,
    decoder_norm_inverse,
    decoder_norms,
)
from .encode import ACTIVATIONS, Activation, Frozen, Gated, JumpReLU, encode_forward
from .fvu import fvu_backward, fvu_forward
from .gated import (
    gated_auxiliary_backward,
    gated_auxiliary_forward,
    gated_backward,
    gated_forward,
    gated_magnitude,
)
from .groupmax import groupmax_forward
from .input_bias import input_bias_backward, input_bias_forward
from .jumprelu import jumprelu_backward, jumprelu_forward
from .l0 import (
    l0_quadratic_backward,
    l0_quadratic_forward,
    l0_step_backward,
    l0_step_forward,
    l0_tanh_backward,
    l0_tanh_forward,
    l0_target_backward,
    l0_target_forward,
)
from .l1 import l1_backward, l1_forward
from .l1_decoder_weighted import l1_decoder_weighted_backward, l1_decoder_weighted_forward
from .l1_sum import l1_sum_backward, l1_sum_forward
from .layer_norm import layer_norm_backward, layer_norm_forward
from .losses import (
    RECONSTRUCTION_LOSSES,
    SPARSITY_LOSSES,
    Losses,
    Penalty,
    ReconstructionLoss,
    SparsityLoss,
)
from .mse import mse_backward, mse_forward
from .mse_over_norm import mse_over_norm_backward, mse_over_norm_forward
from .mse_sum import mse_sum_backward, mse_sum_forward
from .nmse import nmse_backward, nmse_forward
from .normalizations import NORMALIZATIONS, Normalization, rescale_backward, rescale_forward
from .post_enc import post_enc_backward, post_enc_forward
from .relu import relu_backward, relu_forward
from .skip import skip_backward, skip_forward
from .topk import topk_backward, topk_forward
from .transcoder import (
    Backward,
    Forward,
    transcoder_backward,
    transcoder_forward,
    transcoder_loss,
)
from .unit_norm import unit_rows_backward, unit_rows_forward

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "AuxBackward",
    "AuxForward",
    "Backward",
    "ConventionalBackward",
    "ConventionalForward",
    "CrossLayerBackward",
    "CrossLayerForward",
    "Forward",
    "Frozen",
    "Gated",
    "JumpReLU",
    "Losses",
    "NORMALIZATIONS",
    "Normalization",
    "Penalty",
    "RECONSTRUCTION_LOSSES",
    "Read",
    "ReconstructionLoss",
    "SPARSITY_LOSSES",
    "SparsityLoss",
    "abstopk_forward",
    "adam_row_step",
    "adam_step",
    "affine_backward",
    "affine_forward",
    "affine_relu_forward",
    "aux_k_backward",
    "aux_k_forward",
    "aux_k_loss",
    "average_step",
    "batchtopk_forward",
    "constant_norm_backward",
    "constant_norm_forward",
    "constant_scale_backward",
    "constant_scale_forward",
    "conventional_backward",
    "conventional_decode",
    "conventional_forward",
    "cross_layer_backward",
    "cross_layer_decode",
    "cross_layer_forward",
    "cross_layer_loss",
    "decode_backward",
    "decode_forward",
    "decoder_norm_backward",
    "decoder_norm_forward",
    "decoder_norm_inverse",
    "decoder_norms",
    "encode_forward",
    "fvu_backward",
    "fvu_forward",
    "gated_auxiliary_backward",
    "gated_auxiliary_forward",
    "gated_backward",
    "gated_forward",
    "gated_magnitude",
    "groupmax_forward",
    "input_bias_backward",
    "input_bias_forward",
    "input_forward",
    "jumprelu_backward",
    "jumprelu_forward",
    "l0_quadratic_backward",
    "l0_quadratic_forward",
    "l0_step_backward",
    "l0_step_forward",
    "l0_tanh_backward",
    "l0_tanh_forward",
    "l0_target_backward",
    "l0_target_forward",
    "l1_backward",
    "l1_decoder_weighted_backward",
    "l1_decoder_weighted_forward",
    "l1_forward",
    "l1_sum_backward",
    "l1_sum_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "mse_backward",
    "mse_forward",
    "mse_over_norm_backward",
    "mse_over_norm_forward",
    "mse_sum_backward",
    "mse_sum_forward",
    "nmse_backward",
    "nmse_forward",
    "post_enc_backward",
    "post_enc_forward",
    "relu_backward",
    "relu_forward",
    "rescale_backward",
    "rescale_forward",
    "skip_backward",
    "skip_forward",
    "topk_backward",
    "topk_forward",
    "transcoder_backward",
    "transcoder_forward",
    "transcoder_loss",
    "unit_rows_backward",
    "unit_rows_forward",
]
