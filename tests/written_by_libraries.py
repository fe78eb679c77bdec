"""Random models that the libraries write, of random sizes, types and options, loaded by ours.

    python tests/written_by_libraries.py [COUNT [SEED]]     # COUNT (2) of each kind

With torch, sae-lens, eai-sparsify, dictionary-learning and circuit-tracer.  Of each model the
library's own features, and its reconstruction from them, against ours in float64, as fractions of
the bound in `library_bounds`, and what an audit says of them; `written_for_libraries` does it for
files that we write.  Sizes are random, D = I, K = 1 and K = D among them; types are float32,
float64, float16 and bfloat16; some lie in shards with an index, and some have the settings of
before version 6 of SAELens, as sae-lens reads them.  Exits with 1 if anything is beyond, fails the
audit or is refused.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from dictionary_learning import dictionary
from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k
from library_bounds import U
from sae_lens import SAE, saes
from safetensors.torch import load_file, save_file
from written_for_libraries import PACKAGES, compared, of_layers

import reftranscoder as rt
from reftranscoder.errors import Error, FileError

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # there is no GPU
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder
from sparsify import SparseCoder, SparseCoderConfig

CPU = torch.device("cpu")
ALL_U = U | {"float16": 2.0**-11, "float64": 2.0**-53}
LINE = "{:44} {:9} {:>3} {:>3} {:>3} {:>3} {:>9} {:>9} {:>5} {}"


class Drawn:
    """What is random about one model."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.I = rng.choice([1, 2, 3, 7, 8, 13, 24])
        self.O = rng.choice([self.I, rng.randrange(1, 20)])
        self.D = rng.choice([self.I, 4, 16, 30, 31, 64])
        self.K = rng.choice([1, self.D, rng.randrange(1, self.D + 1)])
        self.B = rng.choice([1, 5, 40])
        self.dtype = rng.choice(["float32", "float32", "bfloat16", "float16", "float64"])
        self.said = {}  # what the file leaves open

    @property
    def torch_dtype(self):
        return getattr(torch, self.dtype)

    def filled(self, module):
        """``module`` with random numbers in every parameter, and thresholds above zero."""
        module = module.to(self.torch_dtype)
        with torch.no_grad():
            for name, value in [*module.named_parameters(), *module.named_buffers()]:
                if value.is_floating_point() and value.ndim:
                    value.copy_(torch.randn(value.shape, dtype=torch.float64))
                if name.endswith("threshold"):
                    drawn = torch.rand(value.shape, dtype=torch.float64) * 0.5 + 0.0625
                    value.copy_(drawn.log() if name.startswith("log_") else drawn)
        return module

    def rows(self, *shape):
        x = torch.randn(*shape, dtype=torch.float64).to(self.torch_dtype)
        if self.B > 1:
            x[..., 0, :] = 0
        return x


def sae_lens(drawn, folder, name):
    """A class by its name in the library, saved as such, and what `SAE.load_from_disk` computes."""
    rng, I = drawn.rng, drawn.I
    options = {"d_in": I, "d_sae": drawn.D, "dtype": drawn.dtype}
    options["normalize_activations"] = rng.choice(
        ["none", "none", "expected_average_only_in", "layer_norm", "constant_norm_rescale"]
    )
    if I == 1:  # the library's deviation of one number is none
        options["normalize_activations"] = "none"
    if "Transcoder" in name:
        options |= {"d_out": drawn.O, "apply_b_dec_to_input": False}
    elif rng.random() < 0.3:
        options["apply_b_dec_to_input"] = False
    if "TopK" in name:
        options |= {"k": drawn.K, "rescale_acts_by_decoder_norm": rng.random() < 0.5}
    if "Matryoshka" in name:
        options["matryoshka_widths"] = sorted({max(1, drawn.D // 3), drawn.D})
    model = drawn.filled(getattr(saes, name)(getattr(saes, f"{name}Config")(**options)))
    if "BatchTopK" in name:
        model.topk_threshold.fill_(0.5)
    if "Training" in name:
        model.save_inference_model(folder)
        # Saved as float32, and computed by what was saved.
    else:
        model.save_model(folder)
    heads = "none"
    if name in ("StandardSAE", "TopKSAE", "JumpReLUSAE", "GatedSAE") and rng.random() < 0.6:
        heads = before_version_6(folder, options.get("k"), rng)
    model = SAE.load_from_disk(folder)
    x = drawn.rows(drawn.B, I).to(model.dtype)
    if options["normalize_activations"] == "constant_norm_rescale":
        x[0] = 1  # a row of zeros has no norm, and the library makes NaN of it
    drawn.dtype = str(model.dtype).removeprefix("torch.")
    by_heads = x.reshape(drawn.B, 1, I) if heads == "hook_z" else x
    return x, model.encode(by_heads), model(by_heads).reshape(drawn.B, -1)


def before_version_6(folder, k, rng):
    """The settings as earlier versions wrote them, flat and by other names, which the library still
    reads: how it reshapes the input by them."""
    path = folder / "cfg.json"
    new = json.loads(path.read_text())
    kept = ("d_in", "d_sae", "dtype", "device", "architecture", "normalize_activations")
    old = {name: new[name] for name in kept}
    hook = rng.choice(["blocks.8.hook_resid_pre", "blocks.8.attn.hook_z"])
    old |= {"finetuning_scaling_factor": False, "context_size": 128, "prepend_bos": True,
            "model_name": "gpt2-small", rng.choice(["hook_name", "hook_point"]): hook,
            "hook_layer": 8, "hook_head_index": None, "dataset_path": "x",
            "sae_lens_training_version": "5.1.0", "dataset_trust_remote_code": True,
            "model_from_pretrained_kwargs": {}, "neuronpedia_id": None,
            "seqpos_slice": [None]}  # fmt: skip
    if rng.random() < 0.5 or not new["apply_b_dec_to_input"]:
        old["apply_b_dec_to_input"] = new["apply_b_dec_to_input"]
    if old["normalize_activations"] in ("none", "expected_average_only_in"):
        said = old.pop("normalize_activations") != "none"
        old |= rng.choice([{}, {"normalize_activations": said}])
    function = "topk" if k is not None else "relu"
    if k is not None or rng.random() < 0.5:
        old[rng.choice(["activation_fn_str", "activation_fn"])] = function
        old["activation_fn_kwargs"] = {} if k is None else {"k": k}
    if k is not None:
        old["architecture"] = "standard"
    if old["architecture"] == "standard" and k is None and rng.random() < 0.5:
        del old["architecture"]
        tensors = load_file(folder / "sae_weights.safetensors")
        save_file(tensors | {"scaling_factor": torch.ones(new["d_sae"])},
                  folder / "sae_weights.safetensors")  # fmt: skip
    path.write_text(json.dumps(old))
    return "hook_z" if "hook_z" in hook else "none"


def sparsify(drawn, folder, **options):
    groups = options.get("activation") == "groupmax"
    D = drawn.K * max(1, drawn.D // drawn.K) if groups else drawn.D
    config = SparseCoderConfig(num_latents=D, k=drawn.K, **options)
    model = drawn.filled(SparseCoder(drawn.I, config))
    model.save_to_disk(folder)
    if drawn.rng.random() < 0.3:
        in_shards(folder / "sae.safetensors")
    x = drawn.rows(drawn.B, drawn.I)
    found = model.encode(x)
    features = torch.zeros(drawn.B, D, dtype=x.dtype)
    features.scatter_(1, found.top_indices.long(), found.top_acts)
    return x, features, model(x, x).sae_out


def in_shards(path):
    """The tensors of ``path`` in two files, and the index that says which is where."""
    tensors = list(load_file(path).items())
    path.unlink()
    where = {}
    for number, part in enumerate((tensors[:2], tensors[2:])):
        name = f"{path.stem}-{number + 1:05}-of-00002.safetensors"
        save_file(dict(part), path.parent / name)
        where |= {tensor: name for tensor, _ in part}
    index = path.with_name(f"{path.name}.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))


def dictionary_learning(drawn, folder, make):
    model = drawn.filled(make(drawn))
    if hasattr(model, "threshold") and not model.threshold.ndim:
        model.threshold.fill_(drawn.rng.choice([-1.0, 0.5]))
    folder.mkdir()
    torch.save(model.state_dict(), folder / "ae.pt")
    trainer = {"dict_class": type(model).__name__, "activation_dim": drawn.I, "layer": 3}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    x = drawn.rows(drawn.B, drawn.I)
    return x, model.encode(x), model(x)


def circuit_tracer(drawn, folder, activation):
    function = JumpReLU(torch.zeros(drawn.D)) if activation == "jumprelu" else torch.relu
    skip = drawn.rng.random() < 0.5
    model = SingleLayerTranscoder(drawn.I, drawn.D, function, 3, skip_connection=skip, device=CPU,
                                  dtype=drawn.torch_dtype)  # fmt: skip
    model = drawn.filled(model)
    if activation == "jumprelu":
        limits = torch.rand(drawn.D).bfloat16() * 0.5 + 0.0625
        function.threshold = torch.nn.Parameter(limits.to(drawn.torch_dtype))
    folder.mkdir()
    model.to_safetensors(str(folder / "layer_3.safetensors"))
    if drawn.D == drawn.I:
        drawn.said = {"W_dec_rows": "feature"}
    x = drawn.rows(drawn.B, drawn.I)
    return x, model.encode(x), model(x)


def cross_layer(drawn, folder, activation):
    L = drawn.rng.randrange(1, 5)
    model = CrossLayerTranscoder(L, drawn.D, drawn.I, activation_function=activation,
                                 lazy_decoder=False, device=CPU,
                                 dtype=drawn.torch_dtype)  # fmt: skip
    model = drawn.filled(model)
    model.to_safetensors(folder)
    x = drawn.rows(L, drawn.B, drawn.I)
    features = model.encode(x)
    return x, features, model.decode(features)


SAES = ("StandardSAE", "TopKSAE", "AbsTopKSAE", "JumpReLUSAE", "GatedSAE", "Transcoder",
        "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder", "StandardTrainingSAE",
        "TopKTrainingSAE", "AbsTopKTrainingSAE", "JumpReLUTrainingSAE", "GatedTrainingSAE",
        "BatchTopKTrainingSAE", "MatryoshkaBatchTopKTrainingSAE")  # fmt: skip
DICTIONARIES = {
    "AutoEncoder": lambda d: dictionary.AutoEncoder(d.I, d.D),
    "AutoEncoderNew": lambda d: dictionary.AutoEncoderNew(d.I, d.D),
    "GatedAutoEncoder": lambda d: dictionary.GatedAutoEncoder(d.I, d.D),
    "JumpReluAutoEncoder": lambda d: dictionary.JumpReluAutoEncoder(d.I, d.D),
    "AutoEncoderTopK": lambda d: top_k.AutoEncoderTopK(d.I, d.D, d.K),
    "BatchTopKSAE": lambda d: batch_top_k.BatchTopKSAE(d.I, d.D, d.K),
    "MatryoshkaBatchTopKSAE": lambda d: matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(
        d.I, d.D, d.K, [max(1, d.D - 1), d.D - max(1, d.D - 1)]
    ),
}
KINDS = {
    **{f"sae-lens {n}": lambda d, f, n=n: sae_lens(d, f, n) for n in SAES},
    "eai-sparsify SAE": sparsify,
    "eai-sparsify transcoder": lambda d, f: sparsify(d, f, transcode=True),
    "eai-sparsify skip": lambda d, f: sparsify(d, f, transcode=True, skip_connection=True),
    "eai-sparsify groupmax": lambda d, f: sparsify(d, f, activation="groupmax", transcode=True),
    **{
        f"dictionary-learning {n}": lambda d, f, m=m: dictionary_learning(d, f, m)
        for n, m in DICTIONARIES.items()
    },
    "circuit-tracer relu": lambda d, f: circuit_tracer(d, f, "relu"),
    "circuit-tracer jumprelu": lambda d, f: circuit_tracer(d, f, "jumprelu"),
    "circuit-tracer cross-layer relu": lambda d, f: cross_layer(d, f, "relu"),
    "circuit-tracer cross-layer jumprelu": lambda d, f: cross_layer(d, f, "jump_relu"),
}


def audited(tc, x, features, outputs, dtype):
    """What `audit` says of the library's own results, in the type that it computed in."""
    results = {"hidden": features, "reconstruction": outputs}
    results = {name: array.astype(tc.config.dtype) for name, array in results.items()}
    target = np.zeros_like(results["reconstruction"])
    try:
        report = rt.audit(results, tc, x.astype(tc.config.dtype), target, arithmetic=dtype)
    except Error as error:
        return f"refused: {error}"
    return "passed" if report.passed else "FAILED"


def tried(what, drawn, folder):
    """A line about one model, and whether it is of a failure."""
    try:
        with torch.no_grad():
            found = KINDS[what](drawn, folder)
    except Exception as error:  # whatever the library stumbles over
        return f"{what:44} {drawn.dtype:9} it fails itself: {error!r:.120}", False
    x, features, outputs = (a.detach().double().numpy() for a in found)
    try:
        tc = rt.load(folder, **drawn.said)
    except FileError as error:
        return f"{what:44} {drawn.dtype:9} REFUSED: {error}", True
    judge = of_layers if isinstance(tc, rt.CrossLayerTranscoder) else compared
    near, far, edge = judge(tc, x, features, outputs, ALL_U[drawn.dtype])
    verdict = audited(tc, x, features, outputs, drawn.dtype)
    beyond = not max(near, far) <= 1 or verdict == "FAILED"
    sizes = drawn.I, tc.config.output_size, tc.config.dict_size, tc.config.top_k
    line = LINE.format(what, drawn.dtype, *sizes, f"{near:.3f}", f"{far:.3f}", edge, verdict)
    return line + " BEYOND" * beyond, beyond


def main() -> int:
    count, seed = [*map(int, sys.argv[1:3]), *(2, 0)[len(sys.argv) - 1 :]]
    names = (*PACKAGES, "dictionary-learning")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(LINE.format("kind", "type", "I", "O", "D", "K", "features", "outputs", "edge", "audit"))
    torch.manual_seed(seed)
    rng, failed = random.Random(seed), 0
    for what in KINDS:
        for _ in range(count):
            with tempfile.TemporaryDirectory() as folder:
                line, wrong = tried(what, Drawn(rng), Path(folder) / "model")
            print(line, flush=True)
            failed += wrong
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
