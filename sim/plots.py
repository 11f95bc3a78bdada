"""Slides from a result: where the time goes, unfused against flash-2, and the operators under the device's rooflines.

matplotlib is imported when a plot is drawn, and drawn without a display.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.report import number, seconds
from sim.result import Floats, Result, call_class
from workloads.kind import REPORT_CLASSES

DPI = 200
# Okabe and Ito's palette (2008), distinguishable for colour-blind readers, one colour a class everywhere.
COLOURS = dict(
    zip(
        REPORT_CLASSES,
        ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#F0E442", "#999999", "#56B4E9", "#CC79A7", "#000000"),
        strict=True,
    )
)
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "framecast",
    "svg.fonttype": "none",
}
LABELLED = 0.045  # length, in longest bars, above which a percentage is written into a part
LISTED = 0.002  # share of kernel time above which a class is in the legend
LARGEST, SMALLEST = 900.0, 14.0  # areas of the roofline's points, points^2
FLOOR = 1e-3  # share of kernel time below which an operator is left out of the roofline


def breakdown(result: Result, path: Path) -> None:
    """Stacked bars of GPU kernel time by class, unfused and flash-2, to a .png or .svg file."""
    figure, axes = _figure(9, 3.8)
    classes = list(dict.fromkeys(name for p in result.attention.values() for name in result.by_class(p)))
    ways = list(result.attention)[::-1]  # the first is drawn on top
    longest = max(result.total(p).time for p in result.attention.values())
    for row, way in enumerate(ways):
        totals = result.by_class(result.attention[way])
        whole, left = sum(t.time for t in totals.values()), 0.0
        for name in classes:
            time = totals[name].time if name in totals else 0.0
            axes.barh(row, time, left=left, height=0.62, color=COLOURS[name], edgecolor="white", linewidth=0.6)
            if time > LABELLED * longest:
                colour = "black" if name in ("Norm", "GroupNorm", "Elementwise", "Memory") else "white"
                axes.text(
                    left + time / 2,
                    row,
                    f"{100 * time / whole:.0f} %",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=9.5,
                )
            left += time
        axes.text(left + 0.01 * longest, row, seconds(whole), va="center", fontweight="bold")
    axes.set_yticks(range(len(ways)), ways)
    axes.set_xlim(0, 1.13 * longest)
    axes.set_xlabel("GPU kernel time of one inference (s)")
    tables = [(result.by_class(p), result.total(p).time) for p in result.attention.values()]
    listed = [n for n in classes if any(n in t and t[n].time > LISTED * whole for t, whole in tables)]
    title = _title(result, "attention unfused and flash-2")
    _legend(figure, title, [_patch(COLOURS[name]) for name in listed], listed)
    _save(figure, result, path)


def roofline(result: Result, path: Path) -> None:
    """Operators of the scenario's own run (points, area by time) under HBM, matrix and vector roofs, to .png or .svg."""
    figure, axes = _figure(9, 5.6)
    device, dtype = result.scenario.device, str(getattr(result.scenario.request, "dtype", "fp32"))
    bandwidth, tensor, vector = device.hbm.bandwidth, device.matmul_rate(dtype), device.flop_rate("vector", "fp32")
    intensity, rate, share, index = _points(result)
    low = 10 ** np.floor(np.log10(min(intensity.min(initial=1.0), 0.5)))
    high = 10 ** np.ceil(np.log10(max(intensity.max(initial=1.0), 4 * tensor / bandwidth)))
    x = np.geomspace(low, high, 400)
    axes.loglog(x, np.minimum(bandwidth * x, tensor) / 1e12, color="black", linewidth=1.6, zorder=2)
    axes.loglog(x, np.minimum(bandwidth * x, vector) / 1e12, color="black", linewidth=1.0, linestyle="--", zorder=1)
    area = SMALLEST + (LARGEST - SMALLEST) * share / share.max(initial=1e-9)
    for c in np.unique(index):
        mine = index == c
        name = REPORT_CLASSES[c]
        axes.scatter(
            intensity[mine],
            rate[mine] / 1e12,
            s=area[mine],
            color=COLOURS[name],
            alpha=0.55,
            edgecolor="black",
            linewidth=0.5,
            zorder=3,
        )
    _roof_labels(axes, low, high, bandwidth, tensor, vector, dtype)
    axes.set_xlim(low, high)
    axes.set_ylim(max(rate.min(initial=1e12) / 2e12, 1e-4), 2.2 * tensor / 1e12)
    axes.set_xlabel("arithmetic intensity (FLOP per byte of HBM traffic)")
    axes.set_ylabel("achieved (TFLOP/s)")
    axes.grid(which="major", color="#dddddd", linewidth=0.6, zorder=0)
    names = [REPORT_CLASSES[c] for c in np.unique(index)]
    dots = [axes.scatter([], [], s=60, color=COLOURS[n], edgecolor="black", linewidth=0.5) for n in names]
    _legend(figure, _title(result, "operators under the roofs, area by time"), dots, names)
    _save(figure, result, path)


def _roof_labels(
    axes: Any, low: float, high: float, bandwidth: float, tensor: float, vector: float, dtype: str
) -> None:
    for rate, name in ((tensor, f"matrix {dtype}"), (vector, "vector fp32")):
        text = f"{name} {number(rate / 1e12)} TFLOP/s"
        axes.text(high / 1.15, rate / 1e12 * 1.08, text, ha="right", va="bottom", fontsize=9.5)
    ridge, x = tensor / bandwidth, low * 1.25
    axes.axvline(ridge, color="#666666", linewidth=0.8, linestyle=":", zorder=1)
    above = 1.25 * bandwidth / 1e12  # the line on which the label stands, parallel to the roof
    along = {"rotation": np.degrees(np.arctan(above)), "transform_rotates_text": True, "rotation_mode": "anchor"}
    axes.text(x, above * x, f"HBM {number(bandwidth / 1e9)} GB/s", va="bottom", fontsize=9.5, **along)
    at = {"xycoords": ("data", "axes fraction"), "xytext": (5, 6), "textcoords": "offset points"}
    axes.annotate(f"ridge {number(ridge)} FLOP/B", (ridge, 0), color="#444444", fontsize=9.5, **at)


def _points(result: Result) -> tuple[Floats, Floats, Floats, Any]:
    """Intensity, achieved FLOP/s (matrix and vector), share of time and class of each operator that takes time enough."""
    cost = result.priced.cost
    kernels = cost.kernels
    runs = result.trace.call_repeats()
    time, hbm = cost.per_call(cost.time), cost.per_call(cost.hbm_bytes)
    flops = cost.per_call(kernels.flops + kernels.vector_flops)
    index = call_class(result.trace)
    keys, which = np.unique(np.column_stack([kernels.call_row, index]), axis=0, return_inverse=True)
    sums = [np.bincount(which.reshape(-1), column * runs) for column in (time, hbm, flops)]
    share = sums[0] / sums[0].sum()
    kept = (share > FLOOR) & (sums[1] > 0) & (sums[2] > 0)
    time, hbm, flops = (column[kept] for column in sums)
    return flops / hbm, flops / time, share[kept], keys[kept, 1].astype(np.int64)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots()


def _patch(colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour)


def _legend(figure: Any, title: str, handles: list[Any], names: list[str]) -> None:
    """The title and, below it, the classes in one row above the axes."""
    look = {"frameon": False, "fontsize": 9.5, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.2}
    figure.legend(handles, names, title=title, loc="outside upper left", ncols=len(names), **look)


def _title(result: Result, what: str) -> str:
    s = result.scenario
    return f"{s.model} on {s.device.title}: {what}"


def _save(figure: Any, result: Result, path: Path) -> None:
    """With the source in the corner; the same bytes for the same result."""
    from importlib.metadata import version

    from matplotlib import rc_context

    s = result.scenario
    source = f"framecast {version('framecast')}, level {s.level}, scenario {s.hash}"
    figure.supxlabel(source, x=0.995, ha="right", fontsize=7, color="#777777")
    with rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=DPI, metadata=metadata)
