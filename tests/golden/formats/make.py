"""Makes the folders beside it: models as the libraries themselves save them, with their results.

    python tests/golden/formats/make.py     # with torch, sae-lens, eai-sparsify and the rest

Random weights by a seed.  ``expect.npz`` has ``x``, and ``features`` and ``reconstruction`` as the
library computes them.  Where a format has no library that writes it (Gemma Scope) or none that is
installed beside the others (circuit-tracer), the layout is written here by its description, and the
results are those of the sae-lens class that computes the same.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from dictionary_learning import dictionary
from dictionary_learning.trainers import batch_top_k, top_k
from sae_lens import saes
from safetensors.torch import save_file

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # there is no GPU
from sparsify import SparseCoder, SparseCoderConfig

HERE = Path(__file__).parent
I, O, D, K, B = 6, 5, 16, 3, 9


def filled(module, dtype=torch.float32):
    """``module`` with random numbers in every parameter, and thresholds above zero."""
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point() and value.ndim:
                value.copy_(torch.randn(value.shape))
            if name.endswith("threshold"):
                value.copy_(torch.rand(value.shape) * 0.4 + 0.1)
    return module.to(dtype)


def keep(name, features, reconstruction, x):
    numbers = {"x": x, "features": features, "reconstruction": reconstruction}
    path = HERE / name / "expect.npz"
    np.savez(path, **{n: a.detach().float().numpy() for n, a in numbers.items()})


def run(name, model, dtype=torch.float32):
    x = torch.randn(B, I, dtype=dtype)
    x[0] = 0
    with torch.no_grad():
        features = model.encode(x)
        keep(name, features, model(x), x)


def sae_lens(name, kind, config, dtype="float32", **options):
    options = {"d_in": I, "d_sae": D, "dtype": dtype} | options
    if "d_out" in options:
        options["apply_b_dec_to_input"] = False
    model = filled(kind(config(**options)), getattr(torch, dtype))
    model.save_model(HERE / name)
    run(name, model, getattr(torch, dtype))
    return model


def sparsify(name, **options):
    model = filled(SparseCoder(I, SparseCoderConfig(**{"num_latents": D, "k": K} | options)))
    model.save_to_disk(HERE / name)
    x = torch.randn(B, I)
    with torch.no_grad():
        found = model.encode(x)
        acts, indices = found.top_acts, found.top_indices
        features = torch.zeros(B, D).scatter_(1, indices.long(), acts)
        keep(name, features, model(x, x).sae_out, x)


def dictionary_learning(name, model, **trainer):
    (HERE / name).mkdir(exist_ok=True)
    model = filled(model)
    torch.save(model.state_dict(), HERE / name / "ae.pt")
    trainer = {"dict_class": type(model).__name__, "activation_dim": I, "dict_size": D} | trainer
    (HERE / name / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    run(name, model)


def by_description():
    """Gemma Scope, its successor, and circuit-tracer: see above."""
    (HERE / "gemma_scope").mkdir(exist_ok=True)
    model = sae_lens("gemma_scope", saes.JumpReLUSAE, saes.JumpReLUSAEConfig,
                     apply_b_dec_to_input=False)  # fmt: skip
    arrays = {n: a.detach().numpy() for n, a in model.state_dict().items()}
    np.savez(HERE / "gemma_scope" / "params.npz", **arrays)
    model = sae_lens("gemma_scope_2", saes.JumpReLUSkipTranscoder,
                     saes.JumpReLUSkipTranscoderConfig, d_out=O)  # fmt: skip
    state = {n.lower(): a.contiguous() for n, a in model.state_dict().items()}
    state["affine_skip_connection"] = state.pop("w_skip").T.contiguous()
    save_file(state, HERE / "gemma_scope_2" / "params.safetensors")
    settings = {"architecture": "jump_relu", "affine_connection": True, "type": "transcoder",
                "hf_hook_point_in": "model.layers.3.pre_feedforward_layernorm.output"}  # fmt: skip
    (HERE / "gemma_scope_2" / "config.json").write_text(json.dumps(settings))
    model = sae_lens("circuit_tracer", saes.SkipTranscoder, saes.SkipTranscoderConfig, d_out=O)
    state = {n: a.contiguous() for n, a in model.state_dict().items()}
    state["W_enc"] = state["W_enc"].T.contiguous()
    save_file(state, HERE / "circuit_tracer" / "layer_7.safetensors")
    (HERE / "circuit_tracer" / "config.yaml").write_text(
        'model_name: "google/gemma-2-2b"\nmodel_kind: transcoder_set\n'
        "feature_input_hook: ln2.hook_normalized  # of TransformerLens\n"
        "feature_output_hook: hook_mlp_out\nscan:\n  - gemma\ntranscoders: []\n"
    )
    for name in ("gemma_scope", "gemma_scope_2", "circuit_tracer"):
        for file in ("cfg.json", "sae_weights.safetensors"):
            (HERE / name / file).unlink()


def cross_layer(name, activation, L=3, l1_coeff=0.5):
    """circuit-tracer's cross-layer class itself, where it is installed, and what autograd makes of
    the loss: summed over layers, and in each as ours."""
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder

    model = CrossLayerTranscoder(L, D, I, activation_function=activation, lazy_decoder=False,
                                 device=torch.device("cpu"), dtype=torch.float32)  # fmt: skip
    model = filled(model)
    model.to_safetensors(HERE / name)
    (HERE / name / "config.yaml").write_text(
        'model_name: "google/gemma-2-2b"\nmodel_kind: cross_layer_transcoder\n'
        "feature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n"
    )
    x, target = torch.randn(L, B, I), torch.randn(L, B, I)
    x[:, 0] = 0
    # By layers: the backward of its JumpReLU sums over the axis of layers, and fails.
    features = torch.stack([model.encode_layer(x[l], l) for l in range(L)])
    assert torch.equal(features, model.encode(x))
    reconstruction = model.decode(features)
    loss = sum(((target[t] - reconstruction[t]) ** 2).mean() + l1_coeff * features[t].abs().mean()
               for t in range(L))  # fmt: skip
    loss.backward()
    found = {"x": x, "target": target, "features": features, "reconstruction": reconstruction}
    found |= {"loss": loss, "l1_coeff": torch.tensor(l1_coeff)}
    found |= {f"grad.{n}": p.grad for n, p in model.named_parameters() if "threshold" not in n}
    arrays = {n: a.detach().numpy() for n, a in found.items()}
    np.savez(HERE / name / "expect.npz", **arrays)


def crosslayer_coding(name, activation, tying, L=3):
    """The class of a checkout of curt-tigges/crosslayer-coding, which no registry has."""
    from clt.config import CLTConfig
    from clt.models.clt import CrossLayerTranscoder

    config = CLTConfig(num_features=D, num_layers=L, d_model=I, activation_fn=activation,
                       decoder_tying=tying, model_name="gpt2",
                       skip_connection=tying != "per_target",
                       enable_feature_offset=tying != "none",
                       enable_feature_scale=tying == "per_source")  # fmt: skip
    model = filled(CrossLayerTranscoder(config, None, torch.device("cpu")))
    (HERE / name).mkdir(exist_ok=True)
    config.to_json(HERE / name / "cfg.json")
    save_file(model.state_dict(), HERE / name / "clt_checkpoint_latest.safetensors")
    x = torch.randn(L, B, I)
    with torch.no_grad():
        features = model.get_feature_activations(dict(enumerate(x)))
        reconstruction = model(dict(enumerate(x)))
    stacked = (torch.stack([of[l] for l in range(L)]) for of in (features, reconstruction))
    keep(name, *stacked, x)


def clt_training(name, targets=(3, 2, 1), **options):
    """The class of a checkout of EleutherAI/clt-training, whose package is called sparsify, too: to
    be run by itself, with that first on the path."""
    from sparsify.config import SparseCoderConfig as Config
    from sparsify.runner import CrossLayerRunner

    x, features, reconstruction, runner = torch.randn(3, B, I), [], [], CrossLayerRunner()
    options = {"num_latents": D, "k": K, "transcode": True, "normalize_decoder": False} | options
    for t, n_targets in enumerate(targets):
        n_sources = sum(s + n > t for s, n in enumerate(targets[: t + 1]))
        config = Config(n_targets=n_targets, n_sources=n_sources, **options)
        coder = filled(SparseCoder(I, config, dtype=torch.float32))
        hook = f"layers.{t + 8}.mlp"  # 8, 9, 10
        (HERE / name / hook).mkdir(parents=True, exist_ok=True)
        if options.get("normalize_io"):
            coder.in_norm.fill_(3.5 + t), coder.out_norm.fill_(1.5 + t)
        # save_to_disk does not take what has two names, on a CPU.
        held = {n: a.clone() for n, a in coder.state_dict().items()}
        save_file(held, HERE / name / hook / "sae.safetensors")
        settings = json.dumps({**config.to_dict(), "d_in": I})
        (HERE / name / hook / "cfg.json").write_text(settings)
        with torch.no_grad():
            acts, indices = coder.encode(x[t])[:2]
            features.append(torch.zeros(B, D).scatter_(1, indices.long(), acts))
            reconstruction.append(runner(x[t], x[t], coder, hook).sae_out)
    keep(name, torch.stack(features), torch.stack(reconstruction), x)


def _local(here, repo_id, filename, **_):
    name = filename.rpartition("/")[2]
    return str(here[name] / name)


def llama_scope():
    """By its published layout; an autoencoder as sae-lens' own loader reads that, and computes it,
    and a transcoder, which that does not know, by OpenMOSS' description of the two factors."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    for kind, norms in (("sae", (6.3125, 6.3125)), ("transcoder", (2.5, 0.75))):
        name = f"llama_scope-{kind}"
        (HERE / name / "checkpoints").mkdir(parents=True, exist_ok=True)
        shapes = {"encoder.weight": (D, I), "encoder.bias": (D,),
                  "decoder.weight": (I, D), "decoder.bias": (I,)}  # fmt: skip
        state = {n: torch.randn(shape) for n, shape in shapes.items()}
        save_file(state, HERE / name / "checkpoints" / "final.safetensors")
        settings = {"d_model": I, "d_sae": D, "act_fn": "jumprelu", "jump_relu_threshold": 0.203125,
                    "norm_activation": "dataset-wise", "top_k": 50,
                    "hook_point_in": "blocks.8.ln2.hook_normalized",
                    "hook_point_out": "blocks.8.hook_mlp_out",
                    "dataset_average_activation_norm": dict(zip(("in", "out"), norms))}  # fmt: skip
        if kind == "sae":
            settings["hook_point_in"] = settings["hook_point_out"]
        (HERE / name / "hyperparams.json").write_text(json.dumps(settings))
        x = torch.randn(B, I)
        x[0] = 0
        s, t = (I**0.5 / norm for norm in norms)
        if kind == "sae":
            here = {"hyperparams.json": HERE / name}
            here["final.safetensors"] = HERE / name / "checkpoints"
            loaders.hf_hub_download = partial(_local, here)
            config, found, _ = loaders.llama_scope_sae_huggingface_loader(
                "x", "x", cfg_overrides={"dtype": "float32"})  # fmt: skip
            kept = {n: config[n] for n in ("d_in", "d_sae", "dtype", "apply_b_dec_to_input")}
            model = saes.JumpReLUSAE(saes.JumpReLUSAEConfig(**kept))
            model.load_state_dict(found)
            model.fold_activation_norm_scaling_factor(s)
            with torch.no_grad():
                keep(name, model.encode(x), model(x), x)
            continue
        z = (x * s) @ state["encoder.weight"].T + state["encoder.bias"]
        features = z.relu() * (z > settings["jump_relu_threshold"] * s)
        outputs = features @ state["decoder.weight"].T + state["decoder.bias"]
        keep(name, features, outputs / t, x)


def openai(name, activation):
    """The class of a checkout of openai/sparse_autoencoder, which no registry has."""
    from sparse_autoencoder.model import Autoencoder

    model = filled(Autoencoder(D, I, activation, normalize=type(activation).__name__ == "TopK"))
    (HERE / name).mkdir(exist_ok=True)
    torch.save(model.state_dict(), HERE / name / "7.pt")
    x = torch.randn(B, I)
    with torch.no_grad():
        _, features, reconstruction = model(x)
        keep(name, features, reconstruction, x)


def transcoder_circuits(name, outputs=None):
    """The class of a checkout of jacobdunefsky/transcoder_circuits, as its ``save_model`` does."""
    from sae_training.config import LanguageModelSAERunnerConfig
    from sae_training.sparse_autoencoder import SparseAutoencoder

    config = object.__new__(LanguageModelSAERunnerConfig)  # its own init wants a GPU and a service
    for key, field in LanguageModelSAERunnerConfig.__dataclass_fields__.items():
        setattr(config, key, field.default)
    config.d_in, config.d_sae, config.model_name = I, D, "gpt2-small"
    config.hook_point, config.device = "blocks.7.ln2.hook_normalized", "cpu"
    if outputs is not None:
        config.is_transcoder, config.d_out = True, outputs
        config.out_hook_point = "blocks.7.hook_mlp_out"
    model = filled(SparseAutoencoder(config)).eval()
    file = "final_sparse_autoencoder_gpt2-small_blocks.7.ln2.hook_normalized_16.pt"
    model.save_model(str(HERE / name / file))
    x = torch.randn(B, I)
    with torch.no_grad():
        reconstruction, features, *_ = model(x, mse_target=torch.ones(B, outputs or I))
        keep(name, features, reconstruction, x)


def circuit_tracer(name, activation, dtype=torch.float32):
    """circuit-tracer's single-layer class itself."""
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder

    function = JumpReLU(torch.zeros(D)) if activation == "jumprelu" else torch.relu
    model = SingleLayerTranscoder(I, D, function, 3, skip_connection=activation == "relu",
                                  device=torch.device("cpu"), dtype=dtype)  # fmt: skip
    model = filled(model, dtype)
    if activation == "jumprelu":
        function.threshold = torch.nn.Parameter((torch.rand(D) * 0.4 + 0.1).to(dtype))
    (HERE / name).mkdir(exist_ok=True)
    model.to_safetensors(str(HERE / name / "layer_3.safetensors"))
    run(name, model, dtype)


def edifice():
    """By the names that Axon gives the layers; there is no file of its own, and no Python."""
    shapes = {"encoder.kernel": (I, D), "encoder.bias": (D,),
              "decoder.kernel": (D, O), "decoder.bias": (O,)}  # fmt: skip
    state = {f"transcoder_{n}": torch.randn(shape) for n, shape in shapes.items()}
    (HERE / "edifice").mkdir(exist_ok=True)
    save_file(state, HERE / "edifice" / "edifice.safetensors")
    x = torch.randn(B, I)
    acts = (x @ state["transcoder_encoder.kernel"] + state["transcoder_encoder.bias"]).relu()
    features = acts * (acts >= acts.topk(K, dim=1).values[:, -1:])
    kernel, bias = (state[f"transcoder_decoder.{n}"] for n in ("kernel", "bias"))
    keep("edifice", features, features @ kernel + bias, x)


def tensors():
    """What torch.save can do to a tensor: views, types, parameters, nested dicts."""
    (HERE / "torch").mkdir(exist_ok=True)
    base = torch.randn(12, 10)
    held = {
        "rows": base, "transposed": base.T, "part": base[2:9:3, 1:8:2], "column": base[:, 3],
        "bfloat16": base.bfloat16(), "float16": base.half().T, "float64": base.double(),
        "e4m3": base.to(torch.float8_e4m3fn), "e5m2": base.to(torch.float8_e5m2),
        "int": torch.arange(7), "bool": base > 0, "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4), "parameter": torch.nn.Parameter(base[0]),
    }  # fmt: skip
    torch.save({**held, "text": "word", "list": [1, 2.5, None], "nested": {"a": base[1]}},
               HERE / "torch" / "tensors.pt")  # fmt: skip
    wide = {n: (a.float() if a.is_floating_point() and a.dtype != torch.float64 else a)
            for n, a in held.items()}  # fmt: skip
    np.savez(HERE / "torch" / "expect.npz", **{n: a.detach().numpy() for n, a in wide.items()})


def main():
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    tensors()
    sparsify("sparsify-topk")
    sparsify("sparsify-skip", transcode=True, skip_connection=True)
    sparsify("sparsify-groupmax", transcode=True, activation="groupmax", k=4)
    dictionary_learning("dictionary_learning-AutoEncoder", dictionary.AutoEncoder(I, D))
    dictionary_learning("dictionary_learning-JumpRelu", dictionary.JumpReluAutoEncoder(I, D))
    dictionary_learning("dictionary_learning-TopK", top_k.AutoEncoderTopK(I, D, K), k=K)
    dictionary_learning("dictionary_learning-BatchTopK", batch_top_k.BatchTopKSAE(I, D, K), k=K)
    by_description()
    sae_lens("sae_lens-standard", saes.StandardSAE, saes.StandardSAEConfig)
    sae_lens("sae_lens-layer_norm", saes.StandardSAE, saes.StandardSAEConfig,
             normalize_activations="layer_norm")  # fmt: skip
    sae_lens("sae_lens-topk-rescaled", saes.TopKSAE, saes.TopKSAEConfig, k=K,
             rescale_acts_by_decoder_norm=True)  # fmt: skip
    sae_lens("sae_lens-jumprelu", saes.JumpReLUSAE, saes.JumpReLUSAEConfig)
    sae_lens("sae_lens-gated", saes.GatedSAE, saes.GatedSAEConfig)
    sae_lens("sae_lens-skip_transcoder", saes.SkipTranscoder, saes.SkipTranscoderConfig, d_out=O)
    sae_lens("sae_lens-jumprelu_transcoder-bfloat16", saes.JumpReLUTranscoder,
             saes.JumpReLUTranscoderConfig, dtype="bfloat16", d_out=O)  # fmt: skip
    dictionary_learning("dictionary_learning-Gated", dictionary.GatedAutoEncoder(I, D))
    torch.manual_seed(1)
    cross_layer("circuit_tracer_clt-relu", "relu")
    cross_layer("circuit_tracer_clt-jumprelu", "jump_relu")
    torch.manual_seed(2)
    crosslayer_coding("crosslayer_coding_clt-untied", "jumprelu", "none")
    crosslayer_coding("crosslayer_coding_clt-per_source", "relu", "per_source")
    crosslayer_coding("crosslayer_coding_clt-per_target", "relu", "per_target")
    torch.manual_seed(4)
    llama_scope()
    edifice()
    circuit_tracer("circuit_tracer-jumprelu-bfloat16", "jumprelu", torch.bfloat16)
    circuit_tracer("circuit_tracer-relu", "relu")
    from sparse_autoencoder.model import TopK

    openai("openai-ReLU", torch.nn.ReLU())
    openai("openai-TopK", TopK(K))
    transcoder_circuits("transcoder_circuits-sae")
    transcoder_circuits("transcoder_circuits-transcoder", O)
    # And, with a checkout of clt-training in place of eai-sparsify:
    #     torch.manual_seed(3)
    #     more = {"post_encoder_scale": True, "normalize_io": True, "skip_connection": True}
    #     clt_training("clt_training_clt-untied", **more)
    #     clt_training("clt_training_clt-window", targets=(2, 2, 1), per_source_tied=True)
    #     clt_training("clt_training_clt-concat", coalesce_topk="concat", **more)
    #     clt_training("clt_training_clt-per_layer", targets=(2, 2, 1), coalesce_topk="per-layer")


if __name__ == "__main__":
    main()
