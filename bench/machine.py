"""What the times were measured on, and with."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import numpy as np

import reftranscoder


def describe() -> dict[str, str]:
    """Processor, threads and versions, in the order in which they are printed."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    facts = {
        "processor": f"{_processor()}, {len(_cores())} of {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "threads": f"{numba.get_num_threads()}, layer {_threading_layer()}",
        "python": platform.python_version(),
        "reftranscoder": reftranscoder.__version__,
    }
    facts |= {name: version(name) for name in ("numpy", "numba", "llvmlite", "scipy")}
    others = ("torch", "jax", "eai-sparsify", "sae-lens", "dictionary-learning")
    facts |= {name: _version(name) for name in others}
    facts["BLAS"] = f"{blas.get('name')} {blas.get('version')}"
    # Some of these slow OpenBLAS down; whoever reads a ratio should know.
    settings = (f"{n}={v}" for n, v in sorted(os.environ.items()) if n.startswith("OPENBLAS_"))
    facts["BLAS settings"] = ", ".join(settings) or "none"
    return facts


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cores() -> set[int] | range:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _threading_layer() -> str:
    try:
        return numba.threading_layer()
    except ValueError:
        return "not chosen yet"  # Numba does so when a parallel kernel first runs


def memory(what: str) -> float:
    """A line of Linux's ``/proc/self/status`` on the memory of this process, MiB; 0 elsewhere."""
    if not sys.platform.startswith("linux"):
        return 0.0
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024
