"""What an implementation in another language has to read and to write, in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from ...params import KEEPING_ALL
from ..task.case import Case

#: What every array is, by name.
MEANINGS = {
    "W_enc": "(D, I): row j is what feature j reads",
    "b_enc": "(D,)",
    "W_dec": "(D, O): row j is what feature j writes",
    "b_dec": "(O,)",
    "W_skip": "(O, I): only where there is a skip connection",
    "x": "(B, I): one row per sample",
    "target": "(B, O)",
    "pre": "(B, D): x W_enc^T + b_enc",
    "pre_acts": "(B, D): max(pre, 0)",
    "hidden": "(B, D): the selected entries of pre_acts, zero elsewhere; dense",
    "indices": "(B, k): in place of hidden: whole numbers from 0 to D - 1; -1 is an empty place",
    "values": "(B, k): the entries of hidden at indices",
    "reconstruction": "(B, O): hidden W_dec + b_dec, and + x W_skip^T where there is a W_skip",
    "loss": "one number: sum (target - reconstruction)^2 / (B O) + l1_coeff sum |hidden| / (B D)",
    "d_reconstruction": "(B, O): 2 (reconstruction - target) / (B O)",
    "d_hidden": "(B, D): d_reconstruction W_dec^T + l1_coeff sign(hidden) / (B D); dense, or zero "
    "outside the selected entries",
    "d_pre": "(B, D): d_hidden at the selected entries, zero elsewhere",
    "dW_dec": "(D, O): hidden^T d_reconstruction",
    "db_dec": "(O,): sum over rows of d_reconstruction",
    "dW_skip": "(O, I): d_reconstruction^T x, where there is a W_skip",
    "dW_enc": "(D, I): d_pre^T x",
    "db_enc": "(D,): sum over rows of d_pre",
    "dx": "(B, I): d_pre W_enc, and + d_reconstruction W_skip where there is a W_skip",
}

#: Of one activation: what it alone takes and gives, and what means something else.
_OWN_MEANINGS = {
    "jumprelu": {
        "theta": "(D,): the threshold of each feature; one below zero acts as zero does",
        "hidden": "(B, D): the entries of pre_acts that are above theta, zero elsewhere; dense",
        "dtheta": "(D,): zeros, as theta moves the loss by jumps alone",
    },
    "abstopk": {"pre_acts": "(B, D): pre, as there is no ReLU"},
    "gated": {
        "b_gate": "(D,): a feature is active where pre + b_gate > 0 and its pre_acts are positive",
        "b_mag": "(D,)",
        "r_mag": "(D,)",
        "pre_acts": "(B, D): max(exp(r_mag) pre + b_mag, 0)",
        "hidden": "(B, D): the entries of pre_acts where pre + b_gate > 0, zero elsewhere; dense",
        "d_pre": "(B, D): exp(r_mag) d_hidden at the selected entries, zero elsewhere",
        "db_gate": "(D,): zeros, as b_gate moves the loss by jumps alone",
        "db_mag": "(D,): sum over rows of d_hidden at the selected entries",
        "dr_mag": "(D,): sum over rows of d_hidden (hidden - b_mag) at the selected entries",
    },
}

_INPUT = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "x", "target")

#: Which entries of pre_acts are kept, by activation.
_KEPT = {
    "topk": "keep the top_k largest entries of each row of pre_acts",
    "relu": "keep them all",
    "jumprelu": "keep those above theta; what equals theta is not above it",
    "gated": "keep those where pre + b_gate is positive; what is 0 is not",
    "batchtopk": "keep the B top_k largest entries of all rows together; of equal ones those of "
    "earlier rows come first",
    "groupmax": "keep the largest entry of each of top_k groups of D / top_k neighbours in a row; "
    "a group that has no positive one keeps none",
    "abstopk": "keep the top_k entries of each row that are farthest from zero, with their signs",
}

_TIES = (
    '"lowest_index": exactly K are kept, of equal ones those of lower index;',
    '"keep_all": everything that is at least the K-th largest is kept',
)
_OTHER_TIES = (
    '"lowest_index": of equal ones those of lower index are kept, and no more;',
    '"keep_all": everything that equals the last one that is kept is, too',
)
_FINE = "-thresholds"
_FINE_TEXT = "What *-thresholds compare with are numbers of float32, and of no shorter format.\n"

_TEXT = """\
CASES FOR A TRANSCODER
======================

Each folder here is one case: parameters, a batch, and what a transcoder ought to make of them.
Compute the same with your implementation, write a results file into each folder, and let

    reftranscoder audit {folder}

say for every stage whether the difference is rounding, a tie, another library's definition, or a
fault, and where it starts.


What to read
------------

cases.json     {{"cases": [NAME, ...]}}: the folders, in order
NAME/case.json
    "B", "I", "D", "O"   the sizes: rows of the batch, input, features, output
{selection}    "skip"               whether there is a W_skip
    "l1_coeff"           a number in the loss
    "rows_that_are_not_finite"   see below; mostly []
    "purpose"            what the case is for
{containers}
Arrays of the input, all float32, row-major, with these names and shapes:

{inputs}

All numbers but NaN and infinity are numbers of bfloat16 too, so that converting them to it changes
nothing; float16 holds those of all cases but *-large, *-tiny and *-subnormal. Leave a case out that
your format cannot hold, or a variant that you do not have: no results file, no judgement.
{fine}

What to write
-------------

NAME/results.npz, or NAME/results.safetensors. Any subset of these arrays, under these names:

{stages}

Gradients are those of the loss, with the selected features held fixed. An activation of exactly
zero is not selected and passes no gradient.

- Write what your implementation computed, in the type that it is stored in: float32, float16 or
  float64. bfloat16 may be written as bfloat16 (safetensors), or converted to float32, which is
  exact. Do not round for display.
- The more stages there are, the better a fault is located: each stage is judged on what your own
  implementation fed to it. pre, hidden, reconstruction and the gradients of the parameters are a
  good start.
- Shapes are those above, row-major (C order). A transposed matrix is refused.
- loss is one number: an array without axes, or with one entry.
- expected.* holds all of these, computed in float64. It is there to look at; it is not what you are
  compared with bit by bit, and the audit does not read it. As it holds hidden as well as indices
  with values, and results hold one or the other, a copy of it is refused.


Rows that are not finite
------------------------

In the cases *-non-finite, some rows of x hold NaN or infinity. The other rows must come out as
ever. Of these rows nothing may come out finite: NaN or infinity in pre, reconstruction,
d_reconstruction and dx throughout, and somewhere in pre_acts, hidden, d_hidden and d_pre, where the
other entries are zero. (A row of zeros in d_hidden, d_pre and dx is all right too.) The loss is
not finite either. An implementation that refuses such rows writes their numbers, whole numbers from
0, as an array "refused": they are then not looked at. If it refuses the whole batch, "refused" is
all that the file holds.


Then
----

    reftranscoder audit {folder}                           every case: one line each
    reftranscoder audit {folder}/{first}             one case: one line per stage
    reftranscoder audit {folder} --arithmetic bfloat16     what you computed in

The arithmetic is what the operands of products are rounded to, what products are added in, and what
results are stored in:

    float32 (the default), float64      all three
    tf32                                operands in tf32, the rest in float32
    bfloat16-inputs                     operands in bfloat16, the rest in float32
    bfloat16, float16                   operands and results; products are added in float32
    bfloat16-autocast                   as bfloat16, with the loss in float32: PyTorch's autocast

Numbers that are subnormal in float32 may count as zero, as they do on many processors.

Results that follow another definition of those that libraries document, a sum in place of a mean,
say, get its name. If it is the one you mean, declare it: --convention mse_sum. The names are in
reftranscoder audit --help.

Exit status: 0 if no case that has results failed, and some case decides on a stage; 1 if one failed
or none decides, and with --strict if a case has no results or leaves a stage open, or if a feature
or a column was exercised in none; 2 if something cannot be read.


The cases
---------

{cases}
"""

_NPZ = """\
NAME/input.npz, expected.npz
    NumPy archives: uncompressed zip files with one .npy file per array
"""
_SAFETENSORS = """\
NAME/input.safetensors, expected.safetensors
    the same arrays in the safetensors format
"""
_NO_SAFETENSORS = """\
    (The package safetensors was not installed when these cases were written: with it, the same
    arrays come as .safetensors as well. results.safetensors needs it to be read.)
"""


def instructions(cases: Iterable[Case], suffixes: list[str]) -> str:
    """The text of ``README.txt`` in a folder with these ``cases``."""
    cases = list(cases)
    containers = _NPZ + (_SAFETENSORS if ".safetensors" in suffixes else _NO_SAFETENSORS)
    width = max(len(case.name) for case in cases) + 2
    activations = list(dict.fromkeys(case.config.activation for case in cases))
    meanings = meanings_for(activations[0])
    given = {*_INPUT, *cases[0].params.all_arrays()}
    fine = any(case.name.endswith(_FINE) for case in cases)
    return _TEXT.format(
        folder="DIR",
        first=cases[0].name,
        containers=containers,
        selection=_selection(activations),
        fine=_FINE_TEXT if fine else "",
        inputs=_listed({f"    {n}": text for n, text in meanings.items() if n in given}, 22),
        stages=_listed({f"    {n}": text for n, text in meanings.items() if n not in given}, 22),
        cases=_listed({case.name: case.purpose for case in cases}, width),
    )


def meanings_for(activation: str) -> dict[str, str]:
    """What every array of a case with this activation is, by name."""
    own = _OWN_MEANINGS.get(activation, {})
    after = {"b_dec": [n for n in own if n not in MEANINGS and not n.startswith("d")]}
    after["dx"] = [n for n in own if n not in MEANINGS and n.startswith("d")]
    names = (each for name in MEANINGS for each in (name, *after.get(name, ())))
    return {name: own.get(name) or MEANINGS[name] for name in names}


def _selection(activations: list[str]) -> str:
    """What case.json says of which features are active."""
    kept = [f'"{name}": {_KEPT[name]}' for name in activations]
    lines = [line for text in kept for line in textwrap.wrap(text + ";", 75)]
    lines[-1] = lines[-1].removesuffix(";")
    text = _columns("activation", lines)
    keeping_all = [f'"{name}"' for name in activations if name in KEEPING_ALL]
    if len(keeping_all) == len(activations):
        return text + _columns("top_k", ['D; neither this nor "ties" means anything'])
    but = f'; for {keeping_all[0]}, neither this nor "ties" means anything' if keeping_all else ""
    ties = _TIES if "topk" in activations else _OTHER_TIES
    return text + _columns("top_k", [f"K{but}"]) + _columns("ties", ties)


def _columns(name: str, lines: Iterable[str]) -> str:
    start = f'    "{name}"'
    return "".join(f"{start if not k else '':25}{line}\n" for k, line in enumerate(lines))


def _listed(entries: dict[str, str], width: int) -> str:
    """A name and what it means, in two columns."""
    return "\n".join(
        textwrap.fill(text, 100, initial_indent=f"{name:{width}}", subsequent_indent=" " * width)
        for name, text in entries.items()
    )
