"""train a transcoder on activations

Learns to predict the rows of Y from those of X with minibatch Adam.  Each is a .npy or .safetensors
file, or a folder of such shards; X alone may be a folder that holds both.  FVU, the fraction of
variance unexplained, is measured on the validation rows (1: no better than the mean; 0: perfect).
Ctrl-C stops after the step under way and still writes the model; with --checkpoint, the same
command goes on later.
"""

from __future__ import annotations

import argparse
import inspect
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..activations import paired
from ..declaring import Option, declared
from ..edifice import build
from ..errors import OptionError, printable
from ..formats import Model, format_of, save
from ..params import Architecture
from ..training import Fit, History, fit
from ..training import Progress as Told
from ..training.options import FitOptions
from . import status
from .arguments import add_json, add_output, add_sequences, check_output
from .printing import plural, print_report
from .progress import Progress
from .streams import complain

PARAMETERS = inspect.signature(fit).parameters
OPTIONS = declared(FitOptions)
#: Two are said otherwise here, and who changes the others writes a program.
WITHOUT_FLAG = ("validation", "progress", "beta1", "beta2", "eps", "conventions")
COMPILED = ("float32", "float64")  # the dtypes that the kernels take


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """X [Y] -o MODEL, and what `reftranscoder.fit` takes."""
    parser.add_argument("x", metavar="X", help="activations to read (rows, input_size)")
    parser.add_argument(
        "y", metavar="Y", nargs="?", help="activations to predict (rows, output_size)"
    )
    add_output(parser, "MODEL", "where the transcoder goes, .npz or .safetensors")

    data = parser.add_argument_group("data")
    data.add_argument("--rows", metavar="A:B", help="train on rows A to B - 1 (default: all)")
    data.add_argument(
        "--validation",
        metavar="A:B",
        help="hold rows A to B - 1 out; or a fraction such as 0.1: the last of the training rows",
    )
    add_sequences(data)

    groups = {"transcoder": declared(Architecture)}
    groups["training"] = {n: o for n, o in OPTIONS.items() if n not in groups["transcoder"]}
    for title, options in groups.items():
        group = parser.add_argument_group(title)
        for name in PARAMETERS:
            if name in options and name not in WITHOUT_FLAG:
                _add(group, name, options[name])
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Train, and write the transcoder, also where Ctrl-C cut the training short."""
    check_output(options)
    _rehearse_saving(options.output)
    if options.log is not None and Path(options.log) == Path(options.output):
        raise OptionError("--log", "another file than --output", options.log)
    arguments = {name: value for name, value in vars(options).items() if name in PARAMETERS}
    arguments |= _data(options)

    began = time.monotonic()
    with Progress(options.steps, "steps") as progress:
        result = fit(**arguments, progress=teller(progress))
    seconds = time.monotonic() - began
    model = Model(result.transcoder.config, result.transcoder.params)
    save(model, options.output, force=options.force)

    report, text = _report(options, result, seconds), _text(options, result, seconds)
    print_report(options, report, text, made=printable(options.output))
    if result.signal is not None:
        complain(f"reftranscoder fit: interrupted after step {result.steps}")
        return status.of_signal(result.signal)
    return status.OK


def _add(group: Any, name: str, option: Option) -> None:
    """The flag of an option, of the type of its default."""
    flag, default = "--" + name.replace("_", "-"), option.default
    if isinstance(default, bool):
        group.add_argument(flag, action="store_true", help=option.meaning)
    elif default is None:  # a file
        group.add_argument(flag, metavar="FILE", help=option.meaning)
    else:
        kind = type(default)
        choices = COMPILED if name == "dtype" else option.choices or None
        metavar = None if choices else {int: "N", float: "F"}[kind]
        what = f"{option.meaning} (default: {default})"
        group.add_argument(
            flag, type=kind, default=default, choices=choices, metavar=metavar, help=what
        )


def _data(options: argparse.Namespace) -> dict[str, Any]:
    """``x``, ``target`` and ``validation`` as `fit` takes them."""
    common = {
        "sequence_length": options.sequence_length,
        "drop_position": options.drop_position,
        "dtype": options.dtype,
    }
    x, target = paired(options.x, options.y, rows=options.rows, **common)
    data = {"x": x, "target": target, "validation": None}
    if options.validation is None:
        return data
    if ":" not in options.validation:
        try:
            return data | {"validation": float(options.validation)}
        except ValueError:
            raise OptionError("validation", "A:B or a fraction", options.validation) from None
    held_out = paired(options.x, options.y, rows=options.validation, **common)
    first, last = x.place([0, -1])
    held_first, held_last = held_out[0].place([0, -1])
    if held_first <= last and first <= held_last:
        want = f"apart from the training rows {first}:{last + 1}"
        raise OptionError("validation", want, options.validation, "Restrict them: --rows.")
    return data | {"validation": held_out}


def _rehearse_saving(path: str) -> None:
    """Find out before training, not after, whether a transcoder can be written in this format."""
    smallest = build(input_size=1, output_size=1, dict_size=1, top_k=1)
    with tempfile.TemporaryDirectory() as folder:
        model = Model(smallest.config, smallest.params)
        save(model, Path(folder, f"rehearsal{format_of(path).suffix}"))


def teller(progress: Progress) -> Callable[[Told], None]:
    """What `fit` is to call after every step, so that ``progress`` shows how it goes."""

    def tell(told: Told) -> None:
        progress.advance_to(told.step, told.note)

    return tell


def _report(options: argparse.Namespace, result: Fit, seconds: float) -> dict[str, Any]:
    report = {
        "output": options.output,
        "interrupted": result.interrupted,
        "steps": result.steps,
        "best_step": result.best_step,
        "seconds": round(seconds, 3),
        "config": result.transcoder.config.to_dict(),
        "validation": None,
        "history": result.history.to_dict(),
    }
    if result.metrics:
        metrics = result.metrics
        dead = metrics.dead_features
        assert dead is not None  # features were measured
        report["validation"] = {
            "rows": metrics.rows,
            "fvu": metrics.fvu,
            "mse": metrics.mse,
            "l0": metrics.l0,
            "dead": len(dead),
        }
    return report


def _text(options: argparse.Namespace, result: Fit, seconds: float) -> str:
    lines = [
        f"{printable(options.output)}: {result.transcoder!r}",
        f"{plural(result.steps, 'step')} of {plural(options.batch_size, 'row')} in {seconds:.0f} s",
    ]
    if result.best_step is not None:
        lines.append(f"the best that was measured: that of step {result.best_step}")
    if result.metrics:
        metrics = result.metrics
        dead = metrics.dead_features
        assert dead is not None  # features were measured
        lines.append(
            f"on {plural(metrics.rows, 'row')} held out: FVU {metrics.fvu:.4f}, "
            f"{metrics.l0:.1f} features active in a row, {len(dead)} in none"
        )
    elif len(result.history):
        lines.append(_last_entry(result.history))
    return "\n".join(lines)


def _last_entry(history: History) -> str:
    entry = history.entries[-1]
    return (
        f"at step {entry.step}, {history.measured_on}: FVU {entry.fvu:.4f}, "
        f"{entry.l0:.1f} features active in a row, {entry.dead} in none"
    )
