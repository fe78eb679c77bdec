"""No (B, D) array is ever made, neither forward nor backward."""

from __future__ import annotations

import subprocess
import sys

import pytest
from numba.core import config

WIDE = """
import resource, sys
import numpy as np
from reftranscoder import kernels

def step(B, D, I=8, O=8):
    x, target = np.ones((B, I), np.float32), np.ones((B, O), np.float32)
    W_enc = np.random.default_rng(0).standard_normal((D, I)).astype(np.float32)
    W_dec, b_enc, b_dec = W_enc[:, :O].copy(), np.zeros(D, np.float32), np.zeros(O, np.float32)
    out = kernels.transcoder_forward(x, W_enc, b_enc, W_dec, b_dec, top_k=4)
    assert len(out.hidden.values) == 4 * B
    kernels.transcoder_backward(x, target, out, W_enc, W_dec, l1_coeff=0.1)

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

step(4, 64)  # compiles
before = peak()
step(B=4096, D=65536)
print(peak() - before)
"""


ENCODER = """
import resource, sys
import numpy as np
from reftranscoder.kernels.screened_encoder import Encoder

def encode(B, D, I=8):
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((D, I), np.float32), rng.standard_normal((B, I), np.float32)
    encoder = Encoder(W, np.zeros(D, np.float32))
    assert len(encoder.encode(x, top_k=4).values) == 4 * B

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

encode(80, 640)  # compiles
before = peak()
encode(B=4096, D=65536)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is not there")
@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too large for plain Python")
@pytest.mark.parametrize("code", [WIDE, ENCODER], ids=["plain", "screened"])
def test_no_dense_array_is_made(code, tmp_path):
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    # In float32 that array is 1 GiB.  What is needed is 32 MiB of pre-activations at a time, twice
    # D * I and D * O in float32 (8 MiB), and as much again for what NumPy and the threads hold.
    assert int(run.stdout) < 128 * 2**20
