"""Verify every pair, time those that agree, and print medians with ranges and ratios.

The first contestant is what the others are compared with: below 1 they are faster.  Exit status 1
where a pair disagrees; it is not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator

from reftranscoder.errors import OptionError
from reftranscoder.twins import TWINS, Twin, find

from . import machine, pairs, table
from .contest import Result, hold


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = parser().parse_args(arguments)
    sizes = {letter: getattr(options, letter) for letter in "BIDOK"}
    try:
        if min(sizes.values()) < 1 or sizes["K"] > sizes["D"] or options.rounds < 1:
            raise OptionError("sizes and rounds", "at least 1, with K at most D", sizes)
        chosen = [find(name) for name in options.only] or TWINS
    except OptionError as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2

    measured = {"dtype": options.dtype, "rounds": options.rounds, **sizes}
    wrong: list[str] = []
    results = contests(chosen, sizes, options, wrong)
    if options.json:
        held = [table.as_dict(result) for result in results]
        facts = {"machine": machine.describe(), "measured": measured}
        print(json.dumps(facts | {"contests": held, "not_timed": wrong}, indent=2))
    else:
        print(*table.facts(machine.describe() | measured), "", sep="\n")
        for line in table.lines(results):
            print(line, flush=True)
        for problem in wrong:
            print(f"not timed: {problem}")
    return 1 if wrong else 0


def contests(
    chosen: Iterable[Twin], sizes: dict[str, int], options: argparse.Namespace, wrong: list[str]
) -> Iterator[Result]:
    """Yield a result for each pair that agrees; append a line to ``wrong`` for each other one."""
    for twin in chosen:
        if not twin.kernel:
            continue
        entries = pairs.verify(twin, sizes, options.dtype, options.seed)
        problems = [
            f"{twin.name}: {name}{list(entry.index)} is {entry.got} instead of {entry.want}, "
            f"{entry.ratio:.3g} times its bound away"
            for name, entry in entries.items()
            if not entry.holds
        ]
        wrong += problems
        if not problems:
            contestants = pairs.contestants(twin, sizes, options.dtype, options.seed)
            yield hold(twin.name, contestants, options.rounds)


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench", description=__doc__)
    letters = {"B": 512, "I": 768, "D": 4096, "O": 768, "K": 32}
    for letter, default in letters.items():
        made.add_argument(f"-{letter}", type=int, default=default, metavar="N", help=f"{default}")
    made.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    made.add_argument("--rounds", type=int, default=7, help="how often each contestant runs: 7")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these pairs alone")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
