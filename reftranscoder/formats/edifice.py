"""Edifice: the parameters of ``Edifice.Interpretability.Transcoder``, by the names of its layers.

There is no file format of its own; arrays are looked for under the names that Axon gives them,
``transcoder_encoder.kernel`` (I, D) and so on, in any container of tensors.
"""

from __future__ import annotations

from ..errors import FileError
from .place import Place
from .published import Decisions, Published

NAMES = {
    "transcoder_encoder.kernel": "W_enc",
    "transcoder_encoder.bias": "b_enc",
    "transcoder_decoder.kernel": "W_dec",
    "transcoder_decoder.bias": "b_dec",
}
#: What a file leaves open, of `Decisions`.
DECIDED = ("top_k", "activation")


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    container = place.container()
    return NAMES.keys() <= container.tensors.keys()


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.  How many features are kept is no parameter: ``top_k`` says it.

    Raises:
        FileError: it was not said.
    """
    tensors = place.container().tensors
    if decisions.top_k is None and decisions.activation != "relu":
        problem = "its parameters do not say how many features are kept"
        raise FileError(place.path, problem, "Say top_k=, or activation='relu' for all.")
    arrays = {ours: tensors[theirs] for theirs, ours in NAMES.items()}
    return Published(
        path=place.path,
        variant="transcoder",
        arrays={**arrays, "W_enc": arrays["W_enc"].transposed},
        activation=decisions.activation or "topk",
        top_k=decisions.top_k,
        layer=place.layer(),
    )
