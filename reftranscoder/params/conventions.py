"""What a transcoder does to its input before the encoder, and to its output after the decoder."""

from __future__ import annotations

import dataclasses

from ..declaring import option
from ..errors import OptionError
from ..options import finite_number, one_of, truth

#: What may be done to x, by SAELens' names; ``reference/normalizations.py`` has the formulas.
NORMALIZATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
#: What a skip connection may read.
SKIP_INPUTS = ("x", "encoder_input")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conventions:
    """How what the encoder reads is made of ``x``, and the reconstruction of what is decoded.

    ``reference/conventional.py`` puts them together.  All are off by default, so that the encoder
    reads ``x``, and the decoder writes the reconstruction.  ``normalize_activations`` is one of::

        "none"                      x
        "expected_average_only_in"  x scale, with scale = sqrt(I) / the mean |x| of some data
        "constant_norm_rescale"     x sqrt(I) / |x|, row by row
        "layer_norm"                (x - mean) / (standard deviation + eps), row by row

    With ``rescale_output`` the reconstruction is taken back to the units of ``x``, as an
    autoencoder's must be; SAELens' transcoders, which write elsewhere, do not.

    Raises:
        OptionError: another name; a ``scale`` that is not above zero, or a negative ``eps``.

    >>> conventions = rt.Conventions(apply_b_dec_to_input=True, normalize_activations="layer_norm")
    >>> tc = rt.build(input_size=4, output_size=4, dict_size=8, top_k=2, conventions=conventions)
    >>> list(tc.stages(np.eye(4)))
    ['encoder_input', 'pre', 'pre_acts', 'hidden', 'decoded', 'reconstruction']
    """

    apply_b_dec_to_input: bool = option(False, "the encoder reads its input less b_dec")
    normalize_activations: str = option("none", "what is done to x", choices=NORMALIZATIONS)
    rescale_output: bool = option(True, "undo that on the reconstruction")
    rescale_acts_by_decoder_norm: bool = option(
        False, "activations are multiplied by |W_dec[j]|, and divided by it before decoding"
    )
    skip_input: str = option("x", "what the skip connection reads", choices=SKIP_INPUTS)
    scale: float = option(1.0, "of expected_average_only_in")
    eps: float = option(1e-5, "of layer_norm")

    def __post_init__(self) -> None:
        for name in ("apply_b_dec_to_input", "rescale_output", "rescale_acts_by_decoder_norm"):
            object.__setattr__(self, name, truth(name, getattr(self, name)))
        one_of("normalize_activations", self.normalize_activations, NORMALIZATIONS)
        one_of("skip_input", self.skip_input, SKIP_INPUTS)
        for name in ("scale", "eps"):
            object.__setattr__(self, name, finite_number(name, getattr(self, name)))
        if not self.scale:
            raise OptionError("scale", "above 0", self.scale)
        if self.scale != 1 and self.normalize_activations != "expected_average_only_in":
            raise OptionError("scale", "1 but for expected_average_only_in", self.scale)

    @property
    def changes_input(self) -> bool:
        """Whether the encoder reads anything but x."""
        return self.apply_b_dec_to_input or self.normalize_activations != "none"

    @property
    def changes_output(self) -> bool:
        """Whether what is decoded is taken back to the units of x."""
        return self.rescale_output and self.normalize_activations != "none"

    @property
    def plain(self) -> bool:
        """Whether there is nothing to do but encode and decode."""
        return not self.changes_input and not self.rescale_acts_by_decoder_norm

    @property
    def chosen(self) -> dict[str, object]:
        """The options that are not at their defaults, by name."""
        defaults = Conventions()
        named = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in named if value != getattr(defaults, name)}

    def __repr__(self) -> str:
        return f"Conventions({', '.join(f'{n}={v!r}' for n, v in self.chosen.items())})"


def check_conventions(conventions: Conventions, input_size: int, output_size: int) -> None:
    """Refuse conventions that make no sense in these sizes.

    Raises:
        OptionError: b_dec cannot be subtracted from x, or a row of x has no standard deviation.
    """
    if conventions.apply_b_dec_to_input and input_size != output_size:
        want = f"False, where input_size {input_size} is not output_size {output_size}"
        raise OptionError("apply_b_dec_to_input", want, True)
    if conventions.normalize_activations == "layer_norm" and input_size < 2:
        raise OptionError("normalize_activations", "another, for one input", "layer_norm")
