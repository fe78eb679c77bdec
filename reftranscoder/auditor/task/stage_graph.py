"""The stages of a transcoder, in the order in which they are computed, and what each reads."""

from __future__ import annotations

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
}


def parents_of(definition: Definition) -> dict[str, tuple[str, ...]]:
    """`PARENTS` under this definition: where the encoder reads x - b_dec, db_dec reads d_pre."""
    if definition.input == "x":
        return PARENTS
    return PARENTS | {"db_dec": ("d_reconstruction", "d_pre")}


#: What sums over rows: none of these is a number where one row is none.
SUMS = ("loss", "dW_dec", "db_dec", "dW_skip", "dW_enc", "db_enc")
