"""dictionary_learning: its TopKTrainer, which trains an autoencoder."""

from __future__ import annotations

import numba
import torch
from dictionary_learning.trainers.top_k import TopKTrainer

import reftranscoder as rt

torch.set_num_threads(numba.get_num_threads())


class TopK:
    """Its own settings, but for the warm-up, which is 1,000 steps by default: a twentieth."""

    name = "dictionary_learning"
    calls_blas = True

    def __init__(self, task) -> None:
        if not task.autoencodes:
            raise ValueError("its TopKTrainer trains autoencoders alone: --x without --target")
        self.trainer = TopKTrainer(
            steps=task.steps,
            activation_dim=task.x.shape[1],
            dict_size=task.dict_size,
            k=task.top_k,
            layer=0,
            lm_name="",
            warmup_steps=task.steps // 20,
            seed=task.seed,
            device="cpu",
        )
        self.task = task

    def train(self, begin):
        batches = self.task.batches()
        for t in range(1, self.task.steps + 1):
            begin(t)
            self.trainer.update(t - 1, torch.from_numpy(batches(t)[0]))

    def transcoder(self):
        ae = self.trainer.ae
        tensors = {"W_enc": ae.encoder.weight, "b_enc": ae.encoder.bias}
        tensors |= {"W_dec": ae.decoder.weight.T, "b_dec": ae.b_dec}
        arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
        conventions = rt.Conventions(apply_b_dec_to_input=True)
        return rt.Transcoder.from_arrays(**arrays, top_k=int(ae.k), conventions=conventions)

    @torch.no_grad()
    def reconstruct(self, x):
        return self.trainer.ae(torch.from_numpy(x)).numpy()


TRAINERS = [TopK]
