"""A slide of the best schedule: which pass runs when on which stream; HBM bandwidth and matrix units in use under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from explore.pods import Comparison
from sim.concurrent import Inference, Played, passes
from sim.demand import HBM_BYTES, TENSOR, Floats
from sim.plots import DPI, STYLE
from sim.report import seconds

# Okabe and Ito's palette (2008): steps in two shades that take turns, then what is around them.
STEP, OTHERS = ("#0072B2", "#56B4E9"), ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
BINS = 400  # of the bandwidth curve: means over a four-hundredth of the makespan


def gantt(found: Comparison, path: Path) -> None:
    """Streams over time and HBM bandwidth under them, of the best schedule, to a .png or .svg file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        best = found.rows["best"].played
        streams = max(phase.streams for phase, _, _ in best.phases)
        figure = Figure(figsize=(10, 4.8 + 0.26 * streams), layout="constrained")
        FigureCanvasAgg(figure)
        above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=[0.6 + 0.26 * streams, 1.7, 1.4])
        handles = _bars(above, found.one, best, streams)
        _curve(middle, found)
        _tensor(below, best)
        s = found.scenario
        title = f"{s.model} on {s.device.title}: {seconds(best.makespan)}, {best.images / best.makespan:.3g} images/s"
        above.set_title(f"{title}\n{best.schedule.words()}", loc="left", fontsize=11)
        _make_room(figure)
        figure.legend(
            *zip(*handles, strict=True), loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9.5
        )
        _save(figure, found, path)


def _make_room(figure: Any) -> None:
    """For the line that names the source, below everything."""
    figure.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))


def curve(played: Played, bins: int = BINS, column: int = HBM_BYTES) -> tuple[Floats, Floats]:
    """(edges, mean use of the peak between them): (bins + 1,) seconds and (bins,) fractions. Of a run that was recorded."""
    ends = [start + run.when for _, run, start in played.phases]
    when, used = np.concatenate([[0.0], *ends]), np.concatenate([run.used[:, column] for _, run, _ in played.phases])
    total = np.concatenate([[0.0], np.cumsum(used * np.diff(when))])
    edges = np.linspace(0.0, played.makespan, bins + 1)
    return edges, np.diff(np.interp(edges, when, total)) / (played.makespan / bins)


def _bars(axes: Any, one: Inference, best: Played, streams: int) -> list[tuple[Any, str]]:
    """One bar a pass; legend handles."""
    from matplotlib.patches import Patch

    names = [s.name.replace("_", " ") for s in one.trace.segments]
    others = [i for i in range(len(names)) if i not in one.steps]
    colours = {s: OTHERS[i % len(OTHERS)] for i, s in enumerate(others)}
    boxes: dict[tuple[int, str], list[tuple[float, float]]] = {}
    by_steps = best.schedule.members == "steps"
    for number, (phase, run, begin) in enumerate(best.phases):
        seen: dict[int, int] = {}
        for stream, _, segment, start, end in passes(one, phase, run):
            seen[stream] = seen.get(stream, -1) + (segment in one.steps)
            step = number if by_steps and phase.streams > 1 else seen[stream]  # members of a pod of steps share a shade
            colour = STEP[step % 2] if segment in one.steps else colours[segment]
            boxes.setdefault((stream, colour), []).append((begin + start, end - start))
    for (stream, colour), spans in boxes.items():
        axes.broken_barh(spans, (stream - 0.36, 0.72), color=colour, linewidth=0)
    axes.set_yticks(range(streams), [str(i + 1) for i in range(streams)])
    axes.set_ylim(streams - 0.4, -0.6)
    axes.set_ylabel("stream")
    step_names = " and ".join(names[s] for s in one.steps)
    handles = [(Patch(color=c), f"{step_names}, {which} step") for c, which in zip(STEP, ("one", "next"), strict=True)]
    return (handles if one.steps else []) + [(Patch(color=colours[s]), names[s]) for s in others]


def _curve(axes: Any, found: Comparison) -> None:
    edges, use = curve(found.rows["best"].played)
    axes.stairs(100 * use, edges, fill=True, color="#bbbbbb")
    axes.stairs(100 * use, edges, color="#444444", linewidth=0.8, baseline=None)
    means = {
        name: 100 * found.rows[name].played.hbm_mean for name in ("best", "serial", "batched") if name in found.rows
    }
    for (name, mean), style in zip(means.items(), ("-", ":", "--"), strict=False):
        axes.axhline(mean, color="black", linewidth=1.1, linestyle=style, label=f"mean of {name}, {mean:.0f} %")
    axes.set_ylim(0, 135)
    axes.set_yticks([0, 50, 100])
    axes.set_xlim(0, edges[-1])
    axes.set_ylabel("HBM bandwidth\n(% of peak)")
    axes.legend(loc="upper left", ncols=3, frameon=False, fontsize=9.5, borderaxespad=0.1)


def _tensor(axes: Any, best: Played) -> None:
    edges, use = curve(best, column=TENSOR)
    axes.stairs(100 * use, edges, fill=True, color="#E69F00", alpha=0.5)
    axes.stairs(100 * use, edges, color="#a06f00", linewidth=0.8, baseline=None)
    axes.set_ylim(0, 110)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("matrix units\n(% of what\nkernels reach)")
    axes.set_xlabel(f"time (s); curves: means in each of {BINS} bins")


def _save(figure: Any, found: Comparison, path: Path) -> None:
    """With the source in the corner; the same bytes for the same result."""
    from importlib.metadata import version

    s = found.scenario
    source = f"framecast {version('framecast')}, level {s.level}, scenario {s.hash}"
    figure.text(0.995, 0.008, source, ha="right", va="bottom", fontsize=7, color="#777777")
    figure.savefig(path, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
