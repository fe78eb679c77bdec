"""What sae-lens 6.54.12 and dictionary-learning 0.1.0 make of random numbers when they are gated.

    python tests/golden/make_gated.py

writes ``gated_f64.npz`` anew, in an environment with these versions and PyTorch 2.13.0.  Names are
``CASE.ARRAY``, in float64.  The loss of a case is the library's own, that of its training, with its
coefficient for the penalty as ``penalty``; of ``sae_lens_plain`` it is ``mean((reconstruction -
target)**2) + l1_coeff * mean(abs(hidden))``.  PyTorch differentiates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from dictionary_learning.trainers.gdm import GatedSAETrainer
from sae_lens.saes import gated_sae
from sae_lens.saes.sae import TrainStepInput

B, I, D, PENALTY, L1 = 5, 6, 12, 0.375, 0.25
THEIRS = {
    "encoder.weight": "W_enc",
    "decoder.weight": "W_dec",
    "decoder_bias": "b_dec",
    "gate_bias": "b_gate",
    "mag_bias": "b_mag",
}
#: Those of which a column is a feature's.
TURNED = {"sae_lens": {"W_enc"}, "dictionary_learning": {"W_dec"}}


def filled(model, generator):
    """``model`` in float64 with random numbers, and features that write vectors of length 1."""
    model = model.double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
            if THEIRS.get(name, name) == "W_dec":
                p /= p.norm(dim=0 if name == "decoder.weight" else 1, keepdim=True)
    return model


def found(library, model, x, loss, **given):
    """Every array of a case, by our names and in our shapes, once ``loss`` was differentiated."""
    loss.backward()
    given |= {"x": x, "loss": loss} | ({} if x.grad is None else {"dx": x.grad})
    for name, p in model.named_parameters():
        ours = THEIRS.get(name, name)
        turn = ours in TURNED[library]
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        given |= {ours: p.T if turn else p, f"d{ours}": grad.T if turn else grad}
    return {name: torch.as_tensor(value).detach().numpy() for name, value in given.items()}


def sae_lens(generator, x, target):
    options = {"d_in": I, "d_sae": D, "dtype": "float64", "device": "cpu"}
    model = filled(gated_sae.GatedSAE(gated_sae.GatedSAEConfig(**options)), generator)
    hidden = model.encode(x)
    y = model.decode(hidden)
    loss = ((y - target) ** 2).mean() + L1 * hidden.abs().mean()
    plain = found("sae_lens", model, x, loss, hidden=hidden, reconstruction=y, target=target)

    x = x.detach()  # which is the target, too: no gradient by it is compared
    config = gated_sae.GatedTrainingSAEConfig(**options, l1_coefficient=PENALTY)
    model = filled(gated_sae.GatedTrainingSAE(config), generator)
    step = TrainStepInput(
        sae_in=x, coefficients={"l1": PENALTY}, dead_neuron_mask=None, n_training_steps=0,
        is_logging_step=False,
    )  # fmt: skip
    made = model.training_forward_pass(step)
    trained = found(
        "sae_lens", model, x, made.loss, hidden=made.feature_acts, reconstruction=made.sae_out
    )
    return {"sae_lens_plain": plain, "sae_lens": trained}


def dictionary_learning(generator, x):
    trainer = GatedSAETrainer(
        steps=1, activation_dim=I, dict_size=D, layer=0, lm_name="none", l1_penalty=PENALTY,
        warmup_steps=0, sparsity_warmup_steps=None, device="cpu",
    )  # fmt: skip
    model = filled(trainer.ae, generator)
    hidden = model.encode(x)
    loss = trainer.loss(x, 0)
    given = {"hidden": hidden, "reconstruction": model.decode(hidden)}
    return {"dictionary_learning": found("dictionary_learning", model, x, loss, **given)}


def main():
    generator = torch.Generator().manual_seed(0)
    x, again, target = (
        torch.randn(B, I, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    cases = sae_lens(generator, x.requires_grad_(), target)
    cases |= dictionary_learning(generator, again)
    entries = {f"{case}.{n}": a for case, arrays in cases.items() for n, a in arrays.items()}
    entries |= {"penalty": np.array(PENALTY), "l1_coeff": np.array(L1)}
    np.savez_compressed(Path(__file__).with_name("gated_f64.npz"), **entries)


if __name__ == "__main__":
    main()
