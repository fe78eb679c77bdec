"""What the libraries train with, losses and every gradient, against ours: in float32 and float64.

    python tests/trained_by_libraries.py [SEED]

With torch, and whichever of sae-lens, eai-sparsify, dictionary-learning and circuit-tracer are
installed; it says which are not.  Each line is a loss of a library, computed and differentiated by
it, against the reference under the options of ours that say the same: the forward pass, the loss,
and the worst of the gradients, as fractions of the bound of `majorants`, which holds for sums in
any order.  Where a library's definition is none of ours, or is at fault, the line says so, and what
is compared with then is written out from the operations of the reference, so that the difference is
shown to be that alone.  Exits with 1 if anything is beyond.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
import torch
from majorants import bounds_of, majorants, values_of

import reftranscoder as rt
from reftranscoder import reference

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # there is no GPU

B, I, O, D, K = 7, 6, 5, 16, 3
PENALTY, L1 = 0.375, 0.25  # exact in binary
SEED = int(sys.argv[1]) if sys.argv[1:] else 0
UNITS = {"float32": 2.0**-24, "float64": 2.0**-53}
#: Their names -> ours; a column of those in TURNED is a feature's.
NAMES = {
    "encoder.weight": "W_enc",
    "encoder.bias": "b_enc",
    "decoder.weight": "W_dec",
    "decoder_bias": "b_dec",
    "bias": "b_dec",
    "gate_bias": "b_gate",
    "mag_bias": "b_mag",
    "threshold": "theta",
    "activation_function.threshold": "theta",
}
TURNED = {"W_enc", "decoder.weight"}


class Theirs(NamedTuple):
    """What a library computed: float64 arrays by our names."""

    arrays: dict[str, np.ndarray]
    x: np.ndarray
    target: np.ndarray
    loss: np.ndarray
    gradients: dict[str, np.ndarray]
    forward: dict[str, np.ndarray]  # hidden, reconstruction


class Row(NamedTuple):
    """One line: who, what, what it computed, what ours is, and what is to be said of it."""

    library: str
    what: str
    run: Callable[[torch.dtype], Theirs]
    ours: Callable[[Theirs], dict[str, Any]]
    note: str = ""
    narrow: tuple[str, ...] = ()  # gradients that the library has in float32 whatever the type


def drawn(shape, generator, low=None):
    """Numbers that float32 has: random ones, or from ``low`` on."""
    if low is None:
        return torch.randn(shape, generator=generator)
    return low + torch.rand(shape, generator=generator) * 0.5


def filled(model, seed, dtype, low=0.0625):
    generator = torch.Generator().manual_seed(10_000 * SEED + seed)
    model = model.to(dtype)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(drawn(p.shape, generator, low if name.endswith("threshold") else None))
    return model


def rows(seed, width, dtype):
    generator = torch.Generator().manual_seed(10_000 * SEED + 1000 + seed)
    return drawn((B, width), generator).to(dtype)


def numbers(tensor):
    return tensor.detach().double().numpy()


def found(model, x, target, loss, turned=TURNED, **forward):
    """What is known once ``loss`` is differentiated."""
    model.zero_grad()
    loss.backward()
    arrays, gradients = {}, {}
    for name, p in model.named_parameters():
        ours = NAMES.get(name, name)
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        turn = name in turned
        arrays[ours] = numbers(p.T if turn else p)
        gradients[ours] = numbers(grad.T if turn else grad)
    if x.grad is not None:
        gradients["x"] = numbers(x.grad)
    forward = {name: numbers(a) for name, a in forward.items()}
    return Theirs(arrays, numbers(x), numbers(target), numbers(loss), gradients, forward)


# Ours.


def computed(theirs, *, activation, own=None, conventions=None, l1_coeff=0.0, top_k=K, losses=None):
    """The stages, the loss and the gradients of ours, as majorants."""
    conventions = conventions or rt.Conventions()
    losses = losses or reference.Losses()
    given = {n: majorants(a) for n, a in theirs.arrays.items()}
    weights = {n: given[n] for n in ("W_enc", "W_dec", "b_dec")}
    weights["b_enc"] = given.get("b_enc", majorants(np.zeros(len(given["W_enc"]))))
    if "W_skip" in given:
        weights["W_skip"] = given["W_skip"]
    x, target = majorants(theirs.x), majorants(theirs.target)
    own = None if own is None else own(given, target)
    read = reference.input_forward(x, weights["b_dec"], conventions)
    forward = reference.conventional_forward(
        x, read, **weights, top_k=top_k, activation=activation, ties="lowest_index", own=own,
        conventions=conventions,
    )  # fmt: skip
    loss = reference.transcoder_loss(
        target, forward.reconstruction, forward.hidden, l1_coeff, weights["W_dec"], losses
    )
    loss = loss + reference.ACTIVATIONS[activation].loss(forward.pre, own)
    backward = reference.conventional_backward(
        x, target, forward, weights["W_enc"], weights["W_dec"], weights.get("W_skip"),
        l1_coeff=l1_coeff, activation=activation, own=own, conventions=conventions, losses=losses,
    )  # fmt: skip
    made = {n: getattr(backward, f"d{n}") for n in (*weights, "x")}
    if backward.d_own is not None:
        made |= {n: getattr(backward.d_own, n) for n in given if hasattr(backward.d_own, n)}
    return made | {"loss": loss, "hidden": forward.hidden, "pre": forward.pre, "forward": forward,
                   "reconstruction": forward.reconstruction}  # fmt: skip


def ours(activation, **options):
    names = {n: options.pop(n) for n in ("reconstruction_loss", "sparsity_loss") if n in options}
    names |= {n: options.pop(n) for n in ("target_l0", "tanh_scale") if n in options}
    conventions = options.pop("conventions", {})
    losses = reference.Losses(**names)
    given = options | {"conventions": rt.Conventions(**conventions), "losses": losses}
    return lambda theirs: computed(theirs, activation=activation, **given)


def added(*parts):
    """The sum of what several give, name by name; the forward pass is that of the first."""
    total = dict(parts[0])
    for part in parts[1:]:
        for name, array in part.items():
            if name not in ("hidden", "pre", "forward", "reconstruction"):
                total[name] = total[name] + array if name in total else array
    return total


def jumprelu(bandwidth, through="theta"):
    return lambda given, target: reference.JumpReLU(given["theta"], bandwidth, through)


def gated(l1, auxiliary):
    def own(given, target):
        paths = (given[n] for n in ("b_gate", "b_mag", "r_mag"))
        frozen = reference.Frozen(target, given["W_dec"], given["b_dec"])
        return reference.Gated(*paths, l1, auxiliary, frozen if auxiliary else None)

    return own


def plus_aux(base, dead, aux_k, coefficient, *, subtracted, encoder=True, negative=False):
    """``base`` and AuxK: how the features ``dead`` reconstruct what is left over.

    ``coefficient`` is of the mean, and may look at the residual.  Without ``encoder`` only W_dec
    gets a gradient; with ``negative`` dead activations below zero take part.
    """

    def both(theirs):
        first = base(theirs)
        given = {n: majorants(a) for n, a in theirs.arrays.items()}
        x, target = majorants(theirs.x), majorants(theirs.target)
        read = x - given["b_dec"] if subtracted else x
        residual = target - first["reconstruction"]
        by = coefficient(residual, target)
        if negative:  # relu is the identity once all are lifted above zero
            pre = reference.affine_forward(read, given["W_enc"], given["b_enc"])
            lift = 1 + np.abs(values_of(pre)).max()
            kept = reference.topk_forward(np.where(dead, pre + lift, 0), aux_k) != 0
            hidden = np.where(kept, pre, 0 * pre)
            forward = reference.AuxForward(hidden, reference.decode_forward(
                hidden, given["W_dec"], 0))  # fmt: skip
        else:
            weights = (given[n] for n in ("W_enc", "b_enc", "W_dec"))
            forward = reference.aux_k_forward(read, dead, *weights, aux_k)
        aux = reference.aux_k_backward(read, residual, *forward, given["W_enc"], given["W_dec"], by)
        more = {"loss": reference.aux_k_loss(residual, forward.reconstruction, by)}
        more["W_dec"] = aux.dW_dec
        if encoder:
            more |= {"W_enc": aux.dW_enc, "b_enc": aux.db_enc}
            if subtracted:
                more["b_dec"] = -np.sum(aux.dx, axis=0)
        return added(first, more)

    return both


# sae-lens.


def of_sae_lens(name, dead=None, **options):
    from sae_lens import saes
    from sae_lens.saes.sae import TrainStepInput

    trains = "Training" in name
    lifted = options.pop("lifted", 0.0)

    def run(dtype):
        given = {"d_in": I, "d_sae": D, "dtype": str(dtype).removeprefix("torch."), **options}
        model = getattr(saes, name)(getattr(saes, f"{name}Config")(**given))
        model = filled(model, 1, dtype)
        x = rows(1, I, dtype)
        if dead is not None and lifted:
            with torch.no_grad():
                model.b_enc[torch.tensor(dead)] += lifted
        if trains:
            step = TrainStepInput(
                sae_in=x, coefficients={"l1": PENALTY, "l0": PENALTY}, n_training_steps=0,
                dead_neuron_mask=None if dead is None else torch.tensor(dead),
                is_logging_step=False,
            )  # fmt: skip
            made = model.training_forward_pass(step)
            forward = {"hidden": made.feature_acts, "reconstruction": made.sae_out}
            return found(model, x, x, made.loss, **forward)
        x.requires_grad_()
        target = rows(2, given.get("d_out", I), dtype)
        hidden = model.encode(x)
        y = model.decode(hidden) + (x @ model.W_skip.T if hasattr(model, "W_skip") else 0)
        loss = ((y - target) ** 2).mean() + L1 * hidden.abs().mean()
        return found(model, x, target, loss, hidden=hidden, reconstruction=y)

    return run


SAE = {"apply_b_dec_to_input": True}
RESCALED = SAE | {"rescale_acts_by_decoder_norm": True}
SUMMED = {"reconstruction_loss": "mse_sum", "sparsity_loss": "l1_sum"}
DEAD = np.arange(D) % 3 == 1  # 5 features, of which I // 2 are kept


def gated_sae_lens(theirs):
    """The gate path is a ReLU autoencoder of its own: its decoder is not frozen, and its penalty
    looks at the norms of W_dec."""
    first = computed(theirs, activation="gated", own=gated(0, 0), losses=reference.Losses(**SUMMED),
                     conventions=rt.Conventions(**SAE))  # fmt: skip
    biased = theirs._replace(arrays=theirs.arrays | {"b_enc": theirs.arrays["b_gate"]})
    weighted = reference.Losses("mse_sum", "l1_decoder_weighted")
    gate = computed(biased, activation="relu", l1_coeff=PENALTY, losses=weighted,
                    conventions=rt.Conventions(**SAE))  # fmt: skip
    gate["b_gate"] = gate.pop("b_enc")
    return added(first, gate)


def matryoshka(widths):
    """The losses of the first features alone added: by the operations of the reference."""

    def total(theirs):
        first = ours("batchtopk", **SUMMED, conventions=SAE)(theirs)
        given = {n: majorants(a) for n, a in theirs.arrays.items()}
        x, target = majorants(theirs.x), majorants(theirs.target)
        parts = [first]
        for width in widths:
            inner = np.arange(D) < width
            hidden = np.where(inner, first["hidden"], 0 * first["hidden"])
            y = reference.decode_forward(hidden, given["W_dec"], given["b_dec"])
            d_y = reference.mse_sum_backward(target, y)
            d_hidden, dW_dec, db_dec = reference.decode_backward(d_y, hidden, given["W_dec"])
            d_pre = reference.topk_backward(d_hidden, hidden)
            read = x - given["b_dec"]
            dx, dW_enc, db_enc = reference.affine_backward(d_pre, read, given["W_enc"])
            loss = reference.mse_sum_forward(target, y)
            parts.append({"loss": loss, "W_dec": dW_dec, "b_dec": db_dec - np.sum(dx, axis=0),
                          "W_enc": dW_enc, "b_enc": db_enc})  # fmt: skip
        return added(*parts)

    return total


def from_sae_lens():
    for norm in ("none", "constant_norm_rescale", "layer_norm"):
        conventions = SAE | {"normalize_activations": norm}
        yield (f"StandardTrainingSAE, {norm}",
               of_sae_lens("StandardTrainingSAE", normalize_activations=norm),
               ours("relu", reconstruction_loss="mse_sum", sparsity_loss="l1_decoder_weighted",
                    l1_coeff=PENALTY, conventions=conventions))  # fmt: skip
    for kind in ("TopK", "AbsTopK", "BatchTopK"):
        for rescaled in (False, True):
            name, conventions = f"{kind}TrainingSAE", RESCALED if rescaled else SAE
            said = {"k": K, "rescale_acts_by_decoder_norm": rescaled}
            yield (name + ", rescaled" * rescaled, of_sae_lens(name, **said),
                   ours(kind.lower(), **SUMMED, conventions=conventions))  # fmt: skip
    said = {"k": K, "rescale_acts_by_decoder_norm": False, "dead": DEAD}
    base = ours("topk", **SUMMED, conventions=SAE)
    kept = I // 2, lambda *_: I  # a mean over outputs, where they have a sum
    yield ("TopKTrainingSAE, AuxK", of_sae_lens("TopKTrainingSAE", lifted=12.0, **said),
           plus_aux(base, DEAD, *kept, subtracted=True))  # fmt: skip
    yield ("TopKTrainingSAE, AuxK below zero", of_sae_lens("TopKTrainingSAE", lifted=-6.0, **said),
           plus_aux(base, DEAD, *kept, subtracted=True, negative=True),
           "convention: dead activations below zero reconstruct, too")  # fmt: skip
    base = ours("batchtopk", **SUMMED, conventions=SAE)
    yield ("BatchTopKTrainingSAE, AuxK", of_sae_lens("BatchTopKTrainingSAE", lifted=12.0, **said),
           plus_aux(base, DEAD, *kept, subtracted=True))  # fmt: skip
    del said["dead"]
    yield ("MatryoshkaBatchTopKTrainingSAE",
           of_sae_lens("MatryoshkaBatchTopKTrainingSAE", matryoshka_widths=[4, 9, D], **said),
           matryoshka([4, 9]),
           "convention: nested losses, none of ours, are added")  # fmt: skip
    modes = {"step": ("l0_step", {}), "tanh": ("l0_tanh", {"tanh_scale": 4.0}),
             "quadratic": ("l0_quadratic", {"target_l0": 2.5})}  # fmt: skip
    for mode, (name, more) in modes.items():
        for to_input in (False, True):
            run = of_sae_lens("JumpReLUTrainingSAE", jumprelu_sparsity_loss_mode=mode,
                              jumprelu_bandwidth=0.5, jumprelu_ste_to_input=to_input,
                              target_l0=2.5)  # fmt: skip
            own = jumprelu(0.5, "theta_and_input" if to_input else "theta")
            yield (f"JumpReLUTrainingSAE, {mode}{', to input' * to_input}", run,
                   ours("jumprelu", own=own, reconstruction_loss="mse_sum", sparsity_loss=name,
                        l1_coeff=PENALTY, conventions=SAE, **more),
                   "", ("theta",))  # fmt: skip
    yield ("GatedTrainingSAE", of_sae_lens("GatedTrainingSAE"), gated_sae_lens,
           "convention: the decoder of the gate path learns, its penalty is weighted")  # fmt: skip
    for name, activation in {"Transcoder": "relu", "SkipTranscoder": "relu",
                             "JumpReLUTranscoder": "jumprelu",
                             "JumpReLUSkipTranscoder": "jumprelu"}.items():  # fmt: skip
        own = jumprelu(None) if activation == "jumprelu" else None
        yield (f"{name}, mse + l1", of_sae_lens(name, d_out=O, apply_b_dec_to_input=False),
               ours(activation, own=own, l1_coeff=L1))  # fmt: skip


# eai-sparsify.


def of_sparsify(loss, *, dead=None, lifted=0.0, raised=4.0, k=K, **options):
    """``raised`` is added to the biases, so that what is selected is active: its encoder passes a
    gradient where it is not, which one line shows."""
    from sparsify import SparseCoder, SparseCoderConfig

    def run(dtype):
        config = SparseCoderConfig(num_latents=D, k=k, normalize_decoder=False, **options)
        model = filled(SparseCoder(I, config), 3, dtype)
        x = rows(3, I, dtype)
        target = rows(4, I, dtype) if options.get("transcode") else x
        with torch.no_grad():
            model.encoder.bias += raised
            if dead is not None:
                model.encoder.bias[torch.tensor(dead)] += lifted
        mask = None if dead is None else torch.tensor(dead)
        made = model(x, target, dead_mask=mask)
        acts, indices = model.encode(x)[:2]
        forward = {"hidden": torch.zeros(B, D, dtype=dtype).scatter(1, indices.long(), acts)}
        if not options.get("multi_topk"):
            forward["reconstruction"] = made.sae_out
        return found(model, x, target, loss(made), **forward)

    return run


def multi_topk(theirs):
    """A second pass over 4 K features, of which no gradient reaches the encoder, nor W_skip, which
    it lacks."""
    first = ours("topk", reconstruction_loss="fvu")(theirs)
    without = {n: a for n, a in theirs.arrays.items() if n != "W_skip"}
    again = ours("topk", reconstruction_loss="fvu", top_k=4 * K)(theirs._replace(arrays=without))
    kept = {n: again[n] / 8 for n in ("loss", "W_dec", "b_dec")}
    return added(first, kept)


def where_inactive(theirs):
    """Gradients pass where indices select features that are not active."""
    first = ours("topk", reconstruction_loss="fvu", top_k=D)(theirs)
    given = {n: majorants(a) for n, a in theirs.arrays.items()}
    d_y = reference.fvu_backward(majorants(theirs.target), first["reconstruction"])
    d_pre, _, _ = reference.decode_backward(d_y, first["hidden"], given["W_dec"])
    _, dW_enc, db_enc = reference.affine_backward(d_pre, majorants(theirs.x), given["W_enc"])
    return first | {"W_enc": dW_enc, "b_enc": db_enc}


def variance_of(residual, target):
    """sum (y - mean y)^2, from the loss that divides by it."""
    nothing = np.sum((target - np.mean(target, axis=0)) ** 2)
    return B * I / nothing


def from_sparsify():
    fvu = {"reconstruction_loss": "fvu"}
    transcode = {"transcode": True}
    yield "topk SAE, fvu", of_sparsify(lambda m: m.fvu), ours("topk", **fvu, conventions=SAE)
    yield "topk transcoder, fvu", of_sparsify(lambda m: m.fvu, **transcode), ours("topk", **fvu)
    skip = transcode | {"skip_connection": True}
    yield "topk skip transcoder, fvu", of_sparsify(lambda m: m.fvu, **skip), ours("topk", **fvu)
    yield ("groupmax transcoder, fvu",
           of_sparsify(lambda m: m.fvu, activation="groupmax", k=4, **transcode),
           ours("groupmax", **fvu, top_k=4))  # fmt: skip
    yield ("topk transcoder, fvu + AuxK / 32",
           of_sparsify(lambda m: m.fvu + m.auxk_loss / 32, dead=DEAD, lifted=12.0, **transcode),
           plus_aux(ours("topk", **fvu), DEAD, I // 2, lambda *g: variance_of(*g) / 32,
                    subtracted=False, encoder=False),
           "their fault: no gradient of AuxK reaches the encoder")  # fmt: skip
    yield ("topk skip transcoder, fvu + multi_topk / 8",
           of_sparsify(lambda m: m.fvu + m.multi_topk_fvu / 8, multi_topk=True, **skip), multi_topk,
           "their fault: the second pass lacks W_skip, and trains the decoder alone")  # fmt: skip
    yield ("topk transcoder of all features",
           of_sparsify(lambda m: m.fvu, raised=0.0, k=D, **transcode), where_inactive,
           "their fault: a gradient passes where ReLU is inactive")  # fmt: skip


# dictionary-learning.


def of_trainer(module, name, dead=None, lifted=0.0, **options):
    trainers = importlib.import_module(f"dictionary_learning.trainers.{module}")

    def run(dtype):
        trainer = getattr(trainers, name)(
            steps=10, activation_dim=I, dict_size=D, layer=0, lm_name="none", warmup_steps=0,
            device="cpu", **options,
        )  # fmt: skip
        model = trainer.ae = filled(trainer.ae, 5, dtype)
        x = rows(5, I, dtype)
        if dead is not None:
            with torch.no_grad():
                model.encoder.bias[torch.tensor(dead)] += lifted
            counts = torch.tensor(dead) * trainer.dead_feature_threshold
            trainer.num_tokens_since_fired = _Stubborn(counts)
        made = trainer.loss(x, step=0, logging=True)
        forward = {"hidden": made.f, "reconstruction": getattr(made, "x_hat", None)}
        if forward["reconstruction"] is None:
            forward["reconstruction"] = made.recon
        loss = trainer.loss(x, step=0)
        turned = {"decoder.weight"} | ({"W_enc"} if hasattr(model, "W_enc") else set())
        return found(model, x, x, loss, turned, **forward)

    return run


class _Stubborn:
    """Counts of tokens since a feature fired, which no batch changes: what the auxiliary loss takes
    for dead fires in this one, so that its activations are above zero."""

    def __init__(self, counts):
        self.counts = counts

    def __ge__(self, limit):
        return self.counts >= limit

    def __iadd__(self, _):
        return self

    def __setitem__(self, *_):
        pass

    dtype = torch.long

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return function(*(a.counts if isinstance(a, cls) else a for a in args), **(kwargs or {}))


def over_residual(residual, _):
    """sums over their variance: mean_b sum_o (e - mean e)^2."""
    spread = np.sum((residual - np.mean(residual, axis=0)) ** 2) / B
    return I / spread / 32


def of_hidden(theirs):
    """The step of the penalty is taken of hidden, so that its window has no lower half."""
    first = ours("jumprelu", own=jumprelu(0.5), reconstruction_loss="mse_sum")(theirs)
    hidden, theta = first["hidden"], majorants(theirs.arrays["theta"])
    target = 2.5
    loss = reference.l0_target_forward(hidden, PENALTY, target)
    d_active = 0 * hidden + majorants(reference.l0_target_backward(hidden, PENALTY, target))
    inside = 2 * np.abs(hidden - theta) < 0.5
    d_theta = -np.sum(np.where(inside, d_active, 0 * d_active), axis=0) / 0.5
    return added(first, {"loss": majorants(loss)[()], "theta": d_theta})


def from_dictionary_learning():
    l1 = {"l1_penalty": PENALTY, "sparsity_warmup_steps": None}
    yield ("StandardTrainer", of_trainer("standard", "StandardTrainer", **l1),
           ours("relu", **SUMMED, l1_coeff=PENALTY, conventions=SAE))  # fmt: skip
    yield ("StandardTrainerAprilUpdate", of_trainer("standard", "StandardTrainerAprilUpdate", **l1),
           ours("relu", reconstruction_loss="mse_sum", sparsity_loss="l1_decoder_weighted",
                l1_coeff=PENALTY, conventions=SAE))  # fmt: skip
    for module, name, activation in (("top_k", "TopKTrainer", "topk"),
                                     ("batch_top_k", "BatchTopKTrainer", "batchtopk")):  # fmt: skip
        base = ours(activation, **SUMMED, conventions=SAE)
        yield name, of_trainer(module, name, k=K), base
        yield (f"{name}, AuxK", of_trainer(module, name, dead=DEAD, lifted=12.0, k=K),
               plus_aux(base, DEAD, I // 2, over_residual, subtracted=True),
               "their fault: AuxK is computed in float32, whatever the type", (...,))  # fmt: skip
    yield ("GatedSAETrainer", of_trainer("gdm", "GatedSAETrainer", **l1),
           ours("gated", own=gated(PENALTY * D, I), **SUMMED, conventions=SAE))  # fmt: skip
    yield ("JumpReluTrainer",
           of_trainer("jumprelu", "JumpReluTrainer", bandwidth=0.5, target_l0=2.5,
                      sparsity_penalty=PENALTY, sparsity_warmup_steps=None),
           of_hidden, "convention: the step is of hidden, so that its window has no lower half; "
           "their fault: the penalty is computed in float32", ("loss", "theta"))  # fmt: skip


# circuit-tracer.


def of_circuit_tracer(activation, skip):
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder

    def run(dtype):
        function = JumpReLU(torch.zeros(D), 0.5) if activation == "jumprelu" else torch.relu
        model = SingleLayerTranscoder(I, D, function, 3, skip_connection=skip,
                                      device=torch.device("cpu"), dtype=dtype)  # fmt: skip
        model = filled(model, 7, dtype)
        x, target = rows(7, I, dtype).requires_grad_(), rows(8, I, dtype)
        hidden, y = model.encode(x), model(x)
        loss = ((y - target) ** 2).mean() + L1 * hidden.abs().mean()
        return found(model, x, target, loss, set(), hidden=hidden, reconstruction=y)

    return run


def of_layers(activation, L=3):
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder

    def run(dtype):
        model = CrossLayerTranscoder(L, D, I, activation_function=activation, dtype=dtype,
                                     lazy_decoder=False, device=torch.device("cpu"))  # fmt: skip
        model = filled(model, 9, dtype)
        generator = torch.Generator().manual_seed(10_000 * SEED + 9)
        x, target = (drawn((L, B, I), generator).to(dtype) for _ in range(2))
        # By layers: the backward of its JumpReLU sums over the axis of layers, and fails.
        hidden = torch.stack([model.encode_layer(x[l], l) for l in range(L)])
        y = model.decode(hidden)
        loss = sum(((y[l] - target[l]) ** 2).mean() + L1 * hidden[l].abs().mean() for l in range(L))
        theirs = found(model, x, target, loss, set(), hidden=hidden, reconstruction=y)
        theirs.gradients.pop("theta", None)  # by this way it gets none
        return theirs

    return run


def of_our_layers(activation):
    def layers(theirs):
        given = {n: majorants(a) for n, a in theirs.arrays.items()}
        L = len(given["b_dec"])
        weights = [given["W_enc"], given["b_enc"], [given[f"W_dec.{l}"] for l in range(L)]]
        own = None
        if activation == "jumprelu":
            own = [reference.JumpReLU(given["theta"][l].reshape(-1)) for l in range(L)]
        x, target = majorants(theirs.x), majorants(theirs.target)
        options = {"activation": activation, "own": own}
        forward = reference.cross_layer_forward(x, *weights, given["b_dec"], top_k=D, **options)
        backward = reference.cross_layer_backward(
            x, target, forward, weights[0], weights[2], l1_coeff=L1, **options
        )
        made = {n: np.stack(getattr(backward, f"d{n}")) for n in ("W_enc", "b_enc", "b_dec")}
        made |= {f"W_dec.{l}": backward.dW_dec[l] for l in range(L)}
        made["loss"] = reference.cross_layer_loss(
            target, forward.reconstruction, forward.hidden, L1
        )
        made |= {n: np.stack(getattr(forward, n)) for n in ("hidden", "reconstruction")}
        return made

    return layers


def from_circuit_tracer():
    for theirs, our in (("relu", "relu"), ("jump_relu", "jumprelu")):
        yield f"cross-layer {our}, mse + l1", of_layers(theirs), of_our_layers(our)
    for skip in (False, True):
        yield (f"relu{', skip' * skip}, mse + l1", of_circuit_tracer("relu", skip),
               ours("relu", l1_coeff=L1))  # fmt: skip
        yield (f"jumprelu{', skip' * skip}, mse + l1", of_circuit_tracer("jumprelu", skip),
               ours("jumprelu", own=jumprelu(0.5), l1_coeff=L1))  # fmt: skip


LIBRARIES = {
    "sae-lens": from_sae_lens,
    "eai-sparsify": from_sparsify,
    "dictionary-learning": from_dictionary_learning,
    "circuit-tracer": from_circuit_tracer,
}
LINE = "{:25} {:46} {:8} {:>8} {:>8} {:>9} {:7}{}"


def ratios(row, theirs, dtype):
    """What is off, over its bound: of the forward pass, the loss, and the worst gradient."""
    want = row.ours(theirs)
    wide = UNITS[dtype]

    def of(name, got):
        u = UNITS["float32"] if name in row.narrow or ... in row.narrow else wide
        known = np.asarray(want[name], dtype=object)
        apart = np.abs(got - values_of(known))
        return (apart / np.maximum(bounds_of(known, u), np.finfo(float).tiny)).max()

    kept = (values_of(want["hidden"]) != 0) == (theirs.forward["hidden"] != 0)
    forward = max(of(name, got) for name, got in theirs.forward.items())
    gradients = {name: of(name, got) for name, got in theirs.gradients.items()}
    worst = max(gradients, key=gradients.__getitem__)
    return forward if kept.all() else np.inf, of("loss", theirs.loss), gradients[worst], worst


def main() -> int:
    failed = 0
    print(LINE.format("library", "what", "type", "forward", "loss", "gradients", "worst", ""))
    for library, cases in LIBRARIES.items():
        try:
            release = version(library)
        except PackageNotFoundError:
            print(f"{library:25} is not installed")
            continue
        for case in cases():
            row = Row(f"{library} {release}", *case)
            for dtype in UNITS:
                *off, worst = ratios(row, row.run(getattr(torch, dtype)), dtype)
                beyond = not max(off) <= 1
                failed += beyond
                said = f"  BEYOND{f', {row.note}' * bool(row.note)}" if beyond else ""
                said = said or (f"  {row.note}" if row.note else "")
                numbers = (f"{number:.3f}" for number in off)
                print(LINE.format(row.library, row.what, dtype, *numbers, worst, said), flush=True)
    print(f"{failed} beyond")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
