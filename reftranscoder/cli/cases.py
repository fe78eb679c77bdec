"""cases that an implementation in any language can be audited on

Writes a folder of small cases: parameters, a batch, and what a transcoder ought to make of it, as
.npz and, with the package safetensors, as .safetensors.  Its README.txt says what to read and what
to write; then ``reftranscoder audit DIR`` judges what was written.  In a folder of cases that
exists, results are left alone.

Without --activation the cases are for topk and relu, or for what a folder of cases is for.
"""

from __future__ import annotations

import argparse

from ..errors import printable
from ..params import ACTIVATIONS
from .arguments import add_json
from .printing import plural, print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """DIR."""
    parser.add_argument("folder", metavar="DIR", help="a new folder, or one of cases")
    what = "the one that the cases are for"
    parser.add_argument("--activation", choices=ACTIVATIONS, help=what)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Write the cases."""
    from ..auditor.probes.case_folder import README, write_cases

    names = write_cases(options.folder, options.activation)
    folder = printable(options.folder)
    text = f"{folder}: {plural(len(names), 'case')}. What to do: {README} in it."
    print_report(options, {"folder": options.folder, "cases": names}, text, made=folder)
