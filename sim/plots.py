"""Slides from a result: where the time goes, unfused against flash-2, and the operators under the device's rooflines.

matplotlib is imported when a plot is drawn, and drawn without a display.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.report import number, seconds
from sim.result import Floats, Result, call_class
from sim.slide import COLOURS, DARK_TEXT, DPI, STYLE, figure, legend, patch, save, source
from sim.words import device_title, setting
from workloads.kind import REPORT_CLASSES, Ints

__all__ = ["COLOURS", "DPI", "STYLE", "breakdown", "points", "roofline"]
LABELLED = 0.045  # length, in longest bars, above which a percentage is written into a part
LISTED = 0.002  # share of kernel time above which a class is in the legend
LARGEST, SMALLEST = 900.0, 14.0  # areas of the roofline's points, points^2
FLOOR = 1e-3  # share of kernel time below which an operator is left out of the roofline


def breakdown(result: Result, path: Path) -> None:
    """Stacked bars of GPU kernel time by class, unfused and fused, to a .png or .svg file."""
    drawn, axes = figure(9, 3.8)
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
                colour = "black" if name in DARK_TEXT else "white"
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
    title = _title(result, f"attention {' and '.join(result.attention)}")
    legend(drawn, title, [patch(COLOURS[name]) for name in listed], listed)
    save(drawn, source(result.scenario), path)


def roofline(result: Result, path: Path) -> None:
    """Operators of the scenario's own run (points, area by time) under HBM, matrix and vector roofs, to .png or .svg."""
    drawn, axes = figure(9, 5.6)
    device, dtype = result.scenario.device, str(getattr(result.scenario.request, "dtype", "fp32"))
    bandwidth, tensor, vector = device.hbm.bandwidth, device.matmul_rate(dtype), device.flop_rate("vector", "fp32")
    found = points(result)
    intensity, rate, share, index = found.intensity, found.rate, found.share, found.report_class
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
    axes.set_ylabel("achieved (TFLOP/s, matrix and vector)")
    axes.grid(which="major", color="#dddddd", linewidth=0.6, zorder=0)
    names = [REPORT_CLASSES[c] for c in np.unique(index)]
    dots = [axes.scatter([], [], s=60, color=COLOURS[n], edgecolor="black", linewidth=0.5) for n in names]
    legend(drawn, _title(result, "operators under the roofs, area by time"), dots, names)
    save(drawn, source(result.scenario), path)


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


@dataclass(frozen=True)
class Points:
    """Operators that take time enough for a roofline: FLOP/B, FLOP/s (matrix and vector), share of time, class, first call."""

    intensity: Floats
    rate: Floats
    share: Floats
    report_class: Ints
    call: Ints


def points(result: Result) -> Points:
    """One point for calls that are priced alike and are of one class."""
    cost = result.priced.cost
    kernels = cost.kernels
    runs = result.trace.call_repeats()
    columns = (
        cost.per_call(cost.time),
        cost.per_call(cost.hbm_bytes),
        cost.per_call(kernels.flops + kernels.vector_flops),
    )
    index = call_class(result.trace)
    pairs = np.column_stack([kernels.call_row, index])
    keys, first, which = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    time, hbm, flops = (np.bincount(which.reshape(-1), column * runs) for column in columns)
    share = time / time.sum()
    kept = (share > FLOOR) & (hbm > 0) & (flops > 0)
    time, hbm, flops = time[kept], hbm[kept], flops[kept]
    return Points(flops / hbm, flops / time, share[kept], keys[kept, 1].astype(np.int64), first[kept])


def _title(result: Result, what: str) -> str:
    s = result.scenario
    return f"{s.model} on {device_title(s)}: {what}\n{setting(s)}"
