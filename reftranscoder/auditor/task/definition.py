"""What is computed, where libraries differ: the definition under which a candidate is judged.

The default is the one of `reftranscoder.reference`.  ``explaining/conventions.py`` lists the
others that the field documents; ``explaining/known_faults.py`` uses the remaining fields for
mistakes that have a name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ...errors import OptionError
from ...params import Conventions, Gated, JumpReLU, Own, TranscoderConfig, check_activation

#: The activations that an audit judges.  New ones go last: what probes draw hangs on the place.
JUDGED = ("topk", "relu", "jumprelu", "batchtopk", "groupmax", "abstopk", "gated")

#: What is kept of each row in place of its K largest: by mistake, or by another activation.
SELECTIONS = {
    "groups": "the largest of each of K groups of features",
    "magnitudes": "the positive ones among the K largest absolute values",
    "signed magnitudes": "the K largest absolute values, with their signs",
    "no padding": "the K largest, but not feature 0 where fewer are active",
}
#: And of many rows at once.
SELECTIONS_ACROSS = {
    "batch": "the K B largest of the whole batch",
    "columns": "the K largest of each column",
    "row before": "in each row, what the row before selects",
    "row after": "in each row, what the row after selects",
}

#: The fields that say what an activation does, where that is not what "topk" does.
_SELECTING: dict[str, dict[str, Any]] = {
    "batchtopk": {"across": "batch"},
    "groupmax": {"selects": "groups"},
    "abstopk": {"selects": "signed magnitudes", "rectified": False},
}

#: Bits in which a feature's number may be kept where that is too few.
WRAPS = (16, 15, 8, 7)

#: Where hidden holds the feature j, or where what reads it looks for it.
MOVES = {
    "up": "j + 1",
    "down": "j - 1",
    **{str(n): f"j less 2^{n}, where j is that or more" for n in sorted(WRAPS)},
    "anywhere": "any other feature",
}

#: And where a sum may look for it, too: what is negative counts from the end.
PLACES = {
    **{kind: what for kind, what in MOVES.items() if kind != "anywhere"},
    **{f"int{n}": f"j as an int{n}" for n in (8, 16)},
    **{f"D/{n}": f"j modulo D/{n}" for n in (2, 4, 8)},
}


@dataclasses.dataclass(frozen=True)
class Definition:
    """One field for each way in which definitions differ; the defaults are the reference's."""

    top_k: int
    activation: str = "topk"  # one of `JUDGED`
    ties: str = "lowest_index"  # or "keep_all"

    # What libraries document.
    normalize: str = "none"  # what is done to x first, as `Conventions` names it
    scale: float = 1.0  # of it
    eps: float = 1e-5  # of it
    rescaled: bool = False  # whether it is undone on the reconstruction
    input: str = "x"  # or "x - b_dec": what the encoder reads
    skip_input: str = "x"  # or "x - b_dec", or "normalized": what the skip connection reads
    norms: str = "none"  # what |W_dec[j]| multiplies: "ranks" alone, "hidden", or "pre" as well
    mse: str = "mean"  # a key of `conventions.MSE`
    half: bool = False  # 1/2 of it
    l1: str = "mean"  # a key of `conventions.L1`
    l1_weighted: bool = False  # |f| times |W_dec[j]|
    detached: bool = False  # no gradient reaches W_dec through |W_dec[j]|
    tangent: bool = False  # dW_dec without its component along W_dec[j]

    # Of activations, or mistakes.
    rectified: bool = True  # ReLU before selection
    bandwidth: float | None = None  # of jumprelu's straight-through gradients
    through: str = "theta"  # or "theta_and_input"
    selects: str = ""  # or one of `SELECTIONS`, in place of the K largest
    across: str = ""  # or one of `SELECTIONS_ACROSS`

    # Mistakes.
    W_enc: str = "W_enc"  # or "transposed"
    W_dec: str = "W_dec"  # or "transposed", or "transposed backwards": in d_hidden alone
    W_skip: str = "W_skip"  # or "transposed", or "none"
    x: float = 1.0  # times x, in pre
    b_enc: float = 1.0  # times the bias
    decoded: float = 1.0  # times hidden @ W_dec
    b_dec: float = 1.0
    skipped: float = 1.0  # times x @ W_skip.T
    error_skipped: float = 1.0  # times that, in the error alone
    thresholds: str = "theta"  # or "none", or the format that they are rounded to
    reaching: bool = False  # features at their thresholds are active
    gates: str = "above"  # or "reaching", or "none": where gated is open
    strengths: str = "exp"  # of gated: exp(r_mag), or "r_mag", or "none"
    strengthened: bool = True  # exp(r_mag) multiplies d_pre, too
    b_mag: float = 1.0  # times the bias of the magnitude path
    dr_mag: str = "hidden - b_mag"  # or "hidden": what it sums over
    keys: str = ""  # the format, if one is coarser, in which a selection compares
    moved: str = ""  # or one of `MOVES`: where hidden holds what was selected
    target: str = "target"  # or "x": an autoencoder's loss
    l1_loss: float = 1.0  # times the L1 loss itself
    l1_gradient: float = 1.0  # times its gradient
    through_decoder: float = 1.0  # times d_reconstruction @ W_dec.T
    mask: str = "selected"  # what lets a gradient pass: or "active", "largest", "all"
    mask_at: str = "d_pre"  # where another mask is used: there and after it, or in that stage alone
    inactive: bool = False  # gradients pass where indices select features that are not active
    dx_paths: str = "both"  # or "encoder", "skip"
    dW_dec: str = "hidden"  # or "pre_acts", "pre": what it sums over
    factors: tuple[tuple[str, float], ...] = ()  # (stage, number that multiplies its result)
    flipped: tuple[str, ...] = ()  # stages whose square result is transposed
    stored: tuple[tuple[str, str], ...] = ()  # (stage, format that it was rounded to in the end)
    # (stage, "first" or "last": the one row of those with a feature that its sum counts)
    scattered: tuple[tuple[str, str], ...] = ()
    # (stage, one of `PLACES` or the number of a feature left out: where it reads feature j)
    read_at: tuple[tuple[str, str | int], ...] = ()

    def factor(self, stage: str) -> float:
        return dict(self.factors).get(stage, 1.0)

    def format(self, stage: str) -> str | None:
        return dict(self.stored).get(stage)

    def scatter(self, stage: str) -> str | None:
        return dict(self.scattered).get(stage)

    def reads_at(self, stage: str) -> str | int | None:
        return dict(self.read_at).get(stage)

    @property
    def reaches_norms(self) -> bool:
        """Whether gradients flow to W_dec through |W_dec[j]|."""
        return (self.norms in ("hidden", "pre") or self.l1_weighted) and not self.detached


def definition_of(config: TranscoderConfig, own: Own | None = None) -> Definition:
    """The definition that a transcoder with these options is judged under.

    Raises:
        OptionError: an activation or an auxiliary loss for which there are no intervals.
    """
    check_activation(config, JUDGED, "an audit")
    if isinstance(own, Gated) and own.of_the_reference:
        name = "auxiliary_coeff" if own.auxiliary_coeff else "gate_l1_coeff"
        raise OptionError(name, "0, for an audit", getattr(own, name))
    conventions = config.conventions
    read = "x - b_dec" if conventions.apply_b_dec_to_input else "x"
    return Definition(
        config.top_k,
        config.activation,
        config.ties,
        normalize=conventions.normalize_activations,
        scale=conventions.scale,
        eps=conventions.eps,
        rescaled=conventions.changes_output,
        input=read,
        skip_input=_skip_input(conventions),
        norms="pre" if conventions.rescale_acts_by_decoder_norm else "none",
        **_SELECTING.get(config.activation, {}),
        **(_window(own) if isinstance(own, JumpReLU) else {}),
    )


def _skip_input(conventions: Conventions) -> str:
    if conventions.skip_input == "x" or not conventions.changes_input:
        return "x"
    return "x - b_dec" if conventions.apply_b_dec_to_input else "normalized"


def _window(own: JumpReLU) -> dict[str, Any]:
    return {"bandwidth": own.bandwidth, "through": own.through}
