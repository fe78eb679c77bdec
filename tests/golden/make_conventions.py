"""What sae-lens 6.54.12 and eai-sparsify 1.3.3 make of random numbers under their conventions.

    SPARSIFY_DISABLE_TRITON=1 python tests/golden/make_conventions.py

writes ``conventions_f64.npz`` anew, in an environment with these versions and PyTorch 2.13.0.
Names are ``CASE.ARRAY``, in float64; the loss is ``mean((reconstruction - target)**2) + l1_coeff *
mean(abs(hidden))``, differentiated by PyTorch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import sae_lens.saes.jumprelu_sae as jumprelu
import sae_lens.saes.standard_sae as standard
import sae_lens.saes.topk_sae as topk
import sae_lens.saes.transcoder as transcoder
import torch
from sparsify import SparseCoder, SparseCoderConfig

B, I, D, K, L1 = 5, 6, 12, 3, 0.25
COMMON = {"d_in": I, "d_sae": D, "dtype": "float64", "device": "cpu"}
OF_TOPK = {"k": K, "rescale_acts_by_decoder_norm": True}


def sae(kind, config, **options):
    return lambda: kind(config(**COMMON, **options))


def transcoding(kind, config, **options):
    return sae(kind, config, d_out=I, apply_b_dec_to_input=False, **options)


def normalized(name):
    return {"normalize_activations": name}


#: name -> a model of the library, and our options.
CASES = {
    "standard": (sae(standard.StandardSAE, standard.StandardSAEConfig), {"activation": "relu"}),
    **{
        f"standard_{name}": (
            sae(standard.StandardSAE, standard.StandardSAEConfig, normalize_activations=name),
            {"activation": "relu", **normalized(name)},
        )
        for name in ("constant_norm_rescale", "layer_norm")
    },
    **{
        f"topk_{name}": (
            sae(topk.TopKSAE, topk.TopKSAEConfig, **OF_TOPK, normalize_activations=name),
            {"activation": "topk", **normalized(name), "rescale_acts_by_decoder_norm": True},
        )
        for name in ("none", "layer_norm", "constant_norm_rescale")
    },
    "jumprelu": (
        sae(jumprelu.JumpReLUSAE, jumprelu.JumpReLUSAEConfig, normalize_activations="layer_norm"),
        {"activation": "jumprelu", **normalized("layer_norm")},
    ),
    "skip_transcoder": (
        transcoding(
            transcoder.SkipTranscoder,
            transcoder.SkipTranscoderConfig,
            normalize_activations="constant_norm_rescale",
        ),
        {
            "activation": "relu",
            **normalized("constant_norm_rescale"),
            "apply_b_dec_to_input": False,
            "rescale_output": False,
        },
    ),
    "sparsify_skip": (
        lambda: SparseCoder(
            I,
            SparseCoderConfig(num_latents=D, k=K, skip_connection=True, transcode=False),
            dtype=torch.float64,
        ),
        {"activation": "topk"},
    ),
}
THEIRS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "threshold": "theta"}


def case(name, make, seed):
    generator = torch.Generator().manual_seed(seed)
    model, found = make(), {}
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
            if key == "threshold":
                p.abs_()
    x = torch.randn(B, I, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.randn(B, I, generator=generator, dtype=torch.float64)
    if name.startswith("sparsify"):
        acts, indices, _ = model.encode(x)
        hidden = torch.zeros(B, D, dtype=torch.float64).scatter(1, indices, acts)
        hidden.retain_grad()
        reconstruction = hidden @ model.W_dec + model.b_dec + x @ model.W_skip.mT
        assert torch.allclose(reconstruction, model(x).sae_out)
    else:
        hidden = model.encode(x)
        reconstruction = model.decode(hidden)
        if hasattr(model, "W_skip"):
            reconstruction = reconstruction + x @ model.W_skip.T
    loss = ((reconstruction - target) ** 2).mean() + L1 * hidden.abs().mean()
    loss.backward()
    found |= {"x": x, "target": target, "hidden": hidden, "reconstruction": reconstruction}
    found |= {"loss": loss, "dx": x.grad}
    for key, p in model.named_parameters():
        ours = THEIRS.get(key, key)
        turn = ours == "W_enc" and key == "W_enc"
        found[ours] = p.T if turn else p
        if ours != "theta":
            found[f"d{ours}"] = p.grad.T if turn else p.grad
    return {f"{name}.{key}": value.detach().numpy() for key, value in found.items()}


def main():
    entries, options = {}, {}
    for seed, (name, (make, ours)) in enumerate(CASES.items()):
        entries |= case(name, make, seed)
        options[name] = ours
    entries["options"] = np.array(json.dumps(options))
    np.savez_compressed(Path(__file__).with_name("conventions_f64.npz"), **entries)


if __name__ == "__main__":
    main()
