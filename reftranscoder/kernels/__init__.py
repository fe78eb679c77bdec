"""The speed: the operations of ``reftranscoder.reference`` as Numba kernels, under the same names.

Arrays are float32 or float64, and ``hidden`` with its gradients is a `Sparse`; otherwise a caller
may exchange one room for the other.  ReLU has no function of its own: it is fused into
`affine_relu_forward` and `encode_forward`; nor has the backward of top-k, which at stored entries
is the identity.  No result depends on the number of threads.

``screened_encoder.py`` is beside that: it returns what `encode_forward` does, bit for bit and
faster, by the screen in ``screen/``, and keeps a packed copy of the weights for that.

Nothing here checks its input (``reftranscoder.Transcoder`` does), and nothing here imports
``reftranscoder.reference``, which judges it.

>>> hidden = rt.kernels.topk_forward(np.array([[0.5, 2.0, 3.0, -1.0]]), top_k=2)
>>> hidden.indices.tolist(), hidden.values.tolist()
([1, 2], [2.0, 3.0])
>>> rt.kernels.decode_forward(hidden, W_dec=np.eye(4), b_dec=np.ones(4))
array([[1., 3., 4., 1.]])
"""

from .abstopk import abstopk_forward
from .adam import adam_row_step, adam_step
from .affine import affine_backward, affine_forward, affine_relu_forward
from .aux_k import AuxBackward, AuxForward, aux_k_backward, aux_k_forward, aux_k_loss
from .average import average_step
from .batchtopk import batchtopk_forward
from .decode import decode_backward, decode_forward
from .encode import ACTIVATIONS, encode_forward
from .gated import gated_backward, gated_forward, gated_magnitude
from .groupmax import groupmax_forward
from .jumprelu import jumprelu_forward
from .l1 import l1_backward, l1_forward
from .l1_sum import l1_sum_backward, l1_sum_forward
from .losses import RECONSTRUCTION_LOSSES, SPARSITY_LOSSES
from .mse import mse_backward, mse_forward
from .mse_sum import mse_sum_backward, mse_sum_forward
from .skip import skip_backward, skip_forward
from .topk import topk_forward
from .transcoder import Backward, Forward, transcoder_backward, transcoder_forward, transcoder_loss

__all__ = [
    "ACTIVATIONS",
    "AuxBackward",
    "AuxForward",
    "Backward",
    "Forward",
    "RECONSTRUCTION_LOSSES",
    "SPARSITY_LOSSES",
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
    "decode_backward",
    "decode_forward",
    "encode_forward",
    "gated_backward",
    "gated_forward",
    "gated_magnitude",
    "groupmax_forward",
    "jumprelu_forward",
    "l1_backward",
    "l1_forward",
    "l1_sum_backward",
    "l1_sum_forward",
    "mse_backward",
    "mse_forward",
    "mse_sum_backward",
    "mse_sum_forward",
    "skip_backward",
    "skip_forward",
    "topk_forward",
    "transcoder_backward",
    "transcoder_forward",
    "transcoder_loss",
]
