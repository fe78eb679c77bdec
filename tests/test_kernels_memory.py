"""No (B, D) array is ever made, neither forward nor backward."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from numba.core import config

from reftranscoder.arrays import check_finite
from reftranscoder.errors import NonFiniteError

PEAK = """
import resource, sys
import numpy as np

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
"""

WIDE = (
    PEAK
    + """
from reftranscoder import kernels

def step(B, D, I=8, O=8):
    x, target = np.ones((B, I), np.float32), np.ones((B, O), np.float32)
    W_enc = np.random.default_rng(0).standard_normal((D, I)).astype(np.float32)
    W_dec, b_enc, b_dec = W_enc[:, :O].copy(), np.zeros(D, np.float32), np.zeros(O, np.float32)
    out = kernels.transcoder_forward(x, W_enc, b_enc, W_dec, b_dec, top_k=4)
    assert len(out.hidden.values) == 4 * B
    kernels.transcoder_backward(x, target, out, W_enc, W_dec, l1_coeff=0.1)

step(4, 64)  # compiles
before = peak()
step(B=4096, D=65536)
print(peak() - before)
"""
)


ENCODER = (
    PEAK
    + """
from reftranscoder.kernels.screened_encoder import Encoder

def encode(B, D, I=8):
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((D, I), np.float32), rng.standard_normal((B, I), np.float32)
    encoder = Encoder(W, np.zeros(D, np.float32))
    assert len(encoder.encode(x, top_k=4).values) == 4 * B

encode(80, 640)  # compiles
before = peak()
encode(B=4096, D=65536)
print(peak() - before)
"""
)


CROWDED = (
    PEAK
    + """
from reftranscoder.kernels.screened_encoder import Encoder

def encode(B, D, I=8):
    # Rows like the first batch have few active features; then most rows have a thousand.
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((D, I), np.float32), rng.standard_normal((B, I), np.float32)
    x /= np.linalg.norm(x, axis=1)[:, None]
    encoder = Encoder(W, np.full(D, -4.5, np.float32))
    assert 0 < len(encoder.encode(x[:128], top_k=D, activation="relu").values) < 128 * 8
    x *= 2
    assert len(encoder.encode(x, top_k=D, activation="relu").values) > B * D // 100

encode(128, 6400)  # compiles
before = peak()
encode(B=2048, D=65536)
print(peak() - before)
"""
)


UNPACKED = """
import tempfile
from pathlib import Path
import numpy as np
import reftranscoder as rt
from reftranscoder.files import mapped

def encode(B, D, I=64):
    file = Path(tempfile.mkdtemp()) / "W"
    W = np.memmap(file, np.float16, "w+", 0, (D, I))
    for first in range(0, D, 4096):
        W[first : first + 4096] = np.random.default_rng(first).standard_normal((4096, I))
    del W
    W = np.memmap(file, np.float16, "r", 0, (D, I))
    zeros = {"b_enc": np.zeros(D, np.float32), "b_dec": np.zeros(I, np.float32)}
    before = peak()
    tc = rt.Transcoder.from_arrays(W_enc=W, W_dec=W, **zeros, pack=False)
    tc(np.ones((B, I)))
    return before

def peak():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) * 1024

mapped._AT_ONCE = 1 << 19  # 2 MiB in float32
encode(64, 8192)  # compiles
before = encode(B=64, D=1 << 20)
print(peak() - before)
"""


def measured(code, tmp_path):
    """The bytes that ``code``, in a process of its own, found it took."""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="resource is not there")
@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too large for plain Python")
@pytest.mark.parametrize("code", [WIDE, ENCODER], ids=["plain", "screened"])
def test_no_dense_array_is_made(code, tmp_path):
    # In float32 that array is 1 GiB.  What is needed is 32 MiB of pre-activations at a time, twice
    # D * I and D * O in float32 (8 MiB), and as much again for what NumPy and the threads hold.
    assert measured(code, tmp_path) < 128 * 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="resource is not there")
@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too large for plain Python")
def test_rows_with_many_candidates_are_searched_few_at_a_time(tmp_path):
    # All at once they would take 900 MiB.  Half of what is allowed is candidates, in a division
    # of the features by two, and a quarter is the result.
    assert measured(CROWDED, tmp_path) < 256 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too large for plain Python")
def test_weights_in_a_file_are_never_there_as_a_whole(tmp_path):
    # They are 128 MiB in float16.  Biases, and what there is once a feature, are 8 MiB of what is
    # allowed.
    assert measured(UNPACKED, tmp_path) < 48 * 2**20


def test_what_is_looked_at_for_nan_is_not_doubled():
    array = np.zeros((1 << 20, 32), np.float32)
    tracemalloc.start()
    check_finite(array, "array", "")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A truth value for each entry would be 32 MiB.
    assert peak < 12 * 2**20
    array[-1, 31] = np.nan
    with pytest.raises(NonFiniteError, match="at row 1048575, column 31"):
        check_finite(array, "array", "")
