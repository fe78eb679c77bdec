"""Which losses are minimized: options of whoever differentiates or trains, not of a transcoder."""

from __future__ import annotations

import dataclasses

from ..declaring import option
from ..errors import OptionError
from ..options import finite_number, one_of

#: The names; ``reference/losses.py`` has the formulas.
RECONSTRUCTION_LOSSES = ("mse", "mse_sum", "mse_over_norm", "nmse", "fvu")
SPARSITY_LOSSES = (
    "l1",
    "l1_sum",
    "l1_decoder_weighted",
    "l0_step",
    "l0_quadratic",
    "l0_target",
    "l0_tanh",
)
#: Those that look at the norms of W_dec.
WEIGHTED = ("l1_decoder_weighted", "l0_tanh")
#: Those that need ``target_l0``.
AIMING = ("l0_quadratic", "l0_target")
#: Those of which no derivative is anything but zero: they train thresholds, straight through.
COUNTING = ("l0_step", *AIMING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Losses:
    """Which losses are added up: that of the reconstruction, and ``l1_coeff`` times that of what is
    active.

    ``reference/losses.py`` lists them, each with a file that derives its gradients.  The names end
    in ``_loss`` because ``reconstruction`` is an array wherever losses are computed.

    Raises:
        OptionError: another name; a ``target_l0`` that is negative, or 0 where it is needed; a
            ``tanh_scale`` that is not above 0.

    >>> losses = rt.Losses(reconstruction_loss="mse_sum", sparsity_loss="l1_decoder_weighted")
    >>> tc = rt.build(input_size=4, output_size=3, dict_size=8, top_k=2)
    >>> loss, grads = tc.value_and_grad(np.ones((5, 4)), np.zeros((5, 3)), losses=losses)
    """

    reconstruction_loss: str = option(
        "mse", "how wrong a reconstruction is", choices=RECONSTRUCTION_LOSSES
    )
    sparsity_loss: str = option(
        "l1",
        "how much is active",
        "times ``l1_coeff``; those that begin with l0, but for l0_tanh, train nothing but "
        "thresholds (``reference/l0.py``)",
        choices=SPARSITY_LOSSES,
    )
    target_l0: float = option(0.0, "how many are to be active", "of l0_quadratic and l0_target")
    tanh_scale: float = option(4.0, "how steep l0_tanh is")

    def __post_init__(self) -> None:
        self.check_losses()

    def check_losses(self) -> None:
        """Refuse losses that cannot be.

        Raises:
            OptionError: as the class.
        """
        one_of("reconstruction_loss", self.reconstruction_loss, RECONSTRUCTION_LOSSES)
        one_of("sparsity_loss", self.sparsity_loss, SPARSITY_LOSSES)
        for name in ("target_l0", "tanh_scale"):
            object.__setattr__(self, name, finite_number(name, getattr(self, name)))
        if self.sparsity_loss in AIMING and not self.target_l0:
            raise OptionError("target_l0", f"above 0, for {self.sparsity_loss}", self.target_l0)
        if not self.tanh_scale:
            raise OptionError("tanh_scale", "above 0", self.tanh_scale)

    @property
    def plain(self) -> bool:
        """Whether these are the losses by default."""
        return (self.reconstruction_loss, self.sparsity_loss) == ("mse", "l1")


#: Those of `reftranscoder.loss` by default.
DEFAULT = Losses()
