"""What somebody else computed of a cross-layer transcoder, read and checked layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...arrays import check_layers, to_array, to_layers
from ...errors import Error, OptionError, ShapeError
from ...params.cross_layer import CrossLayerConfig
from ..task.candidate import Candidate
from ..task.stage_graph import ALL_STAGES, NOT_JUDGED, gradients_of
from .views import DECODED, sparse_beside

_OF_HIDDEN = ("indices", "values")
_WIDE = {"dW_dec": "(D, L - l, O)", "dW_skip": "(L - l, O, I)"}


class LayersCandidate:
    """The results that were given, as the judges of each layer read them.

    Args:
        results: stage names to L arrays, but ``loss`` to a number, whatever subset there is, as
            `CrossLayerTranscoder.stages` returns them.
        config: of the transcoder whose results these ought to be.
        rows: B.
        has_target: whether the stages that read one may be given.

    Raises:
        OptionError: no mapping; a name that is no stage; a stage that needs a target.
        ShapeError, DTypeError: as `Candidate`, with the layer.
    """

    def __init__(self, results: Any, config: CrossLayerConfig, rows: int, has_target: bool) -> None:
        if not isinstance(results, Mapping):
            got = type(results).__name__
            raise OptionError("candidate", "a mapping from stages to L arrays each", got)
        given = {name: r for name, r in results.items() if r is not None and name not in NOT_JUDGED}
        loss = {name: given.pop(name) for name in ("loss",) if name in given}
        known = (*(s for s in ALL_STAGES if s != "loss"), *_OF_HIDDEN)
        for name in given:
            if not isinstance(name, str) or name not in known:
                raise OptionError("the candidate's names", f"among loss, {', '.join(known)}", name)
        first = ALL_STAGES.index("loss")
        late = [name for name in (*loss, *given) if name in ALL_STAGES[first:]]
        if late and not has_target:
            raise OptionError("target", f"given, since {late[0]} depends on it", None)
        L = config.layers
        layers = {name: to_layers(value, name) for name, value in given.items()}
        for name, value in layers.items():
            check_layers(name, value, L)
        encoding, decoding = [], []
        for l in range(L):
            ours = {name: value[l] for name, value in layers.items()}
            try:
                encoding.append(_encoding(ours, config, l, rows))
                decoding.append(_decoding(ours, config, l, rows))
            except Error as error:
                error.say_where(f"layer {l}")
                raise
        self.loss = Candidate(loss, (rows, 1, 1, 1), False)
        self._O = config.output_size
        self.encoding = tuple(self._with_slopes(encoding, decoding, l) for l in range(L))
        self.decoding = tuple(self._with_features(encoding, decoding, t) for t in range(L))

    @property
    def is_whole(self) -> bool:
        """Whether all that the loss reads was given."""
        layers = zip(self.encoding, self.decoding)
        return all("hidden" in e and "reconstruction" in d for e, d in layers)

    def _with_slopes(
        self, encoding: list[Candidate], decoding: list[Candidate], l: int
    ) -> Candidate:
        """What layer ``l`` encodes, with d_reconstruction of all that it writes to, if given."""
        name = "d_reconstruction"
        if not all(name in of_layer for of_layer in decoding[l:]):
            return encoding[l]
        slopes = np.concatenate([of_layer.whole(name) for of_layer in decoding[l:]], axis=1)
        return encoding[l].with_stage(name, slopes)

    def _with_features(
        self, encoding: list[Candidate], decoding: list[Candidate], t: int
    ) -> Candidate:
        """What is decoded for layer ``t``, with the features that it is decoded from, if given."""
        if not all("hidden" in of_layer for of_layer in encoding[: t + 1]):
            return decoding[t]
        every = [of_layer.as_given("hidden") for of_layer in encoding[: t + 1]]
        return decoding[t].with_stage("hidden", sparse_beside(every)[0])


def _encoding(given: dict[str, Any], config: CrossLayerConfig, l: int, rows: int) -> Candidate:
    O, written = config.output_size, config.layers - l
    ours = {name: value for name, value in given.items() if name not in DECODED}
    shapes = {
        "dW_dec": (config.dict_size, written, O),
        "dW_skip": (written, O, config.input_size),
    }
    for name, shape in shapes.items():
        if name in ours and (config.skip or name != "dW_skip"):
            array = to_array(ours[name], name)
            if array.shape != shape:
                raise ShapeError(name, shape, array.shape, letters=_WIDE[name])
            flat = (shape[0], -1) if name == "dW_dec" else (-1, shape[2])
            ours[name] = array.reshape(flat)
    sizes = (rows, config.input_size, config.dict_size, written * O)
    return Candidate(ours, sizes, config.skip, gradients_of(config.activation))


def _decoding(given: dict[str, Any], config: CrossLayerConfig, t: int, rows: int) -> Candidate:
    ours = {name: value for name, value in given.items() if name in DECODED}
    inputs = config.input_size * (t + 1 if config.skip else 1)
    sizes = (rows, inputs, config.dict_size * (t + 1), config.output_size)
    return Candidate(ours, sizes, config.skip)
