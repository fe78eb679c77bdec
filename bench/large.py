"""``python -m bench.large``: a large dictionary, encoded from memory and from the disk.

Random weights are written to a folder, which is removed in the end.  Each way is a process of its
own, with as much memory of its own as ``--limit`` says: *loaded*, in float32 with the packed copy,
and *unpacked*, with ``pack=False``, as they lie in the file.  Prints the seconds of the first call,
that of unpacked after the system has let go of the file (*from disk*), of the fastest of the next
ones, and the highest memory in these calls: all, and beside what there was before the first; a
packed copy is beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import reftranscoder as rt

from . import machine, table

_AT_ONCE = 1 << 14  # rows of weights that are drawn


def main(arguments: list[str] | None = None) -> int:
    """Measure; return 0."""
    options = parser().parse_args(arguments)
    if options.child:
        print(json.dumps(measured(options)))
        return 0
    given = {letter: getattr(options, letter) for letter in "BIDOK"} | {"dtype": options.dtype}
    print(*table.facts(machine.describe() | given), "", sep="\n", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, width in (("W_enc", options.I), ("W_dec", options.O)):
            weights(Path(folder) / f"{name}.npy", (options.D, width), options.dtype)
        for way in options.ways.split(","):
            told(way, in_a_process(folder, way, options))
    return 0


def weights(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """Write random weights."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    for first in range(0, shape[0], _AT_ONCE):
        part = array[first : first + _AT_ONCE]
        part[:] = rng.standard_normal(part.shape, np.float32) / np.float32(shape[1] ** 0.5)
    array.flush()


def in_a_process(folder: str, way: str, options: argparse.Namespace) -> dict[str, float] | str:
    """What `measured` finds there, or why it did not."""
    command = [sys.executable, "-m", "bench.large", "--folder", folder, "--child", way]
    command += [f"-{letter}{getattr(options, letter)}" for letter in "BIDOK"]
    command += ["--rounds", str(options.rounds), "--limit", str(options.limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return (run.stderr.strip().splitlines() or ["ended without a word"])[-1]
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and MiB of one way, in this process."""
    if options.limit:
        most = options.limit << 20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    folder, pack = Path(options.folder), options.child == "loaded"
    small = rt.build(input_size=options.I, output_size=options.O, dict_size=4096, top_k=options.K)
    x = np.random.default_rng(1).standard_normal((options.B, options.I), np.float32)
    small(x)  # kernels compile
    files = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("W_enc", "W_dec")}
    start = time.perf_counter()
    tc = rt.Transcoder.from_arrays(
        **{n: np.asarray(a, np.float32) for n, a in files.items()} if pack else files,
        b_enc=np.zeros(options.D, np.float32),
        b_dec=np.zeros(options.O, np.float32),
        top_k=options.K,
        pack=pack,
    )
    found = {"load": time.perf_counter() - start}
    del files
    if not pack:
        for name in ("W_enc", "W_dec"):
            forgotten(folder / f"{name}.npy")
    before = machine.memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    found["first"] = seconds(lambda: tc.encode(x))
    found["next"] = min(seconds(lambda: tc.encode(x)) for _ in range(options.rounds))
    found["peak"], found["own"] = machine.memory("VmHWM"), machine.memory("RssAnon")
    found["beside"] = found["peak"] - before
    found["predict"] = min(seconds(lambda: tc(x)) for _ in range(options.rounds))
    return found


def seconds(do) -> float:
    """How long ``do()`` takes."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def forgotten(path: Path) -> None:
    """Have the system let go of a file: what is read next comes from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def told(way: str, found: dict[str, float] | str) -> None:
    """Print what was found."""
    if isinstance(found, str):
        print(f"{way}: {found}", flush=True)
        return
    first = "from disk" if way == "unpacked" else "first"
    print(
        f"{way}: made in {found['load']:.1f} s; encode, {first} {found['first']:.2f} s, "
        f"then {found['next']:.2f} s; predict {found['predict']:.2f} s; peak "
        f"{found['peak']:,.0f} MiB, {found['beside']:,.0f} beside the model; "
        f"its own in the end {found['own']:,.0f}",
        flush=True,
    )


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench.large", description=__doc__)
    sizes = {"B": 256, "I": 768, "D": 1 << 20, "O": 768, "K": 32}
    for letter, default in sizes.items():
        made.add_argument(f"-{letter}", type=int, default=default, metavar="N", help=f"{default}")
    made.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    made.add_argument("--ways", default="loaded,unpacked", help="loaded,unpacked")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--limit", type=int, default=0, help="MiB of a process's own memory; 0: any")
    made.add_argument("--folder", help="where the weights go: of temporary files")
    made.add_argument("--child", choices=("loaded", "unpacked"), help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    raise SystemExit(main())
