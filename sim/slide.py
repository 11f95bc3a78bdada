"""One style for every plot: figures without a display, a title with its legend, the source in the corner, the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim.scenario import Scenario
from workloads.kind import REPORT_CLASSES

DPI = 200
FEW = 100  # largest over smallest of an axis, below which there are too few powers of ten for ticks
# Okabe and Ito's palette (2008), distinguishable for colour-blind readers, one colour a class everywhere.
COLOURS = dict(
    zip(
        REPORT_CLASSES,
        ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#F0E442", "#999999", "#56B4E9", "#CC79A7", "#000000"),
        strict=True,
    )
)
DARK_TEXT = ("Norm", "GroupNorm", "Elementwise", "Memory")  # classes on whose colour text is black
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "framecast",
    "svg.fonttype": "none",
}


def figure(width: float, height: float, rows: int = 1, **layout: Any) -> tuple[Any, Any]:
    """A figure in inches and its axes: one, or `rows` above each other that share their x axis."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        return made, made.subplots(rows, sharex=rows > 1, **layout)


def log_axis(panel: Any, base: int, bottom: float, top: float) -> None:
    """A logarithmic y axis, plain numbers at powers of `base`; where those of ten are few, also at 2 and 5 times them."""
    from matplotlib.ticker import LogLocator

    panel.set_yscale("log", base=base)
    panel.set_ylim(bottom, top)
    few = base == 10 and top < FEW * bottom
    panel.yaxis.set_major_locator(LogLocator(base, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    panel.yaxis.set_major_formatter(lambda value, _: _tick(value))
    panel.minorticks_off()


def _tick(value: float) -> str:
    """A number without an exponent."""
    return f"{value:,.0f}" if value >= 1 else str(np.format_float_positional(value, 3, trim="-", fractional=False))


def patch(colour: str) -> Any:
    """A filled square for a legend."""
    from matplotlib.patches import Patch

    return Patch(color=colour)


def legend(figure: Any, title: str, handles: Sequence[Any] = (), names: Sequence[str] = ()) -> None:
    """The title and, below it, the names in one row above the axes."""
    if not handles:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        return
    look = {"frameon": False, "fontsize": 9.5, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.2}
    figure.legend(handles, names, title=title, loc="outside upper left", ncols=len(names), **look)


def source(scenario: Scenario) -> str:
    """Where a plot of one scenario comes from."""
    return f"level {scenario.level}, scenario {scenario.hash}"


def save(figure: Any, source: str, path: Path) -> None:
    """To a .png or .svg file, with the source in the corner; the same bytes for the same result."""
    from importlib.metadata import version

    from matplotlib import rc_context

    figure.supxlabel(f"framecast {version('framecast')}, {source}", x=0.995, ha="right", fontsize=7, color="#777777")
    with rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=DPI, metadata=metadata)
