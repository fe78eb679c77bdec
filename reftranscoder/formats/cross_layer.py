"""What a reader of somebody else's cross-layer format finds, and the `CrossLayerModel` of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..errors import Error, FileError
from ..files.stored import Stored
from ..params import JumpReLU
from ..params.cross_layer import CrossLayerConfig, CrossLayerParams, check_cross_layer
from .native import CrossLayerModel
from .published import QUIET, Description, Made, origin_of, refuse_unknown, seen_in


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossLayerPublished(Description):
    """What the files say of a cross-layer transcoder.

    ``arrays`` has the names of `CrossLayerParams`, and ``theta``, each with its L layers.
    """

    arrays: Mapping[str, tuple[Stored | Made, ...]]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """I, D and O, by the shapes of the first layer."""
        D, I = self.arrays["W_enc"][0].shape
        return I, D, self.arrays["b_dec"][0].shape[0]

    @property
    def dtype(self) -> str:
        """The type of the weights in the files."""
        return self.arrays["W_enc"][0].dtype.newbyteorder("=").name

    def check_shapes(self) -> None:
        """Refuse arrays that do not fit each other, by their headers, before one is read.

        Raises:
            FileError: naming the array, its layer, and both shapes.
        """
        first = self.arrays["W_enc"][0].shape, self.arrays["b_dec"][0].shape
        if [len(shape) for shape in first] != [2, 1]:
            problem = f"W_enc and b_dec must have two axes and one; they have {first}"
            raise FileError(self.path, problem)
        (I, D, O), L = self.sizes, len(self.arrays["W_enc"])
        shapes = {"W_enc": (D, I), "b_enc": (D,), "b_dec": (O,), "theta": (D,)}
        for name, layers in self.arrays.items():
            for l, array in enumerate(layers):
                wide = {"W_dec": (D, L - l, O), "W_skip": (L - l, O, I), "post_enc": (D, L - l)}
                want = wide.get(name) or shapes[name]
                if array.shape != want:
                    problem = f"{name} of layer {l} must have shape {want}; it has {array.shape}"
                    raise FileError(self.path, problem)


@QUIET
def cross_layer_model_of(published: CrossLayerPublished, format_name: str) -> CrossLayerModel:
    """Read the arrays, and make a cross-layer transcoder of what ``published`` says.

    Raises:
        FileError: none of ours has that definition, or the arrays do not fit each other or are not
            finite.
    """
    path = published.path
    refuse_unknown(published)
    published.check_shapes()
    for name, layers in published.arrays.items():
        for array in layers:
            if not array.is_float:
                problem = f"{name} must hold floating-point numbers; it holds {array.dtype}"
                raise FileError(path, problem)
    arrays = {name: [array.read() for array in of] for name, of in published.arrays.items()}
    I, D, O = published.sizes
    try:
        theta = arrays.pop("theta", None)
        own = None if theta is None else [JumpReLU(layer) for layer in theta]
        params = CrossLayerParams.taking(own, **arrays)
        config = CrossLayerConfig(
            layers=len(params.layers),
            input_size=I,
            output_size=O,
            dict_size=D,
            top_k=D if published.top_k is None else published.top_k,
            activation=published.activation,
            skip="W_skip" in arrays,
            dtype=params.dtype.name,
        )
        check_cross_layer(config, params)
    except Error as error:
        raise FileError(path, str(error).rstrip(".")) from error
    seen = [
        f"layer {l}: {line}" for l, layer in enumerate(params.layers) for line in seen_in(layer)
    ]
    return CrossLayerModel(config, params, origin_of(published, format_name, *seen))
