"""Slides of what happens over time, of two results side by side, and of sensitivities. One style with `sim.plots`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.compare import Comparison, by_class
from sim.profiles import MemoryProfile, memory_profile, step_profile
from sim.report import gigabytes, number, quantity, seconds, time_unit
from sim.result import Result
from sim.sensitivity import Field, Sensitivity
from sim.slide import COLOURS, DARK_TEXT, figure, legend, patch, save, source
from workloads.kind import REPORT_CLASSES
from workloads.ops.attention import ROLES

LESS, MORE = "#0072B2", "#D55E00"  # of a field; Okabe and Ito
MARKERS = {"self": "o", "cross": "s", "temporal": "^"}
FIELDS = 12  # of the tornado, at most
LISTED = 0.002  # share of kernel time above which a class is in a legend
LABELLED = 0.055  # length, in longest bars, above which a percentage is written into a part
INVISIBLE, NAMED = (
    0.005,
    0.04,
)  # of the longest bar of the tornado: below, a field is left out; below, no number is written
STEP_OFF = 0.25  # of the step: a whole number that is farther from where it should be is named with its values
NARROW = 0.12  # share of the width below which a component's name would not fit


def step(result: Result, path: Path) -> None:
    """HBM rate of every operator, and the sequence length of every attention call, over one denoising step; .png or .svg."""
    profile = step_profile(result)
    rows = 2 if len(profile.attention) else 1
    drawn, axes = figure(9, 5.6 if rows > 1 else 3.6, rows, **({"height_ratios": [3, 2]} if rows > 1 else {}))
    upper = axes[0] if rows > 1 else axes
    width, (units, unit) = profile.end - profile.start, time_unit(float(profile.end[-1]))
    for c in np.unique(profile.report_class):
        mine = profile.report_class == c
        upper.bar(
            units * profile.start[mine],
            profile.hbm_rate[mine] / 1e9,
            units * width[mine],
            align="edge",
            color=COLOURS[REPORT_CLASSES[c]],
            linewidth=0,
        )
    peak = result.scenario.device.hbm.bandwidth / 1e9
    upper.axhline(peak, color="black", linewidth=1.2)
    upper.text(0, 1.02 * peak, f" peak {number(peak)} GB/s", va="bottom", fontsize=9.5)
    upper.set_ylim(0, 1.15 * max(peak, float(profile.hbm_rate.max(initial=0.0)) / 1e9))
    upper.set_ylabel("HBM (GB/s)")
    upper.set_xlim(0, units * profile.end[-1])
    if rows > 1:
        _sequence(axes[1], profile, units)
    (axes[1] if rows > 1 else axes).set_xlabel(f"GPU kernel time of {profile.name} ({unit})")
    time = np.bincount(profile.report_class, width, len(REPORT_CLASSES))
    names = [REPORT_CLASSES[i] for i in np.argsort(-time, kind="stable") if time[i] > LISTED * time.sum()]
    title = f"{result.scenario.model} on {result.scenario.device.title}: {profile.name}"
    legend(drawn, title, [patch(COLOURS[n]) for n in names], names)
    save(drawn, source(result.scenario), path)


def _sequence(axes: Any, profile: Any, units: float) -> None:
    """Queries of each attention call over time, by role; keys of cross-attention are in the text of no axis."""
    middle = units * (profile.start + profile.end)[profile.attention] / 2
    for role in profile.roles:
        mine = profile.role == ROLES.index(role)
        look = {"marker": MARKERS[role], "markersize": 6, "linewidth": 0.8, "alpha": 0.9}
        fill = COLOURS["Attention"] if role == "self" else "white"
        axes.plot(
            middle[mine], profile.q_len[mine], label=f"{role} attention", color=COLOURS["Attention"], markerfacecolor=fill,
            linestyle="-" if role == "self" else ":", **look,
        )  # fmt: skip
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = int(profile.q_len.min()), int(profile.q_len.max())
    axes.set_ylim(max(low / 2, 0.5), 2 * high)
    axes.set_ylabel("sequence length\n(queries)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9.5, ncols=3, loc="upper center")


def memory(result: Result, path: Path) -> None:
    """Memory in use during one run of every component, weights below, to a .png or .svg file."""
    profile, capacity = memory_profile(result), result.scenario.device.hbm.capacity
    drawn, axes = figure(9, 4)
    units, unit = time_unit(float(profile.end[-1]))
    x = units * np.append(profile.start, profile.end[-1])
    used = np.append(profile.used, profile.used[-1]) / 1e9
    weights = profile.weights / 1e9
    axes.fill_between(x, weights, used, step="post", color=COLOURS["Convolution"], linewidth=0)
    axes.fill_between([x[0], x[-1]], 0, [weights, weights], color="#999999", linewidth=0)
    top = _capacity(axes, float(used.max()), capacity, x)
    at = int(np.argmax(profile.used))
    axes.plot([x[at]], [used[at]], marker="v", color="black", markersize=6)
    right = x[at] > 0.6 * x[-1]
    note = f"peak {gigabytes(result.memory.peak)}, {result.memory.at}"
    axes.annotate(
        note,
        (x[at], used[at]),
        xytext=(-6 if right else 6, 8),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=9.5,
    )
    _components(axes, profile, top, units)
    axes.set_xlim(0, x[-1])
    axes.set_ylim(0, top)
    axes.set_xlabel(f"GPU kernel time of one run of every component ({unit})")
    axes.set_ylabel("memory in use (GB)")
    names = ["weights", "activations, scores and workspace"]
    title = f"{result.scenario.model} on {result.scenario.device.title}: memory over one inference"
    legend(drawn, title, [patch("#999999"), patch(COLOURS["Convolution"])], names)
    save(drawn, source(result.scenario), path)


def _capacity(axes: Any, used: float, capacity: float, x: Any) -> float:
    """The capacity as a line where that is near, else in words; the top of the axis, GB."""
    top, have = 1.45 * used, capacity / 1e9
    if have < 1.6 * used:
        axes.axhline(have, color="black", linewidth=1.2)
        axes.text(x[-1], have, f"capacity {gigabytes(capacity)} ", va="bottom", ha="right", fontsize=9.5)
        return max(top, 1.3 * have)
    axes.text(
        0.995,
        1.01,
        f"capacity {gigabytes(capacity)}, above this axis",
        transform=axes.transAxes,
        va="bottom",
        ha="right",
        fontsize=9.5,
    )
    return top


def _components(axes: Any, profile: MemoryProfile, top: float, units: float) -> None:
    """A line between components, and their names where they fit."""
    whole = profile.end[-1]
    for name, repeats, start, end in profile.components:
        axes.axvline(units * start, color="#666666", linewidth=0.6, linestyle=":")
        if end - start > NARROW * whole:
            text = f"{name}\n(one of {repeats} runs)" if repeats > 1 else name
            axes.text(units * (start + end) / 2, 0.985 * top, text, ha="center", va="top", fontsize=9.5)


def tornado(found: Sensitivity, path: Path) -> None:
    """Change of the latency when each number of the device is a little less and a little more, to a .png or .svg file."""
    ordered = sorted((f for f in found.fields if f.is_live), key=lambda f: -_spread(f, found.latency))
    most = max((_spread(f, found.latency) for f in ordered), default=0.0)
    fields = [f for f in ordered[:FIELDS] if _spread(f, found.latency) > INVISIBLE * most]
    drawn, axes = figure(9, 1.6 + 0.36 * max(len(fields), 2))
    for i, f in enumerate(reversed(fields)):
        for time, colour in ((f.low_latency, LESS), (f.high_latency, MORE)):
            change = 100 * (time / found.latency - 1)
            axes.barh(i, change, height=0.66, color=colour, linewidth=0)
            if abs(change) > NAMED * 100 * most / found.latency:
                look: dict[str, Any] = {"ha": "left" if change > 0 else "right", "va": "center", "fontsize": 9}
                axes.text(change, i, f" {change:+.2g} % ", **look)
    axes.axvline(0, color="black", linewidth=1)
    axes.margins(x=0.12)
    axes.set_yticks(range(len(fields)), [label(f, found.step) for f in reversed(fields)])
    axes.set_xlabel(f"change of the latency of {seconds(found.latency)} (%)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    wide = f"{100 * found.step:g} %"
    s = found.scenario
    legend(
        drawn,
        f"{s.model} on {s.device.title}: what moves the latency",
        [patch(LESS), patch(MORE)],
        [f"{wide} less", f"{wide} more"],
    )
    save(drawn, source(s), path)


def _spread(f: Field, latency: float) -> float:
    return max(abs(f.low_latency - latency), abs(f.high_latency - latency))


def label(f: Field, step: float) -> str:
    """A field on an axis: without the part that most of them share, with its value; where it could not change by `step`
    (a fraction), also with the values that were priced: 'l2.partitions  (2; priced: 1 and 3)'."""
    ends = [(v, f.value * factor) for v, factor in ((f.low, 1 - step), (f.high, 1 + step)) if v is not None]
    near = all(abs(value - asked) <= STEP_OFF * step * f.value for value, asked in ends)
    priced = "" if near else f"; priced: {' and '.join(quantity(v, f.unit) for v, _ in ends)}"
    return f"{f.path.removeprefix('device.')}  ({quantity(f.value, f.unit)}{priced})"


def comparison(c: Comparison, path: Path) -> None:
    """Stacked bars of kernel time by class, A above B, to a .png or .svg file."""
    drawn, axes = figure(9, 3.8)
    sides = [by_class(side.data) for side in (c.a, c.b)]
    wholes = [sum(times.values()) for times in sides]
    for row, (times, whole) in enumerate(zip(sides, wholes, strict=True)):
        left = 0.0
        for name in (r.name for r in c.classes):
            time = times.get(name, 0.0)
            axes.barh(1 - row, time, left=left, height=0.62, color=COLOURS[name], edgecolor="white", linewidth=0.6)
            if time > LABELLED * max(wholes):
                text, colour = f"{100 * time / whole:.0f} %", "black" if name in DARK_TEXT else "white"
                axes.text(left + time / 2, 1 - row, text, ha="center", va="center", color=colour, fontsize=9.5)
            left += time
        axes.text(left + 0.01 * max(wholes), 1 - row, seconds(whole), va="center", fontweight="bold")
    axes.set_yticks([1, 0], [_wrapped(side.title) for side in (c.a, c.b)])
    axes.set_xlim(0, 1.13 * max(wholes))
    axes.set_xlabel("GPU kernel time of one inference (s)")
    names = [r.name for r in c.classes if max(r.a, r.b) > LISTED * max(wholes)]
    latencies = " and ".join(seconds(side.data["latency_s"]) for side in (c.a, c.b))
    legend(
        drawn, f"Where the time goes; latencies {latencies}, host included", [patch(COLOURS[n]) for n in names], names
    )
    hashes = " and ".join(side.data["scenario_hash"] for side in (c.a, c.b))
    save(drawn, f"level {c.a.data['level']}, scenarios {hashes}", path)


def _wrapped(title: str) -> str:
    """A side's title in short lines."""
    import textwrap

    return "\n".join(textwrap.wrap(title, 24))
