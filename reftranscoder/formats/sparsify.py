"""EleutherAI's sparsify: ``HOOKPOINT/cfg.json`` and ``HOOKPOINT/sae.safetensors``.

``sparsify/sparse_coder.py`` and ``config.py`` of eai-sparsify 1.3.3 define it.  Its commit f02711e
of 2025-02-12 wrote ``transcode`` into cfg.json, and ceased to subtract b_dec from what a transcoder
reads; before, all of them did.  b5e29a0, forty minutes later, wrote ``activation``.
"""

from __future__ import annotations

from typing import Any

from ..errors import FileError, shown, words
from ..files import schema
from ..files.stored import Stored
from .place import Place
from .published import Decisions, Published

NAMES = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
SETTINGS = "cfg.json"
#: What a file leaves open, of `Decisions`.
DECIDED = ("apply_b_dec_to_input", "top_k")


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    if not NAMES.keys() <= place.container().tensors.keys():
        return False
    return not place.settings(SETTINGS).get("n_targets")  # of clt-training


def read(place: Place, decisions: Decisions) -> Published:
    """What ``place`` says.

    Raises:
        FileError: settings are missing or contradict each other or the tensors, or they leave open
            what ``decisions`` does not say.
    """
    settings = place.settings(SETTINGS)
    if not settings:
        raise FileError(place.path, f"lacks {SETTINGS} beside it, which says k")
    container = place.container()
    strange = set(container.tensors) - set(NAMES) - {"W_skip"}
    if strange:
        held = ", ".join(map(shown, sorted(strange)[:4]))
        problem = f"also holds {held}, as those of clt-training that write to one layer do"
        raise FileError(place.path, problem)
    arrays: dict[str, Stored] = {ours: container.tensors[n] for n, ours in NAMES.items()}
    if "W_skip" in container.tensors:
        arrays["W_skip"] = container.tensors["W_skip"]
    if bool(settings.get("skip_connection")) != ("W_skip" in arrays):
        raise FileError(place.path, "must hold W_skip exactly where cfg.json has skip_connection")
    if settings.get("signed"):
        raise FileError(place.path, "its activations are signed, which is not among ours")
    applies = _applies_b_dec(place, settings, decisions)
    unmarked = "transcode" not in settings
    old = "was saved before 2025-02-12, when b_dec was subtracted from the input of transcoders too"
    skip, activation = "W_skip" in arrays, settings.get("activation", "topk")
    kind = "skip transcoder" if skip else "transcoder" if settings.get("transcode") else "SAE"
    return Published(
        path=place.path,
        variant=f"{words(activation)} {kind}",
        arrays=arrays,
        activation=activation if schema.is_text(activation) else shown(activation),
        top_k=_top_k(place, settings, decisions),
        conventions={"apply_b_dec_to_input": True} if applies else {},
        layer=place.layer(),
        hook_in=place.folder.name,
        warnings=(old,) if unmarked else (),
    )


def _top_k(place: Place, settings: dict[str, Any], decisions: Decisions) -> int:
    k = settings.get("k")
    if not schema.is_whole(k) or not k:
        problem = f"its k must be a whole number above 0; it is {shown(k)}"
        raise FileError(place.folder / SETTINGS, problem)
    if decisions.top_k is not None:
        return decisions.top_k
    if settings.get("multi_topk"):
        problem = f"was trained with multi_topk: its encode keeps {k}, and its forward {4 * k}"
        raise FileError(place.path, problem, f"Say which: top_k={k} or top_k={4 * k}.")
    return int(k)


def _applies_b_dec(place: Place, settings: dict[str, Any], decisions: Decisions) -> bool:
    if decisions.apply_b_dec_to_input is not None:
        return decisions.apply_b_dec_to_input
    if settings.get("transcode") and "activation" not in settings:
        problem = (
            "is a transcoder of the time when sparsify ceased to subtract b_dec from the input, "
            "and does not say which it is"
        )
        hint = "Say apply_b_dec_to_input=True (before 2025-02-12) or False."
        raise FileError(place.path, problem, hint)
    return not settings.get("transcode")
