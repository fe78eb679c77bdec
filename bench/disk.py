"""``python -m bench.disk``: data on the disk against the same data in memory.

Random activations in float16 are written as shards to a folder, which is removed in the end.  They
are encoded a block at a time, from the disk and from one block in memory that is encoded as often;
and ``rt.fit`` makes steps from all shards, and from some of the rows in memory.  Both take turns.
Prints rows a second, the ratios of medians, and the memory that encoding from the disk took of its
own beside what was there before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import reftranscoder as rt

from . import machine, table

BLOCK, IN_MEMORY = 4096, 200_000  # rows


def main(arguments: list[str] | None = None) -> int:
    """Measure; return 0."""
    options = parser().parse_args(arguments)
    B, I, D, O, K = (getattr(options, letter) for letter in "BIDOK")
    given = {"rows": options.rows, "shards": options.shards, "B": B, "I": I, "D": D, "O": O, "K": K}
    print(*table.facts(machine.describe() | given), "", sep="\n", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        shards(Path(folder), options.rows, options.shards, I, O)
        x, target = rt.paired(folder)
        tc = rt.build(input_size=I, output_size=O, dict_size=D, top_k=K)
        encoding(tc, x, options.rounds)
        options_of_fit = {"dict_size": D, "top_k": K, "batch_size": B, "steps": options.steps}
        training(folder, (x, target), options_of_fit, options.rounds)
    return 0


def shards(folder: Path, rows: int, number: int, I: int, O: int) -> None:  # noqa: E741
    """Write ``rows`` random pairs in ``number`` shards."""
    rng = np.random.default_rng(0)
    with rt.ActivationWriter(folder, dtype="float16") as writer:
        for first, last in zip(*_edges(rows, number)):
            x = rng.standard_normal((last - first, I), np.float32)
            writer.add(x, np.maximum(x[:, :1], 0) * np.ones(O, np.float32))


def encoding(tc: rt.Transcoder, x: rt.Activations, rounds: int) -> None:
    """From the disk and from memory: all rows, nothing kept."""
    memory = next(iter(x.blocks(BLOCK)))
    tc.encode(memory)  # kernels compile
    before = peak = machine.memory("RssAnon")

    def from_disk() -> None:
        nonlocal peak
        for block in x.blocks(BLOCK):
            tc.encode(block)
            peak = max(peak, machine.memory("RssAnon"))

    def from_memory() -> None:
        for _ in range(len(x) // len(memory)):
            tc.encode(memory)

    disk, ram = in_turns(from_disk, from_memory, rounds)
    told("encode", len(x), disk, ram)
    print(f"memory beside the model and one block: {peak - before:.0f} MiB", flush=True)


def training(folder: str, data: tuple[rt.Activations, ...], given: dict, rounds: int) -> None:
    """Steps from all shards, and from rows in memory."""
    rows = min(len(data[0]), IN_MEMORY)
    loaded = [a.part(0, rows).read() for a in data]
    times: list[float] = []

    def steps(*source: object) -> float:
        times.clear()
        rt.fit(*source, **given, progress=lambda told: times.append(time.perf_counter()))
        return statistics.median(np.diff(times))

    turns = [(steps(folder), steps(*loaded)) for _ in range(rounds)]
    told("step", given["batch_size"], *(list(side) for side in zip(*turns)))


def in_turns(one, other, rounds: int) -> tuple[list[float], list[float]]:
    """The seconds that each took, in every round."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, taken in zip((one, other), seconds):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return seconds


def told(what: str, rows: int, disk: list[float], ram: list[float]) -> None:
    """Print a comparison."""
    of_disk, of_ram = statistics.median(disk), statistics.median(ram)
    print(
        f"{what}: from disk {rows / of_disk:,.0f} rows/s, from memory {rows / of_ram:,.0f}; "
        f"time ratio {of_disk / of_ram:.3f}",
        flush=True,
    )


def _edges(rows: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.arange(number + 1) * rows // number
    return edges[:-1], edges[1:]


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench.disk", description=__doc__)
    for letter, default in {"B": 1024, "I": 576, "D": 4096, "O": 576, "K": 32}.items():
        made.add_argument(f"-{letter}", type=int, default=default, metavar="N", help=f"{default}")
    made.add_argument("--rows", type=int, default=2_000_000)
    made.add_argument("--shards", type=int, default=200)
    made.add_argument("--steps", type=int, default=100)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--folder", help="where the shards go: of temporary files")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
