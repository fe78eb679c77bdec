"""What a library that others embed owes its host: any threads may call, and a fork goes on working.

Numba runs parallel loops on one of three threading layers.  Two of them end the process where a
guest may not: ``workqueue`` when two Python threads are in a parallel kernel at once, and OpenMP in
a child that was forked after its threads were started, whoever started them.  So one thread at a
time enters under ``workqueue``, and such a child runs the same kernels compiled without threads,
with the same bits: no result depends on their number.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
import weakref

import numba
from numba.core.compiler_lock import global_compiler_lock


class ParallelKernel:
    """A kernel compiled for all threads, ``parallel``; and for one, ``serial``, where it must be.

    ``without_threads()`` returns the latter, not yet compiled: what needs none costs nothing.
    Everything else is as in ``parallel``, a dispatcher of Numba's.
    """

    def __init__(self, parallel, without_threads):
        functools.update_wrapper(self, parallel.py_func)
        self.parallel = parallel
        self._without_threads = without_threads

    @functools.cached_property
    def serial(self):
        return self._without_threads()

    def __call__(self, *arguments):
        process = this_process
        if process.alone:
            return self.serial(*arguments)
        lock = process.lock  # once: another thread may be about to find that none is needed
        if lock is None:
            result = self.parallel(*arguments)
        else:
            with lock:
                result = self.parallel(*arguments)
                if numba.threading_layer() != "workqueue":
                    process.lock = None
        process.last_used = time.perf_counter()
        return result

    def __getattr__(self, name):
        return getattr(self.parallel, name)

    def __reduce__(self):
        return self.__name__  # pickled and copied as a function is: by where it stands


class Lock:
    """A lock that a forked child finds open: whoever held it is not there to let go of it."""

    def __init__(self):
        self.renew()
        _locks.add(self)

    def renew(self):
        """Called in a child, right after the fork."""
        self._lock = threading.RLock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *raised):
        self._lock.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Process:
    """What this process may do; Numba chooses its layer late, when it first needs threads."""

    def __init__(self):
        self.lock = Lock()  # None once it is known that none is needed
        self.last_used = -math.inf  # when the last parallel kernel ended
        self.alone = False  # a child of one that had threads: it has none and must start none

    def begin_as_child(self):
        """Called in a child, right after the fork."""
        for lock in list(_locks):
            lock.renew()
        try:
            numba.threading_layer()
        except ValueError:  # there were no threads: the child may start its own
            return
        self.alone = True


this_process = Process()


def threads():
    """The number of threads that a parallel loop called from here runs on."""
    return 1 if this_process.alone else numba.get_num_threads()


def threads_are_awake():
    """Whether threads still wait for work as busily as after every kernel: waking them costs."""
    return time.perf_counter() - this_process.last_used < _AWAKE


#: Seconds.  OpenMP's threads go to sleep after a few milliseconds, TBB's sooner.
_AWAKE = 1e-3


if hasattr(os, "register_at_fork"):
    # No child is born while another thread compiles: nobody would release that lock in it.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
    os.register_at_fork(after_in_child=this_process.begin_as_child)
