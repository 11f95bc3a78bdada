"""What a sweep in chunks found, as text, JSON and files: its front as differences from the baseline, totals, counts by reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explore.answer import ROWS
from explore.front import differences, spread
from explore.goals import MEMORY
from explore.report import cells, resources_line, resources_named
from explore.space import show
from explore.walk import Found, Walk
from sim.report import number

if TYPE_CHECKING:
    import pandas as pd


def before(w: Walk) -> str:
    """One line about what is about to be priced."""
    p, several = w.plan, len(w.plan.axes) != 1
    goals = ", ".join(f"{direction} {name}" for name, direction in w.goals.objectives.items())
    way = {"grid": "every combination", "list": "side by side", "sample": f"an even sample, seed {p.options.seed}"}[
        p.mode
    ]
    what = f"sweep: {len(p.axes)} field{'s' if several else ''}, {p.count:,} points ({way})"
    return f"{what}; {goals}" if goals else what


def frame(w: Walk, found: Found) -> pd.DataFrame:
    """The front, one row a point, in ascending order of the first objective's loss."""
    import pandas as pd

    table = pd.DataFrame(found.front)
    if not len(table):
        return table
    kept = [n for n in table.columns if n != "feasible" and not n.startswith("misses ")]
    order = np.argsort(w.goals.losses(found.front)[:, 0], kind="stable")
    return table[kept].iloc[order].reset_index(drop=True)


def text(w: Walk, found: Found, folder: str | None) -> str:
    """Counts, the front, least, mean and greatest of each output, where the points are."""
    s = w.plan.origin.scenario
    varied = ", ".join(axis.path.removeprefix("device.") for axis in w.plan.axes)
    missed = [f"; {count:,} {_reason(name)}" for name, count in found.missed.items() if count]
    head = f"{s.name}: {s.model} around {s.device.title} ({s.device.name}); varied: {varied}"
    counts = f"{found.feasible:,} of {found.points:,} points are feasible{''.join(missed)}"
    parts = [f"{head}\n{counts}", *_front(w, found), *_totals(w, found)]
    if resources_named(w.goals):
        parts.append(resources_line(w.goals))
    parts.append(
        f"Every point: {folder}/points"
        if folder
        else "Only the front and the totals were kept; --out DIR keeps every point"
    )
    return "\n\n".join(parts)


def to_json(w: Walk, found: Found) -> dict[str, Any]:
    """`--format json`: keys in docs/search.md."""
    return {
        "schema_version": 1,
        "name": w.plan.origin.scenario.name,
        "model": w.plan.origin.scenario.model,
        "device": w.plan.origin.scenario.device.name,
        "mode": w.plan.mode,
        "fields": {axis.path: axis.text() for axis in w.plan.axes},
        "objectives": dict(w.goals.objectives),
        "constraints": [c.text for c in w.goals.constraints],
        "points": found.points,
        "feasible": found.feasible,
        "infeasible": {name: count for name, count in found.missed.items() if count},
        "baseline": {name: _plain(w.own[name]) for name in w.shown if name in w.own},
        "front": [{k: _plain(v) for k, v in row.items()} for row in frame(w, found).to_dict("records")],
        "totals": {
            n: {"least": found.least[n], "mean": found.mean(n), "greatest": found.greatest[n]} for n in found.least
        },
    }


def files(w: Walk, found: Found) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Of `--out DIR`, beside the points and their manifest."""
    resolved = w.plan.origin.scenario.resolved()
    yield "scenario.resolved.yaml", lambda p: p.write_text(resolved, encoding="utf-8")
    yield "summary.json", lambda p: p.write_text(json.dumps(to_json(w, found), indent=2) + "\n", encoding="utf-8")
    if w.goals.objectives:
        yield "front.csv", lambda p: frame(w, found).to_csv(p, index=False)


def _front(w: Walk, found: Found) -> Iterator[str]:
    from tabulate import tabulate

    if not w.goals.objectives:
        return
    if not found.feasible:
        yield "No point is feasible: relax the constraint that most points miss, or widen the ranges."
        return
    names, table = list(w.goals.objectives), frame(w, found)
    shown = spread(np.arange(len(table), dtype=np.float64), ROWS)
    rows = [["the baseline", *cells(names, w.own, w.own)]]
    rows += [
        [_words(w, table.iloc[i]), *cells(names, {n: float(table[n].iloc[i]) for n in names}, w.own)] for i in shown
    ]
    head = ["difference from the baseline"]
    for name in names:
        head += [name] if resources_named(w.goals) and name == "relative_resources" else [name, "x baseline"]
    align = ["left"] + ["right"] * (len(head) - 1)
    printed = tabulate(rows, head, tablefmt="plain", disable_numparse=True, colalign=align)
    yield f"{len(shown)} of {len(table):,} points on the front, best in {names[0]} first\n{printed}"


def _words(w: Walk, row: Mapping[str, Any]) -> str:
    """A point as what it changes of the baseline's device, and what else it is."""
    numeric = {a.path: float(row[a.heading]) for a in w.plan.axes if a.path in w.goals.baseline}
    rest = [f"{a.path} {show(row[a.heading], a.field.unit)}" for a in w.plan.axes if a.path not in numeric]
    words = differences(numeric, {path: w.goals.baseline[path] for path in numeric}) if numeric else ""
    return ", ".join([*rest, *([words] if words else [])])


def _totals(w: Walk, found: Found) -> Iterator[str]:
    from tabulate import tabulate

    if found.feasible:
        rows = [
            [
                n,
                number(w.own[n]) if n in w.own else "",
                number(found.least[n]),
                number(found.mean(n)),
                number(found.greatest[n]),
            ]
            for n in found.least
        ]
        head = ["feasible points", "baseline", "least", "mean", "greatest"]
        yield tabulate(rows, head, tablefmt="plain", disable_numparse=True, colalign=["left"] + ["right"] * 4)


def _reason(name: str) -> str:
    return "do not fit into memory" if name == MEMORY else f"miss {name}"


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
