"""A finished search as plain data: `framecast search --format json`; keys in docs/search.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from explore.answer import Answer
from explore.around import NOTHING, STEP
from explore.objectives import VIOLATION


def to_json(found: Answer) -> dict[str, Any]:
    """The whole answer."""
    search = found.search
    return {
        "schema_version": 1,
        "name": search.scenario.name,
        "model": search.scenario.model,
        "device": search.scenario.device.name,
        "fields": {axis.path: axis.text() for axis in search.axes},
        "objectives": dict(search.objectives),
        "constraints": [c.text for c in search.constraints],
        "resources": dict(search.resources),
        "sampler": search.sampler,
        "seed": search.seed,
        "batch": search.batch,
        "trials": len(found.trials),
        "feasible": int(found.trials.feasible.sum()),
        "infeasible": found.infeasible(),
        "baseline": {"fields": dict(search.baseline), "outputs": _outputs(found.own)},
        "front": [
            {
                "trial": int(i),
                "differences": search.differences(found.design(i)),
                "fields": found.design(i),
                "outputs": _outputs({name: float(column[i]) for name, column in found.trials.outputs.items()}),
            }
            for i in found.front
        ],
        "bounds_hit": found.bounds_hit(),
        **(_reasons(found) if len(found.front) else {}),
        "repeats": {"seeds": len(found.runs), "best": found.spread()} if len(found.runs) > 1 else None,
        "study": found.where.shown,
        "dashboard": found.where.dashboard(),
    }


def _reasons(found: Answer) -> dict[str, Any]:
    """Why: how sure the order is, what bounds the workloads, what moves the best designs."""
    ranking = found.ranking
    count = len(ranking.latency)
    return {
        "ranking": {
            "trials": found.shown(),
            "designs": [_plain(row) for row in found.ranking_frame().to_dict("records")],
            "faster": [[ranking.faster(i, j) for j in range(1, count)] for i in range(1, count)],
            "distance": ranking.distance,
        },
        "bounds": [_plain(row) for row in found.bounds_frame().to_dict("records")],
        "sensitivity": {"step": STEP, "changes": [_plain(row) for row in found.sensitivity_frame().to_dict("records")]},
        "did_not_matter": {
            "below": NOTHING,
            "fields": {name: found.around.idle(name) for name in found.search.objectives},
        },
    }


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}


def _outputs(values: Mapping[str, float]) -> dict[str, Any]:
    """Without violations; NaN is null, fits a truth value."""
    kept = {name: value for name, value in values.items() if not name.startswith(VIOLATION)}
    return {n: bool(v) if n == "fits" else (None if np.isnan(v) else v) for n, v in kept.items()}
