"""Kills a run at random moments, twenty times by default, and compares its end with the bits of a
run that nothing stopped.

    python tests/kills.py [COUNT [SEED]]
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
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
kills.train(sys.argv[2], int(sys.argv[4]), lambda progress: print("on", flush=True))
"""


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((80, 6)) + 0.5
    return x, np.maximum(x @ rng.standard_normal((6, 4)), 0)


def train(checkpoint, steps=STEPS, progress=False, every=3):
    options = OPTIONS | {"steps": steps, "checkpoint_every": every}
    return rt.fit(*data(), **options, checkpoint=checkpoint, progress=progress)


def started(checkpoint: Path, kill: str = "", steps: int = STEPS) -> subprocess.Popen:
    here, package = Path(__file__).parent, Path(rt.__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(here), str(checkpoint), kill, str(steps)],
        env=os.environ | {"PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
    )


def run_once(checkpoint: Path, kill: str = "", steps: int = STEPS) -> int:
    """The exit status of a run in a process of its own."""
    process = started(checkpoint, kill, steps)
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


def unbroken(steps: int = STEPS) -> str:
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder, "run.npz"), steps, every=steps)
        return result(Path(folder, "run.npz"))


def main(count: int = 20, seed: int = 0) -> int:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, leftovers, at = Path(folder, "run.npz"), 0, []
        for _ in range(count):
            process = started(checkpoint)
            process.stdout.readline()  # under way: after that, any moment
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
            process.communicate()
            if process.returncode == 0:
                break
            leftovers += len(list(Path(folder).glob(".*.tmp")))
            with np.load(checkpoint) as archive:
                at.append(json.loads(str(archive["meta"]))["t"])
        status = run_once(checkpoint)
        stay = len(list(Path(folder).glob(".*.tmp")))
        same = status == 0 and result(checkpoint) == unbroken()
    print(f"{len(at)} kills, with checkpoints of steps {at}; {leftovers} while one was written,")
    print(f"of which {stay} stay; the end is {'the same, to the bit' if same else 'ANOTHER'}")
    return 0 if same and not stay else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
