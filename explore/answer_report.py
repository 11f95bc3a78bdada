"""A finished search as text for people: the front as differences from the baseline, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from explore.answer import MEMORY, Answer
from explore.around import NOTHING
from explore.objectives import RESOURCES
from explore.report import cells, resources_line, resources_named
from sim.cost import BOUNDS
from sim.report import number

NO_DESIGN = "No design is feasible: relax the constraint that most designs miss, or widen the ranges."
LEAST = 0.01  # share of kernel time below which a bound has no column


def search_text(found: Answer) -> str:
    """Counts, the front, how sure its order is, what bounds the workloads, what moves the best designs, where the study is."""
    parts = [_head(found), _front(found), *_bounds_hit(found)]
    if len(found.front):
        parts += [*_sure(found), _bounds(found), _around(found), *_idle(found)]
    parts += _repeats(found)
    if resources_named(found.search.goals):
        parts.append(resources_line(found.search.goals))
    where = found.where
    count = len(found.runs[0])
    goes_on = f"Study: {where.shown}, {count} trials; the same command with more --trials goes on. See it with"
    parts.append(f"{goes_on}\n  {where.dashboard()}")
    return "\n\n".join(parts)


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Aligned, the first column to the left."""
    from tabulate import tabulate

    align = ["left"] + ["right"] * (len(head) - 1)
    return tabulate(rows, head, tablefmt="plain", disable_numparse=True, colalign=align)


def front_rows(found: Answer) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the front: the baseline, then the designs that are shown."""
    objectives, ranking = list(found.search.objectives), found.ranking
    head = ["difference from the baseline"]
    for name in objectives:
        head += [name] if name == RESOURCES else [name, "x baseline"]
    head += ["speed, 80 %", "faster than next"]
    rows = [["the baseline", *cells(objectives, found.own, found.own), "", ""]]
    for i, trial in enumerate(found.shown(), start=1):
        values = {name: float(found.trials.outputs[name][trial]) for name in objectives}
        _, low, high = ranking.speed(i)
        after = f"{100 * ranking.faster(i, i + 1):.0f} %" if i < len(ranking.latency) - 1 else ""
        words = found.search.differences(found.design(trial))
        rows.append([words, *cells(objectives, values, found.own), f"{low:.2f}–{high:.2f}", after])
    return head, rows


def sure_rows(found: Answer) -> tuple[list[str], list[list[str]]]:
    """Head and rows of how sure the goals are: objectives over the baseline's, and that constraints are met; [] where the
    column of speeds says all of it."""
    s = found.sure
    objectives = [n for n in found.search.objectives if n != RESOURCES]
    constraints = [c for c in found.search.constraints if RESOURCES not in c.output]
    if not constraints and set(objectives) <= {"latency_s", "images_per_s", "frames_per_s"}:
        return [], []
    head = ["with 80 %, x baseline", *objectives, *(c.text for c in constraints)]
    rows = []
    for i, trial in enumerate(found.shown(), start=1):
        ends = [s.ratio(name, i)[1:] for name in objectives]
        met = [s.meets(c, i) for c in constraints]
        cells = [f"{low:.2f}–{high:.2f}" if low == low else "" for low, high in ends]
        cells += [odds(p) if p == p else "" for p in met]
        rows.append([found.search.differences(found.design(trial)), *cells])
    return head, rows


def odds(probability: float) -> str:
    """In per cent; its ends are not told apart, since errors are not known to be normal so far out."""
    text = f"{100 * probability:.0f} %"
    return {"100 %": "> 99 %", "0 %": "< 1 %"}.get(text, text)


def bound_rows(found: Answer) -> tuple[list[str], list[list[str]]]:
    """Head and rows of what bounds each workload, on the baseline and on the best designs."""
    shown, ranking = found.shown(), found.ranking
    most = np.max([shares.max(axis=0) for shares in ranking.bounds.values()], axis=0)
    kept = [i for i, share in enumerate(most) if share >= LEAST]
    rows = []
    for name, shares in ranking.bounds.items():
        rows.append([f"{name}, the baseline", *_percent(shares[0, kept])])
        for trial, best in found.chosen.items():
            if trial in shown:
                rows.append([f"{name}, best {' and '.join(best)}", *_percent(shares[1 + shown.index(trial), kept])])
    return ["share of kernel time bound by", *(BOUNDS[i] for i in kept)], rows


def around_rows(found: Answer) -> tuple[list[str], list[list[str]]]:
    """Head and rows of how each objective's best design moves with each field, 10 % down and up."""
    a, ways = found.around, list(found.search.objectives)
    place = {name: d for d, best in enumerate(found.chosen.values()) for name in best}
    rows = []
    for f, path in enumerate(a.paths):
        moved = [a.changes[place[name], f, :, a.objectives.index(name)] for name in ways]
        rows.append([path, *(f"{_signed(down)} / {_signed(up)}" for down, up in moved)])
    return ["10 % less / more of", *(f"best {name}" for name in ways)], rows


def _signed(change: float) -> str:
    return "0" if abs(change) < 0.0005 else f"{100 * change:+.1f} %"


def _percent(shares: NDArray[np.float64]) -> list[str]:
    return [f"{100 * share:.0f} %" for share in shares]


def _head(found: Answer) -> str:
    s, trials = found.search.scenario, found.trials
    what = ", ".join(axis.path.removeprefix("device.") for axis in found.search.axes)
    lines = [f"{s.name}: {s.model} around {s.device.title} ({s.device.name}); varied: {what}"]
    missed = [
        f"{count} do not fit into memory" if name == MEMORY else f"{count} miss {name}"
        for name, count in found.infeasible().items()
    ]
    lines.append(
        f"{int(trials.feasible.sum())} of {len(trials)} designs are feasible" + "".join(f"; {m}" for m in missed)
    )
    return "\n".join(lines)


def _front(found: Answer) -> str:
    objectives = list(found.search.objectives)
    if not len(found.front):
        return NO_DESIGN
    head, rows = front_rows(found)
    several = len(objectives) > 1
    what = f"{len(rows) - 1} of {len(found.front)} designs on the front" if several else "The best designs"
    note = "speed is against the baseline, by the mean request; see docs/search.md for what two designs' errors share"
    return f"{what}, best in {objectives[0]} first\n{table(rows, head)}\n({note})"


def _bounds_hit(found: Answer) -> list[str]:
    lines = [
        f"Best {objective} at {', '.join(hits)}: widen {'it' if len(hits) == 1 else 'them'}"
        for objective, hits in found.bounds_hit().items()
    ]
    return ["\n".join(lines)] if lines else []


def _sure(found: Answer) -> Iterator[str]:
    head, rows = sure_rows(found)
    if rows:
        note = (
            "(of a limit the probability that it is met; errors of times, areas, power and prices, see docs/search.md)"
        )
        yield f"{table(rows, head)}\n{note}"


def _bounds(found: Answer) -> str:
    head, rows = bound_rows(found)
    return table(rows, head)


def _around(found: Answer) -> str:
    head, rows = around_rows(found)
    return table(rows, head)


def _idle(found: Answer) -> Iterator[str]:
    """Fields that did not matter around the best designs."""
    lines = [
        f"Did not matter for {name} (10 % less or more changes it by {100 * NOTHING:g} % at most): {', '.join(idle)}"
        for name in found.search.objectives
        if (idle := found.around.idle(name))
    ]
    if lines:
        yield "\n".join(lines)


def _repeats(found: Answer) -> Iterator[str]:
    """Best values and hypervolume by seed, and how far apart they are."""
    if len(found.runs) < 2:
        return
    rows = []
    for name, values in found.spread().items():
        least, most = float(np.nanmin(values)), float(np.nanmax(values))
        what = "hypervolume, share of all together" if name == "hypervolume" else f"best {name}"
        apart = f"{100 * (most - least) / abs(most):.1f} %" if most else ""
        rows.append([what, number(least), number(float(np.nanmedian(values))), number(most), apart])
    first = found.search.seed
    seeds = f"{len(found.runs)} seeds, {first} to {first + len(found.runs) - 1}"
    yield table(rows, [seeds, "least", "median", "greatest", "apart"])
