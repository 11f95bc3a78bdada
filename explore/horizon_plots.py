"""A slide of a projection's ways and devices: how long a clip takes to make against its frames, hollow where it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explore.project import Projection
from explore.project_plots import frames_axis
from sim.slide import STYLE, patch, save, source

COLOURS = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#999999",
    "#000000",
)  # Okabe and Ito (2008)


def ways(found: Projection, path: Path) -> None:
    """Latency against frames, one column a size and one line a way or device, to a .png or .svg file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, s = len(found.horizons), found.scenario
    with rc_context(STYLE):
        figure = Figure(figsize=(max(4.4 * columns, 9.5), 4.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, columns, squeeze=False, sharey=True)
    named: dict[str, str] = {}
    for panel, h in zip(axes[0], found.horizons, strict=True):
        for i, curve in enumerate(h.curves):
            colour = COLOURS[i % len(COLOURS)]
            named.setdefault(f"{curve.name}, {curve.device}", colour)
            x, y = [r.frames for r in curve.runs], [r.latency for r in curve.runs]
            style, wide = "-" if curve.device == s.device.name else "--", 3.4 - 2.4 * i / len(h.curves)
            panel.loglog(x, y, color=colour, linewidth=wide, linestyle=style)
            for run in curve.runs:
                _dot(panel, run.frames, run.latency, colour, run.peak_bytes <= curve.capacity, 4 + 2 * wide)
        panel.set_title(f"{h.height} × {h.width}", loc="left", fontsize=11)
        panel.set_xlabel("frames, length of the clip (hollow: does not fit)")
        frames_axis(panel, [r.frames for r in h.own.runs], found.frames_per_second)
        panel.margins(x=0.02)
        panel.autoscale(axis="x")
        panel.grid(color="#e4e4e4", linewidth=0.6)
        for size, label in ((60.0, "1 min"), (3600.0, "1 h"), (86400.0, "1 day")):
            panel.axhline(size, color="#bbbbbb", linewidth=0.8, linestyle=":")
            panel.annotate(
                label,
                (1, size),
                (-2, 2),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                fontsize=8,
            )
    axes[0, 0].set_ylabel("latency (s)")
    look = {"frameon": False, "fontsize": 9, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.2}
    title = f"{s.model}, attention {s.software.attention}: time to make a clip"
    figure.legend(
        [patch(c) for c in named.values()], list(named), title=title, loc="outside upper left", ncols=3, **look
    )
    save(figure, source(s), path)


def _dot(panel: Any, x: float, y: float, colour: str, fits: bool, size: float) -> None:
    panel.plot([x], [y], "o", color=colour, markerfacecolor=colour if fits else "white", markersize=size)
