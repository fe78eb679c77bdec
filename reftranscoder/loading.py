"""Transcoders from files and folders: `load` and `scan`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import formats
from .options import truth
from .transcoder import Transcoder
from .transcoder.cross_layer import CrossLayerTranscoder

if TYPE_CHECKING:
    from .formats import Found


def load(
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    hook: str | None = None,
    format: str | None = None,
    apply_b_dec_to_input: bool | None = None,
    top_k: int | None = None,
    activation: str | None = None,
    W_dec_rows: str | None = None,
    pack: bool = True,
) -> Transcoder | CrossLayerTranscoder:
    """The transcoder in ``path``: a file that `Transcoder.save` wrote, or a file or folder as
    another library or the Hugging Face hub leaves it.

    What it is, is told by what is there, and ``tc.origin`` says it.  ``layer`` and ``hook`` pick
    one from a folder of many, which `scan` lists: a hook by the name that the publisher has for
    where activations are taken, or the last parts of it.  The other options decide what some files
    leave open, and are refused where nothing is: `reftranscoder/guide/formats.rst` has the formats
    and these.  Nothing in a file is ever executed, and PyTorch is not needed.

    With ``pack=False`` ``W_enc`` and ``W_dec`` stay in the file, which is looked at once and must
    not change as long as the transcoder lives: float16 and bfloat16 too, and larger than memory.
    Such a one gives the same bits, encodes, decodes and is called; what needs its weights in memory
    (gradients, dense results, `Transcoder.save`) is refused.  Otherwise the first call makes a
    packed copy of the encoder's weights.

    Returns:
        A `Transcoder`, or a `CrossLayerTranscoder` where its features write to several layers, with
        the bits that were saved; narrower types are widened to float32.

    Raises:
        FileError: the file is missing, damaged, of no known format, holds no transcoder or one of a
            definition that ours do not have; or it leaves something open, and names the option.
        OptionError: an option is not what it can be.

    >>> rt.build(input_size=4, output_size=3, dict_size=8, top_k=2).save("model.npz")
    >>> rt.load("model.npz")
    Transcoder(4 -> 8 -> 3, top_k=2, ties='lowest_index', float32)
    """
    decisions = formats.Decisions(
        format=format,
        apply_b_dec_to_input=apply_b_dec_to_input,
        top_k=top_k,
        activation=activation,
        W_dec_rows=W_dec_rows,
    )
    pack = truth("pack", pack)
    model = formats.load(path, layer=layer, hook=hook, decisions=decisions, pack=pack)
    if isinstance(model, formats.CrossLayerModel):
        return CrossLayerTranscoder(*model)
    return Transcoder(*model)


def scan(root: str | os.PathLike[str]) -> list[Found]:
    """The transcoders of other libraries' formats in ``root``, by their headers alone.

    Returns:
        For each its ``path``, ``format``, ``variant``, ``layer``, ``input_size``, ``dict_size``,
        ``output_size``, ``dtype``, ``hook_in`` and ``hook_out``, in the order of layers; `load`
        reads one by its path, its layer or its hook.

    Raises:
        FileError: ``root`` is missing, or a file in it is damaged or not what its name says.

    >>> rt.scan(".")
    []
    """
    return formats.scan(root)
