"""The one policy by which every kernel is compiled, kept on disk, and announced.

Numba keeps compiled code under a stamp of the caller's own file, so that an edited callee in
another file is served stale.  Here the stamp is a digest of every source file of ``kernels/`` and
of the versions that compiled code depends on; and every signature is a file of its own, replaced
whole, so that processes that start together cannot mix each other's results.  The folder is the
one Numba would choose: ``NUMBA_CACHE_DIR``, else the package's ``__pycache__``, else the user's
cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import sys
import uuid
import warnings
from importlib import resources
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, NullCache
from numba.core.cpu import ParallelOptions
from numba.core.serialize import dumps

from .linked import Kernel, Routine
from .threads_and_forks import ParallelKernel


def kernel(function):
    """Compile ``function`` for all threads: its ``prange`` loops run in parallel.

    - ``parallel``: only the loops that say ``prange``.  Array expressions stay serial, and nothing
      is ever reduced across threads, so that no result depends on their number.
    - ``fastmath`` is off: it would reorder sums, and the order of every sum here is written down.
    - ``error_model="numpy"``: a division by zero gives inf or NaN, as in the reference; a kernel
      never raises, because an exception in a parallel region leaves its outputs half written.
    - ``nogil``: the host's other Python threads run meanwhile.
    - ``boundscheck`` is left to ``NUMBA_BOUNDSCHECK``, for debugging: `Transcoder` checks shapes.
    - Any Python thread may call it, and a forked child: see `ParallelKernel`.

    With ``NUMBA_DISABLE_JIT=1`` the function runs as plain Python, as silently about non-finite
    numbers as if it were compiled.
    """
    if config.DISABLE_JIT:
        return _plain(function)
    return ParallelKernel(
        _compiled(function, parallel=_ONLY_PRANGE),
        functools.partial(_compiled, function, parallel=False, variant=".serial"),
    )


def serial_kernel(function):
    """Compile ``function`` for one thread, under the policy of `kernel`."""
    if config.DISABLE_JIT:
        return _plain(function)
    return _compiled(function, parallel=False)


def routine(function):
    """Compile ``function`` into the kernels that call it, and keep it only as part of them."""
    if config.DISABLE_JIT:
        return function
    return numba.njit(fastmath=False, error_model="numpy", pipeline_class=Routine)(function)


# An object, because Numba empties a dictionary of options at the first compilation that uses it.
_ONLY_PRANGE = ParallelOptions(
    {
        "prange": True,
        "comprehension": False,
        "fusion": False,
        "inplace_binop": False,
        "numpy": False,
        "reduction": False,
        "setitem": False,
        "stencil": False,
    }
)


def _plain(function):
    return np.errstate(all="ignore")(function)


def _compiled(function, parallel, variant=""):
    policy = {"fastmath": False, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(parallel=parallel, pipeline_class=Kernel, **policy)(function)
    try:
        dispatcher._cache = _DiskCache(function, variant)
    except RuntimeError:  # Numba found no folder that it may write to.
        dispatcher._cache = _NoCache()
    return dispatcher


class _NoCache(NullCache):
    """Says that it compiles, and that the next process will have to compile again."""

    def load_overload(self, sig, target_context):
        _warn_once(
            "no folder for compiled kernels can be written, so that every process compiles them "
            "again; set NUMBA_CACHE_DIR to one that can"
        )
        _announce_once("not kept")


class _DiskCache(NullCache):
    """One file for each function, signature and processor, stamped by all of ``kernels/``.

    ``variant`` tells apart what is compiled from one function in two ways.
    """

    def __init__(self, function, variant):
        self._numba = CompileResultCacheImpl(function)
        self._folder = Path(self._numba.locator.get_cache_path())
        # Environments that share a source tree keep their files side by side.
        compiler = f"{sys.implementation.cache_tag}-numba-{numba.__version__}"
        self._stem = f"{function.__module__}.{function.__qualname__}{variant}.{compiler}"
        # Numba's own stamp stands for the sources where these cannot be read: a frozen program.
        own = self._numba.locator.get_source_stamp()
        self._stamp = _digest(repr(own).encode() + _SOURCES)

    @property
    def cache_path(self):
        return str(self._folder)

    def load_overload(self, sig, target_context):
        target_context.refresh()
        try:
            data = self._path(sig, target_context.codegen()).read_bytes()
            return self._numba.rebuild(target_context, pickle.loads(data))
        except Exception:  # Missing, or damaged in any of the ways that a pickle can be.
            _announce_once(f"kept in {self._folder}")
            return None

    def save_overload(self, sig, data):
        if not self._numba.check_cachable(data):
            return
        try:
            self._numba.locator.ensure_cache_path()
            self._replace(self._path(sig, data.codegen), dumps(self._numba.reduce(data)))
            self._remove_stale()
        except OSError as error:
            _warn_once(f"compiled kernels could not be kept ({error}); set NUMBA_CACHE_DIR")

    def _path(self, sig, codegen):
        key = _digest(repr((sig, codegen.magic_tuple(), config.BOUNDSCHECK)).encode())
        return self._folder / f"{self._stem}-{self._stamp}-{key}.nbc"

    def _replace(self, path, data):
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _remove_stale(self):
        for path in self._folder.glob(f"{self._stem}-*.nbc"):
            if not path.name.startswith(f"{self._stem}-{self._stamp}-"):
                with contextlib.suppress(OSError):  # Another process was faster.
                    path.unlink()


def _digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def _sources():
    """What all of ``kernels/`` says, and the versions of what compiles it."""
    versions = [llvmlite.__version__, np.__version__]
    texts = sorted(_texts(resources.files(__package__.rpartition(".")[0])))
    return repr((versions, texts)).encode()


def _texts(folder):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _texts(entry)
        elif entry.name.endswith(".py"):
            yield entry.name, entry.read_bytes()


_SOURCES = _digest(_sources()).encode()

_said = set()


def _announce_once(where):
    if "compiling" not in _said:
        _said.add("compiling")
        print(f"reftranscoder: compiling for this processor, once ({where})", file=sys.stderr)


def _warn_once(message):
    if message not in _said:
        _said.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
