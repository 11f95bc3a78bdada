"""Sweeps and searches as text for people, and as tables for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explore.answer import Answer
from explore.goals import Goals
from explore.objectives import RESOURCES, VIOLATION, Search
from explore.samplers import TITLES
from explore.space import show
from explore.sweep import Swept
from sim.report import number

if TYPE_CHECKING:
    import pandas as pd

LINES = 40  # of a sweep that are printed


def sweep_text(swept: Swept) -> str:
    """What varied, then latency, throughput, step and memory of each point, aligned."""
    from tabulate import tabulate

    s, plan = swept.plan.origin.scenario, swept.plan
    count = plan.index.shape[1]
    head = [*(axis.path for axis in plan.axes), "latency s", "images/s", "ms per step", "HBM GB", "peak GB", "fits"]
    rows = [_sweep_row(swept, i) for i in range(min(count, LINES))]
    columns = list(zip(*rows, strict=True))
    kept = [i for i, column in enumerate(columns) if any(column)]  # a model without steps has no such column
    table = tabulate(
        [[row[i] for i in kept] for row in rows],
        [head[i] for i in kept],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["right"] * len(kept),
    )
    more = f"\n... and {count - LINES} more; `--format csv` prints all, `--out` writes them" if count > LINES else ""
    points = f"{count} point{'' if count == 1 else 's'}"
    return f"{s.name}: {_subject(swept)}, {points}\n\n{table}{more}"


def _subject(swept: Swept) -> str:
    """'MODEL on DEVICE', without what varies."""
    s, varied = swept.plan.origin.scenario, {axis.path for axis in swept.plan.axes}
    model = "several models" if "model" in varied else s.model
    return f"{model} on {'several devices' if 'device' in varied else s.device.title}"


def sweep_json(swept: Swept) -> str:
    """`--format json`: keys in docs/json.md."""
    plan = swept.plan
    found = {
        "schema_version": 1,
        "name": plan.origin.scenario.name,
        "model": plan.origin.scenario.model,
        "fields": {axis.path: axis.field.unit for axis in plan.axes},
        "points": [
            {name: None if isinstance(v, float) and np.isnan(v) else v for name, v in row.items()}
            for row in swept.frame().to_dict("records")
        ],
    }
    return json.dumps(found, indent=2)


def misfits(swept: Swept) -> str:
    """One line about points that memory does not hold, '' if there are none."""
    fits = swept.outputs["fits"]
    count = int((~fits.astype(bool)).sum())
    text = f"{count} of {len(fits)} points do not fit into memory; their times are those of a device with enough memory"
    return f"{swept.plan.origin.path}: {text}" if count else ""


def before(search: Search, repeats: int = 1) -> str:
    """One line about what is about to be searched."""
    goals = ", ".join(f"{direction} {name}" for name, direction in search.objectives.items())
    way = TITLES[search.sampler]
    size = f"{search.trials} designs in all, {search.batch} at a time"
    count = len(search.axes)
    seeds = f"seed {search.seed}" if repeats == 1 else f"seeds {search.seed} to {search.seed + repeats - 1}"
    limits = ", ".join(["fits into memory", *(c.text for c in search.constraints)])
    return f"search: {count} field{'' if count == 1 else 's'}, {goals}; {limits}; {size} ({way}, {seeds})"


def resources_line(search: Goals) -> str:
    """What relative_resources is."""
    parts = ", ".join(f"{path} {weight:g}" for path, weight in search.resources.items())
    return f"relative_resources is the mean of fields relative to the baseline, weighted {parts}. It is not a price."


def trials_frame(answer: Answer) -> pd.DataFrame:
    """One row a trial: fields with units, outputs, feasibility, what it misses, whether it is on the front."""
    import pandas as pd

    trials, axes = answer.trials, answer.search.axes
    fields = {axis.heading: trials.params[axis.path] for axis in axes}
    outputs = {
        n: c.astype(bool) if n == "fits" else c for n, c in trials.outputs.items() if not n.startswith(VIOLATION)
    }
    missed = [
        "; ".join(n.removeprefix(VIOLATION) for n in trials.constraints if trials.outputs[n][i] > 0)
        for i in range(len(trials))
    ]
    on_front = np.isin(np.arange(len(trials)), answer.front)
    more: dict[str, Any] = {"feasible": trials.feasible, "misses": missed, "on_front": on_front}
    seed = np.repeat(answer.search.seed + np.arange(len(answer.runs)), [len(run) for run in answer.runs])
    seeds = {"seed": seed} if len(answer.runs) > 1 else {}
    return pd.DataFrame({"trial": np.arange(len(trials)), **seeds, **fields, **outputs, **more})


def _sweep_row(swept: Swept, i: int) -> list[str]:
    fields = [show(axis.values[swept.plan.index[a, i]], axis.field.unit) for a, axis in enumerate(swept.plan.axes)]
    out = {name: float(column[i]) for name, column in swept.outputs.items()}
    step = "" if np.isnan(out["step_time_s"]) else number(1e3 * out["step_time_s"])
    giga = [number(out[name] / 1e9) for name in ("hbm_bytes", "peak_memory_bytes")]
    return [*fields, number(out["latency_s"]), number(out["images_per_s"]), step, *giga, "yes" if out["fits"] else "no"]


def resources_named(goals: Goals) -> bool:
    """Whether any goal reads relative_resources."""
    return any(RESOURCES in text for text in (*goals.objectives, *(c.output for c in goals.constraints)))


def cells(objectives: Sequence[str], values: Mapping[str, float], own: Mapping[str, float]) -> list[str]:
    """Objectives of a design, each beside its ratio to the baseline's."""
    cells = []
    for name in objectives:
        cells.append(number(values[name]))
        if name != RESOURCES:
            cells.append(f"{values[name] / own[name]:.2f}" if own[name] else "")
    return cells
