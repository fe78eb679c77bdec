"""Kills runs at random moments, twenty times each by default, and compares their ends with the bits
of runs that nothing stopped.

    python tests/kills.py [COUNT [SEED [VARIANT ...]]]        the process of a run
    python tests/kills.py cluster [COUNT [SEED]]              workers of a run on a cluster

Variants are the keys of `VARIANTS`; without any, all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import reftranscoder as rt

OPTIONS = {
    "dict_size": 24,
    "top_k": 3,
    "batch_size": 16,
    "log_every": 7,
    "validation": 0.25,
    "backend": "reference",
}
VARIANTS = {
    "default": {},
    "jumprelu": {"activation": "jumprelu", "sparsity_loss": "l0_step", "theta_start": 0.1},
    "gated": {"activation": "gated", "gate_l1_coeff": 0.1, "average": 0.9},
    "batchtopk": {"activation": "batchtopk", "reconstruction_loss": "fvu"},
    "accumulate": {"accumulate": 3, "backend": "kernels", "clip_norm": 0.5, "top_k_start": 6},
    "average": {"average": 0.9, "aux_k": 4, "dead_after": 5, "unit_norm_decoder": True},
    "patience": {"patience": 5, "lr": 1e-2, "average": 0.9, "second_moment": "entry"},
    "losses": {"reconstruction_loss": "mse_sum", "sparsity_loss": "l1_decoder_weighted"},
    "conventions": {"conventions": rt.Conventions(normalize_activations="layer_norm")},
    "kept": {"checkpoint_last": 3, "checkpoint_best": True, "skip": True},
}
STEPS = 600
CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import kills

if sys.argv[3].startswith("at the"):
    sync, left = os.fsync, [int(sys.argv[3].split()[2].rstrip("th"))]

    def dying(descriptor):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = dying
variant, told = sys.argv[5], lambda progress: print("on", flush=True)
kills.train(sys.argv[2], int(sys.argv[4]), told, variant=variant)
"""


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((80, 6)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((6, 4)), 0)


def train(checkpoint, steps=STEPS, progress=False, every=3, variant="default"):
    options = OPTIONS | VARIANTS[variant] | {"steps": steps, "checkpoint_every": every}
    return rt.fit(*data(), **options, checkpoint=checkpoint, progress=progress)


def started(
    checkpoint: Path, kill: str = "", steps: int = STEPS, variant: str = "default"
) -> subprocess.Popen:
    here, package = Path(__file__).parent, Path(rt.__file__).parent.parent
    given = map(str, (here, checkpoint, kill, steps, variant))
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *given],
        env=os.environ | {"PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
    )


def run_once(checkpoint: Path, kill: str = "", steps: int = STEPS, variant: str = "default") -> int:
    """The exit status of a run in a process of its own."""
    process = started(checkpoint, kill, steps, variant)
    process.communicate(timeout=300)
    return process.returncode


def result(checkpoint: Path) -> str:
    """A digest of all that a checkpoint holds but how fast the run was."""
    with np.load(checkpoint) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    for entry in meta["entries"]:
        entry.pop("rows_per_second")
    meta.pop("digest")
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def unbroken(steps: int = STEPS, variant: str = "default") -> str:
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder, "run.npz"), steps, every=steps, variant=variant)
        return result(Path(folder, "run.npz"))


def survives(variant: str, count: int, chance: random.Random) -> bool:
    """Whether runs that are killed so many times end as one that is not; says what happened."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, leftovers, at, ends = Path(folder, "run.npz"), 0, [], set()
        while len(at) < count:
            process = started(checkpoint, variant=variant)
            for _ in range(10):  # steps, in which kernels are loaded: after that, any moment
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
            process.communicate()
            if process.returncode == 0:  # it was done: the next begins anew
                ends.add(result(checkpoint))
                checkpoint.unlink()
                continue
            if process.returncode != -signal.SIGKILL:
                ends.add(f"status {process.returncode}")
                break
            leftovers += len(list(Path(folder).glob(".*.tmp")))
            with np.load(checkpoint) as archive:
                at.append(json.loads(str(archive["meta"]))["t"])
        ends.add(result(checkpoint) if run_once(checkpoint, variant=variant) == 0 else "a failure")
        stay = len(list(Path(folder).glob(".*.tmp")))
    same = ends == {unbroken(variant=variant)}
    print(f"{variant}: {len(at)} kills, with checkpoints of steps {at}; {leftovers} while one was")
    end = "the same, to the bit" if same else "ANOTHER"
    print(f"written, of which {stay} stay; the end is {end}", flush=True)
    return same and not stay


def main(count: str = "20", seed: str = "0", *variants: str) -> int:
    chance = random.Random(int(seed))
    held = [survives(variant, int(count), chance) for variant in variants or VARIANTS]
    return 0 if all(held) else 1


def cluster(count: str = "20", seed: str = "0") -> int:
    """Workers of a local cluster die, one after the other; each comes back as another process."""
    os.environ["DASK_LOGGING__DISTRIBUTED"] = "critical"  # read when it is imported
    import distributed

    kills, chance = int(count), random.Random(int(seed))
    steps = 3 * kills
    due = set(chance.sample(range(1, steps), kills))
    options = {"dict_size": 24, "top_k": 3, "batch_size": 16, "aux_k": 4, "dead_after": 5}
    options |= {"average": 0.9, "log_every": 4, "steps": steps, "clip_norm": 0.5}
    victims = []

    def kill():
        processes = [nanny.process for nanny in local.workers.values()]
        alive = [p.pid for p in processes if p is not None and p.pid]
        if alive:
            victims.append(chance.choice(alive))
            with contextlib.suppress(ProcessLookupError):  # it died a moment ago
                os.kill(victims[-1], signal.SIGKILL)

    def told(progress):
        if progress.step in due:
            threading.Timer(chance.uniform(0, 0.05), kill).start()

    processes = {"n_workers": 3, "threads_per_worker": 1, "dashboard_address": ":0"}
    local = distributed.LocalCluster(**processes, env={"OPENBLAS_NUM_THREADS": "1"})
    with local, distributed.Client(local) as client:
        found = rt.distributed.fit(client, *data(), **options, progress=told)
    want = rt.fit(*data(), **options)
    arrays = [fit.transcoder.params.arrays() for fit in (found, want)]
    same = all(np.array_equal(arrays[0][name], array) for name, array in arrays[1].items())
    logs = [[(e.step, e.loss, e.fvu, e.l0, e.dead) for e in fit.history] for fit in (found, want)]
    same = same and logs[0] == logs[1]
    end = "the same, to the bit" if same else "ANOTHER"
    print(f"cluster: {len(victims)} workers killed in {steps} steps; the end is {end}")
    return 0 if same else 1


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(cluster(*given[1:]) if given[:1] == ["cluster"] else main(*given))
