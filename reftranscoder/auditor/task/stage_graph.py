"""The stages of a transcoder, in the order in which they are computed, and what each reads."""

from __future__ import annotations

from ...params import OWN
from .definition import Definition

STAGES = (
    "pre",
    "pre_acts",
    "hidden",
    "reconstruction",
    "loss",
    "d_reconstruction",
    "d_hidden",
    "d_pre",
    "dW_dec",
    "db_dec",
    "dW_skip",
    "dW_enc",
    "db_enc",
    "dx",
)

#: The gradients of what one activation takes and no other does.
OF_OWN = ("dtheta", "db_gate", "db_mag", "dr_mag")
ALL_STAGES = (*STAGES, *OF_OWN)

#: What the indices of a stage count.
AXES = {
    **dict.fromkeys(("pre", "pre_acts", "hidden", "d_hidden", "d_pre"), ("row", "feature")),
    **dict.fromkeys(("reconstruction", "d_reconstruction"), ("row", "output column")),
    "loss": (),
    "dW_dec": ("feature", "output column"),
    "db_dec": ("output column",),
    "dW_skip": ("output column", "input column"),
    "dW_enc": ("feature", "input column"),
    "db_enc": ("feature",),
    "dx": ("row", "input column"),
    **dict.fromkeys(OF_OWN, ("feature",)),
}

#: Stages that `Transcoder.stages` has under conventions, and that are judged by what follows.
NOT_JUDGED = ("encoder_input", "d_encoder_input", "decoded", "d_decoded")

#: What each stage reads.  "Nearest given" walks up from here.
PARENTS = {
    "pre": (),
    "pre_acts": ("pre",),
    "hidden": ("pre_acts",),
    "reconstruction": ("hidden",),
    "loss": ("reconstruction", "hidden"),
    "d_reconstruction": ("reconstruction",),
    "d_hidden": ("d_reconstruction", "hidden"),
    "d_pre": ("d_hidden", "hidden"),
    "dW_dec": ("hidden", "d_reconstruction"),
    "db_dec": ("d_reconstruction",),
    "dW_skip": ("d_reconstruction",),
    "dW_enc": ("d_pre",),
    "db_enc": ("d_pre",),
    "dx": ("d_pre", "d_reconstruction"),
    "dtheta": (),
    "db_gate": (),
    "db_mag": ("d_hidden", "hidden"),
    "dr_mag": ("d_hidden", "hidden"),
}


def parents_of(definition: Definition) -> dict[str, tuple[str, ...]]:
    """`PARENTS` under this definition.

    Where the encoder reads x - b_dec, db_dec reads d_pre; gates read pre; and straight-through
    gradients read pre and d_hidden, which is not zero outside hidden's entries there.
    """
    found = dict(PARENTS)
    if definition.input != "x":
        found["db_dec"] = ("d_reconstruction", "d_pre")
    if definition.activation == "gated":
        found["hidden"] = ("pre_acts", "pre")
    if definition.bandwidth is not None:
        found["dtheta"] = _WITHIN_WINDOW
        if definition.through == "theta_and_input":
            found["d_pre"] = _WITHIN_WINDOW
    return found


_WITHIN_WINDOW = ("d_hidden", "hidden", "pre", "d_reconstruction")


def without_bounds(definition: Definition, skip: bool) -> tuple[str, ...]:
    """The gradients that have no intervals where x is normalized: that of x as it was before, and
    that of a skip connection around what is rescaled."""
    if definition.normalize == "none":
        return ()
    outside = skip and definition.rescaled and definition.skip_input == "x"
    return ("dx", "dW_skip") if outside else ("dx",)


def gradients_of(activation: str) -> tuple[str, ...]:
    """Those `OF_OWN` that this activation has."""
    kind = OWN.get(activation)
    return () if kind is None else tuple(f"d{name}" for name in kind.ARRAYS)


_ERROR = ("mse", "half", "target", "error_skipped")
_PENALTY = ("l1", "l1_weighted", "l1_gradient", "top_k", "norms", "W_dec")
_WINDOW = ("bandwidth", "through", "through_decoder", "W_dec")

#: The fields of `Definition` that each stage depends on, given what it reads.  What multiplies or
#: transposes it, and mistakes that make a gradient read other stages, are looked up by the stage.
FIELDS = {
    "pre": ("normalize", "input", "norms", "W_enc", "x", "b_enc"),
    "pre_acts": ("rectified", "strengths", "b_mag"),
    # What it may have selected depends on what pre should be, too.
    "hidden": (
        *("normalize", "input", "norms", "W_enc", "x", "b_enc", "rectified"),
        *("ties", "top_k", "activation", "W_dec", "selects", "across", "keys", "moved"),
        *("thresholds", "reaching", "gates", "strengths", "b_mag"),
    ),
    "reconstruction": (
        *("normalize", "rescaled", "norms", "skip_input", "W_dec", "W_skip"),
        *("decoded", "b_dec", "skipped"),
    ),
    "loss": (*_ERROR, "l1_loss", *_PENALTY),
    "d_reconstruction": _ERROR,
    "d_hidden": ("rescaled", "inactive", "through_decoder", *_PENALTY),
    "d_pre": ("inactive", "norms", "strengths", "strengthened", *_WINDOW),
    "dW_dec": ("rescaled", "detached", "tangent", *_PENALTY),
    "db_dec": ("rescaled", "input", "skip_input", "W_skip", "W_enc", "norms"),
    "dW_skip": ("skip_input",),
    "dW_enc": ("normalize", "input", "norms"),
    "db_enc": ("norms",),
    "dx": ("W_enc", "W_skip", "dx_paths", "norms"),
    "dtheta": _WINDOW,
    "db_gate": (),
    "db_mag": ("inactive",),
    "dr_mag": ("inactive", "b_mag", "dr_mag"),
}


#: What a stage may have selected depends on what these should be, whatever was given.
_BOXED = {"hidden": ("pre", "pre_acts")}


def said_of(stage: str, definition: Definition) -> tuple[object, ...]:
    """All that a stage depends on in a definition, given what it reads."""
    names = stage, *_BOXED.get(stage, ())
    own: tuple[object, ...] = tuple((definition.factor(n), definition.format(n)) for n in names)
    own += (stage in definition.flipped, definition.scatter(stage), definition.reads_at(stage))
    masked = definition.mask != "selected" and definition.mask_at == stage
    if masked or (stage == "dW_dec" and definition.dW_dec != "hidden"):
        return (*own, definition)  # it reads other stages, and these may not be given
    if stage == "dW_dec" and not definition.reaches_norms:
        return (*own, definition.norms, definition.tangent)
    return (*own, *(getattr(definition, field) for field in FIELDS[stage]))


#: What sums over rows: none of these is a number where one row is none.
SUMS = ("loss", "dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc", *OF_OWN)
