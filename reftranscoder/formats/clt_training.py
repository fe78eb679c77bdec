"""EleutherAI's clt-training: a folder for each layer, with ``cfg.json`` and ``sae.safetensors``.

``sparsify/sparse_coder.py`` and ``runner.py`` of EleutherAI/clt-training at 998af17 (2025-07-21)
define it; cf9821f, which follows, fails where what layers write is added up.  Layer l, the l-th
folder in natural order, writes to ``n_targets`` layers, itself first; to layers beyond these it
writes nothing.  With k = t - l, what it writes to layer t is decoded by::

    W_decs.k of layer l                         coalesce_topk "none"
    W_dec of layer l                            "none", and per_source_tied
    W_dec of layer t                            "concat"
    rows i F to (i + 1) F of W_dec of layer t   "per-layer", for the i-th layer that still writes

after ``post_encs.k`` is added to active features and ``post_enc_scales.k`` multiplied with them.
In "none" every layer adds a bias, ``b_decs.k``, and a skip connection, ``W_skips.k``, from its own
input; otherwise layer t alone does.  With ``normalize_io`` inputs of layer l are multiplied by
sqrt(I) / in_norm and outputs of layer t by out_norm / sqrt(I).  These factors, and the scales, are
folded into the weights here, each entry computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError, shown
from ..files import schema
from ..files.container import inside, open_container
from ..files.names import natural
from ..files.stored import Stored
from .cross_layer import CrossLayerPublished
from .place import Place, names_in
from .published import Decisions, Made

SETTINGS, WEIGHTS = "cfg.json", "sae.safetensors"
_COALESCED = ("none", "concat", "per-layer")
#: What a file leaves open, of `Decisions`.
DECIDED = ()


def recognises(place: Place) -> bool:
    """Whether the tensors at ``place``, with the files beside them, are of this format."""
    if place.path.name != WEIGHTS or "encoder.weight" not in place.container().tensors:
        return False
    n_targets = place.settings(SETTINGS).get("n_targets", 0)
    return schema.is_whole(n_targets) and n_targets > 0


def leads(place: Place) -> bool:
    """Whether ``place`` is that of the first layer, with which the others are read."""
    return bool(_folders(place)[0] == place.folder.name)


def read(place: Place, decisions: Decisions) -> CrossLayerPublished:
    """What the folders beside that of ``place``, which must be the first layer's, say.

    Raises:
        FileError: it is another layer's, or settings are missing or of what is not read here, or
            tensors are.
    """
    if not leads(place):
        problem = "is a layer of a cross-layer transcoder"
        raise FileError(place.path, problem, f"Load the folder above: {place.folder.parent}")
    layers = [_layer_at(place, name) for name in _folders(place)]
    _check_settings(layers)
    first = layers[0].settings
    targets: list[int] = []
    for l, layer in enumerate(layers):
        n = layer.settings.get("n_targets")
        if not schema.is_whole(n) or not 1 <= n <= len(layers) - l:
            problem = f"its n_targets must be from 1 to {len(layers) - l}, the layers from it on"
            raise FileError(layer.place.folder / SETTINGS, f"{problem}; it is {shown(n)}")
        targets.append(n)
    made = _Maker(layers, targets)
    L = len(layers)
    arrays: dict[str, tuple[Any, ...]] = {
        "W_enc": tuple(made.encoder(l) for l in range(L)),
        "b_enc": tuple(layer.tensor("encoder.bias") for layer in layers),
        "W_dec": tuple(made.decoder(l) for l in range(L)),
        "b_dec": tuple(made.bias(t) for t in range(L)),
        "post_enc": tuple(made.post_enc(l) for l in range(L)),
    }
    if first.get("skip_connection"):
        arrays["W_skip"] = tuple(made.skip(l) for l in range(L))
    return CrossLayerPublished(
        path=place.path,
        variant=f"{first.get('activation', 'topk')} cross-layer transcoder of {L} layers",
        arrays=arrays,
        activation=first.get("activation", "topk"),
        top_k=first["k"],
        hook_in=place.folder.name,
    )


class _Layer(NamedTuple):
    """One folder, and what it holds."""

    place: Place
    settings: dict[str, Any]
    tensors: dict[str, Stored]

    def tensor(self, name: str) -> Stored:
        """The tensor ``name``.  The first of several may stand under the name that one has."""
        plural, _, number = name.partition(".")
        one = plural.removesuffix("s") if number == "0" else name
        for known in (name, one):
            if known in self.tensors:
                return self.tensors[known]
        raise FileError(self.place.path, f"lacks {name}, by its {SETTINGS}")

    def norm(self, name: str) -> float:
        """The mean norm of activations in the tensor ``name``, by which is divided."""
        tensor = self.tensor(name)
        if tensor.size != 1 or not tensor.is_float:
            raise FileError(self.place.path, f"{name} must be one number; it is {tensor.shape}")
        norm = float(tensor.read().reshape(()))
        if not 0 < norm < math.inf:
            raise FileError(self.place.path, f"{name} must be a number above 0; it is {norm}")
        return norm


def _folders(place: Place) -> list[str]:
    """The names of the folders of all layers, in order; links to folders are not followed."""
    root = place.folder.absolute().parent
    found = (name for name in names_in(root) if (root / name / WEIGHTS).is_file())
    return sorted((name for name in found if not (root / name).is_symlink()), key=natural)


def _layer_at(place: Place, name: str) -> _Layer:
    folder = place.folder.absolute().parent / name
    path = inside(folder, WEIGHTS)
    beside = Place(path, folder, names_in(folder))
    return _Layer(beside, beside.settings(SETTINGS), open_container(path).tensors)


def _check_settings(layers: list[_Layer]) -> None:
    """Refuse what is not read, and layers that are not of one kind."""
    first = layers[0].settings
    alike = ("activation", "k", "coalesce_topk", "per_source_tied", "skip_connection", "d_in",
             "normalize_io", "post_encoder_scale", "transcode")  # fmt: skip
    for layer in layers:
        path = layer.place.folder / SETTINGS
        for name in alike:
            if (got := layer.settings.get(name)) != first.get(name):
                problem = f"its {name} is {shown(got)}, and {shown(first.get(name))} elsewhere"
                raise FileError(path, problem, "All layers must be of one kind.")
    path, coalesced = layers[0].place.folder / SETTINGS, first.get("coalesce_topk", "none")
    refused = {
        f"coalesce_topk={shown(coalesced)}": coalesced not in _COALESCED,
        "topk_coalesced, which ranks the features of all layers together": coalesced != "none"
        and first.get("topk_coalesced"),
        "divide_cross_layer": coalesced == "none" and first.get("divide_cross_layer"),
        "secondary_target_tied": first.get("secondary_target_tied"),
        f"activation={shown(first.get('activation'))}": first.get("activation", "topk")
        not in ("topk", "groupmax"),
        f"k={shown(first.get('k'))}": not schema.is_whole(first.get("k")) or not first.get("k"),
        "no transcode": not first.get("transcode"),
    }
    for what, so in refused.items():
        if so:
            raise FileError(path, f"has {what}, which is not read here")


class _Maker:
    """Makes the arrays of ours from those of all layers."""

    def __init__(self, layers: list[_Layer], targets: list[int]) -> None:
        self.layers, self.targets, self.L = layers, targets, len(layers)
        first = layers[0].settings
        self.own = first.get("coalesce_topk", "none") == "none"  # decoders are of what is read
        self.rows = first.get("coalesce_topk") == "per-layer"
        self.tied, self.scaled = first.get("per_source_tied"), first.get("post_encoder_scale")
        self.normalised = first.get("normalize_io")
        self.D, self.I = (*layers[0].tensor("encoder.weight").shape, 0, 0)[:2]

    def gain(self, l: int, t: int | None = None) -> float:
        """What inputs of layer ``l`` are multiplied by, and outputs of layer ``t``."""
        if not self.normalised:
            return 1.0
        gain = 1.0 if l < 0 else self.I**0.5 / self.layers[l].norm("in_norm")
        return gain if t is None else gain * self.layers[t].norm("out_norm") / self.I**0.5

    def encoder(self, l: int) -> Made | Stored:
        weight = self.layers[l].tensor("encoder.weight")
        if not self.normalised:
            return weight
        return Made(weight.shape, [weight], lambda: _times(weight.read(), self.gain(l)))

    def decoder(self, l: int) -> Made:
        parts = [self._decoder(l, t) for t in self._reached(l)]
        scales = self._of_layer("post_enc_scales", l) if self.scaled else []

        def read() -> np.ndarray:
            made = []
            for t, part in zip(self._reached(l), parts):
                rows = part.read()
                if self.rows:
                    i = self._sources(t).index(l)
                    rows = rows[i * self.D : (i + 1) * self.D]
                by = scales[t - l].read()[:, None] if scales else np.float64(1)
                made.append(_times(rows, self.gain(-1, t) * by.astype(np.float64)))
            return np.stack(self._filled(made, l), axis=1)

        shapes = {part.shape[1:] for part in parts}
        O = shapes.pop() if len(shapes) == 1 else ()
        rows = [self.D * (len(self._sources(t)) if self.rows else 1) for t in self._reached(l)]
        fit = all(part.shape[:1] == (n,) for part, n in zip(parts, rows))
        fit = fit and all(scale.shape == (self.D,) for scale in scales)
        return Made((self.D if fit else 0, self.L - l, *O), [*parts, *scales], read)

    def bias(self, t: int) -> Made:
        sources = self._sources(t) if self.own else [t]
        parts = [self.layers[s].tensor(self._named("b_dec", t - s)) for s in sources]

        def read() -> np.ndarray:
            total = np.asarray(sum(part.read().astype(np.float64) for part in parts))
            return _times(total, self.gain(-1, t)).astype(parts[0].read().dtype)

        same = len({part.shape for part in parts}) == 1
        return Made(parts[0].shape if same else (), parts, read)

    def post_enc(self, l: int) -> Made:
        parts = self._of_layer("post_encs", l)
        same = len({part.shape for part in parts}) == 1

        def read() -> np.ndarray:
            return np.stack(self._filled([part.read() for part in parts], l), axis=1)

        return Made((*parts[0].shape, self.L - l) if same else (), parts, read)

    def skip(self, l: int) -> Made:
        reached = self._reached(l) if self.own else [l]
        parts = [self.layers[l].tensor(self._named("W_skip", t - l)) for t in reached]

        def read() -> np.ndarray:
            by = [self.gain(l, t) for t in reached]
            made = [_times(part.read(), gain) for part, gain in zip(parts, by)]
            return np.stack(self._filled(made, l))

        same = len({part.shape for part in parts}) == 1
        return Made((self.L - l, *(parts[0].shape if same else ())), parts, read)

    def _reached(self, l: int) -> range:
        return range(l, l + self.targets[l])

    def _sources(self, t: int) -> list[int]:
        """The layers that write to layer ``t``."""
        return [s for s in range(t + 1) if s + self.targets[s] > t]

    def _named(self, name: str, k: int) -> str:
        return f"{name}s.{k}" if self.own else name

    def _of_layer(self, name: str, l: int) -> list[Stored]:
        return [self.layers[l].tensor(f"{name}.{t - l}") for t in self._reached(l)]

    def _decoder(self, l: int, t: int) -> Stored:
        if not self.own:
            return self.layers[t].tensor("W_dec")
        return self.layers[l].tensor("W_dec" if self.tied else f"W_decs.{t - l}")

    def _filled(self, made: list[np.ndarray], l: int) -> list[np.ndarray]:
        """``made``, with zeros for the layers that layer ``l`` does not reach."""
        return made + [np.zeros_like(made[0])] * (self.L - l - len(made))


def _times(array: np.ndarray, by: Any) -> np.ndarray:
    """``array`` times ``by``, computed in float64 and rounded once."""
    return np.asarray((array * np.asarray(by, np.float64)).astype(array.dtype))
