"""Slides: a sweep as lines or bars, a search as its front. matplotlib is imported when a plot is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from explore.answer import Answer
from explore.objectives import RESOURCES
from explore.space import Axis, show
from explore.sweep import Swept
from hwspecs import units
from sim.plots import DPI, STYLE
from sim.report import seconds
from sim.scenario import Scenario

# Okabe and Ito's palette (2008), distinguishable for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
WIDE = 12.0  # ratio of the ends of an axis from which it is logarithmic
NAMES = {
    "latency_s": "latency of one inference (s)",
    "images_per_s": "images per second",
    "frames_per_s": "frames per second",
    "step_time_s": "time of one denoising step (s)",
    "gpu_time_s": "GPU kernel time of one inference (s)",
    "hbm_bytes": "HBM traffic of one inference (B)",
    "peak_memory_bytes": "peak memory (B)",
    RESOURCES: "resources relative to the baseline\n(weighted; not a price)",
}


def sweep_plot(swept: Swept, path: Path) -> None:
    """Latency over the field with the most values, one line for each combination of the others, to .png or .svg."""
    drawn, axes = figure(9, 5)
    plan = swept.plan
    numeric = [axis for axis in plan.axes if axis.field.numeric and len(axis.values) > 1]
    latency = swept.outputs["latency_s"]
    if numeric:
        along = max(numeric, key=lambda axis: len(axis.values))
        handles = _lines(axes, swept, along)
        others = [axis for axis in plan.axes if axis is not along and len(axis.values) > 1]
    else:
        labels = [_point(swept, plan.axes, i) for i in range(len(latency))][: 4 * len(COLOURS)]
        axes.barh(range(len(labels)), latency[: len(labels)], color=COLOURS[0], height=0.6)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        for i in range(len(labels)):
            axes.text(latency[i], i, f" {seconds(float(latency[i]))}", va="center")
        axes.set_xlabel(NAMES["latency_s"])
        handles, others = [], []
    s = plan.origin.scenario
    device = "" if any(axis.path == "device" for axis in plan.axes) else f" on {s.device.title}"
    title = f"{s.model}{device}: latency over {along.path if numeric else ', '.join(a.path for a in plan.axes)}"
    legend(drawn, title + (f", by {', '.join(a.path for a in others)}" if others else ""), handles)
    save(drawn, s, path)


def front_plot(answer: Answer, path: Path) -> None:
    """Designs by the first two objectives with the front, coloured by a third, and the baseline; with one, the best so far."""
    drawn, axes = figure(9, 5.2)
    objectives = list(answer.search.objectives)
    handles = _scatter(axes, answer, objectives) if len(objectives) > 1 else _history(axes, answer, objectives[0])
    s, parts = answer.search.scenario, answer.search.mix.parts
    what = s.model if len(parts) == 1 else f"A mix of {len(parts)} workloads"
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    legend(drawn, f"{what}: {len(answer.trials)} designs around {s.device.title}", handles)
    save(drawn, s, path)


def _scatter(axes: Any, answer: Answer, objectives: list[str]) -> list[Any]:
    x, y, *more = objectives
    feasible, outputs, own = answer.trials.feasible, answer.trials.outputs, answer.search.own()
    handles = []
    if (~feasible).any():
        look: dict[str, Any] = {"s": 14, "marker": "x", "color": "#bbbbbb", "linewidth": 0.8}
        handles.append(axes.scatter(outputs[x][~feasible], outputs[y][~feasible], label="not feasible", **look))
    look = {"s": 16, "color": COLOURS[5], "alpha": 0.8}
    handles.append(axes.scatter(outputs[x][feasible], outputs[y][feasible], label="feasible", **look))
    front = answer.front[np.argsort(outputs[x][answer.front])]
    if more:  # no line: the points lie on a surface
        look = {"c": outputs[more[0]][front], "cmap": "viridis", "s": 34, "edgecolors": COLOURS[1], "linewidths": 1.0}
        handles.append(axes.scatter(outputs[x][front], outputs[y][front], label=f"front, by {more[0]}", **look))
        axes.figure.colorbar(handles[-1], ax=axes, label=NAMES.get(more[0], more[0]), pad=0.01)
    else:
        look = {"marker": "o", "markersize": 5, "linewidth": 1.4, "color": COLOURS[1]}
        handles += axes.plot(outputs[x][front], outputs[y][front], label="front", **look)
    star: dict[str, Any] = {"marker": "*", "s": 260, "color": "black", "zorder": 5, "label": "the baseline"}
    handles.append(axes.scatter([own[x]], [own[y]], **star))
    for name, set_label in ((x, axes.set_xlabel), (y, axes.set_ylabel)):
        better = "more" if answer.search.objectives[name] == "maximize" else "less"
        set_label(f"{NAMES.get(name, name)}; {better} is better")
    return handles


def _history(axes: Any, answer: Answer, name: str) -> list[Any]:
    values, feasible = answer.trials.outputs[name], answer.trials.feasible
    maximize = answer.search.objectives[name] == "maximize"
    kept = np.where(feasible, values, -np.inf if maximize else np.inf)
    best = (np.maximum if maximize else np.minimum).accumulate(kept)
    trial = np.arange(len(values))
    dots = axes.scatter(trial[feasible], values[feasible], s=14, color=COLOURS[5], alpha=0.7, label="feasible designs")
    known = np.isfinite(best)
    (line,) = axes.step(trial[known], best[known], where="post", color=COLOURS[1], linewidth=1.8, label="best so far")
    base = axes.axhline(answer.search.own()[name], color="black", linestyle="--", linewidth=1.2, label="the baseline")
    axes.set_xlabel("trial")
    axes.set_ylabel(NAMES.get(name, name))
    return [dots, line, base]


def _lines(axes: Any, swept: Swept, along: Axis) -> list[Any]:
    """One line for each combination of the other fields, at most as many as there are colours."""
    plan, latency = swept.plan, swept.outputs["latency_s"]
    at = plan.axes.index(along)
    others = [i for i, axis in enumerate(plan.axes) if i != at and len(axis.values) > 1]
    keys, which = np.zeros((0, 1)), np.zeros(len(latency), dtype=np.int64)
    if others:
        keys, which = np.unique(plan.index[others], axis=1, return_inverse=True)
    values = swept.column(along).astype(np.float64)
    factor, label = _scale(along, values)
    count = keys.shape[1]
    drawn = np.unique(np.linspace(0, count - 1, min(count, len(COLOURS))).round().astype(int))
    handles = []
    for colour, key in zip(COLOURS, drawn, strict=False):
        mine = np.flatnonzero(which.reshape(-1) == key)
        mine = mine[np.argsort(values[mine], kind="stable")]
        text = _point(swept, [plan.axes[i] for i in others], int(mine[0]))
        look = {"marker": "o", "markersize": 4, "linewidth": 1.8, "color": colour}
        handles += axes.plot(values[mine] / factor, latency[mine], label=text or None, **look)
    _limits(axes, values, latency)
    axes.set_xlabel(label)
    axes.set_ylabel(NAMES["latency_s"])
    return handles if others else []


def _limits(axes: Any, values: Any, latency: Any) -> None:
    """Logarithmic where the values span much, else latency from zero."""
    if values.min() > 0 and values.max() / values.min() >= WIDE:
        axes.set_xscale("log")
    if latency.max() / latency.min() >= WIDE:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * latency.max())
    axes.grid(color="#dddddd", linewidth=0.6)


def _scale(axis: Axis, values: Any) -> tuple[float, str]:
    """Divisor and label of an axis: 'device.hbm.bandwidth (TB/s)'."""
    if not axis.field.unit:
        return 1.0, axis.path
    suffix = units.format(float(f"{values.max():.3g}"), axis.field.unit).rpartition(" ")[2]
    return units.parse(f"1 {suffix}", axis.field.unit), f"{axis.path} ({suffix})"


def _point(swept: Swept, axes: Any, i: int) -> str:
    index = swept.plan.index
    return ", ".join(show(a.values[index[swept.plan.axes.index(a), i]], a.field.unit) for a in axes)


def figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure in inches and its axes, drawn without a display."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        return drawn, drawn.subplots()


def legend(drawn: Any, title: str, handles: list[Any]) -> None:
    """Above the axes, under the title."""
    if not handles:
        drawn.suptitle(title, x=0.01, ha="left", fontsize=12)
        return
    look = {"frameon": False, "fontsize": 9.5, "title_fontsize": 12, "alignment": "left", "columnspacing": 1.2}
    drawn.legend(handles=handles, title=title, loc="outside upper left", ncols=min(len(handles), 4), **look)


def save(drawn: Any, scenario: Scenario, path: Path) -> None:
    """With the source in the corner; the same bytes for the same result."""
    from importlib.metadata import version

    from matplotlib import rc_context

    source = f"framecast {version('framecast')}, level {scenario.level}, scenario {scenario.hash}"
    drawn.supxlabel(source, x=0.995, ha="right", fontsize=7, color="#777777")
    with rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        drawn.savefig(path, dpi=DPI, metadata=metadata)
