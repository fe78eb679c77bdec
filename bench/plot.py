"""Results as a picture: a bar for each ratio, and of training FVU against seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reftranscoder.errors import OptionError

from .contest import Result
from .training import Learning


def check(path: str) -> None:
    """Refuse what nothing could be drawn to, before anything is timed.

    Raises:
        OptionError: Matplotlib is not installed or knows no such suffix; there is no such folder.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError("--plot", "left out without Matplotlib", str(error)) from None
    suffixes = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in suffixes:
        raise OptionError("--plot", f"a file that ends in one of {', '.join(suffixes)}", path)
    if not Path(path).parent.is_dir():
        raise OptionError("--plot", "a file in a folder that exists", path)


def draw(results: Iterable[Result | Learning], path: str) -> None:
    """Draw ``results``, one below the other."""
    from matplotlib.figure import Figure

    drawn = [result for result in results if _height(result)]
    heights = [_height(result) for result in drawn] or [1.0]
    figure = Figure((9, sum(heights)), layout="constrained")
    rows = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    for axes, result in zip(rows, drawn):
        if isinstance(result, Learning):
            _curves(axes, result)
        else:
            _ratios(axes, result)
    figure.savefig(path, dpi=150)


def _height(result: Result | Learning) -> float:
    """In inches; 0 of a contest without anybody to compare with."""
    if isinstance(result, Learning):
        return 4.5 if result.curves else 0
    others = len(result.times) - 1
    return 0.9 + 0.25 * others if others else 0


def _ratios(axes, result: Result) -> None:
    names = list(result.times)[1:]
    ratios = [result.ratio(name) for name in names]
    bars = axes.barh(names, ratios, color="tab:blue")
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, 1.15 * max(1, *ratios))
    axes.invert_yaxis()
    axes.set_title(
        f"{result.contest}: seconds of {next(iter(result.times))} over theirs", loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)


def _curves(axes, result: Learning) -> None:
    for name, points in result.curves.items():
        seconds, fvu = [point.seconds for point in points], [point.fvu for point in points]
        axes.plot(seconds, fvu, marker="o", label=f"{name}: {fvu[-1]:.3f}, {points[-1].dead} dead")
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("FVU on held-out rows")
    axes.set_title(f"{result.contest}, the same rows for all", loc="left")
    axes.legend(title="FVU at the end", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
