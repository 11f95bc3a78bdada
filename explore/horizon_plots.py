"""A slide of a projection's ways and devices: how long a clip takes to make against its frames, hollow where it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explore.project import Projection
from explore.project_plots import frames_axis
from sim.slide import STYLE, save, source

MARKERS = "osDv^P*X"
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
    from matplotlib.lines import Line2D

    columns, s = len(found.horizons), found.scenario
    with rc_context(STYLE):
        figure = Figure(figsize=(max(4.4 * columns, 9.5), 4.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, columns, squeeze=False, sharey=True)
    named: dict[str, Any] = {}
    for panel, h in zip(axes[0], found.horizons, strict=True):
        for i, curve in enumerate(h.curves):
            style: dict[str, Any] = {
                "color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "linewidth": 1.6, "markersize": 6,
                "linestyle": "-" if curve.device == s.device.name else "--",
            }  # fmt: skip
            named.setdefault(f"{curve.name}, {curve.device}", Line2D([], [], **style))
            panel.loglog([r.frames for r in curve.runs], [r.latency for r in curve.runs], **style)
            hollow = [r for r in curve.runs if r.peak_bytes > curve.capacity]
            panel.plot(
                [r.frames for r in hollow], [r.latency for r in hollow],
                **style | {"linestyle": "", "markerfacecolor": "white"},
            )  # fmt: skip
        panel.set_title(f"{h.height} × {h.width}", loc="left", fontsize=11)
        panel.set_xlabel("frames, length of the clip (hollow: does not fit)")
        frames_axis(panel, [r.frames for r in h.own.runs], found.seconds)
        panel.margins(x=0.02)
        panel.autoscale(axis="x")
        panel.grid(color="#e4e4e4", linewidth=0.6)
        for size, label in ((60.0, "1 min"), (3600.0, "1 h"), (86400.0, "1 day")):
            panel.axhline(size, color="#bbbbbb", linewidth=0.8, linestyle=":")
            at = {
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset points",
                "fontsize": 8,
                "color": "#777777",
            }
            panel.annotate(label, (0, size), (3, 2), **at)
    axes[0, 0].set_ylabel("latency (s)")
    look = {"frameon": False, "fontsize": 9, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.2}
    title = f"{s.model}, attention {s.software.attention}: time to make a clip"
    figure.legend(list(named.values()), list(named), title=title, loc="outside upper left", ncols=3, **look)
    save(figure, source(s), path)
