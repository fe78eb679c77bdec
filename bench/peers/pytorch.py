"""PyTorch: eager with a dense decoder, eager with embedding_bag, and the dense one compiled."""

from __future__ import annotations

import subprocess
import sys

import numba
import numpy as np
import torch
from torch.nn import functional

import reftranscoder as rt

from ..work import Work

torch.set_num_threads(numba.get_num_threads())

_FIRST_RESULT = """
import torch
W_enc, b_enc, x = torch.ones(4096, 768), torch.ones(4096), torch.ones(1, 768)
with torch.no_grad():
    torch.relu(torch.nn.functional.linear(x, W_enc, b_enc)).topk(32)
"""


class TorchProduct:
    """The limit, beside that of `limits`."""

    name = "sgemm, PyTorch"
    calls_blas = True
    own = staticmethod(torch.from_numpy)

    def __init__(self, work: Work) -> None:
        self.W = torch.from_numpy(work.tc.params.W_enc.copy())
        self.out = torch.empty((len(work.x), len(self.W)))

    def encode(self, x):
        return torch.mm(x, self.W.T, out=self.out)

    def row(self, x):
        return torch.mv(self.W, x[0])

    is_limit = True

    def variant(self, name, tc):
        return lambda x: self.encode(self.own(x))


class Dense:
    """Two layers with relu and topk between them, and ``loss.backward()``."""

    name = "PyTorch"
    calls_blas = True
    l1_coeff = 1e-3
    own = staticmethod(torch.from_numpy)

    def __init__(self, work: Work) -> None:
        self._start(work.tc.params.arrays(), work.tc.config.top_k)

    def _start(self, arrays, top_k):
        self.parameters = {
            name: torch.from_numpy(a.copy()).requires_grad_() for name, a in arrays.items()
        }
        self.top_k = top_k
        self.adam = torch.optim.Adam(self.parameters.values(), lr=1e-3)

    def forward(self, x):
        """Return ``hidden`` (B, D), the values and indices in it, and the reconstruction."""
        pre = functional.linear(x, self.parameters["W_enc"], self.parameters["b_enc"])
        values, indices = torch.relu(pre).topk(self.top_k, sorted=False)
        hidden = torch.zeros_like(pre).scatter(1, indices, values)
        reconstruction = hidden @ self.parameters["W_dec"] + self.parameters["b_dec"]
        return values, indices, reconstruction

    def loss(self, x, target):
        """The loss and what it was made of."""
        values, indices, reconstruction = self.forward(x)
        entries = len(x) * len(self.parameters["W_enc"])
        l1 = self.l1_coeff * values.sum() / entries
        loss = functional.mse_loss(reconstruction, target) + l1
        return loss, values, indices, reconstruction

    @torch.no_grad()
    def encode(self, x):
        pre = functional.linear(x, self.parameters["W_enc"], self.parameters["b_enc"])
        return torch.relu(pre).topk(self.top_k, sorted=False)

    row = encode

    @torch.no_grad()
    def predict(self, x):
        return self.forward(x)[2]

    def step(self, x, target):
        self.adam.zero_grad()
        self.loss(x, target)[0].backward()
        self.adam.step()

    def start(self):
        subprocess.run([sys.executable, "-c", _FIRST_RESULT], check=True)

    def results(self, x, target):
        self.adam.zero_grad()
        loss, values, indices, reconstruction = self.loss(self.own(x), self.own(target))
        loss.backward()
        made = {"values": values, "indices": indices, "reconstruction": reconstruction}
        made |= {"loss": loss} | {f"d{name}": p.grad for name, p in self.parameters.items()}
        return {name: tensor.detach().numpy() for name, tensor in made.items()}


class Variants:
    """A linear layer and the activation, dense, as the libraries have it."""

    name, calls_blas, is_limit = "PyTorch", True, False

    def __init__(self, work: Work) -> None:
        pass

    def variant(self, name, tc):
        made = {n: torch.from_numpy(a.copy()) for n, a in tc.params.all_arrays().items()}
        W_enc, b_enc, top_k = made["W_enc"], made["b_enc"], tc.config.top_k

        def batchtopk(pre):
            flat = torch.relu(pre).flatten()
            values, places = flat.topk(top_k * len(pre), sorted=False)
            return torch.zeros_like(flat).scatter(0, places, values).view_as(pre)

        def gated(pre):
            magnitudes = torch.relu(torch.exp(made["r_mag"]) * pre + made["b_mag"])
            return magnitudes * (pre + made["b_gate"] > 0)

        activate = {
            "relu": torch.relu,
            "jumprelu": lambda pre: pre * (pre > made["theta"]),
            "batchtopk": batchtopk,
            "gated": gated,
        }[tc.config.activation]

        @torch.no_grad()
        def encode(x):
            return activate(functional.linear(torch.from_numpy(x), W_enc, b_enc)).numpy()

        return encode


class EmbeddingBag(Dense):
    """The decoder reads only the K rows that it needs."""

    name = "PyTorch, embedding_bag"

    def forward(self, x):
        pre = functional.linear(x, self.parameters["W_enc"], self.parameters["b_enc"])
        values, indices = torch.relu(pre).topk(self.top_k, sorted=False)
        W_dec = self.parameters["W_dec"]
        sums = functional.embedding_bag(indices, W_dec, per_sample_weights=values, mode="sum")
        return values, indices, sums + self.parameters["b_dec"]

    encode = row = start = None  # as in `Dense`


class Compiled(Dense):
    """`Dense` by torch.compile, which needs a C++ compiler."""

    name = "PyTorch, compiled"
    start = None  # it would compile for longer than it computes

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.forward = torch.compile(self.forward)
        self.encode = self.row = torch.compile(self.encode)


class AdamLoop(Dense):
    """What one writes first: Adam at a rate of 0.001, from random directions of norm 1 that the
    encoder and the decoder share, and with the mean of the target as b_dec."""

    name = "PyTorch, Adam"

    def __init__(self, task) -> None:
        rng = np.random.default_rng(task.seed)
        (I, O), D = (task.x.shape[1], task.target.shape[1]), task.dict_size
        directions = rng.standard_normal((D, max(I, O)), np.float32)
        W_enc, W_dec = (
            part / np.linalg.norm(part, axis=1, keepdims=True)
            for part in (directions[:, :I], directions[:, :O])
        )
        arrays = {"W_enc": W_enc, "b_enc": np.zeros(D, np.float32), "W_dec": W_dec}
        arrays["b_dec"] = task.target.mean(axis=0)
        self._start(arrays, task.top_k)
        self.task = task

    def train(self, begin):
        batches = self.task.batches()
        for t in range(1, self.task.steps + 1):
            begin(t)
            self.step(*map(self.own, batches(t)))

    def transcoder(self):
        arrays = {name: p.detach().numpy() for name, p in self.parameters.items()}
        return rt.Transcoder.from_arrays(**arrays, top_k=self.top_k)

    def reconstruct(self, x):
        return self.predict(self.own(x)).numpy()


ENTRANTS = [TorchProduct, Dense, EmbeddingBag, Compiled]
TRAINERS = [AdamLoop]
VARIANTS = [TorchProduct, Variants]
