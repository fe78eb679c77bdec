"""eai-sparsify: its fused encoder, and its decoder for the CPU, which is embedding_bag."""

from __future__ import annotations

import os

import torch

from ..work import Work

# Without a GPU, its Triton decoder raises "0 active drivers".  Read when it is imported.
os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")
from sparsify import SparseCoder, SparseCoderConfig  # noqa: E402


class Sparsify:
    """Encoding, predicting and the step.  Its loss is another, the fraction of variance
    unexplained, so that no gradient of it is judged."""

    name = "eai-sparsify"
    calls_blas = True
    l1_coeff = 0
    own = staticmethod(torch.from_numpy)

    def __init__(self, work: Work) -> None:
        config = work.tc.config
        settings = SparseCoderConfig(
            num_latents=config.dict_size, k=config.top_k, activation="topk", transcode=True
        )
        if config.input_size != config.output_size:
            raise ImportError("eai-sparsify's layers have one size, not two")
        self.coder = SparseCoder(config.input_size, settings)
        names = {"W_enc": "encoder.weight", "b_enc": "encoder.bias"}
        arrays = work.tc.params.arrays().items()
        self.coder.load_state_dict({names.get(n, n): torch.tensor(a) for n, a in arrays})
        self.adam = torch.optim.Adam(self.coder.parameters(), lr=1e-3)

    @torch.no_grad()
    def encode(self, x):
        return self.coder.encode(x)

    row = encode

    @torch.no_grad()
    def predict(self, x):
        made = self.coder.encode(x)
        return self.coder.decode(made.top_acts, made.top_indices)

    def step(self, x, target):
        self.adam.zero_grad()
        self.coder(x, target).fvu.backward()
        self.adam.step()

    def results(self, x, target):
        made = self.coder.encode(self.own(x))
        reconstruction = self.coder.decode(made.top_acts, made.top_indices)
        stages = {"values": made.top_acts, "indices": made.top_indices, "pre_acts": made.pre_acts}
        stages["reconstruction"] = reconstruction
        return {name: tensor.detach().numpy() for name, tensor in stages.items()}


ENTRANTS = [Sparsify]
