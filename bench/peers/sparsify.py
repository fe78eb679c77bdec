"""eai-sparsify: its fused encoder, and its decoder for the CPU, which is embedding_bag."""

from __future__ import annotations

import contextlib
import os

import torch

import reftranscoder as rt

from ..work import Work

# Without a GPU, its Triton decoder raises "0 active drivers".  Read when it is imported.
os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")
from sparsify import SparseCoder, SparseCoderConfig, TrainConfig, Trainer  # noqa: E402


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


class _Layer(torch.nn.Module):
    """The MLP whose inputs and outputs are the rows of a task."""

    def forward(self, x, target):
        return target


class _Model(torch.nn.Module):
    """A language model to its `Trainer`: every step is a sequence of its own number, and runs
    through the rows of that step."""

    device = torch.device("cpu")
    dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}  # no step: for the widths

    def __init__(self, task, begin) -> None:
        super().__init__()
        self.mlp, self.rows, self.begin = _Layer(), task.batches(), begin
        self.width = task.target.shape[1]

    @property
    def base_model(self):
        return self

    def forward(self, input_ids):
        t = int(input_ids[0, 0])
        if not t:
            return self.mlp(None, torch.zeros(1, 1, self.width))
        self.begin(t)
        # ``fit`` asks for TF32 where there is any, for all of PyTorch, whoever else takes turns.
        torch.set_float32_matmul_precision("highest")
        return self.mlp(*(torch.from_numpy(part)[None] for part in self.rows(t)))


class _Unsaved(Trainer):
    def save(self):
        """Nothing: others write no files either."""


class Adam:
    """Its `Trainer` with its own learning rate for the optimizer and the size of the dictionary.

    Adam's warm-up is 1,000 steps by default; here it is a twentieth of the steps.
    """

    name = "eai-sparsify, Adam"
    calls_blas = True
    optimizer = "adam"

    def __init__(self, task) -> None:
        if task.x.shape[1] != task.target.shape[1]:
            raise ValueError("eai-sparsify's layers have one size, not two")
        self.task = task

    def train(self, begin):
        task = self.task
        coder = SparseCoderConfig(num_latents=task.dict_size, k=task.top_k, transcode=True)
        config = TrainConfig(
            coder,
            batch_size=1,  # a sequence is all rows of a step
            hookpoints=["mlp"],
            init_seeds=[task.seed],
            log_to_wandb=False,
            optimizer=self.optimizer,
            lr_warmup_steps=task.steps // 20,
        )
        ids = [torch.full((task.batch_size,), t + 1) for t in range(task.steps)]
        self.trainer = _Unsaved(config, [{"input_ids": each} for each in ids], _Model(task, begin))
        self.trainer.fit()

    def transcoder(self):
        with self._averages():
            tensors = dict(self._coder.named_parameters())
            names = {"encoder.weight": "W_enc", "encoder.bias": "b_enc"}
            arrays = {names.get(n, n): t.detach().numpy().copy() for n, t in tensors.items()}
        return rt.Transcoder.from_arrays(**arrays, top_k=self._coder.cfg.k)

    @torch.no_grad()
    def reconstruct(self, x):
        with self._averages():
            made = self._coder.encode(torch.from_numpy(x))
            return self._coder.decode(made.top_acts, made.top_indices).numpy()

    @property
    def _coder(self):
        return self.trainer.saes["mlp"]

    @contextlib.contextmanager
    def _averages(self):
        """The weights that it saves: signum trains others, and averages them."""
        free = [o for o in self.trainer.optimizers if hasattr(o, "eval")]
        for optimizer in free:
            optimizer.eval()
        yield
        for optimizer in free:
            optimizer.train()


class Signum(Adam):
    """The same with its default optimizer, which is free of a schedule."""

    name = "eai-sparsify, signum"
    optimizer = "signum"


ENTRANTS = [Sparsify]
TRAINERS = [Adam, Signum]
