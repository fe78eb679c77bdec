"""The losses by name: of the reconstruction, and of how much is active.

::

    loss  =  reconstruction_loss(target, reconstruction)  +  sparsity_loss(hidden, W_dec)

Each is an equation of a file.  Of the reconstruction::

    "mse"            over all B O entries the mean                                      mse.py
    "mse_sum"        over rows the mean of the sum over outputs                     mse_sum.py
    "mse_over_norm"  "mse", each row over the norm of its target              mse_over_norm.py
    "nmse"           each row over the squares of its target, the mean of these        nmse.py
    "fvu"            all squared errors over the variance of the batch                  fvu.py

and of what is active, times l1_coeff::

    "l1"                   over all B D entries the mean of |hidden|                     l1.py
    "l1_sum"               over rows the mean of the sum over features               l1_sum.py
    "l1_decoder_weighted"  the same, times the norms of W_dec           l1_decoder_weighted.py
    "l0_step"              over rows the mean number of active features                  l0.py
    "l0_quadratic"         how far that is from target_l0, row by row                    l0.py
    "l0_target"            how far its mean over the batch is                            l0.py
    "l0_tanh"              a smooth number of active features                            l0.py

The first of each is the default, and the loss of ``transcoder.py`` as it is published with Edifice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .fvu import fvu_backward, fvu_forward
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
from .mse import mse_backward, mse_forward
from .mse_over_norm import mse_over_norm_backward, mse_over_norm_forward
from .mse_sum import mse_sum_backward, mse_sum_forward
from .nmse import nmse_backward, nmse_forward


class Losses(NamedTuple):
    """Which losses are added up; anything with these fields does, `reftranscoder.Losses` too."""

    reconstruction_loss: str = "mse"
    sparsity_loss: str = "l1"
    target_l0: Any = None  # of "l0_quadratic" and "l0_target"
    tanh_scale: Any = 4  # of "l0_tanh"


#: Those of (C1).
DEFAULT = Losses()


class ReconstructionLoss(NamedTuple):
    """A loss of the reconstruction, and its gradient."""

    forward: Callable  # (target, reconstruction) -> a scalar
    backward: Callable  # (target, reconstruction) -> d_reconstruction (B, O)


class Penalty(NamedTuple):
    """What a sparsity loss gives the gradients: 0 or None where it gives nothing."""

    d_hidden: Any  # its share (B, D), or 0
    dW_dec: Any = None  # its share (D, O)
    d_active: Any = None  # by the number of active features (B, 1)


class SparsityLoss(NamedTuple):
    """A loss of what is active, and its gradients."""

    forward: Callable  # (hidden, W_dec, l1_coeff, losses) -> a scalar
    backward: Callable  # (hidden, W_dec, l1_coeff, losses) -> a `Penalty`


def _of_hidden(forward, backward):
    """The loss of hidden alone."""
    return SparsityLoss(
        lambda hidden, W_dec, l1_coeff, losses: forward(hidden, l1_coeff),
        lambda hidden, W_dec, l1_coeff, losses: Penalty(backward(hidden, l1_coeff)),
    )


def _of_norms(forward, backward, *options):
    """The loss that looks at the norms of W_dec, too."""

    def chosen(losses):
        return (getattr(losses, name) for name in options)

    return SparsityLoss(
        lambda hidden, W_dec, l1_coeff, losses: forward(hidden, W_dec, l1_coeff, *chosen(losses)),
        lambda hidden, W_dec, l1_coeff, losses: Penalty(
            *backward(hidden, W_dec, l1_coeff, *chosen(losses))
        ),
    )


def _of_counts(forward, backward, *options):
    """The loss of the numbers of active features."""

    def chosen(losses):
        return (getattr(losses, name) for name in options)

    return SparsityLoss(
        lambda hidden, W_dec, l1_coeff, losses: forward(hidden, l1_coeff, *chosen(losses)),
        lambda hidden, W_dec, l1_coeff, losses: Penalty(
            0, None, backward(hidden, l1_coeff, *chosen(losses))
        ),
    )


#: name -> `ReconstructionLoss`.  Another is another row, and a file.
RECONSTRUCTION_LOSSES = {
    "mse": ReconstructionLoss(mse_forward, mse_backward),
    "mse_sum": ReconstructionLoss(mse_sum_forward, mse_sum_backward),
    "mse_over_norm": ReconstructionLoss(mse_over_norm_forward, mse_over_norm_backward),
    "nmse": ReconstructionLoss(nmse_forward, nmse_backward),
    "fvu": ReconstructionLoss(fvu_forward, fvu_backward),
}

#: name -> `SparsityLoss`.
SPARSITY_LOSSES = {
    "l1": _of_hidden(l1_forward, l1_backward),
    "l1_sum": _of_hidden(l1_sum_forward, l1_sum_backward),
    "l1_decoder_weighted": _of_norms(l1_decoder_weighted_forward, l1_decoder_weighted_backward),
    "l0_step": _of_counts(l0_step_forward, l0_step_backward),
    "l0_quadratic": _of_counts(l0_quadratic_forward, l0_quadratic_backward, "target_l0"),
    "l0_target": _of_counts(l0_target_forward, l0_target_backward, "target_l0"),
    "l0_tanh": _of_norms(l0_tanh_forward, l0_tanh_backward, "tanh_scale"),
}


def terms_of(losses):
    """The `ReconstructionLoss` and the `SparsityLoss` that ``losses`` name: the terms of (C1)."""
    return RECONSTRUCTION_LOSSES[losses.reconstruction_loss], SPARSITY_LOSSES[losses.sparsity_loss]
