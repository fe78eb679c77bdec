"""SAELens: its SAETrainer with TopKTrainingSAE, which is an autoencoder."""

from __future__ import annotations

from importlib.metadata import version

import numba
import numpy as np
import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

import reftranscoder as rt

torch.set_num_threads(numba.get_num_threads())


class TopK:
    """Its own settings, at the learning rate that is its default."""

    name = "SAELens"
    calls_blas = True

    def __init__(self, task) -> None:
        if not task.autoencodes:
            what = f"sae-lens {version('sae-lens')} trains autoencoders alone: --x without --target"
            raise ValueError(what)
        torch.manual_seed(task.seed)
        sizes = {"d_in": task.x.shape[1], "d_sae": task.dict_size, "k": task.top_k}
        self.sae = TopKTrainingSAE(TopKTrainingSAEConfig(**sizes))
        self.task = task

    def train(self, begin):
        task = self.task
        rows = {"train_batch_size_samples": task.batch_size}
        rows["total_training_samples"] = task.steps * task.batch_size
        config = SAETrainerConfig(**rows, lr_end=3e-5)  # as its runner: a tenth of the rate
        SAETrainer(config, self.sae, self._batches(begin)).fit()

    def _batches(self, begin):
        batches = self.task.batches()
        for t in range(1, self.task.steps + 1):
            begin(t)
            yield torch.from_numpy(batches(t)[0])

    def transcoder(self):
        cfg, state = self.sae.cfg, self.sae.state_dict()
        arrays = {name: np.asarray(tensor) for name, tensor in state.items()}
        arrays["W_enc"] = arrays["W_enc"].T
        conventions = rt.Conventions(
            apply_b_dec_to_input=cfg.apply_b_dec_to_input,
            rescale_acts_by_decoder_norm=cfg.rescale_acts_by_decoder_norm,
        )
        return rt.Transcoder.from_arrays(**arrays, top_k=cfg.k, conventions=conventions)

    @torch.no_grad()
    def reconstruct(self, x):
        return self.sae(torch.from_numpy(x)).numpy()


TRAINERS = [TopK]
