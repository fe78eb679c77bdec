"""What `reftranscoder convert` writes, loaded by the libraries themselves and computed by them.

    python tests/written_for_libraries.py    # with torch, sae-lens, eai-sparsify, circuit-tracer

For every format that can be written and every transcoder that it can say: the library's features,
and its reconstruction from them, against ours in float64, in float32 and in bfloat16, as a fraction
of the bound in `library_bounds`.  Where one of the two has a feature and the other has not, its
activation must lie as near to what decides (a threshold, zero, the K-th of a row) as the bound: "at
the edge" counts these.  Exits with 1 if anything is beyond.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from circuit_tracer.transcoder import cross_layer_transcoder, single_layer_transcoder
from library_bounds import U, features_bound, reconstruction_bound
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders

import reftranscoder as rt
from reftranscoder.errors import FileError
from reftranscoder.formats import CrossLayerModel, Model
from reftranscoder.formats.writing import WRITERS, write
from reftranscoder.params import Conventions, Gated, JumpReLU

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # there is no GPU
from sparsify import SparseCoder

I, O, D, K, B, L = 6, 5, 16, 3, 40, 3
CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def numbers(rng, *shape):
    """Random numbers that bfloat16 has, so that both types compute with the same."""
    return torch.tensor(rng.standard_normal(shape)).bfloat16().float().numpy()


def above_zero(rng, *shape):
    return np.abs(numbers(rng, *shape)) / 4 + np.float32(0.125)


def models():
    """Transcoders and autoencoders by what they are: those that some format can say, and more."""
    rng = np.random.default_rng(0)

    def made(activation, outputs=I, top_k=None, skip=False, **conventions):
        own = None
        if activation == "jumprelu":
            own = JumpReLU(torch.tensor(above_zero(rng, D)).bfloat16().float().numpy())
        if activation == "gated":
            own = Gated(*(numbers(rng, D) for _ in range(3)))
        b_enc = np.zeros(D, "f4") if activation == "gated" else numbers(rng, D)
        return rt.Transcoder.from_arrays(
            W_enc=numbers(rng, D, I), b_enc=b_enc, W_dec=numbers(rng, D, outputs),
            b_dec=numbers(rng, outputs), W_skip=numbers(rng, outputs, I) if skip else None,
            **({} if top_k is None else {"top_k": top_k}), activation=activation, own=own,
            conventions=Conventions(**conventions))  # fmt: skip

    sae = {"apply_b_dec_to_input": True}
    norm = {"normalize_activations": "layer_norm"}
    yield "topk SAE", made("topk", top_k=K, **sae)
    yield "topk transcoder", made("topk", top_k=K)
    yield "topk skip transcoder", made("topk", top_k=K, skip=True)
    yield "topk rescaled SAE", made("topk", top_k=K, rescale_acts_by_decoder_norm=True, **sae)
    yield "groupmax transcoder", made("groupmax", top_k=4)
    yield "abstopk SAE", made("abstopk", top_k=K, **sae)
    yield "batchtopk SAE", made("batchtopk", top_k=K, **sae)
    yield "relu SAE", made("relu", **sae)
    yield "relu SAE, layer_norm", made("relu", **sae, **norm)
    yield "relu transcoder", made("relu")
    yield "relu skip transcoder", made("relu", skip=True)
    yield "relu transcoder, O < I", made("relu", O)
    yield "relu skip transcoder, O < I", made("relu", O, skip=True)
    yield "jumprelu SAE", made("jumprelu", **sae)
    yield "jumprelu transcoder", made("jumprelu")
    yield "jumprelu skip transcoder", made("jumprelu", skip=True)
    yield "jumprelu transcoder, O < I", made("jumprelu", O)
    yield "jumprelu skip transcoder, O < I", made("jumprelu", O, skip=True)
    yield "gated SAE", made("gated", **sae)
    for activation in ("relu", "jumprelu"):
        own = [JumpReLU(above_zero(rng, D)) for _ in range(L)] if activation == "jumprelu" else None
        yield f"{activation} cross-layer", rt.CrossLayerTranscoder.from_arrays(
            W_enc=[numbers(rng, D, I) for _ in range(L)], b_enc=[numbers(rng, D)] * L,
            W_dec=[numbers(rng, D, L - l, I) for l in range(L)],
            b_dec=[numbers(rng, I) for _ in range(L)], activation=activation, own=own)  # fmt: skip


# Each gives features and reconstruction, as the library has them.


def by_sparsify(path, x, dtype):
    coder = SparseCoder.load_from_disk(path.parent, device="cpu").to(dtype)
    found = coder.encode(x)
    features = torch.zeros(len(x), D, dtype=dtype)
    features.scatter_(1, found.top_indices.long(), found.top_acts.to(dtype))
    return features, coder(x, x).sae_out


def by_sae_lens(path, x, dtype):
    settings = path.parent / "cfg.json"
    content = json.loads(settings.read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
    settings.write_text(json.dumps(content))
    sae = SAE.load_from_disk(path.parent)
    return sae.encode(x), sae(x)


def by_sae_lens_as_gemma_3(path, x, dtype):
    """Its loader for the hub, given the folder in place of a download."""
    name = "transcoder/layer_3_width_16_l0_small"

    def found(repo_id, filename, **_):
        return str(path.parent / filename.rpartition("/")[2])

    loaders.hf_hub_download = found
    shapes = {n: list(t.shape) for n, t in loaders.load_safetensors_weights(path, "cpu").items()}
    loaders.get_safetensors_tensor_shapes = lambda *_: shapes
    config, state, _ = loaders.gemma_3_sae_huggingface_loader("google/x", name)
    kept = {n: config[n] for n in ("d_in", "d_sae", "d_out", "dtype", "apply_b_dec_to_input")}
    sae = SAE.from_dict({**kept, "architecture": config["architecture"], "device": "cpu"})
    sae.load_state_dict(state)
    sae = sae.to(dtype)
    sae.dtype = dtype
    return sae.encode(x), sae(x)


def by_circuit_tracer(path, x, dtype):
    load = {".npz": single_layer_transcoder.load_gemma_scope_transcoder}.get(path.suffix)
    load = load or single_layer_transcoder.load_relu_transcoder
    if path.name == "params.safetensors":
        load = single_layer_transcoder.load_gemma_scope_2_transcoder
    model = load(str(path), 0, device=CPU, dtype=dtype)
    return model.encode(x), model(x)


def by_circuit_tracer_clt(path, x, dtype):
    load = cross_layer_transcoder.load_clt
    model = load(str(path.parent), device=CPU, dtype=dtype, lazy_decoder=False)
    return model.encode(x), model(x)


LIBRARIES = {
    "sparsify": [("eai-sparsify", by_sparsify)],
    "saelens": [("sae-lens", by_sae_lens)],
    "gemma_scope": [("circuit-tracer", by_circuit_tracer)],
    "gemma_scope_2": [
        ("circuit-tracer", by_circuit_tracer),
        ("sae-lens", by_sae_lens_as_gemma_3),
    ],
    "circuit_tracer": [("circuit-tracer", by_circuit_tracer)],
    "circuit_tracer_clt": [("circuit-tracer", by_circuit_tracer_clt)],
}


def to_the_edge(tc, x):
    """How far each activation is from what decides whether it is kept, (B, D), in float64."""
    config = tc.config
    if config.activation == "gated":
        return np.zeros((len(x), config.dict_size))  # two paths: left to the bound of the gate
    stages = tc.stages(x, backend="reference")
    acts = stages["pre"] if config.activation in ("relu", "jumprelu") else stages["pre_acts"]
    acts = np.abs(acts) if config.activation == "abstopk" else acts
    if config.activation == "relu":
        return np.abs(acts)
    if config.activation == "jumprelu":
        return np.abs(acts - tc.params.own.theta)
    groups = acts.reshape(len(x), config.top_k if config.activation == "groupmax" else 1, -1)
    keep = 1 if config.activation == "groupmax" else config.top_k
    ordered = np.sort(groups, axis=2)[:, :, ::-1]
    ordered = np.pad(ordered, ((0, 0), (0, 0), (0, 1)))  # where all are kept, zero decides
    last, next_ = ordered[:, :, keep - 1 : keep], ordered[:, :, keep : keep + 1]
    return np.where(groups >= last, groups - next_, last - groups).reshape(acts.shape)


def compared(tc, x, features, reconstruction, u):
    """The largest errors over their bounds, and the features at the edge."""
    bound = features_bound(tc, x, u)
    ours = tc.encode(x, backend="reference").toarray()
    apart = np.abs(ours - features)
    edge = (apart > bound) & ((ours == 0) != (features == 0))
    # Both may move by the bound, and what they are compared with in a row, too.
    edge &= to_the_edge(tc, x) <= 2 * bound.max(axis=1, keepdims=True)
    decoded = tc.decode(features, x, backend="reference")
    wide = reconstruction_bound(tc, x, features, u)
    ratio = np.where(edge, 0, apart) / bound
    return ratio.max(), (np.abs(decoded - reconstruction) / wide).max(), int(edge.sum())


def of_layers(clt, x, features, reconstruction, u):
    """The same of a cross-layer transcoder: features by layer, outputs summed over layers."""
    found, edges, total, bound = 0.0, 0, 0.0, 0.0
    L, O = len(clt.params.layers), clt.config.output_size
    for l, layer in enumerate(clt.params.layers):
        config = clt.config.layer(l)
        tc = rt.Transcoder(config, layer)
        ratio, _, edge = compared(tc, x[l], features[l], tc.decode(features[l], x[l]), u)
        found, edges = max(found, ratio), edges + edge
        pad = ((0, 0), (0, 0))
        shape = (len(x[l]), L - l, O)
        decoded = tc.decode(features[l], x[l], backend="reference").reshape(shape)
        wide = reconstruction_bound(tc, x[l], features[l], u).reshape(shape)
        total = total + np.pad(decoded, (pad[0], (l, 0), pad[1]))
        bound = bound + np.pad(wide, (pad[0], (l, 0), pad[1]))
    ratio = np.abs(total.transpose(1, 0, 2) - reconstruction) / bound.transpose(1, 0, 2)
    return found, ratio.max(), edges


PACKAGES = ("sae-lens", "eai-sparsify", "circuit-tracer", "torch", "safetensors", "numpy")
LINE = "{:19} {:32} {:15} {:9} {:>9} {:>9} {:>5}"


def tried(name, what, tc, x):
    """Lines about one transcoder in one format, and how many of them are of a failure."""
    layered = isinstance(tc, rt.CrossLayerTranscoder)
    model = (CrossLayerModel if layered else Model)(tc.config, tc.params)
    for library, run in LIBRARIES[name]:
        if run is by_circuit_tracer and tc.config.input_size != tc.config.output_size:
            continue  # it has one size for both
        for dtype, u in U.items():
            with tempfile.TemporaryDirectory() as folder, torch.no_grad():
                try:
                    path = write(model, Path(folder) / "out", name, force=False)
                except FileError as error:
                    loss = str(error).partition("cannot say ")[2].partition(". ")[0]
                    yield f"{name:19} {what:32} refused: {loss}", 0
                    return
                try:
                    found = run(path, torch.tensor(x).to(DTYPES[dtype]), DTYPES[dtype])
                except Exception as error:  # whatever the library stumbles over
                    yield f"{name:19} {what:32} {library:15} {dtype:9} FAILS: {error!r:.150}", 1
                    continue
            features, outputs = (a.double().numpy() for a in found)
            judge = of_layers if layered else compared
            near, far, edge = judge(tc, x.astype("f8"), features, outputs, u)
            beyond = bool(max(near, far) > 1)
            line = LINE.format(name, what, library, dtype, f"{near:.3f}", f"{far:.3f}", edge)
            yield line + " BEYOND" * beyond, int(beyond)


def main() -> int:
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    print(LINE.format("format", "transcoder", "by", "in", "features", "outputs", "edge"))
    rng, failed = np.random.default_rng(1), 0
    for what, tc in models():
        layered = isinstance(tc, rt.CrossLayerTranscoder)
        x = numbers(rng, *((L, B, I) if layered else (B, I)))
        for name in WRITERS:
            for line, wrong in tried(name, what, tc, x):
                print(line, flush=True)
                failed += wrong
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
