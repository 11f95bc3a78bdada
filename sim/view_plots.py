"""The views of traces as slides: sequence length and similarity memory over calls, their histogram, arithmetic intensity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim.slide import figure, legend, log_axis, patch, save
from workloads.quantities import PREFIXES, prefix
from workloads.view_tables import View, flop_per_byte
from workloads.views import histogram

SERIES = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#999999", "#000000")  # Okabe and Ito
PERIODS = 3  # that are drawn
CALLS = 400  # that are drawn where there is no period


def writers(views: Sequence[View]) -> dict[str, Callable[[Path], None]]:
    """Name of each plot -> what draws it to a .png or .svg file; those that the traces have something for."""
    with_attention = [v for v in views if len(v.lengths)]
    found: dict[str, Callable[[Path], None]] = {"arithmetic_intensity": lambda path: intensity(views, path)}
    if with_attention:
        found["sequence_length"] = lambda path: lengths(with_attention, path)
        found["similarity_memory"] = lambda path: memory(with_attention, path)
        found["sequence_histogram"] = lambda path: buckets(with_attention, path)
    return found


def lengths(views: Sequence[View], path: Path) -> None:
    """Queries of each attention call in the order of one inference, a few periods of it, one panel a setting."""
    _over_calls(views, [v.lengths for v in views], "sequence length", 2, path)


def memory(views: Sequence[View], path: Path) -> None:
    """Bytes of the similarity matrices of each attention call, as `lengths`."""
    columns = [v.attention.over_inference(v.attention.matrix_bytes) for v in views]
    unit = prefix(max(int(c[slice(*_window(v))].max()) for v, c in zip(views, columns, strict=True)))
    scaled = [c / 10 ** PREFIXES[unit] for c in columns]
    _over_calls(views, scaled, f"similarity matrices ({unit}B)", 10, path)


def _over_calls(views: Sequence[View], columns: Sequence[Any], what: str, base: int, path: Path) -> None:
    """One panel a setting; all have the same ranges, so that they compare. `base` of the axis of the values."""
    drawn, axes = figure(9, 1.4 + 1.9 * len(views), len(views))
    panels = list(axes) if len(views) > 1 else [axes]
    shown = [column[slice(*_window(view))] for view, column in zip(views, columns, strict=True)]
    bottom, top = min(y.min() for y in shown) / 2, 2 * max(y.max() for y in shown)
    for view, y, panel, colour in zip(views, shown, panels, SERIES, strict=False):
        held = np.append(y, y[-1])
        panel.step(np.arange(len(held)), held, where="post", color=colour, linewidth=1.6)
        panel.fill_between(np.arange(len(held)), held, step="post", color=colour, alpha=0.15, linewidth=0)
        for i in range(PERIODS + 1 if view.period else 0):
            panel.axvline(i * view.period.calls, color="#666666", linewidth=0.8, linestyle=":")  # type: ignore[union-attr]
        log_axis(panel, base, bottom, top)
        panel.set_xlim(0, max(map(len, shown)))
        panel.grid(axis="y", color="#dddddd", linewidth=0.6)
        panel.set_title(_caption(view), loc="right", fontsize=9.5, pad=3)
    panels[len(panels) // 2].set_ylabel(what)
    panels[-1].set_xlabel("attention calls, in the order in which one inference makes them")
    legend(drawn, f"{views[0].trace.model}: {what} over the calls of one inference")
    save(drawn, _source(views), path)


def _window(view: View) -> tuple[int, int]:
    """The runs that are drawn: a few periods from their beginning, or the first ones."""
    p = view.period
    start, stop = (p.start, p.start + PERIODS * p.calls) if p else (0, CALLS)
    stop = min(stop, len(view.lengths))
    return (start, stop) if stop - start > 1 else (0, min(CALLS, len(view.lengths)))


def _caption(view: View) -> str:
    p = view.period
    shown = f"period {p.calls} calls, {p.times:,} of them in all" if p else "no period"
    return f"{view.setting}: {shown}" if view.setting else shown


def buckets(views: Sequence[View], path: Path) -> None:
    """How many attention calls of one inference have each sequence length, a group of bars a length."""
    counts = [histogram(v.attention) for v in views]
    found = sorted(set().union(*counts))
    drawn, axes = figure(9, 4)
    width = 0.8 / len(views)
    for i, (count, colour) in enumerate(zip(counts, SERIES, strict=False)):
        at = np.arange(len(found)) + (i - (len(views) - 1) / 2) * width
        axes.bar(at, [count.get(n, 0) for n in found], width, color=colour, linewidth=0)
    axes.set_xticks(range(len(found)), [str(n) for n in found], rotation=45 if len(found) > 10 else 0)
    axes.set_xlabel("sequence length (queries)")
    axes.set_ylabel("attention calls of one inference")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    _legend(drawn, views, "attention calls by sequence length")
    save(drawn, _source(views), path)


def intensity(views: Sequence[View], path: Path) -> None:
    """FLOP/B over the bytes of the model (the study's), over the traffic unfused and with flash-2.

    Of each component that has FLOPs; of several settings side by side, of all components together.
    """
    rows = [(v, r) for v in views for r in (v.intensities if len(views) == 1 else v.intensities[-1:])]
    bars = [(v.setting if len(views) > 1 else r.name, r) for v, r in rows if r.flops]
    drawn, axes = figure(9, 1.6 + 0.62 * max(len(bars), 2))
    for row, (_, r) in enumerate(reversed(bars)):
        for i, value in enumerate((r.of_study, *r.of_traffic)):
            axes.barh(row + 0.27 * (1 - i), value, height=0.25, color=SERIES[i], linewidth=0)
            axes.text(value, row + 0.27 * (1 - i), f" {flop_per_byte(value)}", va="center", fontsize=8.5)
    axes.set_yticks(range(len(bars)), [name for name, _ in reversed(bars)], fontsize=9.5)
    axes.set_xscale("log")
    axes.margins(x=0.18)
    axes.set_xlabel("arithmetic intensity (FLOP/B)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    names = ["over bytes of the model", "over traffic, unfused", "over traffic, flash-2"]
    title = f"{views[0].trace.model}: FLOPs of one inference over bytes"
    legend(drawn, title, [patch(colour) for colour in SERIES[:3]], names)
    save(drawn, _source(views), path)


def _legend(drawn: Any, views: Sequence[View], what: str) -> None:
    named = [v.setting for v in views if v.setting]
    legend(drawn, f"{views[0].trace.model}: {what}", [patch(c) for c in SERIES[: len(named)]], named)


def _source(views: Sequence[View]) -> str:
    request = {**views[0].trace.request}
    fields = [
        f"{name} {value}" for name, value in request.items() if name in ("height", "width", "frames", "batch", "steps")
    ]
    return ", ".join(["trace of the model, no hardware", *(fields if len(views) == 1 else [])])
