"""``python -m bench.cluster``: training on 1, 2 and 4 worker processes, one thread each.

Prints rows a second of the steps after the first two, what a step sends from worker to worker, and
whether the result has the bits of ``rt.fit``.  All workers are on this machine and share its cores.
"""

from __future__ import annotations

import argparse
import time

import distributed
import numpy as np

import reftranscoder as rt

from . import machine, table


def main(arguments: list[str] | None = None) -> int:
    """Measure; return 1 if bits differ."""
    options = parser().parse_args(arguments)
    B, I, D, O, K = (getattr(options, letter) for letter in "BIDOK")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * B, I), np.float32)
    target = np.maximum(x @ rng.standard_normal((I, O), np.float32), 0)
    given = {"dict_size": D, "top_k": K, "batch_size": B, "steps": options.steps}
    given |= {"log_every": options.steps, "accumulate": options.parts}
    print(*table.facts(machine.describe() | given), "", sep="\n")
    want = rt.fit(x, target, **given).transcoder.params.arrays()
    print("workers  rows/s  ms a step  MB sent a step  bits of rt.fit")
    wrong = 0
    for workers in options.workers:
        seconds, sent, got = measured(workers, x, target, given)
        same = all(np.array_equal(got[name], array) for name, array in want.items())
        wrong += not same
        line = f"{workers:7} {B / seconds:7.0f} {1e3 * seconds:10.1f} {sent / 1e6:15.2f}"
        print(line, " yes" if same else " NO", flush=True)
    return 1 if wrong else 0


def measured(workers, x, target, given):
    """Seconds a step, the median; bytes from worker to worker a step; the arrays."""
    times = []
    local = distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=":0",
        env={"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    with local, distributed.Client(local) as client:
        fit = rt.distributed.fit(
            client, x, target, **given, progress=lambda told: times.append(time.perf_counter())
        )
        sent = sum(client.run(received).values()) / given["steps"]
    return float(np.median(np.diff(times)[1:-1])), sent, fit.transcoder.params.arrays()


def received(dask_worker) -> int:
    """The bytes that this worker got from others."""
    return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench.cluster", description=__doc__)
    for letter, default in {"B": 1024, "I": 576, "D": 4096, "O": 576, "K": 32}.items():
        made.add_argument(f"-{letter}", type=int, default=default, metavar="N", help=f"{default}")
    made.add_argument("--steps", type=int, default=12)
    made.add_argument("--parts", type=int, default=1, help="in which a batch is made: accumulate")
    made.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    return made


if __name__ == "__main__":
    raise SystemExit(main())
