"""Time what agrees, and print medians with ranges and ratios.

The races come first: encoding, predicting, one row, a training step and the first result of a new
process, against every library that is installed, and against the machine's limits.  Then the pairs:
each kernel against its reference, with at most 512 rows and 4096 features.  A ratio is ours over
theirs: below 1, ours is faster.  Exit status 1 where results disagree; what is wrong is not timed.

``--only training`` trains ours and others' transcoders on the same rows, of ``--x`` and
``--target`` (``--x`` alone: autoencoders) or of the package's sample, and prints the held-out FVU
against seconds.  ``--only variants`` encodes under the other activations.  Neither is among what
runs without ``--only``.  ``--profile`` splits encoding, one row and a step into their parts, beside
what this machine could do at best, and races nobody.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator

from reftranscoder.errors import Error, OptionError
from reftranscoder.twins import TWINS, find

from . import machine, pairs, plot, profile, races, table, variants
from .contest import Result
from .training import Learning, Task, hold
from .work import Work

TRAINING, VARIANTS = "training", "variants"
#: The sizes, and those of training.
SIZES = {"B": 2048, "I": 768, "D": 16384, "O": 768, "K": 32}
OF_TRAINING = {"B": 1024, "D": 4096}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = parser().parse_args(arguments)
    sizes = given(options, SIZES)
    wrong: list[str] = []
    absent: list[str] = []
    measured: dict[str, object] = {}
    try:
        if options.profile:
            return show_profile(options, sizes)
        results = contests(options, sizes, measured, wrong, absent)
    except (Error, OSError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2

    if options.json:
        held = list(results)
        facts = {"machine": machine.describe(), "measured": measured}
        found = {"contests": list(map(table.as_dict, held)), "not_timed": wrong, "absent": absent}
        print(json.dumps(facts | found, indent=2))
    else:
        held = []
        print(*table.facts(machine.describe() | measured), "", sep="\n")
        for line in table.lines(_kept(results, held)):
            print(line, flush=True)
        print(*(f"absent: {reason}" for reason in absent), sep="\n", end="\n" if absent else "")
        print(*(f"not timed: {problem}" for problem in wrong), sep="\n", end="\n" if wrong else "")
    if options.plot:
        plot.draw(held, options.plot)
    return 1 if wrong else 0


def show_profile(options: argparse.Namespace, sizes: dict[str, int]) -> int:
    """Print where the time goes; return the exit status."""
    check(options, sizes)
    if options.only or options.plot:
        raise OptionError("--profile", "without --only and --plot", True)
    work = work_of(options, sizes)
    parts = profile.profile(work, options.rounds)
    facts = {"data": work.origin, "rounds": options.rounds} | work.sizes
    if options.json:
        found = [part._asdict() for part in parts]
        whole = {"machine": machine.describe(), "measured": facts, "profile": found}
        print(json.dumps(whole, indent=2))
    else:
        print(*table.facts(machine.describe() | facts), "", *profile.lines(parts), sep="\n")
    return 0


def given(options: argparse.Namespace, defaults: dict[str, int]) -> dict[str, int]:
    """The sizes that were given, or else the defaults."""
    found = {letter: getattr(options, letter) for letter in SIZES}
    return {n: defaults.get(n, SIZES[n]) if size is None else size for n, size in found.items()}


def contests(
    options: argparse.Namespace,
    sizes: dict[str, int],
    measured: dict[str, object],
    wrong: list[str],
    absent: list[str],
) -> Iterator[Result | Learning]:
    """Return the results, each yielded as soon as its contest was held; ``measured`` says on what.

    What does not agree goes to ``wrong``, who is not here to ``absent``.

    Raises:
        Error: options that make no sense, or files that cannot be read.
    """
    check(options, sizes)
    some = [name for name in options.only if name in races.RACES]
    others = (TRAINING, VARIANTS, *some)
    twins = [find(name) for name in options.only if name not in others]
    if options.plot:
        plot.check(options.plot)
    held = []
    if some or twins or VARIANTS in options.only or not options.only:
        work = work_of(options, sizes)
        measured |= {"data": work.origin, "dtype of pairs": options.dtype, "rounds": options.rounds}
        measured |= work.sizes
        if not options.only:
            some, twins = list(races.RACES), list(TWINS)
        held.append(races.hold_all(some, work, options.rounds, wrong, absent) if some else ())
        if VARIANTS in options.only:
            held.append(variants.hold_all(work, options.rounds, wrong, absent))
        held += [
            pairs.hold_one(twin, pairs.smaller(work.sizes), options, wrong)
            for twin in twins
            if twin.kernel
        ]
    if TRAINING in options.only:
        task = Task.load(options, given(options, SIZES | OF_TRAINING))
        of_training = {"data": task.origin, **task.sizes}
        measured |= {f"{TRAINING}: {name}": value for name, value in of_training.items()}
        held.append(hold(task, wrong, absent) for _ in range(1))
    return itertools.chain.from_iterable(held)


def check(options: argparse.Namespace, sizes: dict[str, int]) -> None:
    """Raise `OptionError` where options make no sense together."""
    if min(sizes.values()) < 1 or sizes["K"] > sizes["D"] or min(options.rounds, options.steps) < 1:
        asked = sizes | {"rounds": options.rounds, "steps": options.steps}
        raise OptionError("sizes, rounds and steps", "at least 1, with K at most D", asked)
    if options.model and not (options.x and options.target):
        raise OptionError("--model", "with --x and --target", options.model)


def work_of(options: argparse.Namespace, sizes: dict[str, int]) -> Work:
    """What was asked for: a model and its data, or random ones."""
    return Work.load(options, sizes) if options.model else Work.draw(sizes, options.seed)


def _kept(results: Iterator[Result | Learning], held: list) -> Iterator[Result | Learning]:
    """``results``, each put into ``held`` too."""
    for result in results:
        held.append(result)
        yield result


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    made = argparse.ArgumentParser("python -m bench", description=__doc__)
    for letter, default in SIZES.items():
        other = f"; in training {OF_TRAINING[letter]}" if letter in OF_TRAINING else ""
        made.add_argument(f"-{letter}", type=int, metavar="N", help=f"{default}{other}")
    made.add_argument("--model", metavar="FILE", help="race with this transcoder, and not a random")
    made.add_argument("--x", metavar="FILE", help="and B of these rows (.npy); or train on these")
    made.add_argument("--target", metavar="FILE", help="and of these")
    made.add_argument("--steps", type=int, default=600, help="of training: 600")
    made.add_argument("--held-out", type=int, default=2048, metavar="N", help="the last rows: 2048")
    made.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of pairs")
    made.add_argument("--rounds", type=int, default=7, help="how often each contestant runs: 7")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these races and pairs alone"
    )
    made.add_argument("--profile", action="store_true", help="where the time goes, and limits")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--plot", metavar="FILE", help="draw ratios and curves, with Matplotlib")
    return made


if __name__ == "__main__":
    sys.exit(main())
