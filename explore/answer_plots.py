"""Slides of a search beside its front: parallel coordinates, what moves the best designs, hypervolume over trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from explore.answer import Answer
from explore.front import SHORT, hypervolume
from explore.plots import COLOURS, figure, front_plot, legend, save
from explore.space import show

POINTS = 60  # of the curve of hypervolumes, evenly over the trials
FEWEST = 2  # objectives that have a hypervolume, and 3 at most
BARS = 12  # fields of a tornado


def plots(found: Answer) -> Mapping[str, Callable[[Answer, Path], None]]:
    """Those that the search has: name -> what draws it to .png or .svg."""
    drawn: dict[str, Callable[[Answer, Path], None]] = {"front": front_plot}
    if len(found.front):
        drawn |= {"parallel": parallel, "tornado": tornado}
        if FEWEST <= len(found.search.objectives) <= 3:
            drawn["hypervolume"] = volume
    return drawn


def parallel(found: Answer, path: Path) -> None:
    """The front's designs as lines over the fields and the objectives, coloured by the first objective; the baseline dashed."""
    from matplotlib import colormaps

    drawn, axes = figure(max(9.0, 1.5 * (len(found.search.axes) + len(found.search.objectives))), 5.2)
    names, columns, own = _coordinates(found)
    low = np.minimum(columns.min(axis=1), own)[:, None]
    high = np.maximum(columns.max(axis=1), own)[:, None]
    width = np.where(high > low, high - low, 1.0)
    at, mine = (columns - low) / width, (own[:, None] - low) / width
    first = at[len(found.search.axes)]
    for i in np.argsort(first):
        axes.plot(at[:, i], color=colormaps["viridis"](first[i]), alpha=0.55, linewidth=1.1)
    (line,) = axes.plot(mine[:, 0], color="black", linestyle="--", linewidth=2, label="the baseline")
    for i, (_, unit) in enumerate(names):
        axes.axvline(i, color="#999999", linewidth=0.8, zorder=0)
        for y, value in ((-0.03, low[i, 0]), (1.03, high[i, 0])):
            axes.text(i, y, show(float(value), unit), ha="center", va="top" if y < 0 else "bottom", fontsize=8.5)
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([])
    axes.set_xticks(range(len(names)), [name for name, _ in names], fontsize=9)
    axes.tick_params(axis="x", length=0, pad=12)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    count, objective = len(found.front), next(iter(found.search.objectives))
    legend(drawn, f"{count} designs on the front; dark to light: {objective}, low to high", [line])
    save(drawn, found.search.scenario, path)


def tornado(found: Answer, path: Path) -> None:
    """How the first objective of its best design moves with each field, 10 % less and more."""
    objective, best = next(iter(found.search.objectives)), found.best(next(iter(found.search.objectives)))
    assert best is not None
    changes = 100 * found.around.changes[list(found.chosen).index(best), :, :, 0]
    order = np.argsort(-np.abs(changes).max(axis=1), kind="stable")[:BARS]
    drawn, axes = figure(9, 1.8 + 0.42 * len(order))
    bars = [
        axes.barh(range(len(order)), changes[order, side], height=0.62, color=COLOURS[colour], label=label)
        for side, colour, label in ((0, 1, "10 % less"), (1, 0, "10 % more"))
    ]
    axes.axvline(0, color="black", linewidth=0.9)
    axes.set_yticks(range(len(order)), [_short(found.around.paths[i]) for i in order])
    axes.invert_yaxis()
    axes.set_xlabel(f"change of {objective} (%)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    legend(drawn, f"What moves the design that is best in {objective}", bars)
    save(drawn, found.search.scenario, path)


def volume(found: Answer, path: Path) -> None:
    """Hypervolume over trials, as a share of that of all seeds together."""
    drawn, axes = figure(9, 4.6)
    losses = [(found.search.goals.losses(run.outputs), run.feasible) for run in found.runs]
    every = np.vstack([loss[feasible] for loss, feasible in losses])
    reference = every.max(axis=0)
    whole = hypervolume(every, reference) or 1.0
    lines = []
    for i, (loss, feasible) in enumerate(losses):
        at = np.unique(np.linspace(1, len(loss), min(POINTS, len(loss))).round().astype(int))
        shares = [100 * hypervolume(loss[:n][feasible[:n]], reference) / whole for n in at]
        seed = f"seed {found.search.seed + i}"
        lines += axes.plot(at, shares, color=COLOURS[i % len(COLOURS)], linewidth=1.8, label=seed)
    axes.set_xlabel("trial")
    axes.set_ylabel("hypervolume (% of that of all trials)")
    axes.set_ylim(0, 103)
    axes.grid(color="#dddddd", linewidth=0.6)
    legend(drawn, "How the front grew", lines[:8])
    save(drawn, found.search.scenario, path)


def _coordinates(found: Answer) -> tuple[list[tuple[str, str]], Any, Any]:
    """Names and units, values of the front (coordinates, designs), the baseline's (coordinates,)."""
    search = found.search
    names = [(_short(axis.path), axis.field.unit) for axis in search.axes]
    names += [(name.replace(" / ", "\n/ "), "") for name in search.objectives]
    columns = [found.trials.params[a.path][found.front] for a in search.axes]
    columns += [found.trials.outputs[n][found.front] for n in search.objectives]
    own = [search.baseline[a.path] for a in search.axes] + [found.own[n] for n in search.objectives]
    return names, np.array(columns), np.array(own)


def _short(path: str) -> str:
    return SHORT.get(path, path.removeprefix("device."))
