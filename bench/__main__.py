"""Time what agrees, and print medians with ranges and ratios.

The races come first: encoding, predicting, one row, a training step and the first result of a new
process, against every library that is installed, and against the machine's limits.  Then the pairs:
each kernel against its reference, with at most 512 rows and 4096 features.  A ratio is ours over
theirs: below 1, ours is faster.  Exit status 1 where results disagree; what is wrong is not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

from reftranscoder.errors import Error, OptionError
from reftranscoder.twins import TWINS, find

from . import machine, pairs, races, table
from .contest import Result
from .work import Work


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = parser().parse_args(arguments)
    sizes = {letter: getattr(options, letter) for letter in "BIDOK"}
    try:
        if min(sizes.values()) < 1 or sizes["K"] > sizes["D"] or options.rounds < 1:
            raise OptionError("sizes and rounds", "at least 1, with K at most D", sizes)
        chosen = {name: name in races.RACES or find(name) for name in options.only}
        if options.model and not (options.x and options.target):
            raise OptionError("--model", "with --x and --target", options.model)
        work = Work.load(options) if options.model else Work.draw(sizes, options.seed)
    except (Error, OSError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2

    wrong: list[str] = []
    absent: list[str] = []
    results = contests(chosen, work, options, wrong, absent)
    measured = {"data": work.origin, "dtype of pairs": options.dtype, "rounds": options.rounds}
    measured |= work.sizes
    if options.json:
        held = [table.as_dict(result) for result in results]
        facts = {"machine": machine.describe(), "measured": measured}
        print(
            json.dumps(facts | {"contests": held, "not_timed": wrong, "absent": absent}, indent=2)
        )
    else:
        print(*table.facts(machine.describe() | measured), "", sep="\n")
        for line in table.lines(results):
            print(line, flush=True)
        print(*(f"absent: {reason}" for reason in absent), sep="\n", end="\n" if absent else "")
        print(*(f"not timed: {problem}" for problem in wrong), sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


def contests(
    chosen: dict,
    work: Work,
    options: argparse.Namespace,
    wrong: list[str],
    absent: list[str],
) -> Iterator[Result]:
    """Yield the result of each contest of those that agree; what does not goes to ``wrong``, who is
    not here to ``absent``."""
    some = [name for name in chosen if name in races.RACES]
    if some or not chosen:
        yield from races.hold_all(some or races.RACES, work, options.rounds, wrong, absent)
    for twin in [chosen[n] for n in chosen if n not in some] if chosen else TWINS:
        if twin.kernel:
            yield from pairs.hold_one(twin, pairs.smaller(work.sizes), options, wrong)


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench", description=__doc__)
    letters = {"B": 2048, "I": 768, "D": 16384, "O": 768, "K": 32}
    for letter, default in letters.items():
        made.add_argument(f"-{letter}", type=int, default=default, metavar="N", help=f"{default}")
    made.add_argument("--model", metavar="FILE", help="race with this transcoder, and not a random")
    made.add_argument("--x", metavar="FILE", help="and B of these rows (.npy)")
    made.add_argument("--target", metavar="FILE", help="and of these")
    made.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of pairs")
    made.add_argument("--rounds", type=int, default=7, help="how often each contestant runs: 7")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these races and pairs alone"
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
