"""Time an audit of each planted fault, and of none: ``python -m bench.audit``.

The faults are those of ``tests/test_audit_faults.py``, planted in the simulated transcoder of the
tests, which is given random parameters and rows of the size asked for, in float32.  Prints a line
for each: seconds, the stage at fault, and the fault; at the end, the median and the worst.  A fault
that passes is one that these rows cannot show: its effect is nothing, or below the floor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

import reftranscoder as rt

TESTS = Path(__file__).parent.parent / "tests"


def main(arguments: list[str] | None = None) -> int:
    """Time the audits; return the exit status: 1 where a fault passes or a clean one does not."""
    options = parser().parse_args(arguments)
    sys.path.insert(0, str(TESTS))
    from simulated_transcoder import Machine, random_case, simulate
    from test_audit_faults import FAULTS, visible

    sizes = {letter: getattr(options, letter) for letter in "BIDOK"}
    machine = Machine("float32")
    case = random_case(0, machine, **sizes)
    params = {n: a.astype(np.float32) for n, a in case.params().items()}
    tc = rt.Transcoder.from_arrays(**params, top_k=case.top_k)
    x, target = case.x.astype(np.float32), case.target.astype(np.float32)
    plain = {n: np.asarray(a, np.float32) for n, a in simulate(case, machine).items()}
    rt.audit(plain, tc, x, target, l1_coeff=case.l1_coeff)  # what is compiled is compiled now
    wrong, seconds = [], []
    print(f"{'seconds':>8}  {'verdict':20} fault", flush=True)
    chosen = [f for f in FAULTS if not f.square and (not options.only or f.name in options.only)]
    for fault in [None, *chosen]:
        results = plain
        if fault is not None:
            found = simulate(case, machine, **fault.how)
            results = {n: np.asarray(a, np.float32) for n, a in found.items()}
        before = time.perf_counter()
        report = rt.audit(results, tc, x, target, l1_coeff=case.l1_coeff)
        took = time.perf_counter() - before
        if fault is not None:
            seconds.append(took)
        name = fault.name if fault else "none"
        shown = "above"
        if fault is not None and report.passed:
            shown = visible(case, found, fault, "float32")
        if shown == "above" and report.passed != (fault is None):
            wrong.append(name)
        said = {"above": "passes", "equal": "makes no difference", "below": "is below the floor"}
        print(f"{took:8.2f}  {report.blame or said[shown]:20} {name}", flush=True)
        if options.words and report.blame:
            print(f"{'':8}  {'':20} {report.stages[report.blame].explanation}", flush=True)
    if seconds:
        print(f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    print(*(f"wrong verdict: {name}" for name in wrong), sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench.audit", description=__doc__)
    for letter, default in {"B": 96, "I": 576, "D": 1536, "O": 576, "K": 24}.items():
        made.add_argument(f"-{letter}", type=int, default=default, metavar="N", help=f"{default}")
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these faults alone")
    made.add_argument("--words", action="store_true", help="print what is said of each, too")
    return made


if __name__ == "__main__":
    sys.exit(main())
