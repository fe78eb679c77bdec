"""A good guest: whatever threads and forks the host has, answers are right and nothing aborts.

Each program runs in a process of its own, because what it must not do is end it.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from numba.core import config

import reftranscoder as rt
from reftranscoder.kernels.engine import threads_and_forks
from reftranscoder.kernels.engine.threads_and_forks import ParallelKernel, Process

pytestmark = pytest.mark.kernels

compiled = pytest.mark.skipif(
    bool(config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: nothing is parallel"
)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
each_layer = pytest.mark.parametrize("layer", ["workqueue", "default"])

#: `answer` is everything that three calls return, as bytes; `ask` runs it in a forked child, which
#: an alarm ends if it hangs.
START = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
import multiprocessing
import numba
import numpy as np
import reftranscoder as rt

tc = rt.build(input_size=9, output_size=7, dict_size=40, top_k=4)
rng = np.random.default_rng(20240617)
x, target = (rng.standard_normal((30, size), np.float32) for size in (9, 7))

def answer(_=None):
    hidden, (loss, grads) = tc.encode(x), tc.value_and_grad(x, target)
    arrays = [hidden.indptr, hidden.indices, hidden.data, tc(x), loss, *grads.arrays().values()]
    return b"".join(array.tobytes() for array in arrays)

def ask(child):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(180)
    try:
        right = child()
    finally:
        os._exit(0 if right else 3)
"""


def run(program, layer="default"):
    """What ``program`` prints, in a process that must end well."""
    package = str(Path(rt.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": package, "NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-W", "ignore", "-c", START + program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@compiled
@each_layer
def test_eight_threads_may_call_at_once(layer):
    program = """
# The very first call is made by eight threads too: none has been told which layer it is.
with ThreadPoolExecutor(8) as pool:
    answers = set(pool.map(answer, range(300)))
print(len(answers), answer() in answers, numba.threading_layer())
"""
    count, right, found = run(program, layer)
    assert (count, right) == ("1", "True")
    assert layer in (found, "default")


@compiled
@forks
@each_layer
def test_a_forked_child_gives_the_same_bits(layer):
    program = """
want = answer()
print(ask(lambda: answer() == want))
print(ask(lambda: answer() == want and ask(lambda: answer() == want) == 0))
print(ask(lambda: set(ThreadPoolExecutor(4).map(answer, range(9))) == {want}))
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(set(pool.map(answer, range(5))) == {want})
print(answer() == want)
"""
    assert run(program, layer) == ["0", "0", "0", "True", "True"]


@compiled
@forks
@each_layer
def test_a_fork_while_other_threads_are_in_a_kernel(layer):
    program = """
want, stop = answer(), threading.Event()

def busy():
    while not stop.is_set():
        answer()

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
codes = {ask(lambda: answer() == want) for _ in range(12)}
stop.set()
print(codes, answer() == want)
"""
    assert run(program, layer) == ["{0}", "True"]


@compiled
@forks
def test_a_child_of_a_process_without_threads_has_its_own():
    program = """
from reftranscoder.kernels.engine.threads_and_forks import this_process
def child():
    first = answer()
    alone = this_process.alone or not numba.threading_layer()
    return not alone and ask(lambda: answer() == first) == 0
print(ask(child))
"""
    assert run(program) == ["0"]


@compiled
@forks
def test_a_fork_waits_until_other_threads_have_compiled():
    program = """
import time
import reftranscoder.kernels
from numba.core.compiler_lock import global_compiler_lock
began = threading.Event()

def compile():
    with global_compiler_lock:
        began.set()
        time.sleep(0.5)

thread = threading.Thread(target=compile)
thread.start()
began.wait()
print(ask(lambda: len(answer()) > 0), len(answer()) > 0)
"""
    assert run(program) == ["0", "True"]


@forks
def test_a_lock_held_by_another_thread_is_open_in_a_child():
    program = """
from reftranscoder.kernels.engine.threads_and_forks import Lock
lock, held, stop = Lock(), threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        stop.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()

def child():
    with lock:
        return True

print(ask(child))
stop.set()
"""
    assert run(program) == ["0"]


def kernel_of(*, parallel, serial):
    parallel.py_func = parallel
    kernel = ParallelKernel(parallel, serial)
    parallel.signatures = ["of parallel"]
    return kernel


@pytest.fixture
def process(monkeypatch):
    """A process at its beginning, in place of this one."""
    monkeypatch.setattr(threads_and_forks, "this_process", Process())
    return threads_and_forks.this_process


@pytest.mark.parametrize(("layer", "free"), [("workqueue", False), ("omp", True), ("tbb", True)])
def test_only_workqueue_is_entered_by_one_thread_at_a_time(monkeypatch, process, layer, free):
    def entered(value):
        """Whether another thread could enter meanwhile."""
        lock = process.lock
        if lock is None:
            return value, True

        def enter():
            with lock:
                others.append(value)

        thread = threading.Thread(target=enter)
        waiting.append(thread)
        thread.start()
        thread.join(0.1)
        return value, value in others

    others, waiting = [], []

    monkeypatch.setattr("numba.threading_layer", lambda: layer)
    kernel = kernel_of(parallel=entered, serial=None)
    assert kernel(1) == (1, False)  # the layer was not known yet
    assert kernel(2) == (2, free)
    assert kernel.__doc__ == entered.__doc__ and kernel.py_func is entered
    for thread in waiting:  # the lock is free now
        thread.join()
    assert kernel.signatures == ["of parallel"] and copy.deepcopy(kernel) is kernel


def test_a_child_of_threads_is_serial_and_compiles_that_once(monkeypatch, process):
    made = []

    def serial():
        made.append(1)
        return lambda value: ("serial", value)

    kernel = kernel_of(parallel=lambda value: ("parallel", value), serial=serial)
    monkeypatch.setattr("numba.threading_layer", lambda: "omp")
    assert kernel(1) == ("parallel", 1) and made == []
    process.begin_as_child()
    assert process.alone
    assert [kernel(2), kernel(3)] == [("serial", 2), ("serial", 3)] and made == [1]
    assert threads_and_forks.threads() == 1


def test_a_child_of_a_process_without_threads_is_none_the_worse(monkeypatch, process):
    def unknown():
        raise ValueError

    monkeypatch.setattr("numba.threading_layer", unknown)
    process.begin_as_child()
    assert not process.alone
    monkeypatch.setattr("numba.get_num_threads", lambda: 7)
    assert threads_and_forks.threads() == 7
