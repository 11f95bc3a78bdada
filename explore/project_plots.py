"""Slides of a projection: time and FLOPs against frames with the crossovers marked, and the share of kernel time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from explore.horizon import ELSE
from explore.horizon_report import span
from explore.project import CONVOLUTION, CROSS, GROUPS, JOINT, LINEAR, REST, SPATIAL, TEMPORAL, Projection
from explore.project_report import counted
from sim.plots import COLOURS, DPI, STYLE

# Okabe and Ito's palette (2008), as everywhere: a class keeps its colour, the attentions beside each other do not share one.
COLOUR = {
    SPATIAL: COLOURS["Attention"], TEMPORAL: "#000000", JOINT: "#000000", CROSS: "#CC79A7", CONVOLUTION: COLOURS["Convolution"],
    LINEAR: COLOURS["Linear"], REST: "#999999",
}  # fmt: skip
LINE = {  # widths; convolution's shows under that of linear layers, whose FLOPs are nearly the same
    SPATIAL: 2.6, TEMPORAL: 2.6, JOINT: 2.6, CROSS: 1.4, CONVOLUTION: 3.4, LINEAR: 1.2, REST: 1.4,
}  # fmt: skip
WIDTH, LEGEND, NARROWEST = 4.0, 1.2, 9.5  # inches: of a panel, of what stands beside it, of the title and the legend
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8}  # a label
LABEL = 0.25  # of a panel's width, that the label of a crossover takes
TICK = 0.12  # of a panel's width, that a tick's label takes
LABELLED = 6.0  # share, in %, above which a band is labelled


def frames(found: Projection, path: Path) -> None:
    """Kernel time (above) and matrix FLOPs (below) of each group against frames, one column a size, to a .png or .svg file."""
    _draw(found, path, 2, _curves, "kernel time and FLOPs")


def share(found: Projection, path: Path) -> None:
    """Share of kernel time by group against frames, one column a size, to a .png or .svg file."""
    _draw(found, path, 1, _bands, "share of kernel time")


def _draw(found: Projection, path: Path, rows: int, fill: Callable[[Any, Projection], None], what: str) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = len(found.crossovers)
    with rc_context(STYLE):
        figure = Figure(figsize=(max(WIDTH * columns + LEGEND, NARROWEST), 1.3 + 3.0 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
        fill(axes, found)
        shown = _shown(found)
        handles = [Line2D([], [], color=COLOUR[name], linewidth=6 if rows == 1 else 2.2) for name in shown]
        s = found.scenario
        title = f"{s.model} on {s.device.title}, attention {s.software.attention}: {what}"
        look = {"frameon": False, "fontsize": 9.5, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.4}
        figure.legend(handles, shown, title=title, loc="outside upper left", ncols=len(shown), **look)
        _save(figure, found, path)


def _shown(found: Projection) -> list[str]:
    """Groups that take any time."""
    return [name for name in GROUPS if any(p.groups[name].time for p in found.points)]


def _curves(axes: Any, found: Projection) -> None:
    shown = _shown(found)
    for column, c in enumerate(found.crossovers):
        points = found.of(c.height, c.width)
        x = [p.frames for p in points]
        times = {name: [p.groups[name].time for p in points] for name in shown}
        flops = {name: [p.groups[name].flops / 1e12 for p in points] for name in shown if name != REST}  # almost none
        for panel, curves, marks in ((axes[0, column], times, c.times), (axes[1, column], flops, (c.flops or 0,))):
            for name, y in curves.items():
                panel.loglog(x, y, color=COLOUR[name], linewidth=LINE[name])
            for frames_ in marks:
                _mark(panel, float(frames_), x, curves.get(SPATIAL, ()))
            frames_axis(panel, x, found.seconds)
            panel.grid(which="major", color="#e4e4e4", linewidth=0.6)
        _mark_rest(axes[0, column], found, column, x, times)
        if c.first_above:
            text = f"temporal above spatial already at {counted(x[0])}"
            axes[0, column].text(0.98, 0.03, text, ha="right", fontsize=9, transform=axes[0, column].transAxes)
        axes[0, column].set_title(f"{c.height} × {c.width}", loc="left", fontsize=11)
        axes[1, column].set_xlabel("frames, length of the clip")
    axes[0, 0].set_ylabel("kernel time (s)")
    axes[1, 0].set_ylabel("matrix TFLOP")


def _mark(axes: Any, frames_: float, x: list[int], y: Sequence[float], text: str = "") -> None:
    """A point on a curve with its frame count below it, where that lies within the axis."""
    import numpy as np

    if not x[0] <= frames_ <= x[-1] or not len(y):
        return
    at, low, high = np.log([frames_, x[0], x[-1]])
    height = float(np.exp(np.interp(at, np.log(x), np.log(y))))
    axes.plot([frames_], [height], "o", markersize=8, markerfacecolor="white", markeredgecolor="black", zorder=5)
    late = high - at < LABEL * (high - low)  # no room to the right of the point: at the edge
    where, place = (
        (x[-1], {"xytext": (-3, -22), "ha": "right"}) if late else (frames_, {"xytext": (4, -22), "ha": "left"})
    )
    if text:  # of a curve that rises above the others: there is room on its left
        where, place = frames_, {"xytext": (-8, 5), "ha": "right"}
    axes.annotate(
        text or counted(frames_), (where, height), textcoords="offset points", fontsize=9.5, bbox=BEHIND, **place
    )


def _mark_rest(panel: Any, found: Projection, column: int, x: list[int], times: dict[str, list[float]]) -> None:
    """Where attention over frames comes to take longer than convolution, and than all else together, on its curve."""
    if not found.horizons:
        return
    own = found.horizons[column].own
    overtakes = own.overtakes()
    for name in (CONVOLUTION, ELSE):
        at = overtakes[name]
        if at is not None and at > x[0]:
            _mark(panel, at, x, times[own.over_frames], f"{at:,.0f} frames: above {name}")


def frames_axis(axes: Any, x: list[int], seconds: Callable[[float], float]) -> None:
    """Ticks at frame counts that were asked for, as many as have room, and how long such a clip lasts."""
    axes.set_xscale("log")
    axes.set_xlim(x[0], x[-1])
    ticks = _apart(x)
    axes.set_xticks(ticks, [f"{n}\n{span(seconds(n))}" for n in ticks])
    axes.minorticks_off()


def _apart(x: list[int]) -> list[int]:
    """The first, the last, and those between that are far enough apart on a logarithmic axis for their labels."""
    import math

    room = math.log(x[-1] / x[0]) * TICK if len(x) > 1 else 1.0
    kept = [x[0]]
    for n in x[1:-1]:
        if math.log(n / kept[-1]) > room and math.log(x[-1] / n) > room:
            kept.append(n)
    return [*kept, x[-1]] if len(x) > 1 else kept


def _bands(axes: Any, found: Projection) -> None:
    for column, c in enumerate(found.crossovers):
        points, shown = found.of(c.height, c.width), _shown(found)
        x, panel = [p.frames for p in points], axes[0, column]
        shares = [[100 * p.groups[name].time / p.gpu_time for p in points] for name in shown]
        panel.stackplot(x, shares, colors=[COLOUR[name] for name in shown], edgecolor="white", linewidth=0.6)
        below = 0.0
        for name, values in zip(shown, shares, strict=True):
            if values[-1] > LABELLED:
                colour = "black" if name in (REST, CROSS) else "white"
                at = {"ha": "right", "va": "center", "color": colour, "fontsize": 9.5}
                panel.annotate(
                    f"{values[-1]:.0f} %", (x[-1], below + values[-1] / 2), (-5, 0), textcoords="offset points", **at
                )
            below += values[-1]
        frames_axis(panel, x, found.seconds)
        panel.set_ylim(0, 100)
        panel.set_title(f"{c.height} × {c.width}", loc="left", fontsize=11)
        panel.set_xlabel("frames, length of the clip")
    axes[0, 0].set_ylabel("share of kernel time (%)")


def _save(figure: Any, found: Projection, path: Path) -> None:
    """With the source in the corner; the same bytes for the same result."""
    from importlib.metadata import version

    s = found.scenario
    source = f"framecast {version('framecast')}, level {s.level}, scenario {s.hash}"
    figure.supxlabel(source, x=0.995, ha="right", fontsize=7, color="#777777")
    figure.savefig(path, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
